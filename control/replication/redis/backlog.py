"""What waits to be written to Redis: by key the last value, so never more than one for a call, and within bounds.

While Redis cannot be written the backlog grows to its bound; what finds no room is left out, and found missing by the
comparison that follows. What would have expired by the time it is written is dropped.
"""

from __future__ import annotations

from asyncio import Event
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["CALL", "HEARD", "NODE", "SEQUENCE", "Backlog", "Waiting", "call_id_of"]

CALL, HEARD, NODE, SEQUENCE = b"call:", b"heard:", b"node", b"sequence"
"""Keys of a node's database: its calls by their Call-IDs, what it heard by addresses, its lease, and the number of its
last transaction."""
MAX_KEY = 2048
"""Bytes of a call's key that is read; longer ones were written by nobody of ours."""
BATCH, BATCH_BYTES = 128, 1 << 20
"""Values and bytes of one transaction."""
MAX_VALUES, MAX_BYTES = 200_000, 256 << 20
"""Values and bytes that wait."""


class Waiting(NamedTuple):
    """A value that is to be written."""

    value: bytes
    until: float
    """When it expires, in the clock's seconds."""


class Backlog:
    """Values by key in the order in which their keys began to wait; the node's lease goes before all of them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.wake = Event()
        """Set while something waits."""
        self.left_out = 0
        """Values there was no room for."""
        self.bytes = 0
        self._clock = clock
        self._waiting: dict[bytes, Waiting] = {}
        self._lease: Waiting | None = None
        self._complete = True

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, call_id: str, record: bytes, expires: float) -> None:
        self._put(CALL + call_id.encode("utf-8", "surrogatepass"), record, expires)

    def hear(self, ip: str, bitmap: bytes, expires: float) -> None:
        self._put(HEARD + ip.encode(), bitmap, expires)

    def lease(self, lease: bytes, expires: float) -> None:
        self._lease = Waiting(lease, self._clock() + expires)
        self.wake.set()

    def take(self) -> list[tuple[bytes, Waiting]]:
        """As much as goes into one transaction, which does not wait any more."""
        batch: list[tuple[bytes, Waiting]] = []
        size, now = 0, self._clock()
        if self._lease is not None and self._lease.until > now:
            batch.append((NODE, self._lease))
        self._lease = None
        while self._waiting and len(batch) < BATCH and size < BATCH_BYTES:
            key = next(iter(self._waiting))
            one = self._waiting.pop(key)
            self.bytes -= len(one.value)
            if one.until > now:
                batch.append((key, one))
                size += len(one.value)
        return batch

    def give_back(self, batch: Sequence[tuple[bytes, Waiting]]) -> None:
        """Let what may not have been written wait again, before all else, unless there is a newer value of its key.

        A lease does not: it says that the node lives at the time it is written.
        """
        again = {key: one for key, one in batch if key not in self._waiting and key != NODE}
        self.bytes += sum(len(one.value) for one in again.values())
        self._waiting = again | self._waiting
        self.wake.set()

    def drained(self) -> bool:
        """Called where nothing was taken: whether something was left out since this was last true."""
        self.wake.clear()
        complete, self._complete = self._complete, True
        return not complete

    def _put(self, key: bytes, value: bytes, expires: float) -> None:
        before = self._waiting.get(key)
        size = self.bytes + len(value) - (len(before.value) if before else 0)
        if size > MAX_BYTES or (before is None and len(self._waiting) >= MAX_VALUES):
            self.left_out += 1
            self._complete = False
            return
        self._waiting[key] = Waiting(value, self._clock() + expires)
        self.bytes = size
        self.wake.set()


def call_id_of(key: bytes) -> str | None:
    """The Call-ID in a key; None for a key of something else."""
    if not key.startswith(CALL) or len(key) > MAX_KEY:
        return None
    try:
        return key[len(CALL) :].decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
