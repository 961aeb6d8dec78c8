"""The journal's files: what stands in them, what is written behind it, and how they are kept from growing.

Calls stand in numbered files, of which only the youngest is written to; each start begins another. When most of what
they hold is out of date, a younger one is begun, what still counts is written into it piece by piece between other
work, and then the older ones are removed, oldest first. So at any instruction all files together say what they said
before, read from the oldest to the youngest, and none has to be complete for that.

`JournalFiles` is used by one thread at a time.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from control.journal.format import Frame, Header, Kind, frame, key, opening, read_header
from control.journal.replies import ReplyFiles
from control.journal.segment import Segment, listed, read
from control.ng.message import Remembered
from relay.errors import HairpinError

__all__ = ["CALLS", "JournalFiles", "JournalTaken", "Slot", "lock"]

CALLS = "calls"
LOCK = "lock"
SLICE = 256 << 10
"""Bytes moved at once: what a batch of records may have to wait for."""
FLOOR = 16 << 20
"""Bytes that files may have before anything is moved."""
MAX_SEGMENTS = 4
"""Files beyond which they are made one, however little is out of date."""
MAX_CALLS = 1_000_000
"""Calls that are believed to stand in files that were found."""
RETRY = 1.0
"""Seconds between two looks whether anything is to be moved, and until it is tried again where that failed."""


class JournalTaken(HairpinError):
    """Another relay writes this journal."""


class Slot(NamedTuple):
    """Where a call's newest record stands."""

    segment: Segment
    offset: int
    size: int


