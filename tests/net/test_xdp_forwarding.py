"""Packets through the XDP plane, between real sockets on veth whose offloads are as the system has them."""

from __future__ import annotations

import asyncio
from pathlib import Path as File

import pytest

from relay.types import Carries, Endpoint, Path
from tests.net.conftest import MEDIA_A, MEDIA_B, PARTY_B, RELAY_B, Table, described, mirrored, ready, rtp, wait_for


def sysctls(name: str) -> list[str]:
    """One setting of every interface of the namespace this is called in."""
    return [file.read_text() for file in File("/proc/sys/net/ipv4/conf").glob(f"*/{name}")]


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_packets_turn_round_in_both_directions(table: Table, mode: str) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane(mode=mode) as plane:
            plane.install(mirrored(a.endpoint, b.endpoint))
            await ready(plane)
            for number in range(20):
                a.send(MEDIA_A, rtp(number))
                b.send(MEDIA_B, rtp(number + 100, ssrc=77))
            at_b, at_a = await b.expect(20), await a.expect(20)
            assert [payload for payload, _ in at_b] == [rtp(number) for number in range(20)]
            assert [payload for payload, _ in at_a] == [rtp(number + 100, ssrc=77) for number in range(20)]
            assert {source for _, source in at_b} == {MEDIA_B}
            assert {source for _, source in at_a} == {MEDIA_A}
            state = plane.state(MEDIA_A)
            assert (state.packets, state.bytes, state.ssrc) == (20, 20 * 172, 0x1234)
            assert (state.expected, state.received, state.lost, state.highest_sequence) == (20, 20, 0, 19)
            assert (state.path, state.observed_source, state.confirmed) == (Path.FAST, a.endpoint, True)
            assert plane.packets(MEDIA_B) == 20
            assert plane.counters()["forwarded"] == 40
            assert any(line.startswith(f"{mode} XDP on to-a (veth)") for line in plane.describe())
        assert table.attached() == []

    table.run(scenario)


def test_the_listener_hears_of_sources_and_rtcp(table: Table) -> None:
    report = bytes([0x80, 201, 0, 1, 0, 0, 0x12, 0x34])

    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, b.endpoint))
            await ready(plane)
            a.send(MEDIA_A, rtp(1))
            a.send(MEDIA_A, report)
            assert [payload for payload, _ in await b.expect(2)] == [rtp(1), report]
            await wait_for(lambda: bool(table.heard.reports))
            assert table.heard.reports == [(MEDIA_A, a.endpoint, report)]
            assert table.heard.sources == [(MEDIA_A, a.endpoint, True)]

    table.run(scenario)


def test_a_party_whose_veth_does_not_poll_is_served_by_generic_xdp(quiet_table: Table) -> None:
    table = quiet_table

    async def exchange() -> None:
        a, b = table.phones()
        for number in range(10):
            a.send(MEDIA_A, rtp(number))
            b.send(MEDIA_B, rtp(number))
            await asyncio.sleep(0.02)
        assert (len(await b.expect(10)), len(await a.expect(10))) == (10, 10)
        a.close()
        b.close()

    async def scenario() -> None:
        async with table.plane() as plane:
            plane.install(mirrored(Endpoint("10.7.1.2", 4000), Endpoint(PARTY_B, 6000)))
            assert described(plane, "generic XDP on to-a (veth)")
            assert described(plane, "does not take redirected frames")
            await exchange()
            # The parties begin to poll: the plane notices and goes native.
            for host in (table.a, table.b):
                host.run("ethtool", "-K", "eth0", "gro", "on")
            await wait_for(lambda: described(plane, "native XDP on to-a (veth)"))
            await exchange()
            table.b.run("ethtool", "-K", "eth0", "gro", "off")
            await wait_for(lambda: described(plane, "generic XDP on to-b (veth)"))
            await exchange()

    table.run(scenario)


def test_first_packets_to_an_unresolved_neighbour_are_not_lost(table: Table) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, b.endpoint))
            for number in range(50):
                a.send(MEDIA_A, rtp(number))
                await asyncio.sleep(0.01)
            assert [payload for payload, _ in await b.expect(50)] == [rtp(number) for number in range(50)]
            counters = plane.counters()
            assert counters["slow_path_sent"] == counters["slow_path"] <= 5
            assert counters["slow_path_failed"] == 0
            assert counters["forwarded"] + counters["slow_path"] == 50

    table.run(scenario)


