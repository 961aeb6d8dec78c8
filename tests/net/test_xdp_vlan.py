"""802.1Q tags on the wire, with frames made by hand: the kernel that tests run on may have no VLAN devices."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from dataclasses import replace
from typing import Self

import pytest

from relay.dataplane.xdp import XdpDataplane
from relay.nic.links import Neighbour, Route, Rtnetlink
from relay.types import Endpoint
from tests.lab import Host
from tests.net.conftest import MEDIA_A, MEDIA_B, PARTY_A, PARTY_B, Table, described, mirrored, ready, rtp
from tests.wire import ETH_P_ALL, ETH_P_IP, SOL_PACKET, udp

PACKET_AUXDATA, VLAN_VALID = 8, 1 << 4
ETH_P_8021Q = 0x8100
AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
HEADERS = 14 + 20 + 8
A, B = Endpoint(PARTY_A, 4000), Endpoint(PARTY_B, 6000)
FAKE_IFINDEX = 4711


class Wire:
    """A party's end of its cable, below its kernel."""

    def __init__(self, host: Host, towards: str) -> None:
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._socket.setblocking(False)
        self._socket.bind(("eth0", ETH_P_ALL))
        self._macs = bytes.fromhex((towards + host.mac("eth0")).replace(":", ""))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def send(self, to: Endpoint, source: Endpoint, payload: bytes, vlan: int) -> None:
        """Send a UDP packet with a tag."""
        tag = struct.pack("!HHH", ETH_P_8021Q, vlan, ETH_P_IP)
        self._socket.send(self._macs + tag + udp(source, to, payload))

    async def hear(self, payload: bytes, seconds: float = 3.0) -> int | None:
        """The VLAN a payload comes in by, 0 where its frame has no tag; None if it does not come."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                frame, ancillary, _, _ = self._socket.recvmsg(2048, 256)
            except BlockingIOError:
                await asyncio.sleep(0.01)
                continue
            if frame[HEADERS:] == payload:
                status, *_, tag, _ = AUXDATA.unpack(ancillary[0][2])
                return tag if status & VLAN_VALID else 0
        return None


def wires(table: Table) -> tuple[Wire, Wire]:
    return Wire(table.a, table.relay.mac("to-a")), Wire(table.b, table.relay.mac("to-b"))


def stand_on_vlan(plane: XdpDataplane, table: Table, monkeypatch: pytest.MonkeyPatch, vlan: int) -> None:
    """Let the host have a VLAN device on to-b that leads to B, as its netlink messages would tell."""
    links = dict(plane._watch.links)
    lower = next(link for link in links.values() if link.name == "to-b")
    links[FAKE_IFINDEX] = replace(
        lower, index=FAKE_IFINDEX, name=f"to-b.{vlan}", kind="vlan", lower=lower.index, vlan=vlan
    )
    found = Rtnetlink.route

    def route(kernel: Rtnetlink, destination: str, source: str | None = None) -> Route | None:
        return Route(FAKE_IFINDEX, PARTY_B) if destination == PARTY_B else found(kernel, destination, source)

    monkeypatch.setattr(Rtnetlink, "route", route)
    monkeypatch.setattr(plane._watch.kernel, "links", lambda: links)
    plane._watch.links = links
    mac = bytes.fromhex(table.b.mac("eth0").replace(":", ""))
    plane.host_changed({"links", "routes"})
    plane.neighbours_changed([Neighbour(FAKE_IFINDEX, PARTY_B, mac, fixed=True)])


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_what_comes_with_a_tag_is_forwarded_without_it(table: Table, mode: str) -> None:
    async def scenario() -> None:
        async with table.plane(mode=mode) as plane:
            plane.install(mirrored(A, B))
            await ready(plane)
            a, b = wires(table)
            with a, b:
                a.send(MEDIA_A, A, rtp(1), vlan=5)
                assert await b.hear(rtp(1)) == 0
            assert plane.counters()["forwarded"] == 1
            assert described(plane, f"{mode} XDP on to-a (veth), tags ")

    table.run(scenario)


def test_a_next_hop_in_a_vlan_gets_the_tag(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        phone = table.phone(table.a, *A)
        async with table.plane() as plane:
            plane.install(mirrored(A, B))
            await ready(plane)
            a, b = wires(table)
            with a, b:
                stand_on_vlan(plane, table, monkeypatch, 77)
                await asyncio.sleep(0.1)
                await ready(plane)
                phone.send(MEDIA_A, rtp(1))
                assert await b.hear(rtp(1)) == 77
                a.send(MEDIA_A, A, rtp(2), vlan=5)
                assert await b.hear(rtp(2)) == 77
                b.send(MEDIA_B, B, rtp(3), vlan=77)
                assert [payload for payload, _ in await phone.expect(1)] == [rtp(3)]
            assert plane.counters()["slow_path"] == 0
            assert sorted(table.attached()) == ["to-a", "to-b"]
            assert described(plane, "native XDP on to-b")

    table.run(scenario)


def test_the_way_back_to_a_learned_source_keeps_the_tag(table: Table) -> None:
    """A party that sends from elsewhere than it says, before user space has found a way there."""
    behind = Endpoint("10.9.0.7", 4444)

    async def scenario() -> None:
        async with table.plane() as plane:
            plane.install(mirrored(Endpoint("10.9.9.9", 4000), B))
            a, b = wires(table)
            with a, b:
                a.send(MEDIA_A, behind, rtp(1), vlan=9)
                assert await b.hear(rtp(1)) == 0
                b.send(MEDIA_B, B, rtp(2), vlan=3)
                assert await a.hear(rtp(2)) == 9
            assert plane.state(MEDIA_A).observed_source == behind

    table.run(scenario)
