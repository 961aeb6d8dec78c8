from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from relay.dataplane import abi
from relay.dataplane.slowpath import Copies
from relay.types import Endpoint

REPORT = bytes.fromhex("80c90001cafe0001")
OPTIONS = bytes(4)


def packet(payload: bytes, options: bytes = b"") -> bytes:
    """An IPv4 UDP packet from 192.0.2.1:4001 to 10.0.0.1:30001."""
    words = (20 + len(options)) // 4
    ip = bytes([0x40 | words]) + bytes(11) + bytes([192, 0, 2, 1, 10, 0, 0, 1]) + options
    return ip + struct.pack("!HHHH", 4001, 30001, 8 + len(payload), 0) + payload


def record(kind: int, content: bytes, room: int = abi.COPY_SMALL) -> memoryview:
    return memoryview(struct.pack("=IIII", kind, 30001, len(content), 3) + content.ljust(room, b"\xee"))


class FakeRing:
    def __init__(self, *records: memoryview) -> None:
        self.records = records

    def read(self, limit: int) -> Iterator[memoryview]:
        yield from self.records[:limit]


class FakeSender:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, content: memoryview) -> None:
        self.sent.append(bytes(content))


def handle(*records: memoryview) -> tuple[list[bytes], list[tuple[int, Endpoint, bytes]]]:
    sender = FakeSender()
    reports: list[tuple[int, Endpoint, bytes]] = []
    ring = FakeRing(*records)
    Copies(ring, sender, lambda *report: reports.append(report)).read()  # type: ignore[arg-type]
    return sender.sent, reports


def test_a_packet_without_a_next_hop_is_sent_as_it_is() -> None:
    content = packet(b"voice")
    assert handle(record(abi.COPY_UNRESOLVED, content)) == ([content], [])


@pytest.mark.parametrize("options", [b"", OPTIONS])
def test_rtcp_is_handed_over_without_its_headers(options: bytes) -> None:
    copied = record(abi.COPY_RTCP, packet(REPORT, options) + b"padding")
    assert handle(copied) == ([], [(30001, Endpoint("192.0.2.1", 4001), REPORT)])


def test_a_kind_from_a_newer_program_is_passed_over() -> None:
    assert handle(record(99, packet(REPORT))) == ([], [])
