"""Fifty calls at once through real Kamailio: one run, and what is claimed of it one test at a time.

Nothing in the network was reached before the first call, so its first packets meet neighbours that are not resolved.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.evidence import MEDIA_PORTS, SLOW_PER_NEXT_HOP, Evidence, Witness
from tests.lab import Lab, standard_network
from tests.media import PERIOD, Party
from tests.peers import EF, Relay, Stream, media_sockets, start_kamailio
from tests.telephones import Telephones

CALLS = 50
SECONDS = 6.0
DELETE_DELAY = 2


@dataclass
class Run:
    """One run of fifty calls, as it was seen from all sides."""

    native: bool
    pairs: list[tuple[Party, Party]]
    streams: list[Stream]
    """The relay's own view while all calls stood."""
    sockets: list[int]
    """Media ports with a socket meanwhile."""
    evidence: Evidence
    held: tuple[list[object], list[object], int]
    """Calls, rules and ports in use after the delete delay."""
    status: dict[str, Any]
    """Of the relay, before it ended."""
    exit_code: int

    @property
    def parties(self) -> list[Party]:
        return [party for pair in self.pairs for party in pair]


@pytest.fixture(scope="module", params=["native", "generic"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with Lab() as lab:
        yield place_calls(lab, native=request.param == "native")


def place_calls(lab: Lab, *, native: bool) -> Run:
    """Native XDP can send where the wire's other end takes redirected frames; on plain veth the relay runs generic."""
    network = standard_network(lab, napi=native)
    relay = Relay(network.relay, network.RELAY_ADDRESS, f"--delete-delay={DELETE_DELAY}")
    streams: list[Stream] = []
    sockets: list[int] = []
    with Telephones(network, calls=CALLS, seconds=SECONDS) as telephones:
        start_kamailio(network.proxy, network.PROXY_ADDRESS, relays=[relay.ng], flags=f"replace-origin TOS={EF}")
        witness = Witness(lab, network)
        telephones.dial()
        begun = time.monotonic()

        def look() -> None:
            if not streams and time.monotonic() - begun > SECONDS * 0.9 and len(telephones.pairs()) == CALLS:
                streams.extend(relay.streams())
                sockets.extend(media_sockets(network.relay, MEDIA_PORTS))

        telephones.wait(look)
        held = wait_until_empty(relay)
        status = relay.operator("status")[0]
        evidence = witness.testify()
        exit_code = relay.stop()
    return Run(native, telephones.pairs(), streams, sockets, evidence, held, status, exit_code)


def wait_until_empty(relay: Relay) -> tuple[list[object], list[object], int]:
    until = time.monotonic() + DELETE_DELAY + 5
    while relay.operator("list") and time.monotonic() < until:
        time.sleep(0.1)
    ports = sum(interface["ports_used"] for interface in relay.operator("status")[0]["interfaces"])
    return list(relay.operator("list")), list(relay.operator("rules")), ports


def test_all_calls_are_set_up_on_both_sides(run: Run) -> None:
    assert len(run.pairs) == CALLS
    assert all(party.rtp_sent == round(SECONDS / PERIOD) for party in run.parties)


def test_no_rtp_packet_is_lost_doubled_or_sent_to_another_call(run: Run) -> None:
    for one, other in run.pairs:
        for sender, receiver in ((one, other), (other, one)):
            assert receiver.received.keys() == {sender.ssrc}
            heard = receiver.received[sender.ssrc]
            assert (heard.packets, heard.duplicates, heard.reordered) == (sender.rtp_sent, 0, 0)


def test_media_comes_from_the_address_that_the_sdp_named(run: Run) -> None:
    for party in run.parties:
        assert set(party.sources) == {party.remote_rtp}


def test_rtcp_goes_both_ways_and_speaks_of_the_other_side(run: Run) -> None:
    for one, other in run.pairs:
        for sender, receiver in ((one, other), (other, one)):
            assert sender.rtcp_sent >= SECONDS
            assert receiver.rtcp_received == sender.rtcp_sent
            assert receiver.reports_on_us > 0


def test_all_is_forwarded_in_xdp_but_first_packets_to_unresolved_neighbours(run: Run) -> None:
    sent = sum(party.rtp_sent + party.rtcp_sent for party in run.parties)
    assert run.evidence.arrived.total() == run.evidence.left.total() == sent
    assert len(run.evidence.slow) <= 2
    assert all(count <= SLOW_PER_NEXT_HOP for count in run.evidence.slow.values())
    assert run.evidence.forwarded_in_xdp >= sent - 2 * SLOW_PER_NEXT_HOP


def test_no_media_reaches_a_socket_or_the_udp_stack(run: Run) -> None:
    assert run.sockets == []
    assert run.evidence.reached_stack == 0
    assert run.evidence.udp["NoPorts"] == 0
    assert run.evidence.udp["InErrors"] == 0
    assert run.evidence.udp["InDatagrams"] == run.evidence.ng_requests > 0
    assert run.evidence.unreachables == 0


def test_every_forwarded_packet_is_marked(run: Run) -> None:
    assert set(run.evidence.marks) == {EF}
    assert all(set(party.tos) == {EF} for party in run.parties)


def test_the_ttl_is_carried_over_minus_one(run: Run) -> None:
    """64 from the callee on the relay's own network, 63 from the caller behind a router."""
    assert set(run.evidence.ttls) == {63, 62}


def test_the_relay_sees_each_stream_as_it_is(run: Run) -> None:
    assert len(run.streams) == 4 * CALLS
    rtp = [stream for stream in run.streams if stream["part"] == "RTP"]
    assert len(rtp) == 2 * CALLS
    assert all(stream["path"] == "fast path" for stream in rtp)
    assert all(stream["packets"] > 0 and stream["lost"] == 0 and stream["drops"] == 0 for stream in rtp)
    assert all(stream["observed"] == stream["signalled"] for stream in rtp)


def test_the_relay_counts_what_the_wire_saw(run: Run) -> None:
    counters = run.status["counters"]["data plane"]
    assert counters["forwarded"] == run.evidence.forwarded_in_xdp
    assert counters["slow_path"] == run.evidence.slow.total()
    assert counters["rtcp_copied"] > 0


def test_the_relay_says_which_xdp_it_uses(run: Run) -> None:
    said = " ".join(run.status["dataplane"])
    assert ("native XDP on eth0" if run.native else "generic XDP on eth0") in said


def test_nothing_is_left_after_the_delete_delay(run: Run) -> None:
    assert run.held == ([], [], 0)


def test_the_relay_ends_in_order(run: Run) -> None:
    assert run.exit_code == 0
