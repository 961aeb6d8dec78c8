"""Floods and malformed packets at ports of running calls: each costs what it is, and nobody else."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from relay.types import Endpoint
from tests.lab import Lab, Network, standard_network
from tests.media import Agent, Party, open_party, steady
from tests.net.conftest import rtp
from tests.ng import Dialogue, Proxy, above
from tests.peers import Relay, pings
from tests.wire import Injector, Sniffer, Spray, ipv4, udp

PORT_RATE = 200
"""What the relay lets each port take in a second."""
STRANGER = Endpoint("198.18.0.7", 5555)
MORE_FRAGMENTS = 0x2000
LAST_FRAGMENT = 2
"""The second fragment of a packet, with 16 bytes before it."""


@dataclass
class Scene:
    """A relay and its parties; packets are put on the relay's own cable, where no bridge looks at them first."""

    network: Network
    relay: Relay
    proxy: Proxy
    agent: Agent
    wire: Sniffer
    injector: Injector

    def call(self, name: str, port: int) -> tuple[Party, Party, Dialogue]:
        source = random.Random(port)
        caller = open_party(self.network.caller, self.network.CALLER_ADDRESS, port, source)
        callee = open_party(self.network.callee, self.network.CALLEE_ADDRESS, port, source)
        self.agent.add((caller, callee))
        return caller, callee, Dialogue(self.proxy, name).set_up(caller.local, callee.local)

    def talk(self, call: tuple[Party, Party, Dialogue], packets: int) -> None:
        caller, callee, dialogue = call
        self.agent.talk(caller, dialogue.for_caller, above(dialogue.for_caller), steady(packets))
        self.agent.talk(callee, dialogue.for_callee, above(dialogue.for_callee), steady(packets))

    def rule(self, local: Endpoint) -> dict[str, Any]:
        return next(rule for rule in self.relay.operator("rules") if rule["local"] == str(local))

    def counters(self) -> dict[str, int]:
        counted: dict[str, int] = self.relay.operator("status")[0]["counters"]["data plane"]
        return counted


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab() as lab, Agent() as agent:
        network = standard_network(lab)
        with (
            Relay(network.relay, network.RELAY_ADDRESS, f"--port-rate={PORT_RATE}") as relay,
            Proxy(network.proxy, relay.ng) as proxy,
            Sniffer(network.core, network.RELAY_PORT) as wire,
            Injector(network.core, network.RELAY_PORT, network.relay.mac("eth0")) as injector,
        ):
            yield Scene(network, relay, proxy, agent, wire, injector)


def passed(call: tuple[Party, Party, Dialogue], packets: int) -> None:
    """Both parties got all that the other one sent."""
    caller, callee, _ = call
    for sender, receiver in ((caller, callee), (callee, caller)):
        stream = receiver.received[sender.ssrc]
        assert (stream.packets, stream.duplicates, stream.reordered) == (packets, 0, 0)
        assert receiver.rtcp_received >= sender.rtcp_sent > 0


def test_a_flooded_port_loses_its_own_excess_and_nothing_else(scene: Scene) -> None:
    flooded, other = scene.call("flooded", 4000), scene.call("other", 4010)
    caller, callee, dialogue = flooded
    target = dialogue.for_caller
    with Spray(scene.injector, [udp(STRANGER, target, rtp(n, 0xBAD)) for n in range(500)], 1000) as flood:
        scene.talk(other, 80)
        scene.agent.talk(callee, dialogue.for_callee, above(dialogue.for_callee), steady(80))
        time.sleep(1.8)
    time.sleep(0.2)
    passed(other, 80)
    rule = scene.rule(target)
    assert rule["packets"] + rule["drops"] == flood.sent
    assert rule["last_drop"] == "rate"
    assert scene.counters()["rate"] == rule["drops"]
    # a tick is a quarter of a second, and the flood may touch one more at either end
    assert 0.5 * PORT_RATE * flood.seconds < rule["packets"] <= PORT_RATE * (flood.seconds + 0.5)
    back = scene.rule(dialogue.for_callee)
    assert (back["packets"], back["drops"]) == (80, 0)
    scene.agent.talk(caller, target, above(target), steady(30))
    time.sleep(0.8)
    assert callee.received[caller.ssrc].packets == 30, "the port does not recover"


class Wrong(NamedTuple):
    """A packet that is wrong in one way, and what becomes of it."""

    what: str
    packet: bytes
    counted: str | None
    """The counter that says so; None for packets that are not the relay's business."""


def datagram(to: Endpoint, payload: bytes, *, length: int | None = None) -> bytes:
    """A UDP header that may lie about its length, and its payload."""
    return struct.pack("!HHHH", STRANGER.port, to.port, 8 + len(payload) if length is None else length, 0) + payload


def with_total_length(packet: bytes, length: int) -> bytes:
    return packet[:2] + struct.pack("!H", length) + packet[4:]


