"""One file of the journal: written behind its end, read from its beginning."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from control.journal.format import Frame, Scanner, other_format

__all__ = ["DAMAGED", "Segment", "listed", "read"]

DAMAGED = "damaged"
"""Where a file goes that had damage in its middle, once what could be read of it is elsewhere."""
BLOCK = 8 << 20
"""Bytes read at once."""
MAX_FILE = 1 << 30
"""Bytes of a file that are read."""


class Segment:
    """An open file, `<kind>-<number>`; the higher number is the later one."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.number = int(path.name.rpartition("-")[2])
        self.fd = fd
        self.size = 0
        self.damaged = False
        """There is something between its frames that could not be read."""

    @classmethod
    def create(cls, path: Path, header: bytes) -> Segment:
        """A file with its header. Raises OSError, with no file left."""
        segment = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        try:
            segment.append(header)
        except OSError:
            segment.remove()
            raise
        return segment

    def append(self, data: bytes) -> int:
        """Write behind all that stands there, and say where that begins. Raises OSError, with the file as it was."""
        start, view = self.size, memoryview(data)
        try:
            while view:
                view = view[os.pwrite(self.fd, view, start + len(data) - len(view)) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self.fd, start)
            raise
        self.size += len(data)
        return start

    def there(self) -> bool:
        """Whether the file still has a name, so that the next start would find it."""
        return os.fstat(self.fd).st_nlink > 0

    def remove(self) -> None:
        """Be rid of the file, but keep it aside where it holds what could not be read. Raises OSError."""
        with suppress(FileNotFoundError):
            if self.damaged:
                self.path.replace(self.path.with_name(f"{DAMAGED}-00000000"))
            else:
                self.path.unlink()
        self.close()

    def close(self) -> None:
        """Let go of it, and leave the file; safe to call twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def listed(folder: Path, kind: str) -> list[Path]:
    """The files of a kind, oldest first. Raises OSError."""
    pattern = re.compile(rf"{kind}-[0-9]{{8}}")
    return [folder / name for name in sorted(os.listdir(folder)) if pattern.fullmatch(name)]


def read(path: Path, take: Callable[[Segment, list[Frame]], None], problems: list[str]) -> Segment | None:
    """Take all frames of a file; None for one that is left as it is. What is wrong is named among the problems."""
    try:
        segment = Segment(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK))
    except OSError as error:
        problems.append(f"{path} cannot be read: {error.strerror}")
        return None
    try:
        wrong = _scan(segment, take, problems)
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    if wrong:
        segment.close()
        problems.append(f"{path} {wrong}: it is left as it is")
        return None
    return segment


def _scan(segment: Segment, take: Callable[[Segment, list[Frame]], None], problems: list[str]) -> str:
    """Take the frames, or say why there are none."""
    status = os.fstat(segment.fd)
    if not stat.S_ISREG(status.st_mode):
        return "is no file"
    other = other_format(os.pread(segment.fd, 64, 0))
    if other is not None:
        return f"is of format {other}, which this version of Hairpin does not read"
    scanner = Scanner()
    segment.size = min(status.st_size, MAX_FILE)
    frames = 0
    for at in range(0, segment.size, BLOCK):
        found = scanner.feed(os.pread(segment.fd, min(BLOCK, segment.size - at), at), at + BLOCK >= segment.size)
        frames += len(found)
        take(segment, found)
    if segment.size and not frames:
        return "is no journal of Hairpin"
    segment.damaged = scanner.gaps > 0 or scanner.given_up
    problems += _wrong(segment, scanner)
    return ""


def _wrong(segment: Segment, scanner: Scanner) -> list[str]:
    """What could not be read of a file."""
    found = []
    if scanner.gaps:
        found.append(f"{segment.path} is damaged in {scanner.gaps} places: {scanner.lost} bytes are lost")
    if scanner.given_up:
        found.append(f"{segment.path} is garbage in its last {scanner.torn} bytes, which are not read")
    elif scanner.torn:
        found.append(f"{segment.path} ends with {scanner.torn} bytes that are no whole record, which are lost")
    return found
