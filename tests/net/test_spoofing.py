"""Calls stay with their parties while somebody sprays forged packets over all ports of the relay.

One attack runs against six calls at once: three ways to learn, each with a caller that sends from the address of its
SDP and with one behind NAT, whose SDP has a private address. The attacker sends from before the offer until after three
re-offers (as it was; moved; hold and back), from addresses of its own network and from the parties' own addresses with
wrong ports. Whatever leaves the relay is seen on its wire.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import pytest

from relay.types import Endpoint
from tests.lab import Lab, Network, give_address, standard_network
from tests.media import Agent, Party, open_party, rtcp_packet, steady
from tests.net.conftest import rtp
from tests.ng import Dialogue, Proxy, above, until
from tests.peers import Relay
from tests.wire import Injector, Seen, Sniffer, Spray, udp

PORTS = range(30000, 30040)
RATE = 1000
ATTACKER = "10.99.0.66"
CALLERS, ROAMED = "10.99.1.2", "10.99.1.7"
"""Where callers without NAT are, and where they move to."""
NAT, OTHER_NAT = "10.99.1.3", "10.99.1.8"
FORGED_SSRC = 0xBAD


class Case(NamedTuple):
    """How a call learns, and whether its caller is behind NAT."""

    mode: str
    nat: bool

    def __str__(self) -> str:
        return f"{self.mode}-{'nat' if self.nat else 'plain'}"

    @property
    def keys(self) -> dict[str, Any]:
        """What its proxy asks for."""
        if self.mode == "strict-source":
            return {"flags": ["strict-source"]}
        return {"endpoint-learning": self.mode}


CASES = [Case(mode, nat) for mode in ("delayed", "heuristic", "strict-source") for nat in (False, True)]


@dataclass
class Place:
    """Where a caller is for a while, what its SDP says then, and what its callee sent meanwhile."""

    party: Party
    signalled: Endpoint
    safe: range = range(0)
    """Indices of the callee's packets after the caller's first packet from here, until it was to move."""
    spoken: int = 0
    """The caller's own packets from here until it was to move."""


@dataclass
class Attacked:
    """One call and what became of its packets."""

    dialogue: Dialogue
    callee: Party
    home: Place
    away: Place
    streams: list[dict[str, Any]] = field(default_factory=list)
    """Its rules at the end, as operators see them."""

    @property
    def places(self) -> tuple[Place, Place]:
        return self.home, self.away

    def offer(self, place: Place, *lines: str) -> None:
        self.dialogue.offer(place.signalled, *lines, received_from=["IP4", place.party.local.ip])

    def answer(self, *lines: str) -> None:
        """The callee sees the offer, sends to the port in it, and answers."""
        self.callee.remote_rtp = self.dialogue.for_callee
        self.callee.remote_rtcp = above(self.callee.remote_rtp)
        self.dialogue.answer(self.callee.local, *lines, received_from=["IP4", self.callee.local.ip])

    def heard(self, place: Place) -> bool:
        return place.party.ssrc in self.callee.received


@dataclass
class Outcome:
    """All that is known after the attack."""

    calls: dict[Case, Attacked]
    spray: Spray
    left: list[Seen]
    """All UDP that left the relay."""

    def leavings(self, sender: Party) -> Iterator[tuple[int, Endpoint]]:
        """(index, destination) of the RTP of one party that left the relay."""
        ssrc = sender.ssrc.to_bytes(4, "big")
        for seen in self.left:
            if seen.payload[8:12] == ssrc and seen.payload[1] & 0x7F == 0:
                yield (int.from_bytes(seen.payload[2:4], "big") - sender.first_sequence) & 0xFFFF, seen.destination

    def reports(self, sender: Party) -> Iterator[tuple[int, Endpoint]]:
        """(place in the order of departure, destination) of the RTCP of one party."""
        ssrc = sender.ssrc.to_bytes(4, "big")
        for position, seen in enumerate(self.left):
            if seen.payload[1] in (200, 201) and seen.payload[4:8] == ssrc:
                yield position, seen.destination


