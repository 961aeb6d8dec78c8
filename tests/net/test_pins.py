"""The XDP plane ends and begins again under traffic: what it pinned forwards all the while, and is taken over."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.dataplane import opening, probe
from relay.dataplane.libbpf import XdpMode
from relay.dataplane.pins import flush
from relay.nic.netdev import Netdev
from relay.types import Endpoint
from tests.net.conftest import (
    HOUSE,
    MEDIA6_A,
    MEDIA6_B,
    MEDIA_A,
    MEDIA_B,
    PARTY_A,
    PARTY_B,
    RELAY6_A,
    RELAY6_B,
    RELAY_B,
    Table,
    described,
    mirrored,
    ready,
    rtp,
    wait_for,
)
from tests.net.pinning import FAST, Stream, age, in_force, renewed, started

SOON = 1.0
"""Seconds in which a start that loads nothing is done; it takes some 0.03."""

HOLDER = """
import asyncio, sys
from pathlib import Path
from relay.dataplane.xdp import XdpDataplane
from tests.net.conftest import PARTY_A, PARTY_B, Endpoint, Heard, Table, mirrored, ready

async def hold():
    plane = XdpDataplane(Table.settings(pins=Path(sys.argv[1]), port_rate=int(sys.argv[2])))
    await plane.start(Heard())
    plane.install(mirrored(Endpoint(PARTY_A, 4000), Endpoint(PARTY_B, 6000)))
    await ready(plane)
    print("ready", flush=True)
    await asyncio.sleep(60)

asyncio.run(hold())
"""


def test_a_restart_under_traffic_loses_nothing_and_loads_nothing(
    table: Table, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        rules, stream = mirrored(a.endpoint, b.endpoint), Stream(a, b)
        async with started(table, folder) as plane:
            await in_force(plane, rules)
        monkeypatch.setattr(opening, "load", None)
        monkeypatch.setattr(opening, "measure_hz", None)
        took = []
        async with stream.running():
            for _ in range(3):
                await asyncio.sleep(0.1)
                assert table.attached() == ["to-a", "to-b"]
                before = time.monotonic()
                async with started(table, folder) as plane:
                    took.append(time.monotonic() - before)
                    assert set(plane.inherited()) == {MEDIA_A, MEDIA_B}
                    plane.install(rules)
                    await asyncio.sleep(0.1)
                    assert plane.counters()["slow_path"] == 0
        assert stream.lost() == 0
        assert min(took) < SOON
        async with started(table, folder, keep=False) as plane:
            plane.install(rules)
            assert plane.counters()["forwarded"] == plane.packets(MEDIA_A) == stream.sent
        assert table.attached() == []

    table.run(scenario)
    assert not folder.exists()


def test_a_killed_relay_is_taken_over_from(table: Table, folder: Path) -> None:
    """What it had learned of a party behind NAT stands, and packets count on."""

    async def scenario() -> None:
        a, b = table.phone(table.a, PARTY_A, 4444), table.phone(table.b, PARTY_B, 6000)
        holder = table.relay.start(
            sys.executable, "-c", HOLDER, str(folder), str(FAST), stdout=subprocess.PIPE, cwd=HOUSE
        )
        assert holder.stdout
        assert holder.stdout.readline() == "ready\n"
        stream, back = Stream(a, b), Stream(b, a, MEDIA_B)
        async with stream.running():
            await asyncio.sleep(0.1)
            async with back.running():
                assert table.relay.end(holder, signal.SIGKILL) == -signal.SIGKILL
                await asyncio.sleep(0.1)
                async with started(table, folder, keep=False) as plane:
                    plane.install(mirrored(Endpoint(PARTY_A, 4000), b.endpoint))
                    await asyncio.sleep(0.3)
                    assert plane.state(MEDIA_A).observed_source == a.endpoint
                    await back.stop()
                    await stream.stop()
                    assert plane.packets(MEDIA_A) == stream.sent
        assert (stream.lost(), back.lost()) == (0, 0)

    table.run(scenario)


def test_an_interface_that_went_and_came_back_meanwhile_is_attached_to_again(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        a = table.phone(table.a, PARTY_A, 4000)
        rules = mirrored(a.endpoint, Endpoint(PARTY_B, 6000))
        async with started(table, folder) as plane:
            await in_force(plane, rules)
        table.relay.ip("link", "delete", "to-b")
        table.connect(table.b, "to-b")
        assert table.attached() == ["to-a"]
        b = table.phone(table.b, PARTY_B, 6000)
        async with started(table, folder, keep=False) as plane:
            plane.install(rules)
            assert table.attached() == ["to-a", "to-b"]
            assert len(plane._opened.pins.links()) == 2  # type: ignore[union-attr]
            await ready(plane)
            a.send(MEDIA_A, rtp(1))
            b.send(MEDIA_B, rtp(1))
            assert (len(await b.expect(1)), len(await a.expect(1))) == (1, 1)

    table.run(scenario)


def test_an_interface_that_is_gone_keeps_no_other_from_going_on(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        async with started(table, folder):
            pass
        table.relay.ip("link", "delete", "to-b")
        async with started(table, folder, keep=False) as plane:
            assert table.attached() == ["to-a"]
            assert described(plane, f"media address {RELAY_B} is on no interface")

    table.run(scenario)


def test_a_plane_that_took_over_leaves_nothing_open(table: Table, folder: Path, other_object: Path) -> None:
    async def scenario() -> None:
        async with started(table, folder):
            pass
        async with started(table, folder):  # what the first use of libbpf and of threads opens for good
            await asyncio.to_thread(list)
        before = os.listdir("/proc/self/fd")
        async with started(table, folder):
            pass
        async with started(table, folder, keep=False, object_path=other_object) as plane:
            await renewed(plane)
        assert len(os.listdir("/proc/self/fd")) == len(before)

    table.run(scenario)


def test_links_that_change_their_mode_are_pinned_by_it(table: Table, folder: Path) -> None:
    """The parties' ends cease to poll, and begin again."""

    def pinned() -> set[str]:
        return {path.name.partition("-")[0] for path in folder.glob("*-[0-9]*")}

    async def scenario() -> None:
        async with started(table, folder, keep=False) as plane:
            assert pinned() == {"native"}
            for polling, mode in (("off", "generic"), ("on", "native")):
                for host in (table.a, table.b):
                    host.run("ethtool", "-K", "eth0", "gro", polling)
                await wait_for(lambda mode=mode: described(plane, f"{mode} XDP on to-b"), 10)  # type: ignore[misc]
                assert pinned() == {mode}
                assert table.attached() == ["to-a", "to-b"]

    table.run(scenario)


