"""Two relays in series, and two that point at each other."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab import Lab, Network, give_address, standard_network
from tests.media import Agent, Party, open_party, steady
from tests.net.conftest import rtp
from tests.ng import Dialogue, Proxy, above
from tests.peers import Relay, pings

SECOND_ADDRESS = "10.99.0.5"
PACKETS = 50
TTL = 64


@dataclass
class Pair:
    """Two relays on one network, each with a proxy of its own."""

    network: Network
    agent: Agent
    relays: tuple[Relay, Relay]
    proxies: tuple[Proxy, Proxy]

    def parties(self, port: int) -> tuple[Party, Party]:
        source = random.Random(port)
        caller = open_party(self.network.caller, self.network.CALLER_ADDRESS, port, source)
        callee = open_party(self.network.callee, self.network.CALLEE_ADDRESS, port, source)
        self.agent.add((caller, callee))
        return caller, callee

    def counted(self) -> dict[str, int]:
        """The data planes' counters of both, added up."""
        counters = [relay.operator("status")[0]["counters"]["data plane"] for relay in self.relays]
        return {name: sum(each[name] for each in counters) for name in counters[0]}


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Lab() as lab, Agent() as agent:
        network = standard_network(lab)
        second = lab.host("second")
        lab.cable(second, "eth0", network.core, "to-second", napi=True)
        network.core.ip("link", "set", "to-second", "master", "bridge")
        give_address(second, SECOND_ADDRESS, network.CORE_ADDRESS)
        with (
            Relay(network.relay, network.RELAY_ADDRESS) as one,
            Relay(second, SECOND_ADDRESS) as two,
            Proxy(network.proxy, one.ng) as of_one,
            Proxy(network.proxy, two.ng) as of_two,
        ):
            yield Pair(network, agent, (one, two), (of_one, of_two))


def test_two_relays_in_series_pass_all_media(pair: Pair) -> None:
    caller, callee = pair.parties(4000)
    first, second = (Dialogue(proxy, "series") for proxy in pair.proxies)
    second.offer(first.offer(caller.local))
    first.answer(second.answer(callee.local))
    pair.agent.talk(caller, first.for_caller, above(first.for_caller), steady(PACKETS))
    pair.agent.talk(callee, second.for_callee, above(second.for_callee), steady(PACKETS))
    time.sleep(PACKETS * 0.02 + 0.2)
    for sender, receiver in ((caller, callee), (callee, caller)):
        assert receiver.received[sender.ssrc].packets == sender.rtp_sent == PACKETS
        assert receiver.rtcp_received == sender.rtcp_sent > 0
        assert receiver.strange == sender.refused == 0
    for relay in pair.relays:
        streams = list(relay.streams())
        assert sorted(stream["packets"] for stream in streams) == [2, 2, PACKETS, PACKETS]
        assert {stream["path"] for stream in streams} == {"fast path"}
        assert sum(stream["drops"] + stream["lost"] for stream in streams) == 0


def test_a_loop_through_two_relays_dies_out_by_ttl(pair: Pair) -> None:
    """Each relay is told to send to the other what the other has sent it."""
    caller, callee = pair.parties(4100)
    first, second = (Dialogue(proxy, "loop") for proxy in pair.proxies)
    first.set_up(caller.local, callee.local)
    second.set_up(caller.local, first.for_caller)
    first.offer(caller.local)
    assert first.answer(second.for_caller) == first.for_caller
    before = pair.counted()
    packets = 10
    for number in range(packets):
        caller.rtp.sendto(rtp(number), first.for_caller)
    time.sleep(0.5)
    after = pair.counted()
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    # the caller's router takes one, each relay one per turn; what would leave with none is dropped
    turns = TTL - 1 - 1
    assert grown["ttl"] == packets
    assert grown["forwarded"] + grown.get("slow_path", 0) == packets * turns
    assert set(grown) <= {"ttl", "forwarded", "slow_path", "slow_path_sent", "learned", "events_held"}
    time.sleep(0.3)
    assert pair.counted() == after, "something still goes round"
    assert all(pings(pair.network.proxy, relay.ng) for relay in pair.relays)
    assert [relay.stop() for relay in pair.relays] == [0, 0]
