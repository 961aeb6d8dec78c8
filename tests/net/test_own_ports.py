"""Calls whose parties are ports of this very relay: forwarded calls, chains of them, and what must not go round."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from relay.types import Endpoint
from tests.lab import Lab, Network, standard_network
from tests.media import Agent, Party, open_party, steady
from tests.net.conftest import rtp
from tests.ng import Dialogue, Proxy, above
from tests.peers import Relay
from tests.wire import Sniffer, Traffic

PACKETS = 50
TTL = 64
"""Of what the parties send."""


@dataclass
class Scene:
    """A running relay between a caller behind a router and a callee on its own network."""

    network: Network
    relay: Relay
    proxy: Proxy
    wire: Sniffer
    agent: Agent

    def parties(self, port: int) -> tuple[Party, Party]:
        source = random.Random(port)
        caller = open_party(self.network.caller, self.network.CALLER_ADDRESS, port, source)
        callee = open_party(self.network.callee, self.network.CALLEE_ADDRESS, port, source)
        self.agent.add((caller, callee))
        return caller, callee

    def converse(self, caller: Party, to_callee: Endpoint, callee: Party, to_caller: Endpoint) -> Traffic:
        """Both speak at once; returns what left the relay meanwhile."""
        self.wire.seen()
        self.agent.talk(caller, to_callee, above(to_callee), steady(PACKETS))
        self.agent.talk(callee, to_caller, above(to_caller), steady(PACKETS))
        time.sleep(PACKETS * 0.02 + 0.2)
        return self.wire.seen()

    def counters(self) -> dict[str, int]:
        """What the data plane counted so far."""
        counted: dict[str, int] = self.relay.operator("status")[0]["counters"]["data plane"]
        return counted

    def rules(self, *call_ids: str) -> list[dict[str, Any]]:
        return [rule for rule in self.relay.operator("rules") if rule["call_id"] in call_ids]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab() as lab, Agent() as agent:
        network = standard_network(lab)
        with (
            Relay(network.relay, network.RELAY_ADDRESS) as relay,
            Proxy(network.proxy, relay.ng) as proxy,
            Sniffer(network.core, network.RELAY_PORT) as wire,
        ):
            yield Scene(network, relay, proxy, wire, agent)


def chain(scene: Scene, length: int, caller: Endpoint, callee: Endpoint) -> list[Dialogue]:
    """Calls in a row: each offers the relay's ports of the one before and is answered with those of the one behind."""
    calls = [Dialogue(scene.proxy, f"chain-{length}-{number}-{caller.port}") for number in range(length)]
    offered, answered = caller, callee
    for call in calls:
        offered = call.offer(offered)
    for call in reversed(calls):
        answered = call.answer(answered)
        assert call.warning == ""
    return calls


@pytest.mark.parametrize("length", [2, 4])
def test_a_call_forwarded_through_the_same_relay_stays_in_xdp(scene: Scene, length: int) -> None:
    caller, callee = scene.parties(4000 + 10 * length)
    calls = chain(scene, length, caller.local, callee.local)
    datagrams = scene.network.relay.snmp("Udp")["InDatagrams"] + scene.network.relay.snmp("Udp")["NoPorts"]
    before = scene.counters()
    seen = scene.converse(caller, calls[0].for_caller, callee, calls[-1].for_callee)
    after = scene.counters()
    for sender, receiver in ((caller, callee), (callee, caller)):
        assert receiver.received[sender.ssrc].packets == sender.rtp_sent == PACKETS
        assert receiver.rtcp_received == sender.rtcp_sent > 0
        assert receiver.reports_on_us > 0
        assert receiver.strange == sender.refused == 0
    media = [packet for packet in seen.udp if packet.destination.ip != scene.network.PROXY_ADDRESS]
    # the router between relay and caller is behind this wire in one direction and before it in the other
    assert {packet.ttl for packet in media} == {TTL - length, TTL - 1 - length}
    assert len(media) == after["forwarded"] - before["forwarded"] + after["slow_path"] - before["slow_path"]
    assert len(media) == 2 * PACKETS + caller.rtcp_sent + callee.rtcp_sent
    rules = scene.rules(*(call.call_id for call in calls))
    assert len(rules) == 4 * length
    assert sorted(rule["packets"] for rule in rules) == [2] * 2 * length + [PACKETS] * 2 * length
    assert all(rule["drops"] == rule["lost"] == 0 for rule in rules)
    assert {rule["path"] for rule in rules} == {"fast path"}
    stack = scene.network.relay.snmp("Udp")
    assert stack["InDatagrams"] + stack["NoPorts"] - datagrams == 0, "the kernel saw media"


def test_a_fifth_rule_in_one_run_is_a_counted_drop(scene: Scene) -> None:
    caller, callee = scene.parties(4100)
    calls = chain(scene, 5, caller.local, callee.local)
    before = scene.counters()
    seen = scene.converse(caller, calls[0].for_caller, callee, calls[-1].for_callee)
    after = scene.counters()
    assert (caller.rtp_received, callee.rtp_received) == (0, 0)
    assert [packet for packet in seen.udp if packet.destination.ip != scene.network.PROXY_ADDRESS] == []
    sent = caller.rtp_sent + caller.rtcp_sent + callee.rtp_sent + callee.rtcp_sent
    assert after["passes"] - before["passes"] == sent
    # the first four calls let a packet of the caller pass, the last four one of the callee
    rules = scene.rules(*(call.call_id for call in calls))
    assert sorted(rule["packets"] for rule in rules) == [0] * 4 + [2] * 8 + [PACKETS] * 8
    assert {rule["last_drop"] for rule in rules if rule["drops"]} == {"passes"}


def test_a_call_is_never_pointed_at_its_own_ports(scene: Scene) -> None:
    caller, callee = scene.parties(4200)
    call = Dialogue(scene.proxy, "own-ports")
    shown = call.offer(caller.local)
    entry = call.answer(shown)
    assert "a port of this very call" in call.warning
    before = scene.counters()
    caller.rtp.sendto(rtp(1), entry)
    callee.rtp.sendto(rtp(1), shown)
    time.sleep(0.2)
    after = scene.counters()
    assert caller.rtp_received == 1, "what the callee sends still arrives"
    # the callee's packet gave its own address away; what came before that had nowhere to go
    gone = {name: after[name] - count for name, count in before.items() if after[name] != count}
    assert gone.get("passes", 0) == 0
    assert gone.get("ttl", 0) == 0
    assert gone["no_destination"] == 1
    other = Dialogue(scene.proxy, "own-ports-later").set_up(caller.local, callee.local)
    other.offer(other.for_caller)
    assert "a port of this very call" in other.warning


def test_two_calls_pointed_at_each_other_do_not_go_round(scene: Scene) -> None:
    caller, callee = scene.parties(4300)
    one = Dialogue(scene.proxy, "round-1").set_up(caller.local, callee.local)
    two = Dialogue(scene.proxy, "round-2").set_up(callee.local, one.for_caller)
    one.offer(caller.local)
    one.answer(two.for_caller)
    before = scene.counters()
    scene.wire.seen()
    for number in range(10):
        caller.rtp.sendto(rtp(number), one.for_caller)
    time.sleep(0.2)
    after = scene.counters()
    assert after["passes"] - before["passes"] == 10
    assert after["forwarded"] == before["forwarded"]
    assert [packet for packet in scene.wire.seen().udp if packet.destination.ip != scene.network.PROXY_ADDRESS] == []
