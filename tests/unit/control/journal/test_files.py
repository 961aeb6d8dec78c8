"""What stands in the journal's files, through restarts, damage and tidying."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.journal import files as files_module
from control.journal.files import JournalFiles, JournalTaken, lock
from control.journal.format import Header, body, name, opening, reply_frame
from control.journal.replies import ReplyFiles
from control.journal.segment import Segment
from control.ng.message import Remembered
from relay.types import Endpoint

HEADER = Header("boot", 1, "0.1")
REPLY = Remembered(Endpoint("192.0.2.250", 2222), b"1 ", 7, b"1 de")
NOW = 1_000_000.0


class Disk:
    """A folder, and the journals that were opened in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[JournalFiles] = []
        self.problems: list[str] = []
        self.replies: list[Remembered] = []
        self.writer: Header | None = None

    def open(self, floor: int = 1 << 20) -> JournalFiles:
        """A journal as a start finds it, whatever became of the one before."""
        files = JournalFiles(self.folder, HEADER, floor)
        self.opened.append(files)
        self.replies, self.writer, self.problems = files.read(NOW)
        return files

    def names(self) -> list[str]:
        return sorted(os.listdir(self.folder))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    disk = Disk(tmp_path / "journal")
    disk.folder.mkdir()
    yield disk
    for files in disk.opened:
        files.close()


def standing(files: JournalFiles) -> dict[str, bytes]:
    """The calls of a journal, as the files have them."""
    return {name(call): body(os.pread(slot.segment.fd, slot.size, slot.offset)) for call, slot in files.index.items()}


def tidy(files: JournalFiles) -> None:
    """Do all the tidying there is."""
    files._rest_until = 0.0
    while files.tidy():
        pass


def test_calls_stand_until_they_are_gone(disk: Disk) -> None:
    files = disk.open()
    files.write({"a": b"1", "b": b"1", "c": b"1"}, [])
    files.write({"a": b"2", "b": None, "d": None}, [])
    assert standing(files) == {"a": b"2", "c": b"1"}
    assert standing(disk.open()) == {"a": b"2", "c": b"1"}
    assert disk.problems == []
    assert disk.writer == HEADER


def test_each_start_begins_a_file_and_reads_all(disk: Disk) -> None:
    disk.open().write({"a": b"1", "b": b"1"}, [])
    disk.open().write({"b": None, "c": b"1"}, [])
    disk.open().write({"a": b"2"}, [])
    assert standing(disk.open()) == {"a": b"2", "c": b"1"}
    assert disk.names() == ["calls-00000001", "calls-00000002", "calls-00000003"]


def test_an_empty_folder_and_an_empty_file_are_no_problem(disk: Disk) -> None:
    (disk.folder / "calls-00000004").touch()
    files = disk.open()
    assert (files.index, disk.problems, disk.writer) == ({}, [], None)
    files.write({"a": b"1"}, [])
    assert disk.names() == ["calls-00000004", "calls-00000005"]


def test_a_torn_end_is_named_and_kept_out_of_what_is_written_next(disk: Disk) -> None:
    disk.open().write({"a": b"1", "b": b"2" * 100}, [])
    path = disk.folder / "calls-00000001"
    os.truncate(path, path.stat().st_size - 10)
    files = disk.open()
    assert standing(files) == {"a": b"1"}
    assert len(disk.problems) == 1
    assert "ends with" in disk.problems[0]
    files.write({"c": b"3"}, [])
    assert standing(disk.open()) == {"a": b"1", "c": b"3"}


def test_damage_costs_its_own_record_and_is_kept_aside(disk: Disk) -> None:
    disk.open().write({"a": b"first", "b": b"second", "c": b"third"}, [])
    path = disk.folder / "calls-00000001"
    path.write_bytes(path.read_bytes().replace(b"second", b"sec0nd"))
    before = path.read_bytes()
    files = disk.open(floor=0)
    assert standing(files) == {"a": b"first", "c": b"third"}
    assert "damaged in 1 places" in disk.problems[0]
    files.write({"a": b"1", "c": b"3", "d": b"4"}, [])
    tidy(files)
    assert disk.names() == ["calls-00000003", "damaged-00000000"]
    assert (disk.folder / "damaged-00000000").read_bytes() == before
    assert standing(disk.open()) == {"a": b"1", "c": b"3", "d": b"4"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"hairpin journal, format 2\nwhatever", "is of format 2"),
        (b"\x7fELF" + bytes(1000), "is no journal of Hairpin"),
    ],
)
def test_a_file_of_others_is_named_and_left_as_it_is(disk: Disk, content: bytes, problem: str) -> None:
    disk.open().write({"a": b"1"}, [])
    foreign = disk.folder / "calls-00000002"
    foreign.write_bytes(content)
    files = disk.open(floor=0)
    assert problem in disk.problems[0]
    files.write({"b": b"2", "a": b"3"}, [])
    tidy(files)
    assert foreign.read_bytes() == content
    assert standing(disk.open()) == {"a": b"3", "b": b"2"}


