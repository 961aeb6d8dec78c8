"""Whatever a datagram says, the plane of sockets takes it apart without harm, and silence leaves nothing of a voice."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.dataplane.userspace.payload import Kind, classify, read_header, treat
from relay.dataplane.userspace.reception import Reception
from relay.types import Carries, Endpoint, Rule, StreamState, Treatment

pytestmark = pytest.mark.fuzz

LOCAL, OTHER = Endpoint("192.0.2.1", 30000), Endpoint("192.0.2.1", 30010)
BOTH = Carries.RTP | Carries.RTCP
FILL = 0xD5
RTP_LIKE = st.builds(
    lambda first, second, rest: bytes((0x80 | first, second)) + rest,
    st.integers(0, 63),
    st.sampled_from([0, 8, 101, 0x80, 200]),
    st.binary(max_size=120),
)


def rule(treatment: Treatment) -> Rule:
    fills = ((0, FILL), (8, FILL))
    return Rule(LOCAL, OTHER, None, 0, None, 0, BOTH, treatment=treatment, event_types=(101,), fills=fills)


@given(payload=st.one_of(st.binary(max_size=200), RTP_LIKE), treatment=st.sampled_from(list(Treatment)))
@example(payload=b"\x9f\x00" + bytes(10) + b"\xff" * 64, treatment=Treatment.SILENCE)
def test_a_treated_packet_keeps_its_length_and_its_header(payload: bytes, treatment: Treatment) -> None:
    packet = memoryview(bytearray(payload))
    kind = classify(packet, BOTH)
    header = read_header(packet) if kind is Kind.RTP else None
    passes = treat(packet, kind, header, rule(treatment))
    after = bytes(packet)
    assert len(after) == len(payload)
    if kind is not Kind.RTP or treatment is not Treatment.SILENCE or not passes:
        assert after == payload
        return
    assert header is not None
    start = 12 + 4 * (payload[0] & 15)
    if payload[0] & 0x10:
        start += 4 + 4 * struct.unpack_from("!H", payload, start + 2)[0]
    end = len(payload) - (payload[-1] if payload[0] & 0x20 else 0)
    assert (after[:start], after[end:]) == (payload[:start], payload[end:])
    assert set(after[start:end]) <= {FILL}


HEARD = st.tuples(st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(1, 2), st.floats(0, 1000))


@given(packets=st.lists(st.one_of(st.none(), HEARD), max_size=60))
def test_the_books_balance_whatever_arrives(packets: list[tuple[int, int, int, float] | None]) -> None:
    books, now = Reception(), 0.0
    for number, heard in enumerate(packets):
        if heard is None:
            books.hear_other()
            continue
        sequence, timestamp, ssrc, pause = heard
        now += pause
        header = read_header(memoryview(struct.pack("!BBHII", 0x80, 0, sequence, timestamp, ssrc)))
        assert header is not None
        books.hear(header, number, ((0, 8000),), now)
    state = StreamState(len(packets))
    books.fill(state, measured=True)
    assert 0 <= state.received <= len([heard for heard in packets if heard is not None])
    assert state.expected >= 0
    assert state.duplicates + state.reordered <= len(packets)
    assert (state.jitter_ms or 0) >= 0
