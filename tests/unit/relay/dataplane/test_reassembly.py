"""Datagrams the kernel has put together: what is made of them, and how many are taken."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from relay.dataplane import reassembly
from relay.dataplane.clibbpf import BpfError
from relay.dataplane.libbpf import TestRun as Run
from relay.dataplane.packets import Datagram
from relay.dataplane.reassembly import Reassembly, Sink
from relay.types import Endpoint

XDP_DROP, XDP_PASS, XDP_TX = 1, 2, 3
CONTENT = Datagram(Endpoint("192.0.2.1", 4000), Endpoint("10.0.0.1", 30000), b"voice" * 500)
CONTENT6 = Datagram(Endpoint("2001:db8::1", 4000), Endpoint("fd00::1", 30000), b"voice" * 500)


class Program:
    """Gives back what it was run on."""

    def __init__(self, verdict: int = XDP_TX) -> None:
        self.verdict = verdict
        self.ran: list[bytes] = []

    def test_run(self, frame: bytes) -> Run:
        self.ran.append(frame)
        if self.verdict < 0:
            raise BpfError("test-run", errno.EINTR)
        return Run(self.verdict, frame, 0)


class Sender:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, packet: bytes) -> bool:
        self.sent.append(packet)
        return True


def bench(verdict: int = XDP_TX) -> tuple[Reassembly, Program, Sender]:
    program, sender = Program(verdict), Sender()
    return Reassembly(program, sender), program, sender  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [CONTENT, CONTENT6])
def test_the_program_sees_a_whole_frame_and_its_packet_is_sent(content: Datagram) -> None:
    taking, program, sender = bench()
    taking.forward(content, ttl=33, tos=0xB8)
    (frame,) = program.ran
    packet = Ether(frame).payload
    assert (packet.src, packet.dst) == (content.source.ip, content.destination.ip)
    assert (packet.ttl, packet.tos) == (33, 0xB8) if isinstance(packet, IP) else (packet.hlim, packet.tc) == (33, 0xB8)
    sound = type(packet)(bytes(packet))
    del sound[UDP].chksum
    assert bytes(sound) == bytes(packet), "its checksum is not right"
    assert isinstance(packet, IP | IPv6)
    assert sender.sent == [frame[14:]]
    assert taking.describe() == ["1 datagrams came in fragments and were forwarded from user space"]


@pytest.mark.parametrize("verdict", [XDP_DROP, XDP_PASS])
def test_what_the_program_does_not_turn_is_not_sent(verdict: int) -> None:
    taking, _, sender = bench(verdict)
    taking.forward(CONTENT, 64, 0)
    assert sender.sent == []
    assert taking.describe() == []


def test_what_cannot_be_run_is_counted() -> None:
    taking, program, sender = bench(-1)
    taking.forward(CONTENT, 64, 0)
    assert (taking.failed, sender.sent) == (1, [])
    taking.forward(CONTENT._replace(payload=bytes(4000)), 64, 0)
    assert (taking.too_long, len(program.ran)) == (1, 1)


class Broken:
    """A program or a map the kernel refuses."""

    def attach_lookup(self) -> None:
        raise BpfError("attach sink to the look-ups of sockets", errno.EPERM)

    def update(self, key: bytes, value: bytes) -> None:
        pass


def test_a_host_where_it_cannot_be_says_why() -> None:
    async def scenario() -> Reassembly:
        taking, _, _ = bench()
        broken = Broken()
        taking.start(asyncio.get_running_loop(), ["127.0.0.1"], broken, broken)  # type: ignore[arg-type]
        return taking

    taking = asyncio.run(scenario())
    (line,) = taking.describe()
    assert line.startswith("fragments are not forwarded: attach sink to the look-ups of sockets: Operation not permit")
    assert taking.lost == 0


def test_no_more_are_taken_in_a_period_than_the_budget_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reassembly, "_PER_PERIOD", 5)
    monkeypatch.setattr(reassembly, "_BATCH", 2)
    monkeypatch.setattr(reassembly, "_PERIOD", 0.3)
    taken: list[tuple[Datagram, int, int]] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        sink = Sink(loop, reassembly._IP4, lambda *found: taken.append(found))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            to = Endpoint(*sink._socket.getsockname())
            for number in range(8):
                sending.sendto(bytes([number]), to)
            await asyncio.sleep(0.1)
            assert len(taken) == 5
            async with asyncio.timeout(5):
                while len(taken) < 8:  # noqa: ASYNC110 - a plain list tells nobody
                    await asyncio.sleep(0.02)
            contents = [found[0] for found in taken]
            assert [content.payload for content in contents] == [bytes([number]) for number in range(8)]
            assert {content.destination for content in contents} == {to}
            assert {content.source.port for content in contents} == {sending.getsockname()[1]}
            assert taken[0][1:] == (64, 0)
        sink.close()
        sink.close()

    asyncio.run(scenario())


def test_a_flood_to_one_port_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reassembly, "_PERIOD", 0.2)
    taken: list[Endpoint] = []
    flooded, other = Endpoint("10.0.0.1", 30000), Endpoint("10.0.0.1", 30002)

    def meant_for(port: Endpoint) -> list[tuple[int, int, bytes]]:
        octets = struct.pack("!2xH4s8x", port.port, socket.inet_aton(port.ip))
        return [(socket.IPPROTO_IP, reassembly._IP4.destination, octets)]

    async def scenario() -> None:
        sink = Sink(asyncio.get_running_loop(), reassembly._IP4, lambda content, *_: taken.append(content.destination))
        for _ in range(500):
            sink._take(b"flood", meant_for(flooded), CONTENT.source)
        assert (len(taken), sink.lost) == (25, 475)
        sink._take(b"voice", meant_for(other), CONTENT.source)
        assert taken[-1] == other
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
            sending.sendto(b"begins a period", sink._socket.getsockname())
        await asyncio.sleep(0.6)
        sink._take(b"flood", meant_for(flooded), CONTENT.source)
        assert (taken[-1], sink.lost) == (flooded, 475), "its share is its own again in the next period"
        sink.close()

    asyncio.run(scenario())
