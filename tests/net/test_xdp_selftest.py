"""The self-tests at attach time: does a frame leave, on kernels that do not say so themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from relay.dataplane import attaching, probe
from relay.dataplane.libbpf import TestRun as Run
from relay.dataplane.xdp import COUNTER_TEXTS, XdpDataplane
from relay.errors import DataplaneError
from relay.nic.links import Link
from relay.nic.netdev import Netdev
from tests.net.conftest import MEDIA_A, MEDIA_B, Phone, Table, described, mirrored, ready, rtp, wait_for


@pytest.fixture
def silent_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel before 6.3: no device says whether it takes redirected frames."""
    monkeypatch.setattr(Netdev, "features", lambda *_: None)


@pytest.mark.usefixtures("silent_kernel")
@pytest.mark.parametrize(("network", "mode"), [("table", "native"), ("quiet_table", "generic")])
def test_the_probe_finds_out_what_the_kernel_does_not_say(
    request: pytest.FixtureRequest, network: str, mode: str
) -> None:
    table: Table = request.getfixturevalue(network)

    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane() as plane:
            assert runs(plane, mode)
            plane.install(mirrored(a.endpoint, b.endpoint))
            await ready(plane)
            a.send(MEDIA_A, rtp(1))
            b.send(MEDIA_B, rtp(1))
            assert (len(await b.expect(1)), len(await a.expect(1))) == (1, 1)
            assert plane.counters()["forwarded"] == 2

    table.run(scenario)


@pytest.mark.usefixtures("silent_kernel")
def test_a_device_that_loses_frames_is_an_error_where_native_was_asked_for(quiet_table: Table) -> None:
    async def scenario() -> None:
        with pytest.raises(DataplaneError, match="does not take redirected frames"):
            async with quiet_table.plane(mode="native"):
                pass
        assert quiet_table.attached() == []

    quiet_table.run(scenario)


@contextlib.asynccontextmanager
async def talking(a: Phone) -> AsyncIterator[None]:
    """A sends on and on, more than the probe sends while it looks."""

    async def talk() -> None:
        while True:
            a.send(MEDIA_A, rtp(1))
            await asyncio.sleep(0.01)

    task = asyncio.create_task(talk())
    yield
    task.cancel()


def polls(table: Table, polling: bool) -> None:
    """Begin or cease to poll at the parties' ends, which the relay's kernel tells nobody of."""
    for host in (table.a, table.b):
        host.run("ethtool", "-K", "eth0", "gro", "on" if polling else "off")


def runs(plane: XdpDataplane, mode: str) -> bool:
    return described(plane, f"{mode} XDP on to-a (veth)")


@pytest.mark.usefixtures("silent_kernel")
def test_a_peer_that_ceases_or_begins_to_poll_is_found_out_under_traffic(
    table: Table, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(attaching, "_RETRY_SECONDS", 0.3)

    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, b.endpoint))
            await ready(plane)
            async with talking(a):
                for polling, mode in ((True, "native"), (False, "generic"), (True, "native")):
                    polls(table, polling)
                    await wait_for(lambda mode=mode: runs(plane, mode), 10)  # type: ignore[misc]
                    b.received()
                    assert len(await b.expect(30)) >= 30

    table.run(scenario)
    assert "began or ceased to poll: generic XDP on to-a" in caplog.text


@pytest.mark.usefixtures("silent_kernel")
@pytest.mark.parametrize(("network", "mode"), [("table", "native"), ("quiet_table", "generic")])
def test_trying_again_interrupts_nothing(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, network: str, mode: str
) -> None:
    """Also while generic, where the relay's own traffic is no sign that redirected frames would leave."""
    monkeypatch.setattr(attaching, "_RETRY_SECONDS", 0.1)
    monkeypatch.setattr(probe, "_WAITS", (0.0, 0.2))
    table: Table = request.getfixturevalue(network)
    tries: list[Link] = []

    async def scenario() -> None:
        a, b = table.phones()
        async with table.plane() as plane:
            plane.install(mirrored(a.endpoint, b.endpoint))
            await ready(plane)
            run = plane._attaching._probe.run

            async def counted(link: Link, slot: int) -> bool:
                tries.append(link)
                return await run(link, slot)

            monkeypatch.setattr(plane._attaching._probe, "run", counted)
            attached = plane._attaching._attachments._links.copy()
            for number in range(100):
                a.send(MEDIA_A, rtp(number))
                await asyncio.sleep(0.01)
            assert len(await b.expect(100)) == 100
            assert plane._attaching._attachments._links == attached
            assert runs(plane, mode)

    table.run(scenario)
    assert len(tries) >= 3


def test_a_program_that_leaves_checksums_unfinished_is_refused(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def test_run(self, data: bytes, **_: Any) -> Run:
            return Run(probe._XDP_REDIRECT, data, 0)

    async def scenario() -> None:
        monkeypatch.setattr("relay.dataplane.program.Tables.program", lambda *_: Broken())
        with pytest.raises(DataplaneError, match="does not complete UDP checksums"):
            async with table.plane():
                pass

    table.run(scenario)


def test_the_self_test_leaves_no_trace(table: Table) -> None:
    async def scenario() -> None:
        async with table.plane() as plane:
            tables = plane._tables
            assert not tables.rules.view("u1").any()
            assert not tables.cold.view("u1").any()
            assert not any(plane.counters().values())
            assert plane.counters().keys() == COUNTER_TEXTS.keys()
            await asyncio.sleep(0.05)
            assert table.heard.sources == []

    table.run(scenario)
