"""What arrived of an RTP stream: loss, duplicates, reordering and jitter, in the books that ebpf/quality.h keeps.

expected = expected of earlier periods + highest sequence - first sequence + 1
received = received of earlier periods + packets since the first, less those that were not of this stream
"""

from __future__ import annotations

from typing import NamedTuple

from relay.types import StreamState

__all__ = ["Reception", "RtpHeader"]

_MAX_DROPOUT, _MAX_MISORDER = 3000, 100  # RFC 3550 A.1
_SAMPLE_EVERY = 16  # packets
_JITTER_CEILING = 10_000_000  # microseconds: a pause is no jitter
_FIRST_CYCLE = 0x10000  # cycles are counted from 1: 0 says no RTP yet
_REMEMBERED = 64  # sequence numbers below the highest of which is known whether they came
_ALL = (1 << _REMEMBERED) - 1


class RtpHeader(NamedTuple):
    """The fixed part of an RTP header (RFC 3550 section 5.1)."""

    first: int
    """Version, padding, extension, count of sources."""
    second: int
    """Marker and payload type."""
    sequence: int
    timestamp: int
    ssrc: int

    @property
    def payload_type(self) -> int:
        return self.second & 0x7F

    @property
    def marker(self) -> bool:
        return self.second > 0x7F


class _Sample(NamedTuple):
    """The first packet of a pair whose spacing is measured."""

    payload_type: int
    sequence: int
    timestamp: int
    arrival: float


class Reception:
    """The books of one port, all its sources one after the other (RFC 3550 A.1 without probation, A.3, A.8)."""

    __slots__ = (
        "_base_packets",
        "_base_sequence",
        "_expected_before",
        "_expecting_jump",
        "_jitter",
        "_missing",
        "_missing_top",
        "_other",
        "_payload_type",
        "_received_before",
        "_sample",
        "_sequence",
        "_ssrc",
        "duplicates",
        "reordered",
    )

    def __init__(self) -> None:
        self.duplicates = self.reordered = 0
        self._sequence = 0
        self._ssrc = 0
        self._base_sequence = self._base_packets = self._other = 0
        self._expected_before = self._received_before = 0
        self._missing = self._missing_top = 0
        self._jitter = 0  # microseconds << 4
        self._payload_type = 0
        self._expecting_jump: int | None = None
        self._sample: _Sample | None = None

    def hear(self, rtp: RtpHeader, packets: int, clocks: tuple[tuple[int, int], ...], now: float) -> None:
        """Enter one packet; `packets` came to this port before it, `clocks` are (payload type, Hz)."""
        following = self._sequence + 1
        in_order = following > _FIRST_CYCLE and following & 0xFFFF == rtp.sequence and self._ssrc == rtp.ssrc
        if not in_order:
            self._hear_anomaly(rtp, packets)
            return
        self._sequence = following
        if packets % _SAMPLE_EVERY == 0:
            self._payload_type = rtp.payload_type
            self._sample = _Sample(rtp.payload_type, rtp.sequence, rtp.timestamp, now)
        elif packets % _SAMPLE_EVERY == 1:
            self._end_sample(rtp, clocks, now)

    def hear_other(self) -> None:
        """Enter a packet that is no RTP."""
        self._other += 1

    def fill(self, state: StreamState, *, measured: bool) -> None:
        """Write the books into a state whose packets are counted; `measured`: some clock is known."""
        if not self._sequence:
            return
        state.ssrc, state.highest_sequence = self._ssrc, self._sequence - _FIRST_CYCLE
        state.payload_type = self._payload_type
        state.expected = self._expected_before + self._sequence - self._base_sequence + 1
        state.received = self._received_before + state.packets - self._base_packets - self._other
        state.duplicates, state.reordered = self.duplicates, self.reordered
        state.jitter_ms = self._jitter / 16000 if measured else None

    def _hear_anomaly(self, rtp: RtpHeader, packets: int) -> None:
        """A packet is believed at once, a jump after two in a row, of which the first belongs to what begins then."""
        step = (rtp.sequence - self._sequence) & 0xFFFF
        if not self._sequence or self._ssrc != rtp.ssrc:
            self._begin(rtp, packets, 0)
        elif 0 < step < _MAX_DROPOUT:
            self._note_gap(step)
        elif step == 0 or step > 0x10000 - _MAX_MISORDER:
            self._note_late(-step & 0xFFFF)
        elif self._expecting_jump == rtp.sequence:
            self._begin(rtp, packets, 1)
        else:
            self._expecting_jump = (rtp.sequence + 1) & 0xFFFF
            self._other += 1

    def _begin(self, rtp: RtpHeader, packets: int, earlier: int) -> None:
        """A new source, or the same one restarted: close the books on the one before."""
        if self._sequence:
            self._expected_before += self._sequence - self._base_sequence + 1
            self._received_before += packets - self._base_packets - self._other
        self._ssrc = rtp.ssrc
        self._sequence = _FIRST_CYCLE | rtp.sequence
        self._base_sequence = self._missing_top = self._sequence - earlier
        self._base_packets = packets - earlier
        self._other = self._missing = 0
        self._payload_type = rtp.payload_type
        self._expecting_jump = None
        self._sample = None

    def _raise_missing(self, top: int) -> None:
        """Let bit 0 of the bitmap stand for `top`; what was in order is not missing."""
        distance = top - self._missing_top
        self._missing = self._missing << distance & _ALL if distance < _REMEMBERED else 0
        self._missing_top = top

    def _note_gap(self, step: int) -> None:
        lost = min(step - 1, _REMEMBERED - 1)
        self._sequence += step
        self._raise_missing(self._sequence)
        self._missing |= ((1 << lost) - 1) << 1

    def _note_late(self, behind: int) -> None:
        """`behind` the highest: late if it was missed or came before the first, else a duplicate."""
        bit = 1 << behind if behind < _REMEMBERED else 0
        self._raise_missing(self._sequence)
        if self._missing & bit:
            self._missing &= ~bit
            self.reordered += 1
        elif self._sequence - behind < self._base_sequence:
            self.reordered += 1
        else:
            self.duplicates += 1

    def _end_sample(self, rtp: RtpHeader, clocks: tuple[tuple[int, int], ...], now: float) -> None:
        """RFC 3550 A.8: the spacing on arrival against the spacing when sampled."""
        begun, self._sample = self._sample, None
        hertz = dict(clocks).get(rtp.payload_type)
        if begun is None or not hertz or rtp.marker or begun.payload_type != rtp.payload_type:
            return
        if (begun.sequence + 1) & 0xFFFF != rtp.sequence:
            return
        step = (rtp.timestamp - begun.timestamp) & 0xFFFFFFFF
        meant = (step - (step >> 31 << 32)) * 1_000_000 // hertz
        difference = abs(int((now - begun.arrival) * 1_000_000) - meant)
        if difference < _JITTER_CEILING:
            self._jitter += difference - (self._jitter + 8 >> 4)