class JournalFiles:
    """All files of one journal."""

    def __init__(self, folder: Path, header: Header, floor: int = FLOOR) -> None:
        """`floor`: bytes that files may have before anything is moved."""
        self.folder = folder
        self.index: dict[bytes, Slot] = {}
        """Where each call stands."""
        self.lost = 0
        """Records that could not be moved, since their file was cut short."""
        self._opening = opening(header)
        self._replies = ReplyFiles(folder, self._opening)
        self._floor = floor
        self._segments: list[Segment] = []
        self._active: Segment | None = None
        self._last = 0
        self._live = 0
        self._moving: list[tuple[bytes, Slot]] = []
        self._victims: list[Segment] = []
        self._rest_until = 0.0

    @property
    def size(self) -> int:
        """Bytes of all files with calls."""
        return sum(segment.size for segment in self._segments)

    def close(self) -> None:
        """Let go of the files; safe to call twice."""
        self._replies.close()
        for segment in self._segments:
            segment.close()

    # -- reading

    def read(self, now: float) -> tuple[list[Remembered], Header | None, list[str]]:
        """Find what stands in the files; `now` in Unix seconds.

        Returns the replies that count, who wrote the youngest file, and what could not be read, a line for each.
        """
        problems: list[str] = []
        replies: list[Remembered] = []
        writers: list[Header] = []

        def take(segment: Segment, frames: list[Frame]) -> None:
            for one in frames:
                if one.kind == Kind.HEADER:
                    writers.append(read_header(one.body))
                else:
                    self._take(segment, one)

        try:
            for path in listed(self.folder, CALLS):
                self._last = int(path.name.rpartition("-")[2])
                segment = read(path, take, problems)
                if segment is not None:
                    self._segments.append(segment)
            replies = self._replies.read(now, problems)
        except OSError as error:
            problems.append(f"{self.folder} cannot be read: {error.strerror}")
        return replies, writers[-1] if writers else None, problems

    def _take(self, segment: Segment, one: Frame) -> None:
        if one.kind == Kind.GONE:
            self._place(one.key, None)
        elif one.kind == Kind.CALL and (len(self.index) < MAX_CALLS or one.key in self.index):
            self._place(one.key, Slot(segment, one.offset, one.size))

    def _place(self, call: bytes, slot: Slot | None) -> None:
        before = self.index.get(call)
        if before is not None:
            self._live -= before.size
        if slot is not None:
            self._live += slot.size
            self.index[call] = slot
        elif before is not None:
            del self.index[call]

    # -- writing

    def begin(self) -> None:
        """Make the files that are written to, so that no reply waits for that. Raises OSError."""
        if self._active is None:
            self._active = self._create()
        self._replies.begin()

    def write(self, calls: Mapping[str, bytes | None], replies: Sequence[bytes]) -> None:
        """Put in force what became of calls, None for one that has ended, and keep the frames of replies.

        Raises OSError, with nothing written of the calls. A reply that finds no room is left out.
        """
        frames: list[bytes] = []
        places: list[tuple[bytes, bool]] = []
        for call_id, record in calls.items():
            call = key(call_id)
            if record is not None or call in self.index:
                frames.append(frame(Kind.GONE, call) if record is None else frame(Kind.CALL, call, record))
                places.append((call, record is None))
        if frames:
            self._write(frames, places)
        if replies:
            with suppress(OSError):
                self._replies.write(b"".join(replies))

    def _write(self, frames: Sequence[bytes], places: Sequence[tuple[bytes, bool]]) -> None:
        if self._active is None:
            self._active = self._create()
        at = self._active.append(b"".join(frames))
        for one, (call, gone) in zip(frames, places, strict=True):
            self._place(call, None if gone else Slot(self._active, at, len(one)))
            at += len(one)

    def _create(self) -> Segment:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._last += 1
        segment = Segment.create(self.folder / f"{CALLS}-{self._last:08d}", self._opening)
        self._segments.append(segment)
        return segment

    # -- tidying

    def tidy(self) -> bool:
        """Do one piece of what keeps the files small; whether there is more of it to do."""
        now = time.monotonic()
        if now < self._rest_until:
            return False
        try:
            if self._moving:
                self._move()
            elif self._victims:
                self._remove()
            elif self._untidy():
                self._begin()
        except OSError:  # no room, most likely: what stands there stays as it is
            self._rest_until = now + RETRY
            return False
        if not self._victims:
            self._rest_until = now + RETRY
        return bool(self._victims)

    def _untidy(self) -> bool:
        size = self.size
        grown = size > self._floor and size - self._live > self._live
        return grown or len(self._segments) > MAX_SEGMENTS or not all(one.there() for one in self._segments)

    def _begin(self) -> None:
        older = list(self._segments)
        self._active = self._create()
        self._victims = older
        self._moving = sorted(self.index.items(), key=lambda item: (item[1].segment.number, item[1].offset))
        self._moving.reverse()

    def _move(self) -> None:
        """Write one piece of the oldest file that still counts into the youngest."""
        piece = self._piece()
        segment, start, _ = piece[0][1]
        last = piece[-1][1]
        data = os.pread(segment.fd, last.offset + last.size - start, start)
        frames, places = [], []
        for call, slot in piece:
            found = data[slot.offset - start : slot.offset - start + slot.size]
            if self.index.get(call) is slot and len(found) == slot.size:
                frames.append(found)
                places.append((call, False))
        if frames:
            self._write(frames, places)
        del self._moving[-len(piece) :]
        for call, slot in piece:
            if self.index.get(call) is slot:
                self.lost += 1
                self._place(call, None)

    def _piece(self) -> list[tuple[bytes, Slot]]:
        """Records that stand near each other, those that are moved next."""
        first = self._moving[-1][1]
        piece: list[tuple[bytes, Slot]] = []
        for call, slot in reversed(self._moving):
            near = slot.segment is first.segment and slot.offset + slot.size - first.offset <= SLICE
            if piece and not near:
                break
            piece.append((call, slot))
        return piece

    def _remove(self) -> None:
        """Remove the older files, the oldest first: what ended stands in a later one than what it was."""
        while self._victims:
            self._victims[0].remove()
            self._segments.remove(self._victims.pop(0))


def lock(folder: Path) -> int:
    """Take a journal's folder, which is made where it is missing, until the descriptor is closed.

    Raises JournalTaken where another relay has it, OSError where there can be no journal.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise JournalTaken(f"another relay writes the journal in {folder}: give each its own --state-dir") from None
    return fd
