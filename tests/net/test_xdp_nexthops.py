"""Next hops that change under traffic, interfaces that go and come back."""

from __future__ import annotations

import asyncio
import socket

import pytest

from relay.nic.links import Change, Changes
from relay.nic.netlink import Overrun
from relay.types import Endpoint, Path
from tests.net.conftest import (
    MEDIA6_A,
    MEDIA6_B,
    MEDIA_A,
    MEDIA_B,
    PARTY6_B,
    PARTY_B,
    RELAY_B,
    Phone,
    Table,
    described,
    mirrored,
    ready,
    rtp,
    wait_for,
)

NEW_MAC = "02:00:00:00:be:ef"
ROAMER = "10.7.99.9"
"""An address two hosts can have, reached by a route."""


async def stream(phone: Phone, packets: int) -> None:
    for number in range(packets):
        phone.send(MEDIA_A, rtp(number))
        await asyncio.sleep(0.01)


async def heard_again(sender: Phone, receiver: Phone, seconds: float) -> None:
    """Send until the receiver hears: how long a change may interrupt."""
    receiver.received()
    async with asyncio.timeout(seconds):
        number = 0
        while not receiver.received():
            sender.send(MEDIA_A, rtp(number := number + 1))
            await asyncio.sleep(0.01)


def test_a_neighbour_takes_another_mac_address(table: Table) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, b.endpoint))
            await ready(plane)
            await stream(a, 10)
            table.b.ip("link", "set", "eth0", "address", NEW_MAC)
            # The party announces itself, as hosts and redundant gateways do.
            table.b.run("arping", "-U", "-c", "1", "-I", "eth0", PARTY_B, check=False)
            table.relay.ip("neighbour", "replace", PARTY_B, "dev", "to-b", "lladdr", NEW_MAC, "nud", "reachable")
            await heard_again(a, b, 1.0)
            await stream(a, 20)
            assert len(await b.expect(20)) >= 20
            assert plane.counters()["slow_path"] <= 5

    table.run(scenario)


def test_a_route_moves_to_another_gateway(table: Table) -> None:
    async def scenario() -> None:
        second = table.lab.host("c")
        table.lab.cable(table.relay, "to-c", second, "eth0", napi=True)
        table.relay.ip("address", "add", "10.7.3.1/24", "dev", "to-c")
        second.ip("address", "add", "10.7.3.2/24", "dev", "eth0")
        second.ip("route", "add", "default", "via", "10.7.3.1")
        for host in (table.b, second):
            host.ip("address", "add", f"{ROAMER}/32", "dev", "lo")
        table.relay.ip("route", "add", f"{ROAMER}/32", "via", PARTY_B)
        a, _ = table.phones()
        first, moved = table.phone(table.b, ROAMER, 7000), table.phone(second, ROAMER, 7000)
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, Endpoint(ROAMER, 7000)))
            await ready(plane)
            await stream(a, 20)
            assert len(await first.expect(20)) == 20
            table.relay.ip("route", "replace", f"{ROAMER}/32", "via", "10.7.3.2")
            await heard_again(a, moved, 1.0)
            await asyncio.sleep(0.1)
            for phone in (first, moved):
                phone.received()
            await stream(a, 20)
            assert (len(await moved.expect(20)), first.received()) == (20, [])
            assert plane.state(MEDIA_A).path is Path.FAST
            # Media of the moved party comes in by an interface that had no program before.
            await wait_for(lambda: "to-c" in table.attached())
            moved.send(MEDIA_B, rtp(1))
            assert len(await a.expect(1)) == 1

    table.run(scenario)


def test_a_destination_without_a_route_waits_for_one(table: Table) -> None:
    async def scenario() -> None:
        a, _ = table.phones()
        table.b.ip("address", "add", f"{ROAMER}/32", "dev", "lo")
        roamer = table.phone(table.b, ROAMER, 7000)
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, roamer.endpoint))
            assert plane.state(MEDIA_A).path is Path.NO_NEXT_HOP
            table.relay.ip("route", "add", f"{ROAMER}/32", "via", PARTY_B)
            await ready(plane)
            await stream(a, 5)
            assert len(await roamer.expect(5)) == 5

    table.run(scenario)


@pytest.mark.parametrize(("first", "second"), [(MEDIA_A, MEDIA_B), (MEDIA6_A, MEDIA6_B), (MEDIA_A, MEDIA6_B)])
def test_an_interface_goes_and_comes_back(table: Table, first: Endpoint, second: Endpoint) -> None:
    async def scenario() -> None:
        a = (table.phones6() if ":" in first.ip else table.phones())[0]
        to_b = Endpoint(PARTY6_B if ":" in second.ip else PARTY_B, 7000)
        async with table.plane(addresses=(first.ip, second.ip)) as plane:
            plane.install(mirrored(a.endpoint, to_b, first=first, second=second))
            await ready(plane, first, second)
            table.relay.ip("link", "delete", "to-b")
            await wait_for(lambda: table.attached() == ["to-a"])
            await wait_for(lambda: plane.state(first).path is Path.NO_NEXT_HOP)
            await wait_for(lambda: described(plane, "interface to-b has gone"))
            assert described(plane, f"media address {second.ip} is on no interface")
            table.connect(table.b, "to-b")
            b = table.phone(table.b, *to_b)
            await wait_for(lambda: table.attached() == ["to-a", "to-b"])
            await ready(plane, first, second)
            for number in range(10):
                a.send(first, rtp(number))
                await asyncio.sleep(0.01)
            b.send(second, rtp(1))
            assert (len(await b.expect(10)), len(await a.expect(1))) == (10, 1)
            assert described(plane, "interface to-b was gone, and is attached to again")
            assert not described(plane, "is on no interface")

    table.run(scenario)