def test_what_is_no_file_does_not_hold_up_a_start(disk: Disk) -> None:
    os.mkfifo(disk.folder / "calls-00000001")
    (disk.folder / "calls-00000002").symlink_to("/dev/zero")
    (disk.folder / "calls-00000003").mkdir()
    (disk.folder / "calls-3").write_text("of another's making")
    assert disk.open().index == {}
    assert [problem.split(" ", 1)[1].split(":")[0] for problem in disk.problems] == [
        "is no file",
        "cannot be read",
        "is no file",
    ]


def test_a_folder_that_cannot_be_read_is_a_problem_and_no_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert "cannot be read" in JournalFiles(path, HEADER).read(NOW)[2][0]


# -- tidying


def test_what_is_out_of_date_goes_when_it_outweighs_the_rest(disk: Disk) -> None:
    files = disk.open(floor=10_000)
    for number in range(100):
        files.write({"a": b"%d" % number * 200, "b": b"%d" % number * 200}, [])
        tidy(files)
    assert files.size < 20_000
    assert standing(files) == standing(disk.open()) == {"a": b"99" * 200, "b": b"99" * 200}
    assert len(disk.names()) == 1


def test_nothing_is_moved_while_most_counts(disk: Disk) -> None:
    files = disk.open(floor=0)
    files.write({str(number): bytes(100) for number in range(50)}, [])
    tidy(files)
    assert disk.names() == ["calls-00000001"]


def test_many_files_become_one(disk: Disk) -> None:
    for number in range(7):
        disk.open().write({str(number): b"x"}, [])
    files = disk.open()
    files.write({"7": b"x"}, [])
    tidy(files)
    assert len(disk.names()) == 1
    assert standing(files) == {str(number): b"x" for number in range(8)}


