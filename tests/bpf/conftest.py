"""One loaded program for all packet tables, emptied before each test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bpf.compiler import HOUSE
from tests.bpf.switchboard import Switchboard


@pytest.fixture(scope="session")
def built_object() -> Path:
    """The BPF object, brought up to date."""
    if not shutil.which("clang"):
        pytest.skip("needs clang: run `make develop`")
    subprocess.run(["make", "--silent", "--directory", HOUSE / "ebpf"], check=True)
    return HOUSE / "build" / "relay.bpf.o"


@pytest.fixture(scope="module")
def loaded(built_object: Path) -> Iterator[Switchboard]:
    board = Switchboard(built_object)
    yield board
    board.close()


@pytest.fixture
def board(loaded: Switchboard) -> Switchboard:
    """The program with empty tables."""
    loaded.clear()
    return loaded
