"""The books of the plane of sockets against the XDP program's: any stream of packets makes the same figures."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from relay.dataplane import abi
from relay.dataplane.userspace.reception import Reception, RtpHeader
from relay.types import StreamState
from tests.bpf.switchboard import Switchboard
from tests.bpf.test_quality import MOVES, RTP_PACKET, Move, figures, hear, packets_of


def books(packets: list[RTP_PACKET]) -> dict[str, int]:
    """What the other plane makes of the same packets."""
    reception = Reception()
    for number, (ssrc, sequence) in enumerate(packets):
        if ssrc:
            reception.hear(RtpHeader(0x80, 0, sequence, 0, ssrc), number, (), 0.0)
        else:
            reception.hear_other()
    state = StreamState(len(packets))
    reception.fill(state, measured=False)
    return {name: getattr(state, name) for name in ("expected", "received", "duplicates", "reordered")}


@pytest.mark.fuzz
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.one_of(st.integers(0, 65535), st.integers(65500, 65535)), moves=MOVES)
@example(start=65535, moves=[("send", 1), ("lose", 63), ("swap", 1)])
@example(start=0, moves=[("send", 1), ("lose", 64), ("send", 1), ("repeat", 60)])
def test_the_books_of_both_planes_agree(board: Switchboard, start: int, moves: list[Move]) -> None:
    packets = packets_of(start, moves)
    board.clear()
    board.steady_call(abi.RTP | abi.RTCP)
    hear(board, packets)
    assert books(packets) == figures(board)