@pytest.mark.parametrize("said", [True, False])
def test_a_generic_plane_stays_one_without_an_interruption(
    quiet_table: Table, folder: Path, monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    """Also where the kernel does not say that a device takes no redirected frames, and it has to be tried."""
    table = quiet_table
    if not said:
        monkeypatch.setattr(Netdev, "features", lambda *_: None)
        monkeypatch.setattr(probe, "_WAITS", (0.0, 0.2))

    async def scenario() -> None:
        a, b = table.phones()
        rules, stream = mirrored(a.endpoint, b.endpoint), Stream(a, b)
        async with started(table, folder) as plane:
            await in_force(plane, rules)
            assert described(plane, "generic XDP on to-a")
        async with stream.running(), started(table, folder, keep=False) as plane:
            plane.install(rules)
            assert plane._attaching._attachments.mode is XdpMode.GENERIC
            for _ in range(5):
                assert described(plane, "generic XDP on to-a")
                await asyncio.sleep(0.1)
            await stream.stop()
        assert stream.lost() == 0

    table.run(scenario)


@pytest.mark.parametrize("first", [MEDIA_A, MEDIA6_A])
def test_while_nobody_runs_packets_follow_a_neighbour_that_moves(table: Table, folder: Path, first: Endpoint) -> None:
    for family in ("ipv4", "ipv6"):
        table.relay.sysctl(f"{family}/conf/to-a/forwarding", "1")
        table.relay.sysctl(f"{family}/conf/all/forwarding", "1")
    ip6 = ":" in first.ip
    second = MEDIA6_B if ip6 else MEDIA_B

    async def scenario() -> None:
        a, b = table.phones6() if ip6 else table.phones()
        async with started(table, folder, addresses=(first.ip, second.ip)) as plane:
            await in_force(plane, mirrored(a.endpoint, b.endpoint, first=first, second=second))
        age(folder, 10)
        table.b.ip("link", "set", "eth0", "address", "02:00:00:00:be:ef")
        table.relay.ip("neighbour", "replace", b.endpoint.ip, "dev", "to-b", "lladdr", "02:00:00:00:be:ef")
        for number in range(10):
            a.send(first, rtp(number))
        assert [payload for payload, _ in await b.expect(10)] == [rtp(number) for number in range(10)]

    table.run(scenario)
    flush(folder)


@pytest.mark.parametrize(("waited", "sent_on"), [(0, 1), (10, 0)])
def test_a_packet_that_waited_for_user_space_is_sent_on_unless_it_is_old(
    table: Table, folder: Path, waited: int, sent_on: int
) -> None:
    async def scenario() -> None:
        a = table.phone(table.a, PARTY_A, 4000)
        rules = mirrored(a.endpoint, Endpoint("10.7.2.99", 6000))  # nobody is there
        async with started(table, folder) as plane:
            plane.install(rules)
        a.send(MEDIA_A, rtp(1))
        age(folder, waited)
        async with started(table, folder, keep=False) as plane:
            plane.install(rules)
            await asyncio.sleep(0.2)  # enough for what ought not to be sent
            await wait_for(lambda: plane.counters()["slow_path_sent"] == sent_on)
            assert plane.counters()["slow_path"] == 1
            assert described(plane, f"pinned in {folder}, taken over from the relay before this one")

    table.run(scenario)


def test_ip6_addresses_keep_their_tokens(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        a, b = table.phones6()
        rules = mirrored(a.endpoint, b.endpoint, first=MEDIA6_A, second=MEDIA6_B)
        stream = Stream(a, b, MEDIA6_A)
        async with started(table, folder, addresses=(RELAY6_A, RELAY6_B)) as plane:
            await in_force(plane, rules)
            taken = set(plane._tables.tokens.keys())
        again = started(table, folder, keep=False, addresses=(RELAY6_A, RELAY6_B))
        async with stream.running(), again as plane:
            plane.install(rules)
            await asyncio.sleep(0.1)
            assert set(plane._tables.tokens.keys()) == taken
            await stream.stop()
        assert stream.lost() == 0

    table.run(scenario)
