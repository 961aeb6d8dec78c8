"""What only IPv6 has: neighbour discovery, tokens, and what comes between two families."""

from __future__ import annotations

import asyncio
from ipaddress import IPv6Address

import pytest

from relay.dataplane import abi, tokens
from relay.dataplane.xdp import XdpDataplane
from relay.types import Endpoint, Path
from tests.net.conftest import (
    MEDIA6_A,
    MEDIA6_B,
    MEDIA_A,
    MEDIA_B,
    PARTY6_B,
    RELAY6_A,
    RELAY6_B,
    RELAY_B,
    Table,
    mirrored,
    ready,
    rtp,
    wait_for,
)

SERVED = (RELAY6_A, RELAY6_B, RELAY_B)
ROAMER = "fd07:99::9"


def remembered(plane: XdpDataplane) -> set[str]:
    """The addresses that have a token."""
    return {str(IPv6Address(key)) for key in plane._tables.tokens.keys()}  # noqa: SIM118 - a map of the kernel


def test_first_packets_to_an_unresolved_neighbour_are_not_lost(table: Table) -> None:
    async def scenario() -> None:
        a, b = table.phones6()
        async with table.plane(addresses=SERVED) as plane:
            plane.install(mirrored(a.endpoint, b.endpoint, first=MEDIA6_A, second=MEDIA6_B))
            for number in range(50):
                a.send(MEDIA6_A, rtp(number))
                await asyncio.sleep(0.01)
            assert [payload for payload, _ in await b.expect(50)] == [rtp(number) for number in range(50)]
            counters = plane.counters()
            assert counters["slow_path_sent"] == counters["slow_path"] <= 5
            assert counters["slow_path_failed"] == 0
            assert plane.state(MEDIA6_A).path is Path.FAST

    table.run(scenario)


def test_a_gateway_has_a_link_local_address(table: Table) -> None:
    async def scenario() -> None:
        a, _ = table.phones6()
        table.b.ip("address", "add", f"{ROAMER}/128", "dev", "lo", "nodad")
        table.b.ip("address", "add", "fe80::b/64", "dev", "eth0", "nodad")
        table.relay.ip("route", "add", "fd07:99::/64", "via", "fe80::b", "dev", "to-b")
        roamer = table.phone(table.b, ROAMER, 7000)
        async with table.plane(addresses=SERVED) as plane:
            plane.install(mirrored(a.endpoint, roamer.endpoint, first=MEDIA6_A, second=MEDIA6_B))
            await ready(plane, MEDIA6_A, MEDIA6_B)
            a.send(MEDIA6_A, rtp(1))
            roamer.send(MEDIA6_B, rtp(2))
            assert [payload for payload, _ in await roamer.expect(1)] == [rtp(1)]
            assert [payload for payload, _ in await a.expect(1)] == [rtp(2)]
            assert plane.counters()["slow_path"] == 0

    table.run(scenario)


def test_a_route_of_ipv4_may_have_a_gateway_of_ipv6(table: Table) -> None:
    """RFC 8950, as routers exchange them where their links have no IPv4 addresses."""
    far = "10.77.0.9"

    async def scenario() -> None:
        a, _ = table.phones()
        table.b.ip("address", "add", f"{far}/32", "dev", "lo")
        table.relay.ip("route", "add", "10.77.0.0/16", "via", "inet6", PARTY6_B, "dev", "to-b")
        roamer = table.phone(table.b, far, 7000)
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, roamer.endpoint))
            await ready(plane)
            a.send(MEDIA_A, rtp(1))
            assert [payload for payload, _ in await roamer.expect(1)] == [rtp(1)]
            assert (plane.counters()["forwarded"], plane.counters()["slow_path"]) == (1, 0)

    table.run(scenario)


def test_media_addresses_on_the_loopback_device(table: Table) -> None:
    """Service addresses announced by routing stand on no interface of their own."""
    service_a, service_b = Endpoint("fd07:100::1", 20000), Endpoint("fd07:100::2", 20000)

    async def scenario() -> None:
        for service in (service_a, service_b):
            table.relay.ip("address", "add", f"{service.ip}/128", "dev", "lo")
        a, b = table.phones6()
        async with table.plane(addresses=(service_a.ip, service_b.ip)) as plane:
            plane.install(mirrored(a.endpoint, b.endpoint, first=service_a, second=service_b))
            await ready(plane, service_a, service_b)
            for number in range(10):
                a.send(service_a, rtp(number))
                b.send(service_b, rtp(number))
                await asyncio.sleep(0.02)
            assert {source for _, source in await b.expect(10)} == {service_b}
            assert {source for _, source in await a.expect(10)} == {service_a}

    table.run(scenario)


def test_a_source_of_ipv6_is_folded_and_answered_from_ipv4(table: Table) -> None:
    """The party is behind a translator of prefixes, and sends from elsewhere than it says."""

    async def scenario() -> None:
        _, b = table.phones()
        table.a.ip("address", "add", "fd07:1::77/64", "dev", "eth0", "nodad")
        behind = table.phone(table.a, "fd07:1::77", 4444)
        said = Endpoint("fd00::10", 4000)
        async with table.plane(addresses=SERVED) as plane:
            rules = mirrored(said, b.endpoint, first=MEDIA6_A, second=MEDIA_B, preferred_source=behind.endpoint.ip)
            plane.install(rules)
            await ready(plane, MEDIA6_A)
            behind.send(MEDIA6_A, rtp(1))
            await wait_for(lambda: plane.counters()["sources_folded"] == 1)
            await ready(plane, MEDIA_B)
            for number in range(5):
                b.send(MEDIA_B, rtp(number))
            assert [payload for payload, _ in await behind.expect(5)] == [rtp(number) for number in range(5)]
            assert plane.state(MEDIA6_A).observed_source == behind.endpoint
            assert (MEDIA6_A, behind.endpoint, True) in table.heard.sources

    table.run(scenario)


