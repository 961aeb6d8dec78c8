"""The journal on a file system that is full, until it has room again."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import uvloop

from control.journal import Journal
from control.journal import journal as journal_module

CALLS = 1000


def mount(options: str, place: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "small"
    place.mkdir()
    mount("size=1m", place)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110, there is nobody who would tell
            await asyncio.sleep(0.005)


def test_calls_go_on_without_room_and_all_that_stand_are_on_file_when_there_is_some(
    small: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_module, "RETRY", 0.05)
    records = {f"call {number}": b"%d" % number + os.urandom(2000) for number in range(CALLS)}

    async def scenario() -> None:
        loop, left = asyncio.get_running_loop(), list[str]()
        journal = Journal.open(small / "j", loop, patience=20.0)
        for name, record in records.items():
            journal.put(name, record)
            journal.after(partial(left.append, name))
            await asyncio.sleep(0)
        await until(lambda: len(left) == CALLS and journal.failing)
        assert left == list(records)
        assert 0 < journal.behind < CALLS
        for name in list(records)[::3]:
            journal.drop(name)
            del records[name]
        await asyncio.to_thread(mount, "remount,size=20m", small)
        await until(lambda: not journal.behind)
        assert len(caplog.records) == 2  # that there is no room, and that there is again
        journal.close()
        again = Journal.open(small / "j", loop)
        assert again.problems == []
        assert {name: again.record(name) for name in again.standing()} == records
        again.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), 60))