def forgeries() -> list[bytes]:
    """Packets to every port in turn, four of five from the attacker's network, the rest from the parties' addresses."""
    source = random.Random(99)
    found = []
    for round_ in range(50):
        for port in source.sample(PORTS, len(PORTS)):
            ip = f"198.{source.choice((18, 19))}.{source.randrange(256)}.{source.randrange(1, 255)}"
            if source.random() < 0.2:
                ip = source.choice((CALLERS, ROAMED, Network.CALLEE_ADDRESS))
            forged = Endpoint(ip, source.randrange(20000, 60000))
            payload = rtp(round_, FORGED_SSRC) if port % 2 == 0 else rtcp_packet(201, 0, bytes(4))
            found.append(udp(forged, Endpoint(Network.RELAY_ADDRESS, port), payload))
    return found


def attacked(case: Case, number: int, network: Network, proxy: Proxy) -> Attacked:
    """A call that is about to begin, its sockets open."""
    source, port = random.Random(number), 4000 + 10 * number
    callee = open_party(network.callee, network.CALLEE_ADDRESS, port, source)
    home = open_party(network.caller, NAT if case.nat else CALLERS, port, source)
    away = open_party(network.caller, OTHER_NAT if case.nat else ROAMED, port + 4, source)
    private = Endpoint("192.168.7.20", 7000 + 10 * number)
    return Attacked(
        Dialogue(proxy, f"attacked-{number}", **case.keys),
        callee,
        Place(home, private if case.nat else home.local),
        Place(away, Endpoint(private.ip, private.port + 4) if case.nat else away.local),
    )


def live_through(calls: list[Attacked], agent: Agent) -> None:
    """Set up, speak, and re-offer all calls side by side."""
    for call in calls:
        call.offer(call.home)
        call.answer()
        assert call.callee.remote_rtp
        agent.talk(call.callee, call.callee.remote_rtp, above(call.callee.remote_rtp), steady(200))
    time.sleep(0.3)  # the attacker's chance: the callee speaks, the caller has not yet
    begin(calls, [call.home for call in calls], agent, 50)
    for call in calls:
        call.offer(call.home)
        call.answer()
    time.sleep(0.4)
    for call in calls:
        end_of_safety(call, call.home)
        call.offer(call.away)
    time.sleep(0.2)  # the attacker's chance: the callee does not know its new port yet
    for call in calls:
        call.answer()
    until(lambda: all(call.home.party.rtp_sent == 50 for call in calls))
    time.sleep(0.2)  # the callers are silent and known to have moved
    begin(calls, [call.away for call in calls], agent, 80)
    for caller, callee in (("a=sendonly", "a=recvonly"), ("a=sendrecv", "a=sendrecv")):
        for call in calls:
            call.offer(call.away, caller)
            call.answer(callee)
        time.sleep(0.3)
    until(lambda: all(call.callee.rtp_sent == 200 for call in calls))
    for call in calls:
        end_of_safety(call, call.away)
    time.sleep(0.1)


def begin(calls: list[Attacked], places: list[Place], agent: Agent, packets: int) -> None:
    """The callers speak from these places; they are safe there from the moment their callees hear them."""
    for call, place in zip(calls, places, strict=True):
        to = call.dialogue.for_caller
        agent.talk(place.party, to, above(to), steady(packets))
    for call, place in zip(calls, places, strict=True):
        until(partial(call.heard, place))
        place.safe = range(call.callee.rtp_sent, call.callee.rtp_sent)


def end_of_safety(call: Attacked, place: Place) -> None:
    """What leaves the callee from now on need not arrive at this place; its last packet may still be under way."""
    place.safe = range(place.safe.start, call.callee.rtp_sent - 1)
    place.spoken = place.party.rtp_sent - 1