def test_media_addresses_on_the_loopback_device(table: Table) -> None:
    """Service addresses announced by routing stand on no interface of their own; forwarding is never switched on."""
    service_a, service_b = Endpoint("10.7.100.1", 20000), Endpoint("10.7.100.2", 20000)

    async def scenario() -> None:
        for service in (service_a, service_b):
            table.relay.ip("address", "add", f"{service.ip}/32", "dev", "lo")
        a, b = table.phones()
        async with table.plane(addresses=(service_a.ip, service_b.ip)) as plane:
            plane.install(mirrored(a.endpoint, b.endpoint, first=service_a, second=service_b))
            for number in range(10):
                a.send(service_a, rtp(number))
                b.send(service_b, rtp(number))
                await asyncio.sleep(0.02)
            assert {source for _, source in await b.expect(10)} == {service_b}
            assert {source for _, source in await a.expect(10)} == {service_a}
            assert plane.state(service_a).path is Path.FAST
            assert set(sysctls("forwarding") + sysctls("accept_local")) == {"0\n"}

    table.run(scenario)


def test_opaque_payloads_pass(table: Table) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, b.endpoint, carries=Carries.OPAQUE))
            await ready(plane)
            a.send(MEDIA_A, b"\0")
            a.send(MEDIA_A, b"")
            assert [payload for payload, _ in await b.expect(2)] == [b"\0", b""]

    table.run(scenario)


def test_no_icmp_leaves_for_a_port_with_a_rule_or_one_until_lately(table: Table) -> None:
    async def scenario() -> None:
        a, _ = table.phones()

        def unreachable() -> int:
            return table.relay.snmp("Icmp")["OutDestUnreachs"]

        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, None))
            a.send(MEDIA_A, rtp(1))
            await wait_for(lambda: plane.state(MEDIA_A).drops == 1)
            assert plane.state(MEDIA_A).last_drop == "no_destination"
            assert plane.state(MEDIA_A).path is Path.NO_DESTINATION
            plane.remove([MEDIA_A, MEDIA_B], linger=0.5)
            assert plane.rules() == []
            a.send(MEDIA_A, rtp(2))
            await wait_for(lambda: plane.counters()["closed"] == 1)
            assert unreachable() == 0
            await asyncio.sleep(0.6)
            a.send(MEDIA_A, rtp(3))
            await wait_for(lambda: unreachable() == 1)

    table.run(scenario)


def test_a_port_used_again_while_it_lingers_stays(table: Table) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, b.endpoint))
            await ready(plane)
            a.send(MEDIA_A, rtp(1))
            await b.expect(1)
            plane.remove([MEDIA_A, MEDIA_B], linger=0.2)
            plane.install(mirrored(a.endpoint, b.endpoint))
            assert plane.packets(MEDIA_A) == 0
            assert plane.state(MEDIA_A).observed_source is None
            await asyncio.sleep(0.4)
            a.send(MEDIA_A, rtp(2))
            assert len(await b.expect(1)) == 1
            assert plane.packets(MEDIA_A) == 1

    table.run(scenario)


def test_what_is_never_sent_to(table: Table) -> None:
    """A destination this host refuses leaves its rule in force, and says so; so does one that is refused later."""

    async def scenario() -> None:
        a, _ = table.phones()
        async with table.plane() as plane:
            for refused in ("127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", "169.254.1.1", "10.7.2.255"):
                plane.install(mirrored(a.endpoint, Endpoint(refused, 6000)))
                assert plane.state(MEDIA_A).path is Path.REFUSED, refused
            plane.install(mirrored(a.endpoint, Endpoint(RELAY_B, PORT := MEDIA_B.port)))
            assert plane.state(MEDIA_A).path is Path.REFUSED, f"own port {PORT}"
            plane.install(mirrored(a.endpoint, Endpoint("10.7.2.9", 6000)))
            assert plane.state(MEDIA_A).path is not Path.REFUSED
            table.relay.ip("address", "add", "10.7.2.9/24", "dev", "to-b")
            await wait_for(lambda: plane.state(MEDIA_A).path is Path.REFUSED)
            table.relay.ip("address", "delete", "10.7.2.9/24", "dev", "to-b")
            await wait_for(lambda: plane.state(MEDIA_A).path is not Path.REFUSED)

    table.run(scenario)
