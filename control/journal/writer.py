"""The journal's thread: the only one that writes, so that no file system holds up the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final, Protocol

from control.journal.files import Slot

__all__ = ["Batch", "Files", "Writer"]

log = logging.getLogger(__name__)

PAUSE = 0.002
"""Seconds between two pieces of tidying, for everything else."""


class Batch:
    """What is written together."""

    __slots__ = ("calls", "replies")

    def __init__(self) -> None:
        self.calls: dict[str, bytes | None] = {}
        """Records by Call-ID; None for a call that has ended."""
        self.replies: list[bytes] = []
        """Frames."""

    def __bool__(self) -> bool:
        return bool(self.calls or self.replies)


class Files(Protocol):
    """What the thread writes to (control.journal.files.JournalFiles)."""

    folder: Path
    index: dict[bytes, Slot]
    lost: int

    @property
    def size(self) -> int: ...

    def begin(self) -> None: ...

    def write(self, calls: Mapping[str, bytes | None], replies: Sequence[bytes]) -> None: ...

    def tidy(self) -> bool: ...

    def close(self) -> None: ...


class Writer:
    """Writes batches in their order, and tells `done` on the loop's thread of each: why it failed, or nothing."""

    def __init__(self, files: Files, loop: asyncio.AbstractEventLoop, done: Callable[[str], None]) -> None:
        self._files: Final = files
        self._loop: Final = loop
        self._done: Final = done
        self._queue: SimpleQueue[Batch | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def hand(self, batch: Batch) -> None:
        """Have a batch written, which is not to be changed any more."""
        self._queue.put(batch)

    def stop(self, patience: float) -> bool:
        """Have it end when all is written; whether it did within so many seconds."""
        self._queue.put(None)
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _run(self) -> None:
        with suppress(OSError):  # the first batch tries again, and tells
            self._files.begin()
        tidying = False
        while True:
            try:
                batch = self._queue.get(timeout=PAUSE if tidying else None)
            except Empty:
                tidying = self._tidy()
                continue
            if batch is None:
                break
            failed = self._write(batch)
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._done, failed)
            tidying = self._tidy()
        self._files.close()

    def _write(self, batch: Batch) -> str:
        try:
            self._files.write(batch.calls, batch.replies)
        except OSError as error:
            return f"{self._files.folder} cannot be written: {error.strerror}"
        except Exception as error:
            log.exception("journal: a fault of its own")
            return f"a fault of its own: {error!r}"
        return ""

    def _tidy(self) -> bool:
        try:
            return self._files.tidy()
        except Exception:
            log.exception("journal: its files could not be made smaller")
            return False
