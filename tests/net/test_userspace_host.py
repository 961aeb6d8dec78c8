"""The plane of sockets on a host of its own: its addresses come and go, and media is not sent to its other programs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from relay.dataplane.userspace import UserspaceDataplane, UserspaceSettings
from relay.types import Endpoint, Path
from tests.contract import RTP, Heard
from tests.lab import Host, Lab
from tests.net.conftest import mirrored, wait_for

MEDIA = "10.97.1.1"
PORT_A, PORT_B = Endpoint(MEDIA, 30000), Endpoint(MEDIA, 30010)
PATIENCE = 15.0
A, B = Endpoint("10.97.1.2", 4000), Endpoint("10.97.1.3", 5000)


@pytest.fixture
def host(lab: Lab) -> Host:
    """A relay and a second host, which has the addresses of both parties."""
    relay, parties = lab.host("relay"), lab.host("parties")
    lab.cable(relay, "eth0", parties, "eth0")
    relay.ip("address", "add", f"{MEDIA}/24", "dev", "eth0")
    for party in (A, B):
        parties.ip("address", "add", f"{party.ip}/24", "dev", "eth0")
    return relay


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[UserspaceDataplane]:
    plane = UserspaceDataplane(UserspaceSettings((MEDIA,)))
    await plane.start(Heard())
    try:
        yield plane
    finally:
        await plane.close()


def run(host: Host, scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    host.call(lambda: asyncio.run(scenario()))


@pytest.fixture
def a(host: Host, lab: Lab) -> Iterator[socket.socket]:
    with lab.hosts[-1].socket() as opened:
        opened.bind(A)
        yield opened


def test_an_address_of_this_host_is_not_sent_to_while_it_has_it(host: Host, a: socket.socket) -> None:
    async def scenario() -> None:
        async with running() as plane:
            plane.install(mirrored(Endpoint("224.0.0.7", 4000), B, first=PORT_A, second=PORT_B))
            assert plane.state(PORT_B).path is Path.REFUSED
            a.sendto(RTP, PORT_A)
            await wait_for(lambda: plane.state(PORT_A).path is Path.SOCKET, PATIENCE)
            assert plane.state(PORT_B).path is Path.NO_PACKET
            for party in (A, B):  # one learned, one signalled
                host.ip("address", "add", f"{party.ip}/32", "dev", "lo")
            await wait_for(lambda: plane.state(PORT_A).path is plane.state(PORT_B).path is Path.REFUSED, PATIENCE)
            for party in (A, B):
                host.ip("address", "del", f"{party.ip}/32", "dev", "lo")
            await wait_for(lambda: plane.state(PORT_A).path is Path.SOCKET, PATIENCE)
            await wait_for(lambda: plane.state(PORT_B).path is Path.NO_PACKET, PATIENCE)

    run(host, scenario)


def test_programs_beside_the_relay_get_no_media(host: Host, a: socket.socket) -> None:
    """Packets to a media address are for ports of calls."""
    beside = Endpoint(MEDIA, 5060)

    async def scenario() -> None:
        async with running() as plane:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
                program.bind(beside)
                program.setblocking(False)
                plane.install(mirrored(A, beside, first=PORT_A, second=PORT_B))
                a.sendto(RTP, PORT_A)
                await wait_for(lambda: plane.state(PORT_A).drops == 1, PATIENCE)
                assert plane.state(PORT_A).last_drop == "no_rule_at_destination"
                with pytest.raises(BlockingIOError):
                    program.recv(2048)

    run(host, scenario)


def test_where_no_way_leads_is_told(host: Host, a: socket.socket) -> None:
    async def scenario() -> None:
        async with running() as plane:
            plane.install(mirrored(A, Endpoint("203.0.113.5", 5000), first=PORT_A, second=PORT_B))
            a.sendto(RTP, PORT_A)
            await wait_for(lambda: plane.state(PORT_A).last_drop == "no_next_hop", PATIENCE)

    run(host, scenario)
