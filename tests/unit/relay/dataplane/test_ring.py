from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest

from relay.dataplane.ring import RingReader

SIZE = 2 * mmap.PAGESIZE
DATA = 2 * mmap.PAGESIZE
BUSY, DISCARDED = 1 << 31, 1 << 30


class KernelSide:
    """The producer's half of a ring, over a file laid out as the kernel lays the map out."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, DATA + 2 * SIZE)
        self._memory = mmap.mmap(self.fd, 0)
        self.position = 0

    def put(self, payload: bytes, flags: int = 0) -> int:
        record = struct.pack("=II", len(payload) | flags, 0) + payload + bytes(-len(payload) % 8)
        start = self.position
        for copy in (0, SIZE):  # both mappings of the data
            for offset, byte in enumerate(record, DATA + copy + start % SIZE):
                if offset < DATA + 2 * SIZE:
                    self._memory[offset] = byte
        wrapped = start % SIZE + len(record) - SIZE
        if wrapped > 0:
            self._memory[DATA : DATA + wrapped] = record[-wrapped:]
        self.position += len(record)
        self._memory[mmap.PAGESIZE : mmap.PAGESIZE + 8] = struct.pack("=Q", self.position)
        return start

    def commit(self, start: int, length: int) -> None:
        self._memory[DATA + start : DATA + start + 4] = struct.pack("=I", length)

    @property
    def consumed(self) -> int:
        return int.from_bytes(self._memory[:8], "little")


@pytest.fixture
def kernel() -> Iterator[KernelSide]:
    side = KernelSide()
    yield side
    os.close(side.fd)


def read(reader: RingReader, limit: int = 100) -> list[bytes]:
    return [bytes(record) for record in reader.read(limit)]


def test_records_come_in_order_and_are_given_back(kernel: KernelSide) -> None:
    reader = RingReader(kernel.fd, SIZE)
    kernel.put(b"first")
    kernel.put(b"second, longer")
    assert read(reader) == [b"first", b"second, longer"]
    assert kernel.consumed == kernel.position
    assert read(reader) == []


def test_a_discarded_record_is_skipped(kernel: KernelSide) -> None:
    reader = RingReader(kernel.fd, SIZE)
    kernel.put(b"thrown away", DISCARDED)
    kernel.put(b"kept")
    assert read(reader) == [b"kept"]


def test_a_busy_record_ends_the_reading_until_it_is_committed(kernel: KernelSide) -> None:
    reader = RingReader(kernel.fd, SIZE)
    start = kernel.put(b"half", BUSY)
    kernel.put(b"after")
    assert read(reader) == []
    kernel.commit(start, 4)
    assert read(reader) == [b"half", b"after"]


def test_the_limit_leaves_the_rest_for_later(kernel: KernelSide) -> None:
    reader = RingReader(kernel.fd, SIZE)
    for number in range(5):
        kernel.put(bytes([number]))
    assert read(reader, 2) == [b"\0", b"\1"]
    assert read(reader, 100) == [b"\2", b"\3", b"\4"]


def test_records_wrap_around_the_end(kernel: KernelSide) -> None:
    reader = RingReader(kernel.fd, SIZE)
    expected = [bytes([number]) * 1500 for number in range(40)]
    found = []
    for payload in expected:
        kernel.put(payload)
        found += read(reader)
    assert found == expected


def test_a_record_whose_reader_fails_is_not_read_again(kernel: KernelSide) -> None:
    reader = RingReader(kernel.fd, SIZE)
    kernel.put(b"poison")
    kernel.put(b"next")

    def fail() -> None:
        for _ in reader.read(1):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert read(reader) == [b"next"]


def test_closing_twice_is_harmless(kernel: KernelSide) -> None:
    reader = RingReader(kernel.fd, SIZE)
    reader.close()
    reader.close()
