"""Datagrams that need more than one packet, and packets that are more than the next link takes."""

from __future__ import annotations

import asyncio
import socket

import pytest

from relay.types import Carries, Endpoint
from tests.net.conftest import (
    MEDIA6_A,
    MEDIA6_B,
    MEDIA_A,
    MEDIA_B,
    PARTY6_A,
    PARTY6_B,
    PARTY_A,
    PARTY_B,
    RELAY6_A,
    RELAY6_B,
    RELAY_A,
    RELAY_B,
    Phone,
    Table,
    described,
    mirrored,
    ready,
    rtp,
    wait_for,
)

SERVED = (RELAY_A, RELAY_B, RELAY6_A, RELAY6_B)
SMALL_MTU = 1300
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14
IPV6_MTU_DISCOVER, IPV6_MTU = 23, 24
FAMILIES = [
    pytest.param(
        first, second, id=f"{'IPv6' if ':' in first.ip else 'IPv4'} to {'IPv6' if ':' in second.ip else 'IPv4'}"
    )
    for first in (MEDIA_A, MEDIA6_A)
    for second in (MEDIA_B, MEDIA6_B)
]


def phones(table: Table, first: Endpoint, second: Endpoint) -> tuple[Phone, Phone]:
    """A telephone on each side, of the family of the port it talks to."""
    a = table.phone(table.a, PARTY6_A if ":" in first.ip else PARTY_A, 4000)
    return a, table.phone(table.b, PARTY6_B if ":" in second.ip else PARTY_B, 6000)


def complaints(table: Table, phone: Phone) -> int:
    """ICMP errors about UDP ports that a party's host was told."""
    if ":" in phone.endpoint.ip:
        text = table.a.run("cat", "/proc/net/snmp6")
        return int(dict(line.split() for line in text.splitlines())["Icmp6InDestUnreachs"])
    return table.a.snmp("Icmp")["InDestUnreachs"]


@pytest.mark.parametrize(("first", "second"), FAMILIES)
def test_a_datagram_in_fragments_arrives(table: Table, first: Endpoint, second: Endpoint) -> None:
    payloads = [rtp(number) + bytes([number]) * (1500 + 300 * number) for number in range(5)]

    async def scenario() -> None:
        a, b = phones(table, first, second)
        async with table.plane(addresses=SERVED) as plane:
            plane.install(mirrored(a.endpoint, b.endpoint, first=first, second=second))
            assert not described(plane, "fragments")
            for payload in payloads:
                a.send(first, payload)
                await asyncio.sleep(0.02)
            assert await b.expect(5) == [(payload, second) for payload in payloads]
            assert plane.packets(first) == 5
            counters = plane.counters()
            assert (counters["reassembled"], counters["slow_path_failed"]) == (5, 0)
            assert counters["fragments"] >= 5
            assert described(plane, "5 datagrams came in fragments and were forwarded from user space")
            assert plane.state(first).observed_source == a.endpoint
            assert complaints(table, a) == 0

    table.run(scenario)


@pytest.mark.parametrize(("first", "second"), [(MEDIA_A, MEDIA_B), (MEDIA6_A, MEDIA6_B)])
def test_what_no_rule_wants_of_fragments_is_dropped_or_the_kernels(
    table: Table, first: Endpoint, second: Endpoint
) -> None:
    big, too_long = bytes(2000), bytes(5000)

    async def scenario() -> None:
        a, b = phones(table, first, second)
        async with table.plane(addresses=SERVED) as plane:
            plane.install(mirrored(a.endpoint, b.endpoint, first=first, second=second, carries=Carries.OPAQUE))
            a.send(first, too_long)
            await wait_for(lambda: plane.counters()["reassembled_too_long"] == 1)
            plane.remove([first, second], linger=0.5)
            a.send(first, big)
            await wait_for(lambda: plane.counters()["closed"] == 1)
            assert complaints(table, a) == 0
            a.send(Endpoint(first.ip, 9), big)
            await wait_for(lambda: complaints(table, a) == 1)
            await asyncio.sleep(0.6)
            a.send(first, big)
            await wait_for(lambda: complaints(table, a) == 2)
            assert b.received() == []

    table.run(scenario)


def test_more_fragments_than_the_budget_are_dropped_and_counted(table: Table) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane(addresses=SERVED) as plane:
            plane.install(mirrored(a.endpoint, b.endpoint, carries=Carries.OPAQUE))
            await ready(plane)
            sent = 1000
            for number in range(sent):
                a.send(MEDIA_A, number.to_bytes(2, "big") * 1000)
            await wait_for(lambda: plane.counters()["reassembled_lost"] > 0)
            await asyncio.sleep(1.5)
            arrived = len(b.received())
            assert 0 < arrived < sent
            a.send(MEDIA_A, bytes(2000))
            assert len(await b.expect(1)) == 1

    table.run(scenario)


@pytest.mark.parametrize(("first", "second"), FAMILIES)
def test_who_sends_more_than_the_next_link_takes_is_told(table: Table, first: Endpoint, second: Endpoint) -> None:
    async def scenario() -> None:
        a, b = phones(table, first, second)
        ip6 = ":" in first.ip
        for host, name in ((table.relay, "to-b"), (table.b, "eth0")):
            host.ip("link", "set", name, "mtu", str(SMALL_MTU))
        level = socket.IPPROTO_IPV6 if ip6 else socket.IPPROTO_IP
        a.socket.setsockopt(level, IPV6_MTU_DISCOVER if ip6 else IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        a.socket.connect(first)
        async with table.plane(addresses=SERVED) as plane:
            plane.install(mirrored(a.endpoint, b.endpoint, first=first, second=second, carries=Carries.OPAQUE))
            await ready(plane, first, second)

            def mtu() -> int:
                return a.socket.getsockopt(level, IPV6_MTU if ip6 else IP_MTU)

            assert mtu() == 1500
            a.socket.send(bytes(1400))
            await wait_for(lambda: mtu() < 1500)
            grows = 20 * ((":" in second.ip) - ip6)
            assert mtu() == SMALL_MTU - grows
            counters = plane.counters()
            assert (counters["too_big"], counters["too_big_told"]) == (1, 1)
            assert plane.state(first).last_drop == "too_big"
            headers = 48 if ip6 else 28
            largest = bytes(mtu() - headers)
            with pytest.raises(OSError, match="too long"):
                a.socket.send(largest + b"x")
            a.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # what the ICMP error left there
            a.socket.send(largest)
            assert await b.expect(1) == [(largest, second)]

    table.run(scenario)


def test_a_storm_of_packets_too_big_is_answered_seldom(table: Table) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        table.relay.ip("link", "set", "to-b", "mtu", str(SMALL_MTU))
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, b.endpoint, carries=Carries.OPAQUE))
            await ready(plane)
            a.socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 3)  # DF, and whatever it is told
            for _ in range(200):
                a.send(MEDIA_A, bytes(1400))
            await wait_for(lambda: plane.counters()["too_big"] == 200)
            await asyncio.sleep(0.2)
            assert 1 <= plane.counters()["too_big_told"] <= 2

    table.run(scenario)
