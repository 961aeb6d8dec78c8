"""Blocked and silenced media: what the plane of sockets makes of a datagram, the XDP program makes of it too."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.dataplane import abi
from relay.dataplane.userspace.payload import Kind, classify, read_header, treat
from relay.types import Carries, Rule, Treatment
from tests.bpf.switchboard import PORT_A, PORT_B, XDP_DROP, A, B, Switchboard, datagram

FLAGS = {
    Treatment.PASS: 0,
    Treatment.BLOCK: abi.BLOCK,
    Treatment.SILENCE: abi.SILENCE,
    Treatment.BLOCK_EVENTS: abi.BLOCK_EVENTS,
}
CARRIES = {
    Carries.OPAQUE: 0,
    Carries.RTP: abi.RTP,
    Carries.RTCP: abi.RTCP,
    Carries.RTP | Carries.RTCP: abi.RTP | abi.RTCP,
}
FILLS = ((0, 0xFF), (8, 0xD5))
EVENT = 101
CLOCKS = [(0, 0xFF, 32), (8, 0xD5, 0), (EVENT, 0, abi.EVENT_CLOCK), (255, 0, 0)]

RTP_LIKE = st.builds(
    lambda first, second, rest: bytes((0x80 | first, second)) + rest,
    st.integers(0, 63),
    st.sampled_from([0, 8, EVENT, 0x80, 0x80 | EVENT, 96, 200]),
    st.binary(min_size=8, max_size=120),
)


def by_sockets(payload: bytes, carries: Carries, treatment: Treatment) -> bytes | None:
    """What leaves, None if it is dropped."""
    rule = Rule(PORT_A, PORT_B, B, 1, A, 1, carries, treatment=treatment, event_types=(EVENT,), fills=FILLS)
    packet = memoryview(bytearray(payload))
    kind = classify(packet, carries)
    passes = treat(packet, kind, read_header(packet) if kind is Kind.RTP else None, rule)
    return bytes(packet) if passes else None


def by_xdp(board: Switchboard, payload: bytes, carries: Carries, treatment: Treatment) -> bytes | None:
    board.clear()
    board.steady_call(CARRIES[carries] | FLAGS[treatment])
    for place, said in enumerate(CLOCKS):
        board.cold(PORT_A)["clock"][place] = said
    ran = board.run(bytes(datagram(A, PORT_A, payload)))
    return None if ran.verdict == XDP_DROP else bytes(ran.packet["UDP"].payload)[: len(payload)]


@pytest.mark.fuzz
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    payload=st.one_of(st.binary(max_size=60), RTP_LIKE),
    carries=st.sampled_from(list(CARRIES)),
    treatment=st.sampled_from(list(Treatment)),
)
@example(b"\xb0\x00" + bytes(10) + b"\xbe\xde\0\1extvoices\0\0\3", Carries.RTP, Treatment.SILENCE)
@example(b"\xa0\x00" + bytes(10) + b"\2", Carries.RTP, Treatment.SILENCE)
@example(b"\x50unknown", Carries.RTP, Treatment.BLOCK)
@example(b"fax", Carries.OPAQUE, Treatment.BLOCK)
def test_both_planes_treat_alike(board: Switchboard, payload: bytes, carries: Carries, treatment: Treatment) -> None:
    assert by_xdp(board, payload, carries, treatment) == by_sockets(payload, carries, treatment)
