"""Reading a BPF ring buffer from its mapping, without a callback from C.

The kernel lays it out as a page of the consumer's position (ours to write), a page of the producer's position, and the
data twice in a row, so that a record never wraps. A record is a header of eight bytes (length, with a busy and a
discarded bit) and its bytes, padded to eight. The map's descriptor polls readable while there is more to read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

_PAGE = mmap.PAGESIZE
_HEADER = 8
_BUSY = 1 << 31
_DISCARDED = 1 << 30
_LENGTH = _DISCARDED - 1


class RingReader:
    """The one consumer of a ring buffer map of `size` bytes, open as `fd`."""

    def __init__(self, fd: int, size: int) -> None:
        self.fd = fd
        self._mask = size - 1
        self._consumer_map = mmap.mmap(fd, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._producer_map = mmap.mmap(fd, _PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE)
        self._consumer = memoryview(self._consumer_map).cast("Q")
        whole = memoryview(self._producer_map)
        self._producer = whole[:_PAGE].cast("Q")
        self._data = whole[_PAGE:]
        self._headers = self._data.cast("I")

    def read(self, limit: int) -> Iterator[memoryview]:
        """Up to `limit` records; each is valid only until the next is asked for."""
        position = self._consumer[0]
        for _ in range(limit):
            if position >= self._producer[0]:
                return
            offset = position & self._mask
            header = self._headers[offset >> 2]
            if header & _BUSY:
                return
            length = header & _LENGTH
            position += (_HEADER + length + 7) & ~7
            try:
                if not header & _DISCARDED:
                    yield self._data[offset + _HEADER : offset + _HEADER + length]
            finally:
                self._consumer[0] = position

    def skip(self) -> None:
        """Leave all that is there unread."""
        self._consumer[0] = self._producer[0]

    def close(self) -> None:
        """Unmap; safe to call twice."""
        for view in (self._headers, self._data, self._producer, self._consumer):
            view.release()
        self._producer_map.close()
        self._consumer_map.close()
