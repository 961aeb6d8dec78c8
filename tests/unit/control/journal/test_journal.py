"""The journal from the event loop: what is written when, and which replies wait for it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop

from control.journal import Journal, JournalError, JournalTaken, flush
from control.journal import journal as journal_module
from control.journal.files import JournalFiles, Slot
from control.journal.format import MAX_BODY, Header
from control.ng.message import Remembered
from relay.types import Endpoint

REPLY = Remembered(Endpoint("192.0.2.250", 2222), b"1 ", 7, b"1 de")
LONG = 60.0
"""Seconds of patience where none is to run out."""


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario, 20))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110, there is nobody who would tell
            await asyncio.sleep(0.002)


def opened(folder: Path, **more: Any) -> Journal:
    return Journal.open(folder, asyncio.get_running_loop(), **more)


async def written(journal: Journal) -> None:
    await until(lambda: journal.behind == 0)


def found(journal: Journal) -> dict[str, bytes | None]:
    return {call_id: journal.record(call_id) for call_id in journal.standing()}


class Slow:
    """Files whose writing takes until it is let go on, and may fail."""

    folder = Path("/slow")
    size = lost = 0

    def __init__(self) -> None:
        self.index: dict[bytes, Slot] = {}
        self.calls: list[dict[str, bytes | None]] = []
        self.replies: list[bytes] = []
        self.go = threading.Event()
        self.began = threading.Semaphore(0)
        self.error: Exception | None = None

    def begin(self) -> None:
        return None

    def write(self, calls: Mapping[str, bytes | None], replies: Sequence[bytes]) -> None:
        self.began.release()
        self.go.wait(15)
        if self.error is not None:
            raise self.error
        self.calls.append(dict(calls))
        self.replies += replies

    def tidy(self) -> bool:
        return False

    def close(self) -> None:
        return None


def over(files: Slow, patience: float = LONG) -> Journal:
    return Journal(files, asyncio.get_running_loop(), patience)


def test_what_was_put_is_found_by_the_next_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = opened(tmp_path / "j")
        journal.put("a", b"1")
        journal.put("b", b"1")
        await written(journal)
        journal.put("a", b"2")
        journal.drop("b")
        journal.put("\udcff@Käse", b"3")
        journal.reply(REPLY)
        journal.close()
        again = opened(tmp_path / "j")
        assert found(again) == {"a": b"2", "\udcff@Käse": b"3"}
        assert again.record("b") is None
        assert again.replies == [REPLY]
        assert again.problems == []
        again.close()

    run(scenario())


def test_a_reply_leaves_when_what_it_tells_of_is_written() -> None:
    async def scenario() -> None:
        files, left = Slow(), []
        journal = over(files)
        journal.put("a", b"1")
        journal.after(lambda: left.append(dict(files.calls[-1])))
        await asyncio.sleep(0.05)
        assert left == []
        files.go.set()
        await until(lambda: left)
        assert left == [{"a": b"1"}]
        assert journal.unjournalled == 0
        journal.close()

    run(scenario())


def test_where_nothing_waits_a_reply_leaves_at_once() -> None:
    async def scenario() -> None:
        files, left = Slow(), []
        files.go.set()
        journal = over(files)
        journal.after(lambda: left.append(1))
        assert left == [1]
        journal.put("a", b"1")
        journal.after(lambda: left.append(2))
        assert left == [1]
        await written(journal)
        journal.after(lambda: left.append(3))
        assert left == [1, 2, 3]
        journal.close()

    run(scenario())


def test_one_turn_of_the_loop_is_one_batch_and_what_comes_meanwhile_the_next() -> None:
    async def scenario() -> None:
        files, left = Slow(), list[int]()
        journal = over(files)
        for number in range(3):
            journal.put(f"first {number}", b"1")
        await asyncio.to_thread(files.began.acquire)
        for number in range(50):
            journal.put("a", b"%d" % number)
            journal.after(partial(left.append, number))
            await asyncio.sleep(0)
        files.go.set()
        await until(lambda: len(left) == 50)
        assert left == list(range(50))
        assert files.calls == [{f"first {number}": b"1" for number in range(3)}, {"a": b"49"}]
        journal.close()

    run(scenario())


def test_patience_ends_and_what_was_late_is_written_all_the_same() -> None:
    async def scenario() -> None:
        files, left = Slow(), []
        journal = over(files, patience=0.02)
        journal.put("a", b"1")
        began = time.monotonic()
        journal.after(lambda: left.append(time.monotonic() - began))
        await until(lambda: left)
        assert left[0] >= 0.019
        assert (journal.unjournalled, journal.behind) == (1, 1)
        journal.put("b", b"1")
        journal.after(lambda: left.append(0.0))  # the thread is known to be slow
        assert left[1:] == [0.0]
        assert (journal.unjournalled, journal.behind) == (2, 2)
        files.go.set()
        await written(journal)
        assert files.calls == [{"a": b"1"}, {"b": b"1"}]
        journal.put("c", b"1")
        journal.after(lambda: left.append(1.0))
        assert len(left) == 2  # it is waited for again
        await until(lambda: len(left) == 3)
        journal.close()

    run(scenario())


def test_a_busy_loop_is_no_slow_thread() -> None:
    """Commands that come in a burst are answered in one turn, which takes longer than patience lasts."""

    async def scenario() -> None:
        files, left = Slow(), list[str]()
        files.go.set()
        journal = over(files, patience=0.02)
        for name in ("a", "b", "c"):
            journal.put(name, b"1")
            journal.after(partial(left.append, name))
            time.sleep(0.03)  # noqa: ASYNC251, so it is when commands are answered
        await until(lambda: len(left) == 3)
        files.go.clear()
        journal.put("d", b"1")
        journal.after(partial(left.append, "d"))
        await asyncio.to_thread(lambda: [files.began.acquire() for _ in range(2)])
        files.go.set()
        time.sleep(0.05)  # noqa: ASYNC251
        await until(lambda: len(left) == 4)
        assert (left, journal.unjournalled) == (["a", "b", "c", "d"], 0)
        journal.close()

    run(scenario())


def test_a_reply_does_not_wait_for_what_ended_before_it_was_written() -> None:
    async def scenario() -> None:
        files, left = Slow(), list[str]()
        journal = over(files)
        journal.put("a", b"1")
        journal.after(partial(left.append, "offer"))
        journal.drop("a")
        journal.after(partial(left.append, "delete"))
        await until(lambda: "offer" in left)
        assert journal.unjournalled == 0
        journal.close()

    run(scenario())


def test_a_thread_that_hangs_is_told_of_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(journal_module, "STUCK", 0.05)

    async def scenario() -> None:
        files = Slow()
        journal = over(files, patience=0.01)
        for number in range(20):
            journal.put("a", b"%d" % number)
            journal.after(lambda: None)
            await asyncio.sleep(0.01)
        await until(lambda: len(caplog.records) == 1)
        assert "does not answer" in caplog.text
        assert "does not answer" in journal.status()["failing"]
        files.go.set()
        await until(lambda: len(caplog.records) == 2)
        assert "written again" in caplog.text
        assert journal.status()["failing"] == ""
        journal.close()

    run(scenario())


def test_memory_is_bounded_by_calls_while_the_thread_hangs() -> None:
    async def scenario() -> None:
        files = Slow()
        journal = over(files, patience=0.01)
        journal.put("first", b"1")
        await asyncio.to_thread(files.began.acquire)
        for number in range(20_000):
            journal.put(f"short {number}", b"1")
            journal.put("long", b"%d" % number)
            journal.reply(REPLY)
            journal.drop(f"short {number}")
        assert journal.behind == 2
        assert len(journal._batch.replies) == journal_module.MAX_REPLIES
        journal.drop("first")
        files.go.set()
        await written(journal)
        assert files.calls == [{"first": b"1"}, {"long": b"19999", "first": None}]
        journal.close()

    run(scenario())


def test_without_room_calls_go_on_and_all_is_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_module, "RETRY", 0.02)
    full = threading.Event()
    write = os.pwrite

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data, offset)

    async def scenario() -> None:
        journal, left = opened(tmp_path / "j", patience=LONG), []
        journal.put("a", b"1")
        journal.put("b", b"1")
        await written(journal)
        monkeypatch.setattr(os, "pwrite", pwrite)
        full.set()
        journal.put("a", b"2")
        journal.put("c", b"2")
        journal.after(lambda: left.append("first"))
        await until(lambda: left)
        for number in range(30):
            journal.put(f"short {number}", b"2")
            journal.after(lambda: left.append("later"))
            journal.drop(f"short {number}")
            await asyncio.sleep(0.005)
        journal.drop("b")
        assert len(left) == 31
        assert journal.behind == 3
        assert "No space left" in journal.status()["failing"]
        assert len(caplog.records) == 1
        full.clear()
        await written(journal)
        assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
        journal.close()
        again = opened(tmp_path / "j")
        assert found(again) == {"a": b"2", "c": b"2"}
        again.close()

    run(scenario())


def test_a_fault_in_the_thread_is_no_end_of_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(journal_module, "RETRY", 0.02)

    async def scenario() -> None:
        files, left = Slow(), []
        files.go.set()
        files.error = ValueError("nobody thought of this")
        journal = over(files)
        journal.put("a", b"1")
        journal.after(lambda: left.append(1))
        await until(lambda: left)
        files.error = None
        await written(journal)
        assert files.calls == [{"a": b"1"}]
        assert "nobody thought of this" in caplog.text
        journal.close()

    run(scenario())


def test_a_folder_that_cannot_be_written_is_a_problem_and_no_reason_not_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "RETRY", 0.02)
    place = tmp_path / "place"
    place.touch()

    async def scenario() -> None:
        journal, left = opened(place / "j"), []
        assert "cannot be written" in journal.problems[0]
        assert "cannot be read" in journal.problems[1]
        journal.put("a", b"1")
        journal.after(lambda: left.append(1))
        await until(lambda: left and journal.failing)
        place.unlink()
        await written(journal)
        journal.close()
        again = opened(place / "j")
        assert found(again) == {"a": b"1"}
        again.close()

    run(scenario())


def test_a_journal_is_open_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = opened(tmp_path / "j")
        with pytest.raises(JournalTaken):
            opened(tmp_path / "j")
        with pytest.raises(JournalTaken):
            flush(tmp_path / "j")
        journal.close()
        opened(tmp_path / "j").close()

    run(scenario())


def test_another_keyspace_is_told_of(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = opened(tmp_path / "j", keyspace=1)
        journal.put("a", b"1")
        journal.close()
        again = opened(tmp_path / "j", keyspace=2)
        assert "keyspace 1" in again.problems[0]
        assert found(again) == {"a": b"1"}
        again.close()

    run(scenario())


def test_a_journal_from_before_the_host_was_started_is_read_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        journal = opened(tmp_path / "j")
        journal.put("a", b"1")
        journal.close()
        (tmp_path / "boot").write_text("another boot\n")
        monkeypatch.setattr(journal_module, "BOOT_ID", tmp_path / "boot")
        again = opened(tmp_path / "j")
        assert "before this host was started" in again.problems[0]
        assert found(again) == {"a": b"1"}
        again.close()

    run(scenario())


def test_a_record_that_was_found_can_be_read_until_it_is_settled(tmp_path: Path) -> None:
    """Also when the files it stood in are gone, and when their descriptors have come to mean other files."""
    folder = tmp_path / "j"

    async def scenario() -> None:
        journal = opened(folder)
        journal.put("a", b"1" * 1000)
        journal.put("b", b"1" * 1000)
        journal.close()
        files = JournalFiles(folder, Header(), floor=0)
        files.read(time.time())
        journal = Journal(files, asyncio.get_running_loop(), LONG)
        journal._remember()
        for _ in range(3):
            journal.put("c", b"2" * 5000)
            await written(journal)
            files._rest_until = 0.0
        journal.put("c", b"2")
        await until(lambda: len(list(folder.glob("calls-*"))) == 1)
        others = [os.open(folder / "lock", os.O_RDONLY) for _ in range(10)]
        assert found(journal) == {"a": b"1" * 1000, "b": b"1" * 1000}
        journal.settle("a")
        journal.drop("b")
        assert found(journal) == {}
        journal.close()
        for fd in others:
            os.close(fd)

    run(scenario())


def test_a_record_that_was_damaged_after_it_was_found_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = opened(tmp_path / "j")
        journal.put("a", b"first")
        journal.close()
        again = opened(tmp_path / "j")
        path = tmp_path / "j" / "calls-00000001"
        path.write_bytes(path.read_bytes().replace(b"first", b"f1rst"))
        with pytest.raises(JournalError, match="damaged"):
            again.record("a")
        again.close()

    run(scenario())


def test_what_is_too_large_is_counted_and_does_no_harm(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = opened(tmp_path / "j")
        journal.put("a", bytes(MAX_BODY + 1))
        journal.put("x" * 5000, b"1")
        journal.reply(REPLY._replace(reply=bytes(100_000)))
        journal.put("b", b"1")
        journal.close()
        assert journal.too_large == 2
        again = opened(tmp_path / "j")
        assert found(again) == {"b": b"1"}
        again.close()

    run(scenario())


def test_closing_lets_replies_go_and_writes_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "GOODBYE", 0.1)

    async def scenario() -> None:
        files, left = Slow(), []
        journal = over(files)
        journal.put("a", b"1")
        journal.after(lambda: left.append(1))
        await asyncio.to_thread(files.began.acquire)
        journal.put("b", b"1")
        journal.after(lambda: left.append(2))
        journal.close()
        journal.close()
        assert left == [1, 2]
        journal.put("c", b"1")
        journal.after(lambda: left.append(3))
        assert left == [1, 2, 3]
        files.go.set()
        await until(lambda: len(files.calls) == 2)
        assert files.calls == [{"a": b"1"}, {"b": b"1"}]

    run(scenario())


def test_a_client_whose_reply_fails_does_not_hold_up_others(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        files, left = Slow(), []
        journal = over(files)
        journal.put("a", b"1")
        journal.after(lambda: left.append(1 // 0))
        journal.after(lambda: left.append(2))
        files.go.set()
        await until(lambda: left)
        assert left == [2]
        assert "ZeroDivisionError" in caplog.text
        journal.close()

    run(scenario())


def test_flush_removes_what_a_journal_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        assert not flush(tmp_path / "nothing")
        assert not (tmp_path / "nothing").exists()
        journal = opened(tmp_path / "j")
        journal.put("a", b"1")
        journal.reply(REPLY)
        journal.close()
        assert flush(tmp_path / "j")
        assert not flush(tmp_path / "j")
        again = opened(tmp_path / "j")
        assert (found(again), again.replies) == ({}, [])
        again.close()

    run(scenario())