@pytest.fixture(scope="module")
def outcome() -> Iterator[Outcome]:
    with Lab() as lab, Agent() as agent:
        network = standard_network(lab)
        attacker = lab.host("attacker")
        lab.cable(attacker, "eth0", network.core, "to-attacker")
        network.core.ip("link", "set", "to-attacker", "master", "bridge")
        give_address(attacker, ATTACKER, network.CORE_ADDRESS)
        network.core.ip("route", "add", "198.18.0.0/15", "via", ATTACKER)
        for address in (ROAMED, NAT, OTHER_NAT):
            network.caller.ip("address", "add", f"{address}/24", "dev", "eth0")
        ports = (f"--port-min={PORTS[0]}", f"--port-max={PORTS[-1]}")
        with (
            Relay(network.relay, network.RELAY_ADDRESS, *ports) as relay,
            Proxy(network.proxy, relay.ng) as proxy,
            Sniffer(network.core, network.RELAY_PORT) as wire,
            Injector(attacker, "eth0", network.relay.mac("eth0")) as injector,
        ):
            calls = {case: attacked(case, number, network, proxy) for number, case in enumerate(CASES)}
            for call in calls.values():
                agent.add((call.callee, call.home.party, call.away.party))
            with Spray(injector, forgeries(), RATE) as spray:
                time.sleep(0.2)
                live_through(list(calls.values()), agent)
            time.sleep(0.2)  # what is under way arrives
            for rule in relay.operator("rules"):
                for call in calls.values():
                    if rule["call_id"] == call.dialogue.call_id:
                        call.streams.append(rule)
            yield Outcome(calls, spray, wire.seen().udp)


def test_the_attack_was_one(outcome: Outcome) -> None:
    """It kept its rate, reached every port of every call, and drew media away from callers that had not spoken yet."""
    assert outcome.spray.sent > 0.9 * RATE * outcome.spray.seconds
    for call in outcome.calls.values():
        assert len(call.streams) == 4
        assert all(stream["foreign"] > 0 for stream in call.streams)
        first = call.home.safe.start
        early = {destination for index, destination in outcome.leavings(call.callee) if index < first}
        assert early - {call.home.party.local, call.home.signalled}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_from_its_first_packet_on_a_caller_gets_all_that_is_sent_to_it(outcome: Outcome, case: Case) -> None:
    call = outcome.calls[case]
    leavings = list(outcome.leavings(call.callee))
    for place in call.places:
        assert len(place.safe) > 10
        destinations = [(index, place.party.local) for index in place.safe]
        assert [leaving for leaving in leavings if leaving[0] in place.safe] == destinations
        arrived = place.party.received[call.callee.ssrc].sequences
        expected = {(call.callee.first_sequence + index) & 0xFFFF for index in place.safe}
        assert expected <= {sequence & 0xFFFF for sequence in arrived}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_callee_that_spoke_gets_all_of_the_caller_also_on_a_new_pair_of_ports(outcome: Outcome, case: Case) -> None:
    """Between an offer that moves the caller and its first packet from there, too: it still speaks from the old place.

    Not so under strict-source, where a forged packet from the new address may make the old one wrong at once.
    """
    call = outcome.calls[case]
    for place in call.places:
        assert place.spoken > 10
        packets = place.spoken if case.mode == "strict-source" else place.party.rtp_sent
        leavings = list(outcome.leavings(place.party))
        assert leavings[:packets] == [(index, call.callee.local) for index in range(packets)]
        assert {destination for _, destination in leavings} == {call.callee.local}
        assert call.callee.received[place.party.ssrc].packets == len(leavings)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rtcp_is_as_safe(outcome: Outcome, case: Case) -> None:
    call = outcome.calls[case]
    first = min(position for position, _ in outcome.reports(call.away.party))
    later = [destination for position, destination in outcome.reports(call.callee) if position > first]
    assert later
    assert set(later) == {above(call.away.party.local)}
    for place in call.places:
        assert {destination for _, destination in outcome.reports(place.party)} == {above(call.callee.local)}


@pytest.mark.parametrize("case", [case for case in CASES if case.mode == "strict-source"], ids=str)
def test_under_strict_source_forged_packets_are_dropped_once_the_party_has_spoken(outcome: Outcome, case: Case) -> None:
    call = outcome.calls[case]
    assert {stream["last_drop"] for stream in call.streams} == {"source_mismatch"}
    for stream in call.streams:  # some may have come in a burst, which a port drops without a look at the source
        assert 0.9 * stream["drops"] < stream["foreign"] <= stream["drops"]