def test_a_start_in_the_middle_of_tidying_finds_all(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each piece of it, and with calls that change or end meanwhile."""
    monkeypatch.setattr(files_module, "SLICE", 300)
    files = disk.open(floor=0)
    wanted = {str(number): b"old" * 30 for number in range(20)}
    files.write(dict(wanted), [])
    files.write({**wanted, "gone": b"x" * 4000}, [])
    files.write({"gone": None}, [])
    files._rest_until = 0.0
    pieces = 0
    while files.tidy():
        pieces += 1
        changed = {str(pieces): b"new%d" % pieces, str(19 - pieces): None}
        files.write(changed, [])
        wanted[str(pieces)] = b"new%d" % pieces
        wanted.pop(str(19 - pieces), None)
        assert standing(disk.open()) == wanted
    assert pieces > 5
    assert standing(files) == standing(disk.open()) == wanted
    assert len(disk.names()) == 1


def test_what_has_ended_stays_so_when_only_some_files_could_be_removed(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.open().write({"a": b"1", "b": b"1"}, [])
    disk.open().write({"a": None}, [])
    files = disk.open(floor=0)
    files.write({"c": b"1"}, [])
    removed: list[str] = []

    def remove(segment: Segment) -> None:
        if removed:
            raise OSError(errno.EPERM, "Operation not permitted")
        removed.append(segment.path.name)
        segment.path.unlink()

    monkeypatch.setattr(Segment, "remove", remove)
    monkeypatch.setattr(files_module, "MAX_SEGMENTS", 2)
    tidy(files)
    assert removed == ["calls-00000001"]
    assert standing(disk.open()) == {"b": b"1", "c": b"1"}


def test_files_that_somebody_removed_are_written_again(disk: Disk) -> None:
    files = disk.open()
    files.write({"a": b"1", "b": b"2"}, [])
    (disk.folder / "calls-00000001").unlink()
    disk.folder.rmdir()
    files.write({"c": b"3"}, [])
    tidy(files)
    assert standing(disk.open()) == {"a": b"1", "b": b"2", "c": b"3"}


def test_a_file_that_somebody_cut_short_costs_what_was_cut(disk: Disk) -> None:
    disk.open().write({"a": b"1" * 100, "b": b"2" * 100}, [])
    files = disk.open(floor=0)
    os.truncate(disk.folder / "calls-00000001", 250)
    files.write({"c": b"3" * 3000}, [])
    files.write({"c": b"3"}, [])
    tidy(files)
    assert files.lost == 1
    assert standing(disk.open()) == {"a": b"1" * 100, "c": b"3"}


# -- no room


class Full:
    """Writes that fit into so many bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self._write = os.pwrite
        monkeypatch.setattr(os, "pwrite", self)

    def __call__(self, fd: int, data: memoryview, offset: int) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(fd, data[: self.room], offset)
        self.room -= written
        return written


def test_a_batch_that_finds_no_room_leaves_the_file_sound(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    files = disk.open()
    files.write({"a": b"1"}, [])
    disk_full = Full(monkeypatch, 50)
    with pytest.raises(OSError, match="No space"):
        files.write({"a": b"2" * 40, "b": b"2" * 40}, [])
    assert standing(files) == standing(disk.open()) == {"a": b"1"}
    assert disk.problems == []
    disk_full.room = 1 << 20
    files.write({"a": b"3", "b": b"3"}, [])
    assert standing(disk.open()) == {"a": b"3", "b": b"3"}


def test_a_header_that_finds_no_room_leaves_no_file(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    files = disk.open()
    full = Full(monkeypatch, 10)
    with pytest.raises(OSError, match="No space"):
        files.write({"a": b"1"}, [])
    assert disk.names() == []
    full.room = 1 << 20
    files.write({"a": b"1"}, [])
    assert standing(disk.open()) == {"a": b"1"}


def test_tidying_that_finds_no_room_costs_nothing_and_is_tried_again(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = disk.open(floor=0)
    for number in range(5):
        files.write({"a": b"%d" % number * 500, "b": b"%d" % number * 500}, [])
    full = Full(monkeypatch, len(opening(HEADER)) + 100)
    tidy(files)
    assert standing(files) == standing(disk.open()) == {"a": b"4" * 500, "b": b"4" * 500}
    assert not files.tidy()  # it rests before it tries again
    full.room = 1 << 20
    tidy(files)
    assert len(disk.names()) == 1
    assert standing(disk.open()) == {"a": b"4" * 500, "b": b"4" * 500}


# -- replies


def test_young_replies_are_found_and_others_are_not(disk: Disk) -> None:
    old, far = REPLY._replace(cookie=b"old "), REPLY._replace(cookie=b"far ")
    frames = [reply_frame(REPLY, NOW + 20), reply_frame(old, NOW - 1), reply_frame(far, NOW + 1000)]
    disk.open().write({}, frames)
    disk.open()
    assert disk.replies == [REPLY]


def test_replies_without_room_do_not_keep_calls_from_being_written(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    files = disk.open()
    Full(monkeypatch, 200)
    files.write({"a": b"1"}, [reply_frame(REPLY._replace(reply=bytes(500)), NOW + 5)])
    assert standing(disk.open()) == {"a": b"1"}


def test_files_of_replies_go_when_they_are_old_or_too_many(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.journal.replies.MAX_FILE", 1)
    replies = ReplyFiles(disk.folder, opening(HEADER))
    for _ in range(8):
        replies.write(reply_frame(REPLY, NOW + 5))
    assert disk.names() == [f"replies-0000000{number}" for number in (5, 6, 7, 8)]
    for path in disk.folder.iterdir():
        os.utime(path, (time.time() - 100,) * 2)
    replies.write(reply_frame(REPLY, NOW + 5))
    assert disk.names() == ["replies-00000009"]
    replies.close()


# -- the lock


def test_a_journal_has_one_writer(tmp_path: Path) -> None:
    first = lock(tmp_path / "a" / "b")
    with pytest.raises(JournalTaken, match="another relay"):
        lock(tmp_path / "a" / "b")
    os.close(first)
    os.close(lock(tmp_path / "a" / "b"))
