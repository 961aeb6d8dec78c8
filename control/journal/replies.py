"""Replies on file: a repeat of a command that comes after a restart gets the reply its first one had.

They count for seconds and are never looked up, so they stand in files of their own, which are removed one by one when
all in them is older than any reply that counts.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from control.journal.format import Frame, JournalError, Kind, read_reply
from control.journal.segment import Segment, listed, read
from control.ng.message import Remembered

__all__ = ["REPLIES", "YOUNG", "ReplyFiles"]

REPLIES = "replies"
YOUNG = 30.0
"""Seconds that a reply counts: proxies give up repeating sooner."""
TURN = 15.0
"""Seconds after which another file is begun."""
MAX_FILE = 32 << 20
"""Bytes of a file."""
MAX_FILES = 4


class ReplyFiles:
    """The files of replies in a folder."""

    def __init__(self, folder: Path, opening: bytes) -> None:
        self._folder = folder
        self._opening = opening
        self._active: Segment | None = None
        self._since = 0.0
        self._next = 1

    def read(self, now: float, problems: list[str]) -> list[Remembered]:
        """The replies that count, oldest first; `now` in Unix seconds. Raises OSError."""
        replies: list[Remembered] = []

        def take(segment: Segment, frames: list[Frame]) -> None:
            for frame in frames:
                with suppress(JournalError):
                    reply, until = read_reply(frame) if frame.kind == Kind.REPLY else (None, 0.0)
                    if reply is not None and now < until <= now + YOUNG:
                        replies.append(reply)

        for path in listed(self._folder, REPLIES):
            segment = read(path, take, problems)
            self._next = int(path.name.rpartition("-")[2]) + 1
            if segment is not None:
                segment.close()
        return replies

    def begin(self) -> Segment:
        """The file that is written to, another one where that is due. Raises OSError."""
        now = time.monotonic()
        if self._active is None or now - self._since >= TURN or self._active.size >= MAX_FILE:
            self._active = self._turn(now)
        return self._active

    def write(self, frames: bytes) -> None:
        """Keep the frames of some replies. Raises OSError."""
        self.begin().append(frames)

    def close(self) -> None:
        """Let go of the files; safe to call twice."""
        if self._active is not None:
            self._active.close()

    def _turn(self, now: float) -> Segment:
        """Begin another file, and remove those of which nothing counts, and the oldest of too many."""
        self.close()
        self._active = None
        self._next += 1
        active = Segment.create(self._folder / f"{REPLIES}-{self._next - 1:08d}", self._opening)
        self._since = now
        with suppress(OSError):  # there is another time
            paths = listed(self._folder, REPLIES)
            for path in paths[:-1]:
                if path in paths[:-MAX_FILES] or time.time() - path.stat().st_mtime > YOUNG:
                    path.unlink()
        return active
