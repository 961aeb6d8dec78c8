"""RTCP read from the wire, well formed or not."""

from __future__ import annotations

import struct

import pytest

from relay.rtcp import Compound, ReportBlock, SenderReport, parse, round_trip


def block(
    ssrc: int = 0xB, fraction: int = 25, lost: int = -3, jitter: int = 80, last: int = 7, delay: int = 65536
) -> bytes:
    return struct.pack("!IB3sIIII", ssrc, fraction, lost.to_bytes(3, "big", signed=True), 70000, jitter, last, delay)


def packet(kind: int, body: bytes, count: int = 0, version: int = 2) -> bytes:
    return struct.pack("!BBH", version << 6 | count, kind, len(body) // 4) + body


def sender_report(*blocks: bytes, ssrc: int = 0xA) -> bytes:
    body = struct.pack("!IQIII", ssrc, 0x1111_2222_3333_4444, 160, 50, 8000) + b"".join(blocks)
    return packet(200, body, len(blocks))


def receiver_report(*blocks: bytes, ssrc: int = 0xA) -> bytes:
    return packet(201, struct.pack("!I", ssrc) + b"".join(blocks), len(blocks))


SDES = packet(202, struct.pack("!I", 0xA) + b"\x01\x02ab\x00\x00\x00\x00")
READ = ReportBlock(0xA, 0xB, 25, -3, 70000, 80, 7, 65536)


def test_a_sender_report_with_a_block() -> None:
    assert parse(sender_report(block()) + SDES) == Compound(SenderReport(0xA, 0x2222_3333, 50, 8000), (READ,))


def test_a_receiver_report() -> None:
    assert parse(receiver_report(block(), block(ssrc=0xC))) == Compound(None, (READ, READ._replace(ssrc=0xC)))


def test_reports_behind_other_packets_count() -> None:
    assert parse(SDES + receiver_report(block())).blocks == (READ,)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x80",
        b"\x80\xc9\x00\x01",
        packet(201, struct.pack("!I", 1), version=1),
        struct.pack("!BBHI", 0x81, 201, 500, 1),
        struct.pack("!BBHI", 0x9F, 200, 1, 1),
        b"\x80\xc8\xff\xff" + b"\0" * 64,
    ],
)
def test_nonsense_says_nothing(payload: bytes) -> None:
    assert parse(payload) == Compound(None, ())


def test_a_count_beyond_the_packet_reads_what_is_there() -> None:
    body = struct.pack("!I", 0xA) + block()
    assert parse(packet(201, body, count=31)).blocks == (READ,)


def test_blocks_do_not_reach_into_the_next_packet() -> None:
    first = packet(201, struct.pack("!I", 0xA), count=3)
    assert parse(first + SDES * 8).blocks == ()


def test_a_bad_packet_ends_the_reading_but_not_what_was_read() -> None:
    assert parse(receiver_report(block()) + b"\x00" * 40).blocks == (READ,)


def test_an_endless_compound_is_cut() -> None:
    assert len(parse(receiver_report(block()) * 100).blocks) == 32


def test_round_trips_are_measured_by_the_relays_own_clock() -> None:
    assert round_trip(10.0, 11.25, 65536) == pytest.approx(0.25)
    assert round_trip(10.0, 10.5, 65536) is None
