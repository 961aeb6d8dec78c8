"""RTCP as a relay reads it: sender reports and reception reports of a compound packet (RFC 3550 section 6.4).

The input comes from the network: anything that is not well formed ends the reading, and what was read before counts.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

__all__ = ["Compound", "ReportBlock", "SenderReport", "parse", "round_trip"]

SENDER_REPORT, RECEIVER_REPORT = 200, 201

_HEADER = Struct("!BBHI")
_SENDER = Struct("!QIII")
_BLOCK = Struct("!IB3sIIII")
_VERSION = 2
_MAX_PACKETS = 32
"""Packets of one compound packet that are looked at."""


class SenderReport(NamedTuple):
    """What a sender says of its own stream (RFC 3550 section 6.4.1)."""

    ssrc: int
    ntp: int
    """The middle 32 bits of the NTP timestamp, in 1/65536 s: what receivers give back as `last_report`."""
    packets: int
    octets: int


class ReportBlock(NamedTuple):
    """What a receiver says of one stream it gets (RFC 3550 section 6.4.1)."""

    reporter: int
    ssrc: int
    fraction_lost: int
    """Of 256, since the last report."""
    lost: int
    """Since the beginning, signed."""
    highest_sequence: int
    jitter: int
    """In units of the stream's RTP clock."""
    last_report: int
    """`ntp` of the last sender report that arrived, 0 for none."""
    delay: int
    """Since then, in 1/65536 s."""


class Compound(NamedTuple):
    """What was read of one compound packet."""

    sender: SenderReport | None
    blocks: tuple[ReportBlock, ...]


def parse(payload: bytes) -> Compound:
    """Read a compound packet; raises nothing."""
    sender: SenderReport | None = None
    blocks: list[ReportBlock] = []
    at = 0
    for _ in range(_MAX_PACKETS):
        if at + _HEADER.size > len(payload):
            break
        first, kind, words, ssrc = _HEADER.unpack_from(payload, at)
        end = at + 4 * (words + 1)
        if first >> 6 != _VERSION or end > len(payload):
            break
        body = at + _HEADER.size
        if kind == SENDER_REPORT and body + _SENDER.size <= end:
            ntp, _, packets, octets = _SENDER.unpack_from(payload, body)
            sender = SenderReport(ssrc, ntp >> 16 & 0xFFFFFFFF, packets, octets)
            body += _SENDER.size
        elif kind != RECEIVER_REPORT:
            at = end
            continue
        blocks += _blocks(payload, body, end, first & 31, ssrc)
        at = end
    return Compound(sender, tuple(blocks))


def _blocks(payload: bytes, body: int, end: int, count: int, reporter: int) -> list[ReportBlock]:
    found = []
    for at in range(body, min(body + count * _BLOCK.size, end - _BLOCK.size + 1), _BLOCK.size):
        ssrc, fraction, lost, highest, jitter, last, delay = _BLOCK.unpack_from(payload, at)
        signed = int.from_bytes(lost, "big", signed=True)
        found.append(ReportBlock(reporter, ssrc, fraction, signed, highest, jitter, last, delay))
    return found


def round_trip(sent: float, now: float, delay: int) -> float | None:
    """Seconds a sender report and its echo were on the way, None for an echo that claims to have been kept longer."""
    taken = now - sent - delay / 65536
    return taken if taken >= 0 else None
