"""Whose turn it is while more datagrams come than can be answered: each source has its own queue, and they go round.

A proxy that floods the relay, by a loop or a fault, waits behind itself and loses its own excess. The others are
answered as if it were not there.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

__all__ = ["Turns"]

T = TypeVar("T")

PER_SOURCE = 8 << 20
"""Bytes of one source that wait: a burst of ten thousand commands, as when a proxy starts anew."""
MAX_BYTES = 64 << 20
"""Bytes of all that wait, whatever addresses they claim to come from."""
COST = 512
"""Bytes one of them takes beside its payload."""


class _Queue(Generic[T]):
    """What one source has waiting."""

    __slots__ = ("bytes", "things")

    def __init__(self) -> None:
        self.things: deque[tuple[T, int]] = deque()
        self.bytes = 0


class Turns(Generic[T]):
    """Things that wait, by their source; taken one of each source in turn, those of one source in their order."""

    def __init__(self) -> None:
        self.lost = 0
        """Not taken in, for want of room."""
        self._queues: dict[str, _Queue[T]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """Sources that have something waiting."""
        return len(self._queues)

    def put(self, source: str, thing: T, size: int) -> None:
        """One more that waits, of `size` bytes."""
        queue = self._queues.get(source)
        if self._bytes >= MAX_BYTES or (queue is not None and queue.bytes >= PER_SOURCE):
            self.lost += 1
            return
        if queue is None:
            queue = self._queues[source] = _Queue()
        queue.things.append((thing, size))
        queue.bytes += size + COST
        self._bytes += size + COST

    def take(self) -> T:
        """The next one. Raises KeyError where nothing waits."""
        source = next(iter(self._queues), "")
        queue = self._queues.pop(source)
        thing, size = queue.things.popleft()
        queue.bytes -= size + COST
        self._bytes -= size + COST
        if queue.things:
            self._queues[source] = queue  # behind all others
        return thing