def test_an_interface_that_was_away_while_nobody_looked_forwards_again(table: Table) -> None:
    """It has the same number, but the kernel has forgotten it."""
    elsewhere = table.lab.host("elsewhere")

    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, b.endpoint))
            await ready(plane)
            number = table.relay.call(lambda: socket.if_nametoindex("to-b"))
            table.relay.ip("link", "set", "to-b", "netns", elsewhere.namespace)
            elsewhere.ip("link", "set", "to-b", "netns", table.relay.namespace)
            assert table.relay.call(lambda: socket.if_nametoindex("to-b")) == number
            table.relay.ip("address", "add", f"{RELAY_B}/24", "dev", "to-b")
            table.relay.ip("link", "set", "to-b", "up")
            await wait_for(lambda: table.attached() == ["to-a", "to-b"])
            await ready(plane)
            await asyncio.sleep(0.3)
            before = plane.counters()
            await stream(a, 5)
            assert len(await b.expect(5)) == 5
            after = plane.counters()
            assert (after["forwarded"] - before["forwarded"], after["slow_path"] - before["slow_path"]) == (5, 0)

    table.run(scenario)


@pytest.mark.parametrize(("first", "second"), [(MEDIA_A, MEDIA_B), (MEDIA6_A, MEDIA6_B)])
def test_a_media_address_goes_and_comes_back(table: Table, first: Endpoint, second: Endpoint) -> None:
    async def scenario() -> None:
        a, b = table.phones6() if ":" in first.ip else table.phones()
        address = f"{second.ip}/{64 if ':' in second.ip else 24}"
        async with table.plane(addresses=(first.ip, second.ip)) as plane:
            plane.install(mirrored(a.endpoint, b.endpoint, first=first, second=second))
            await ready(plane, first, second)
            table.relay.ip("address", "delete", address, "dev", "to-b")
            await wait_for(lambda: described(plane, f"media address {second.ip} is on no interface"))
            await wait_for(lambda: plane.state(first).path is Path.NO_NEXT_HOP)
            table.relay.ip("address", "add", address, "dev", "to-b")
            await ready(plane, first, second)
            await wait_for(lambda: not described(plane, "is on no interface"))
            for number in range(10):
                a.send(first, rtp(number))
                await asyncio.sleep(0.01)
            assert [payload for payload, _ in await b.expect(10)] == [rtp(number) for number in range(10)]

    table.run(scenario)


def test_a_learned_address_that_is_denied_later_is_forgotten(table: Table) -> None:
    """The host takes for itself an address that was a party's source."""
    stolen = "10.7.1.88"

    async def scenario() -> None:
        table.a.ip("address", "add", f"{stolen}/24", "dev", "eth0")
        source, (_, b) = table.phone(table.a, stolen, 4000), table.phones()
        async with table.plane() as plane:
            plane.install(mirrored(Endpoint("10.7.5.1", 4000), b.endpoint))
            source.send(MEDIA_A, rtp(1))
            await wait_for(lambda: plane.state(MEDIA_A).observed_source == source.endpoint)
            table.relay.ip("address", "add", f"{stolen}/32", "dev", "lo")
            await wait_for(lambda: plane.state(MEDIA_A).observed_source is None)
            source.send(MEDIA_A, rtp(2))
            await wait_for(lambda: plane.state(MEDIA_A).last_drop == "source_refused")
            assert plane.state(MEDIA_A).observed_source is None

    table.run(scenario)


def test_lost_events_of_the_host_are_made_up_for(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel drops events when their reader is slow; all is read again then."""
    read = Changes.changes

    def overrun(changes: Changes) -> Change:
        read(changes)
        raise Overrun

    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, b.endpoint))
            await ready(plane)
            monkeypatch.setattr(Changes, "changes", overrun)
            table.b.ip("link", "set", "eth0", "address", NEW_MAC)
            table.relay.ip("neighbour", "replace", PARTY_B, "dev", "to-b", "lladdr", NEW_MAC, "nud", "reachable")
            await heard_again(a, b, 1.0)
            table.relay.ip("link", "set", "to-b", "down")
            await wait_for(lambda: plane.state(MEDIA_A).path is Path.NO_NEXT_HOP)

    table.run(scenario)


def test_next_hops_are_shared_and_counted(table: Table) -> None:
    async def scenario() -> None:
        table.relay.ip("route", "add", "10.8.0.0/16", "via", PARTY_B)
        async with table.plane() as plane:
            for number in range(50):
                first, second = Endpoint("10.7.1.1", 30000 + 4 * number), Endpoint(RELAY_B, 30002 + 4 * number)
                parties = Endpoint("10.7.1.2", 4000), Endpoint(f"10.8.0.{number}", 4000)
                plane.install(mirrored(*parties, first=first, second=second))
            await wait_for(lambda: described(plane, "2 of 2 next hops resolved"))

    table.run(scenario)
