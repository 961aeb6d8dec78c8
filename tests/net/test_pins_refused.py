"""Pins that cannot be taken over are named and left as they are; those of no use to anybody are removed."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from pathlib import Path

import pytest

from relay.dataplane import abi
from relay.dataplane.pins import Pins, PinsForeign, flush, stands
from relay.dataplane.program import silence
from relay.dataplane.xdp import XdpDataplane
from relay.errors import DataplaneError
from relay.types import Endpoint
from tests.net.conftest import (
    MEDIA_A,
    PARTY_A,
    PARTY_B,
    RELAY_A,
    RELAY_B,
    Table,
    mirrored,
    rtp,
    wait_for,
)
from tests.net.pinning import age, in_force, started


def test_tables_of_another_layout_are_left_as_they_are(
    table: Table, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        async with started(table, folder) as plane:
            await in_force(plane, mirrored(a.endpoint, b.endpoint))
        with monkeypatch.context() as other:
            other.setattr(abi, "DIGEST", "0123456789abcdef")
            with pytest.raises(PinsForeign, match=r"another layout .* `hairpin flush`, or start the version that made"):
                await XdpDataplane(table.settings(pins=folder)).start(table.heard)
        a.send(MEDIA_A, rtp(1))
        assert len(await b.expect(1)) == 1
        assert flush(folder)
        assert (table.attached(), stands(folder), flush(folder)) == ([], False, False)

    table.run(scenario)


def test_tables_nobody_can_say_what_they_are_are_left_as_they_are(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        async with started(table, folder) as plane:
            plane._opened.pins._identity.update(bytes(4), b"{}".ljust(1024, b"\0"))  # type: ignore[union-attr]
        with pytest.raises(PinsForeign, match="cannot read"):
            await XdpDataplane(table.settings(pins=folder)).start(table.heard)
        assert table.attached() == ["to-a", "to-b"]
        flush(folder)

    table.run(scenario)


def test_more_addresses_than_there_is_room_for_are_refused(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        first = XdpDataplane(table.settings(pins=folder, addresses=(RELAY_A,), max_addresses=1))
        await first.start(table.heard)
        await first.close(keep=True)
        with pytest.raises(DataplaneError, match=r"2 media addresses are more than the 1 .*\(--max-addresses\)"):
            await XdpDataplane(table.settings(pins=folder)).start(table.heard)
        assert table.attached() == ["to-a"]
        second = XdpDataplane(table.settings(pins=folder, addresses=(RELAY_B,), max_addresses=1))
        await second.start(table.heard)  # the other has left, and nothing stood there
        await second.close()

    table.run(scenario)


def test_what_was_not_finished_is_made_anew(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        async with started(table, folder) as plane:
            await in_force(plane, mirrored(Endpoint(PARTY_A, 4000), Endpoint(PARTY_B, 6000)))
        (folder / "identity").unlink()
        async with started(table, folder, keep=False) as plane:
            assert plane.inherited() == []
            assert table.attached() == ["to-a", "to-b"]

    table.run(scenario)


@pytest.mark.parametrize(("waited", "gone", "removed"), [(100, True, True), (100, False, False), (0, True, False)])
def test_what_nobody_keeps_and_no_interface_needs_is_removed(
    table: Table, bpffs: Path, waited: int, gone: bool, removed: bool
) -> None:
    left, mine = bpffs / "0-1", bpffs / "0-2"

    async def scenario() -> None:
        former = XdpDataplane(table.settings(addresses=(RELAY_A,), pins=left, max_addresses=1))
        await former.start(table.heard)
        await former.close(keep=True)
        age(left, waited)
        if gone:
            table.relay.ip("link", "delete", "to-a")
        plane = XdpDataplane(table.settings(addresses=(RELAY_B,), pins=mine, max_addresses=1))
        await plane.start(table.heard)
        assert (stands(left), stands(mine)) == (not removed, True)
        await plane.close()
        flush(left)

    table.run(scenario)


def test_a_namespace_that_has_gone_is_no_longer_waited_for(table: Table, folder: Path) -> None:
    """And one that stands is not robbed."""
    other = table.lab.host("other")
    table.lab.cable(other, "to-a", table.a, "eth9", napi=True)
    other.ip("address", "add", f"{RELAY_A}/24", "dev", "to-a")

    async def leave() -> None:
        async with started(table, folder):
            pass

    async def refused() -> None:
        with pytest.raises(DataplaneError, match="another network namespace, which still has its interfaces"):
            await XdpDataplane(table.settings(addresses=(RELAY_A,), pins=folder)).start(table.heard)

    async def anew() -> None:
        plane = XdpDataplane(table.settings(addresses=(RELAY_A,), pins=folder, max_addresses=1))
        await plane.start(table.heard)
        assert "to-a" in other.ip("link", "show", "up")
        assert plane._opened.adopted is False
        await plane.close()

    table.run(leave)
    other.call(lambda: asyncio.run(refused()))
    assert table.attached() == ["to-a", "to-b"]
    table.relay.close()
    asyncio.run(wait_for(lambda: "eth0" not in table.a.ip("link", "show"), 10))
    other.call(lambda: asyncio.run(anew()))


@pytest.mark.parametrize("place", ["elsewhere", "unwritable"])
def test_a_folder_that_cannot_be_had_is_named(table: Table, bpffs: Path, tmp_path: Path, place: str) -> None:
    folder = tmp_path / "pins" if place == "elsewhere" else bpffs / "relay"
    if place == "unwritable":
        subprocess.run(["mount", "-o", "remount,ro", bpffs], check=True)
    expected = "mount -t bpf bpf /sys/fs/bpf" if place == "elsewhere" else "Read-only file system"

    async def scenario() -> None:
        with pytest.raises(DataplaneError, match=expected):
            await XdpDataplane(table.settings(pins=folder)).start(table.heard)

    table.run(scenario)
    assert table.attached() == []


def test_a_start_that_fails_keeps_no_orphan_alive(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        async with started(table, folder):
            pass
        age(folder, 100)
        with pytest.raises(DataplaneError, match="there is no interface nowhere"):
            await XdpDataplane(table.settings(pins=folder, interfaces=("nowhere",))).start(table.heard)
        with Pins.find(folder) or contextlib.nullcontext() as standing:
            assert standing
            assert silence(standing) >= 100 * standing.said.hertz
        assert table.attached() == ["to-a", "to-b"]
        flush(folder)

    table.run(scenario)
