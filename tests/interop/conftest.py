"""The stage that a module's tests share, empty at the beginning of each scene."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.stage import Stage
from tests.lab import Lab


@pytest.fixture(scope="module")
def bare_stage() -> Iterator[Stage]:
    """The network and its telephones."""
    with Lab() as lab:
        yield Stage(lab)


@pytest.fixture
def stage(bare_stage: Stage) -> Iterator[Stage]:
    """A scene on it; where it ends well, relays must hold nothing and nobody must have complained."""
    yield bare_stage
    try:
        bare_stage.settle()
    except BaseException:
        bare_stage.strike()
        raise
    finally:
        bare_stage.clear()
