"""The counters of a rule, read in place (struct hp_rule, struct hp_cold)."""

from __future__ import annotations

from relay.dataplane import abi
from relay.dataplane.words import reader
from relay.types import StreamState

_RULE = abi.RULE.itemsize
_COLD = abi.COLD.itemsize
_HOT = reader(abi.RULE, "expected", "packets", "bytes", "ssrc", "sequence")
_COUNTS = reader(abi.COLD, "drops", "foreign", "drop_reason")
_QUALITY = reader(
    abi.COLD,
    *("base_sequence", "base_packets", "other", "prior_expected", "prior_received"),
    *("duplicates", "reordered", "jitter", "payload_type"),
)
_WORD = 0xFFFFFFFF
_JITTER_PER_MS = 16 * 1000  # of microseconds << 4


def read_state(hot: memoryview, cold: memoryview, index: int) -> tuple[StreamState, int]:
    """What the packets of a rule brought, and the word of the source it expects."""
    expected, packets, octets, ssrc, sequence = _HOT.unpack_from(hot, index * _RULE)
    drops, foreign, reason = _COUNTS.unpack_from(cold, index * _COLD)
    state = StreamState(packets, octets, drops)
    if foreign:
        state.foreign = foreign
    if reason:
        state.last_drop = abi.COUNTERS[reason]
    if sequence:
        state.ssrc, state.highest_sequence = ssrc, sequence - abi.FIRST_CYCLE
        _fill_quality(state, sequence, _QUALITY.unpack_from(cold, index * _COLD))
    return state, expected


def _fill_quality(state: StreamState, sequence: int, quality: tuple[int, ...]) -> None:
    """Loss and quality as ebpf/quality.h keeps the books; differences of 32-bit counters wrap."""
    first, packets_before, other, expected_before, received_before = quality[:5]
    state.expected = expected_before + (sequence - first + 1 & _WORD)
    state.received = received_before + (state.packets - packets_before - other & _WORD)
    state.duplicates, state.reordered, jitter, payload_type = quality[5:]
    state.payload_type = payload_type & ~abi.JUMPED
    state.jitter_ms = jitter / _JITTER_PER_MS