def test_tokens_of_sources_that_came_and_went_are_given_back(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_COLLECT_SECONDS", 0.2)
    monkeypatch.setattr(tokens, "_SECOND_LOOK", 0.2)

    async def scenario() -> None:
        _, b = table.phones6()
        addresses = [f"fd07:1::1:{number:x}" for number in range(1, 7)]
        for address in addresses:
            table.a.ip("address", "add", f"{address}/64", "dev", "eth0", "nodad")
        sources = [table.phone(table.a, address, 5000) for address in addresses]
        async with table.plane(addresses=SERVED) as plane:
            plane.install(mirrored(Endpoint("fd07:5::1", 4000), b.endpoint, first=MEDIA6_A, second=MEDIA6_B))
            for source in sources:
                source.send(MEDIA6_A, rtp(1))
                await asyncio.sleep(0.01)
            last = sources[-1].endpoint
            await wait_for(lambda: plane.packets(MEDIA6_A) == len(sources))
            assert plane.state(MEDIA6_A).observed_source == last
            await wait_for(lambda: remembered(plane) == {"fd07:5::1", b.endpoint.ip, last.ip}, 15)
            b.send(MEDIA6_B, rtp(2))
            assert [payload for payload, _ in await sources[-1].expect(1)] == [rtp(2)]
            plane.remove([MEDIA6_A, MEDIA6_B], 0)
            await wait_for(lambda: remembered(plane) == set(), 15)

    table.run(scenario)


def test_tokens_in_use_again_stand_for_their_new_addresses(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far more sources than tokens, one after the other; each is answered while it stands."""
    monkeypatch.setattr(tokens, "_COLLECT_SECONDS", 0.05)
    monkeypatch.setattr(tokens, "_SECOND_LOOK", 0.05)
    monkeypatch.setattr(abi, "PEERS", 12)
    addresses = [f"fd07:1::2:{number:x}" for number in range(1, 31)]

    async def scenario() -> None:
        _, b = table.phones6()
        for address in addresses:
            table.a.ip("address", "add", f"{address}/64", "dev", "eth0", "nodad")
        async with table.plane(addresses=SERVED, slow_rate=255) as plane:
            plane.install(
                mirrored(Endpoint("fd07:5::1", 4000), b.endpoint, first=MEDIA6_A, second=MEDIA6_B, media_handover=True)
            )
            await ready(plane, MEDIA6_A)
            for number, address in enumerate(addresses):
                source = table.phone(table.a, address, 5000)
                async with asyncio.timeout(5):
                    while plane.state(MEDIA6_A).observed_source != source.endpoint:
                        source.send(MEDIA6_A, rtp(number))
                        await asyncio.sleep(0.05)
                b.send(MEDIA6_B, rtp(number))
                assert rtp(number) in [payload for payload, _ in await source.expect(1)], address
            assert len(remembered(plane)) < abi.PEERS

    table.run(scenario)


def test_what_is_never_sent_to(table: Table) -> None:
    async def scenario() -> None:
        a, b = table.phones6()
        async with table.plane(addresses=SERVED) as plane:
            for refused in ("::", "::1", "ff02::1", "fe80::7", RELAY6_A, "10.7.2.2"):
                port = MEDIA6_A.port if refused == RELAY6_A else 6000
                plane.install(mirrored(a.endpoint, Endpoint(refused, port), first=MEDIA6_A, second=MEDIA6_B))
                assert plane.state(MEDIA6_A).path is Path.REFUSED, refused
            plane.install(mirrored(a.endpoint, b.endpoint, first=MEDIA6_A, second=MEDIA6_B))
            await ready(plane, MEDIA6_A)
            table.relay.ip("address", "add", f"{b.endpoint.ip}/128", "dev", "lo")
            await wait_for(lambda: plane.state(MEDIA6_A).path is Path.REFUSED)
            table.relay.ip("address", "delete", f"{b.endpoint.ip}/128", "dev", "lo")
            await wait_for(lambda: plane.state(MEDIA6_A).path is not Path.REFUSED)

    table.run(scenario)


def test_what_was_learned_is_forgotten_once_it_is_refused(table: Table) -> None:
    """An address that the host takes for itself later was the source of a party."""
    stolen = "fd07:1::88"

    async def scenario() -> None:
        table.a.ip("address", "add", f"{stolen}/64", "dev", "eth0", "nodad")
        source, b = table.phone(table.a, stolen, 4000), table.phones6()[1]
        async with table.plane(addresses=SERVED) as plane:
            plane.install(mirrored(Endpoint("fd07:5::1", 4000), b.endpoint, first=MEDIA6_A, second=MEDIA6_B))
            source.send(MEDIA6_A, rtp(1))
            await wait_for(lambda: plane.state(MEDIA6_A).observed_source == source.endpoint)
            table.relay.ip("address", "add", f"{stolen}/128", "dev", "lo")
            await wait_for(lambda: plane.state(MEDIA6_A).observed_source is None)
            source.send(MEDIA6_A, rtp(2))
            await wait_for(lambda: plane.state(MEDIA6_A).last_drop == "source_refused")
            assert plane.state(MEDIA6_A).observed_source is None

    table.run(scenario)
