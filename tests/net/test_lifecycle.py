"""A call and a relay from beginning to end, with media flowing all the while."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from control.ops import place
from relay.types import Endpoint
from tests.lab import Host, Lab, LabError, Network, standard_network
from tests.media import Agent, Party, open_party, steady
from tests.net.conftest import rtp
from tests.ng import CALLEE, CALLER, Dialogue, Proxy, above, until
from tests.peers import Relay, media_sockets
from tests.wire import Sniffer

ROAMED = "10.99.1.7"
DELETE_DELAY = 1
RESERVED = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")
SO_NO_CHECK = 11


@dataclass
class Scene:
    """A running relay with a short delete delay, a caller that can roam, and a callee."""

    network: Network
    relay: Relay
    proxy: Proxy
    wire: Sniffer
    agent: Agent

    def caller(self, port: int, address: str = Network.CALLER_ADDRESS) -> Party:
        return self._party(self.network.caller, address, port)

    def callee(self, port: int) -> Party:
        return self._party(self.network.callee, self.network.CALLEE_ADDRESS, port)

    def _party(self, host: Host, address: str, port: int) -> Party:
        party = open_party(host, address, port, random.Random(f"{address}:{port}"))
        self.agent.add((party,))
        return party

    def talk(self, party: Party, to: Endpoint, packets: int) -> None:
        self.agent.talk(party, to, above(to), steady(packets))

    def status(self) -> dict[str, Any]:
        return self.relay.operator("status")[0]

    def rules(self) -> list[dict[str, Any]]:
        return self.relay.operator("rules")


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab() as lab, Agent() as agent:
        network = standard_network(lab)
        network.caller.ip("address", "add", f"{ROAMED}/24", "dev", "eth0")
        with (
            Relay(network.relay, network.RELAY_ADDRESS, f"--delete-delay={DELETE_DELAY}") as relay,
            Proxy(network.proxy, relay.ng) as proxy,
            Sniffer(network.core, network.RELAY_PORT) as wire,
        ):
            yield Scene(network, relay, proxy, wire, agent)


def heard(sender: Party, *receivers: Party) -> list[int]:
    """Indices of the packets of one party that reached these, in order, each as often as it came."""
    found = []
    for receiver in receivers:
        stream = receiver.received.get(sender.ssrc)
        if stream is not None:
            found += [(sequence - sender.first_sequence) & 0xFFFF for sequence in stream.sequences]
            found += [-1] * stream.duplicates
    return sorted(found)


def point(party: Party, to: Endpoint) -> None:
    """The party sees an SDP and sends there from now on."""
    party.remote_rtp, party.remote_rtcp = to, above(to)


def test_a_reinvite_to_a_new_address_loses_nothing(scene: Scene) -> None:
    """Also between the offer and its answer, where parties send to the ports they know and from where they were."""
    home, away, callee = scene.caller(4000), scene.caller(4100, ROAMED), scene.callee(4000)
    call = Dialogue(scene.proxy, "reinvite").set_up(home.local, callee.local)
    old = call.for_callee
    scene.talk(home, call.for_caller, 50)
    scene.talk(callee, old, 110)
    time.sleep(0.3)
    new = call.offer(away.local)
    assert new != old
    time.sleep(0.2)  # the callee does not know yet, and sends to the old port
    point(callee, new)
    time.sleep(0.2)  # the caller does not know yet, and sends from the old place
    assert call.answer(callee.local) == home.remote_rtp
    until(lambda: home.rtp_sent == 50)
    scene.talk(away, call.for_caller, 50)
    until(lambda: callee.rtp_sent == 110 and away.rtp_sent == 50)
    time.sleep(0.1)
    assert heard(home, callee) == list(range(50))
    assert heard(away, callee) == list(range(50))
    assert heard(callee, home, away) == list(range(110))
    assert heard(callee, away)[-40:] == list(range(70, 110)), "what came after the move went to the new place only"
    rules = [rule for rule in scene.rules() if rule["call_id"] == "reinvite"]
    assert len(rules) == 4
    assert all(rule["local"] != str(old) for rule in rules)


def test_a_caller_behind_nat_may_take_another_port(scene: Scene) -> None:
    """It speaks from the old one until it sees the answer, which must not make the new one a stranger."""
    home, away, callee = scene.caller(4800), scene.caller(4810), scene.callee(4800)
    call = Dialogue(scene.proxy, "nat-moves", received_from=["IP4", home.local.ip])
    call.set_up(Endpoint("192.168.7.20", 7000), callee.local)
    scene.talk(home, call.for_caller, 30)
    scene.talk(callee, call.for_callee, 75)
    time.sleep(0.3)
    point(callee, call.offer(Endpoint("192.168.7.20", 7010)))
    time.sleep(0.2)
    call.answer(callee.local)
    until(lambda: home.rtp_sent == 30)
    scene.talk(away, call.for_caller, 40)
    until(lambda: callee.rtp_sent == 75)
    time.sleep(0.1)
    arrived = heard(callee, home, away)
    assert arrived == list(range(arrived[0], 75)), "only what came before the caller's first packet had nowhere to go"
    assert heard(callee, away)[-30:] == list(range(45, 75))
    assert heard(home, callee) == list(range(30))


def test_a_callee_hears_from_the_port_its_nat_knows_until_it_answers(scene: Scene) -> None:
    home, callee = scene.caller(4900), scene.callee(4900)
    call = Dialogue(scene.proxy, "known-port").set_up(home.local, callee.local)
    old = call.for_callee
    scene.talk(home, call.for_caller, 60)
    scene.talk(callee, old, 60)
    time.sleep(0.3)
    new = call.offer(Endpoint(home.local.ip, 4990))
    time.sleep(0.4)
    assert set(callee.sources) == {old}
    call.answer(callee.local)
    until(lambda: home.rtp_sent == 60)
    until(lambda: len(heard(home, callee)) == 60)
    assert set(callee.sources) == {old, new}


def test_a_callee_may_move_too(scene: Scene) -> None:
    caller, here, there = scene.caller(4200), scene.callee(4200), scene.callee(4300)
    call = Dialogue(scene.proxy, "callee-moves").set_up(caller.local, here.local)
    turned = {"from_tag": CALLEE, "to_tag": CALLER}
    scene.talk(caller, call.for_caller, 80)
    scene.talk(here, call.for_callee, 40)
    time.sleep(0.3)
    new = call.offer(there.local, **turned)
    time.sleep(0.1)
    point(caller, new)
    to_relay = call.answer(caller.local, **turned)
    until(lambda: here.rtp_sent == 40)
    scene.talk(there, to_relay, 30)
    until(lambda: caller.rtp_sent == 80 and there.rtp_sent == 30)
    time.sleep(0.1)
    assert heard(caller, here, there) == list(range(80))
    assert heard(here, caller) == list(range(40))
    assert heard(there, caller) == list(range(30))


@pytest.mark.parametrize("how", ["sendonly", "zero-address"])
def test_hold_and_resume_keep_the_ports_and_lose_nothing(scene: Scene, how: str) -> None:
    port = {"sendonly": 4400, "zero-address": 4500}[how]
    caller, callee = scene.caller(port), scene.callee(port)
    call = Dialogue(scene.proxy, how).set_up(caller.local, callee.local)
    before = (call.for_callee.port, call.for_caller.port)
    scene.talk(caller, call.for_caller, 70)  # music while the callee is on hold
    scene.talk(callee, call.for_callee, 15)
    until(lambda: callee.rtp_sent == 15)
    if how == "sendonly":
        call.offer(caller.local, "a=sendonly")
    else:
        call.offer(Endpoint("0.0.0.0", port))
    call.answer(callee.local, "a=recvonly")
    time.sleep(0.2)
    assert (call.for_callee.port, call.for_caller.port) == before
    call.offer(caller.local)
    call.answer(callee.local)
    assert (call.for_callee.port, call.for_caller.port) == before
    again = callee.rtp_sent
    scene.talk(callee, call.for_callee, 30)
    until(lambda: caller.rtp_sent == 70 and callee.rtp_sent == again + 30)
    time.sleep(0.1)
    assert heard(caller, callee) == list(range(70))
    assert caller.received[callee.ssrc].packets == callee.rtp_sent == 45


def test_a_deleted_call_lingers_can_come_back_and_ends_in_silence(scene: Scene) -> None:
    """Media passes for the delete delay; for as long after that, late packets are dropped and nobody is told."""
    caller, callee = scene.caller(4600), scene.callee(4600)
    for standing in {rule["call_id"] for rule in scene.rules()}:
        scene.relay.operator("terminate", call=standing)
    call = Dialogue(scene.proxy, "deleted").set_up(caller.local, callee.local)
    ports = (call.for_caller, call.for_callee)
    scene.wire.seen()
    scene.talk(caller, call.for_caller, 300)
    scene.talk(callee, call.for_callee, 300)
    time.sleep(0.2)
    call.delete()
    time.sleep(0.4)
    assert scene.status()["calls"] == {"standing": 0, "deleted": 1, "ready": 0}
    assert call.set_up(caller.local, callee.local)
    assert (call.for_caller, call.for_callee) == ports
    time.sleep(DELETE_DELAY + 1.2)
    assert scene.status()["calls"] == {"standing": 1, "deleted": 0, "ready": 0}
    passed = (caller.rtp_sent - 1, callee.rtp_sent - 1)
    call.delete()
    until(lambda: scene.rules() == [])
    assert heard(caller, callee)[: passed[0]] == list(range(passed[0]))
    assert heard(callee, caller)[: passed[1]] == list(range(passed[1]))
    status = scene.status()
    assert status["calls"] == {"standing": 0, "deleted": 0, "ready": 0}
    assert status["interfaces"][0]["ports_used"] == 0
    unreachables = scene.wire.seen().unreachables
    assert unreachables == []
    while not unreachables and caller.rtp_sent < 300:  # the kernel's turn, once the port is nobody's any more
        unreachables = scene.wire.seen().unreachables
        time.sleep(0.01)
    assert unreachables
    closed = scene.status()["counters"]["data plane"]["closed"]
    assert closed > 0.7 * 2 * DELETE_DELAY * 50, "the kernel got packets before the delay was over"
    assert {port for _, port in unreachables} <= {port for end in ports for port in (end.port, end.port + 1)}


def test_calls_take_no_sockets(scene: Scene) -> None:

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{scene.relay.process.pid}/fd"))

    Dialogue(scene.proxy, "first").set_up(Endpoint("10.99.1.2", 9000), Endpoint("10.99.0.4", 9000))
    used = scene.status()["interfaces"][0]["ports_used"]
    time.sleep(0.05)  # the operator's connection of the line before is one, too
    before = descriptors()
    ends = [(Endpoint("10.99.1.2", port), Endpoint("10.99.0.4", port)) for port in range(10000, 10100, 2)]
    calls = [Dialogue(scene.proxy, f"many-{end.port}").set_up(end, other) for end, other in ends]
    assert descriptors() == before
    assert scene.status()["interfaces"][0]["ports_used"] == used + 4 * len(calls) == used + 200
    assert media_sockets(scene.network.relay, (30000, 40000)) == []
    for call in calls:
        call.delete(delete_delay=0)
    assert scene.status()["interfaces"][0]["ports_used"] == used


def test_checksums_left_to_the_card_are_completed_and_absent_ones_stay_absent(scene: Scene) -> None:
    for host in (scene.network.caller, scene.network.callee):
        assert "tx-checksumming: on" in host.run("ethtool", "-k", "eth0")
    caller, callee = scene.caller(4700), scene.callee(4700)
    call = Dialogue(scene.proxy, "checksums").set_up(caller.local, callee.local)
    bad = scene.network.callee.snmp("Udp")["InCsumErrors"], scene.network.caller.snmp("Udp")["InCsumErrors"]
    scene.wire.seen()
    scene.talk(caller, call.for_caller, 20)
    scene.talk(callee, call.for_callee, 20)
    until(lambda: caller.rtp_sent == callee.rtp_sent == 20)
    caller.rtp.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    caller.rtp.sendto(rtp(20, caller.ssrc), call.for_caller)
    time.sleep(0.1)
    assert callee.rtp_received == 21
    assert caller.rtp_received == 20
    assert bad == (
        scene.network.callee.snmp("Udp")["InCsumErrors"],
        scene.network.caller.snmp("Udp")["InCsumErrors"],
    )
    media = [seen for seen in scene.wire.seen().udp if seen.destination in (caller.local, callee.local)]
    assert len(media) == 41
    assert [seen.check for seen in media].count(0) == 1
    assert all(seen.is_sound for seen in media if seen.check)


@dataclass
class Service:
    """A host whose media address stands on a device without a wire, reached by a route."""

    host: Host
    network: Network
    address: str

    def attached(self) -> bool:
        return "xdp" in self.host.ip("link", "show", "eth0")

    def files(self) -> list[Path]:
        """What relays of this namespace have left in the file system."""
        inode = self.host.call(lambda: Path("/proc/thread-self/ns/net").stat().st_ino)
        pins = [Path(folder) / name for folder, _, names in os.walk("/sys/fs/bpf") for name in names]
        return [
            *place.ROOT_DIRECTORY.glob(f"hairpin-*-{inode}.*"),
            *self.host.folder.glob("operators.sock"),
            *(pin for pin in pins if str(inode) in str(pin)),
        ]

    def reserved(self) -> str:
        return self.host.call(RESERVED.read_text).strip()


def unwired_device(host: Host) -> str:
    """A dummy device, or the loopback device where the kernel knows no dummies."""
    try:
        host.ip("link", "add", "service", "type", "dummy")
    except LabError:
        return "lo"
    host.ip("link", "set", "service", "up")
    return "service"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Lab() as lab:
        network = standard_network(lab)
        host, address = network.relay, "10.98.0.1"
        host.ip("address", "add", f"{address}/32", "dev", unwired_device(host))
        network.core.ip("route", "add", f"{address}/32", "via", network.RELAY_ADDRESS)
        network.callee.ip("route", "add", f"{address}/32", "via", network.RELAY_ADDRESS)
        host.sysctl("ipv4/ip_local_reserved_ports", "5060")
        yield Service(host, network, address)


def pass_media(service: Service, relay: Relay, name: str, port: int) -> None:
    """One call, media both ways, none of it lost."""
    network, source = service.network, random.Random(port)
    caller = open_party(network.caller, network.CALLER_ADDRESS, port, source)
    callee = open_party(network.callee, network.CALLEE_ADDRESS, port, source)
    with Agent() as agent, Proxy(network.proxy, relay.ng) as proxy:
        agent.add((caller, callee))
        call = Dialogue(proxy, name).set_up(caller.local, callee.local)
        assert call.for_caller.ip == call.for_callee.ip == service.address
        agent.talk(caller, call.for_caller, above(call.for_caller), steady(20))
        agent.talk(callee, call.for_callee, above(call.for_callee), steady(20))
        until(lambda: caller.rtp_sent == callee.rtp_sent == 20)
        time.sleep(0.1)
        assert (heard(caller, callee), heard(callee, caller)) == (list(range(20)), list(range(20)))


def test_a_service_address_without_a_wire_and_an_orderly_end(service: Service) -> None:
    with Relay(service.host, service.address) as relay:
        assert service.attached()
        assert service.reserved() == "5060,30000-40000"
        pass_media(service, relay, "service", 4000)
        assert relay.stop() == 0
    assert not service.attached()
    assert service.files() == []
    assert service.reserved() == "5060"


def test_a_killed_relay_leaves_no_program_attached_and_the_next_one_starts_clean(service: Service) -> None:
    with Relay(service.host, service.address) as relay:
        pass_media(service, relay, "killed", 4100)
        service.host.end(relay.process, signal.SIGKILL)
    until(lambda: not service.attached())
    with Relay(service.host, service.address) as relay:
        assert relay.operator("rules") == []
        pass_media(service, relay, "next", 4200)
        assert relay.stop() == 0
    assert not service.attached()
    assert service.files() == []
    assert service.reserved() == "5060"
