"""The self-tests at attach time: does a frame leave, on kernels that do not say so themselves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.dataplane import probe
from relay.dataplane.libbpf import TestRun as Run
from relay.errors import DataplaneError
from relay.nic.netdev import Netdev
from tests.net.conftest import MEDIA_A, MEDIA_B, Table, mirrored, ready, rtp


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
            assert f"{mode} XDP on to-a (veth)" in plane.describe()
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
            await asyncio.sleep(0.05)
            assert table.heard.sources == []

    table.run(scenario)
