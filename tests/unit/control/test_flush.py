"""`hairpin flush` where nothing was pinned: journals of dead relays, and of one that lives."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from control.__main__ import main as hairpin
from control.config import load
from control.journal import Journal
from control.ops.place import Claim
from control.state import claim, pin_folder, remains

INSTANCE = 61
"""Of no relay that anybody runs."""


@pytest.fixture(autouse=True)
def own_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sockets and locks where this test alone looks."""
    monkeypatch.setattr("control.ops.place.ROOT_DIRECTORY", tmp_path / "run")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


def options(folder: Path) -> list[str]:
    return [f"--table={INSTANCE}", f"--state-dir={folder}", f"--pin-dir={folder / 'pins'}", "--config-file=none"]


def journal_with(folder: Path, *call_ids: str) -> None:
    async def write() -> None:
        journal = Journal.open(folder / str(INSTANCE) / "journal", asyncio.get_running_loop())
        for call_id in call_ids:
            journal.put(call_id, b"record")
        journal.close()

    asyncio.run(write())


def standing(folder: Path) -> list[str]:
    async def read() -> list[str]:
        journal = Journal.open(folder / str(INSTANCE) / "journal", asyncio.get_running_loop())
        found = list(journal.standing())
        journal.close()
        return found

    return asyncio.run(read())


def test_calls_end_only_by_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal_with(tmp_path, "one", "two")
    place = tmp_path / str(INSTANCE) / "journal"
    assert hairpin(["flush", *options(tmp_path)]) == 1
    assert capsys.readouterr().err == f"hairpin: calls end with 2 calls in {place}: say --force if they are to\n"
    assert standing(tmp_path) == ["one", "two"]
    assert hairpin(["flush", "--force", *options(tmp_path)]) == 0
    assert capsys.readouterr().out == f"removed 2 calls in {place}\n"
    assert standing(tmp_path) == []
    assert hairpin(["flush", *options(tmp_path)]) == 0
    assert capsys.readouterr().out == f"nothing was left of instance {INSTANCE}\n"


def test_what_a_living_relay_keeps_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal_with(tmp_path, "one")
    held, _ = claim(load(options(tmp_path)))
    try:
        assert hairpin(["flush", "--force", *options(tmp_path)]) == 1
    finally:
        held.release()
    assert f"hairpin instance {INSTANCE} already runs in this network namespace" in capsys.readouterr().err
    assert standing(tmp_path) == ["one"]


def test_what_a_refused_flush_was_told_is_told_to_the_next_one(tmp_path: Path) -> None:
    journal_with(tmp_path, "one")
    held, path = claim(load(options(tmp_path)))
    held.note("30000-40000")
    held.release(keep=True)
    assert hairpin(["flush", *options(tmp_path)]) == 1
    assert Claim(path.with_suffix(".lock"), INSTANCE).left_behind == "30000-40000"


def test_options_that_are_not_understood_are_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert hairpin(["flush", "--tos=loud", "--force"]) == 2
    assert capsys.readouterr().err.startswith("hairpin: --tos=loud: ")


def test_remains_lie_apart_for_each_instance_and_pins_for_each_namespace(tmp_path: Path) -> None:
    config = load(options(tmp_path))
    left = remains(config, 77)
    assert left is not None
    assert left.journal == tmp_path / str(INSTANCE) / "journal"
    assert left.pins == pin_folder(config, 77) == tmp_path / "pins" / f"{INSTANCE}-77"
    assert remains(load(["--config-file=none"]), 77) is None