def wrong_packets(to: Endpoint) -> list[Wrong]:
    """Everything that can contradict itself on the way to a port."""
    head, voice = (STRANGER.ip, to.ip), rtp(1, 0xBAD)
    whole = udp(STRANGER, to, voice)
    return [
        Wrong("UDP longer than IP", ipv4(*head, datagram(to, voice, length=400)), "malformed"),
        Wrong("UDP shorter than its header", ipv4(*head, datagram(to, voice, length=7)), "malformed"),
        Wrong("UDP of length 0", ipv4(*head, datagram(to, voice, length=0)), "malformed"),
        Wrong("IP longer than the frame", with_total_length(whole, 1400), "malformed"),
        Wrong("IP shorter than its headers", with_total_length(whole, 24), "malformed"),
        Wrong("IP of length 0", with_total_length(whole, 0), "malformed"),
        Wrong("cut off in the payload", whole[:-40], "malformed"),
        Wrong("cut off in the UDP header", whole[:24], None),
        Wrong("cut off in the IP header", whole[:12], None),
        Wrong("an IP header of four words", bytes([0x44]) + whole[1:], None),
        Wrong("an IP header longer than the frame", bytes([0x4F]) + whole[1:30], None),
        Wrong("IP version 7", bytes([0x75]) + whole[1:], None),
        Wrong("a first fragment", ipv4(*head, datagram(to, voice), fragment=MORE_FRAGMENTS), "fragments"),
        Wrong("a later fragment", ipv4(*head, voice, fragment=LAST_FRAGMENT), "fragments"),
        Wrong("from port 0", udp(Endpoint(STRANGER.ip, 0), to, voice), "source_refused"),
        *(
            Wrong(f"from {ip}", udp(Endpoint(ip, 5555), to, voice), "source_refused")
            for ip in ("0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1", "255.255.255.255")
        ),
        Wrong("IP options", ipv4(*head, datagram(to, voice), options=bytes([1] * 8)), "forwarded"),
        Wrong("an empty datagram", udp(STRANGER, to, b""), "forwarded"),
        *(
            Wrong(f"{size} bytes of RTP that claim more", udp(STRANGER, to, b"\xbf" + voice[1:size]), "forwarded")
            for size in (1, 2, 11, 12, 13)
        ),
        Wrong("STUN cut off", udp(STRANGER, to, b"\x00\x01\x00"), "forwarded"),
    ]


@pytest.fixture(scope="module")
def target(scene: Scene) -> Endpoint:
    """A port of a call whose parties have spoken."""
    call = scene.call("target", 4100)
    scene.talk(call, 25)
    time.sleep(0.7)
    passed(call, 25)
    return call[2].for_caller


WRONG = [wrong.what for wrong in wrong_packets(Endpoint("192.0.2.1", 30000))]


@pytest.mark.parametrize("what", WRONG)
def test_a_malformed_packet_is_counted_for_what_it_is(scene: Scene, target: Endpoint, what: str) -> None:
    wrong = next(wrong for wrong in wrong_packets(target) if wrong.what == what)
    before, rule = scene.counters(), scene.rule(target)
    scene.wire.seen()
    scene.injector.send(wrong.packet)
    time.sleep(0.02)
    left = [
        seen
        for seen in scene.wire.seen().udp
        if seen.source.ip == target.ip and seen.source.port != scene.relay.ng.port
    ]
    assert len(left) == (wrong.counted == "forwarded")
    after = scene.counters()
    grown = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    grown.pop("stun", None)
    assert grown == ({wrong.counted: 1} if wrong.counted else {})
    now = scene.rule(target)
    refused = wrong.counted not in (None, "forwarded", "fragments")
    assert now["drops"] - rule["drops"] == refused
    assert now["packets"] - rule["packets"] == (wrong.counted == "forwarded")
    assert not refused or now["last_drop"] == wrong.counted
    assert pings(scene.network.proxy, scene.relay.ng)


def mutilated(to: Endpoint, count: int) -> list[bytes]:
    """RTP from a stranger with a few random bytes of it changed, or cut off at random."""
    source = random.Random(17)
    found = []
    for number in range(count):
        packet = bytearray(udp(STRANGER, to, rtp(number, 0xBAD)))
        for _ in range(source.randrange(1, 5)):
            packet[source.randrange(0, 44)] = source.randrange(256)
        found.append(bytes(packet[: source.randrange(1, len(packet))] if source.random() < 0.3 else packet))
    return found


def test_random_damage_harms_neither_the_relay_nor_other_calls(scene: Scene, target: Endpoint) -> None:
    bystander = scene.call("bystander", 4200)
    with Spray(scene.injector, mutilated(target, 1500), 1000) as damage:
        scene.talk(bystander, 70)
        time.sleep(1.6)
    time.sleep(0.1)
    assert damage.sent > 1000
    assert scene.rule(target)["drops"] > 100
    passed(bystander, 70)
    for local in (bystander[2].for_caller, bystander[2].for_callee):
        rule = scene.rule(local)
        assert (rule["packets"], rule["lost"], rule["drops"]) == (70, 0, 0)
    assert pings(scene.network.proxy, scene.relay.ng)
    assert "Traceback" not in scene.relay.log.read_text()
    assert scene.relay.stop() == 0
