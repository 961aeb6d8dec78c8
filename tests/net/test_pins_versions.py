"""Another version of the program takes the place of the one that is pinned, under traffic."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from relay.dataplane.program import OBJECT, Sizes, constants, load
from tests.net.conftest import (
    MEDIA_A,
    Table,
    described,
    mirrored,
    rtp,
    wait_for,
)
from tests.net.pinning import FAST, Stream, in_force, renewed, started


def test_another_version_takes_the_program_s_place(table: Table, folder: Path, other_object: Path) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        rules, stream = mirrored(a.endpoint, b.endpoint), Stream(a, b)
        async with started(table, folder) as plane:
            await in_force(plane, rules)
        async with stream.running():
            async with started(table, folder, object_path=other_object) as plane:
                assert described(plane, "the program of the relay before this one forwards: this version's is being")
                plane.install(rules)
                await renewed(plane)
                assert not described(plane, "the program of the relay before")
                await asyncio.sleep(0.1)
            async with started(table, folder, keep=False, object_path=other_object) as plane:
                assert not described(plane, "the program of the relay before")
                await stream.stop()
                counters = plane.counters()
        assert stream.lost() == 0
        assert counters["dtls"] > 0
        assert counters["dtls"] + counters["forwarded"] == stream.sent

    table.run(scenario)


def test_twenty_changes_of_the_program_under_traffic_lose_nothing(
    table: Table, folder: Path, other_object: Path
) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        stream = Stream(a, b)
        async with started(table, folder) as plane, started(table, folder, keep=False) as again:
            await in_force(again, mirrored(a.endpoint, b.endpoint))
            standing = again._opened.pins
            assert standing
            sizes = Sizes(0, FAST, 16, 0)
            settings = constants(sizes, standing.said.hertz)
            builds = [load(path, sizes, settings, standing) for path in (OBJECT, other_object)]
            async with stream.running():
                for turn in range(20):
                    for program in standing.replace_programs(builds[turn % 2]):
                        program.close()
                    await again._run_others()
            counters = again.counters()
            for build in builds:
                build.close()
            await plane.close(keep=True)
        assert stream.lost() == 0
        assert counters["forwarded"] + counters["dtls"] == stream.sent
        assert min(counters["forwarded"], counters["dtls"]) > 100

    table.run(scenario)


@pytest.mark.parametrize(("content", "reason"), [(b"no object", "broken.o"), (None, "broken.o cannot be read")])
def test_a_program_that_cannot_be_loaded_leaves_the_former_one(
    table: Table, folder: Path, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    broken = tmp_path / "broken.o"
    if content:
        broken.write_bytes(content)

    async def scenario() -> None:
        a, b = table.phones()
        rules, stream = mirrored(a.endpoint, b.endpoint), Stream(a, b)
        async with started(table, folder) as plane:
            await in_force(plane, rules)
        async with stream.running(), started(table, folder, keep=False, object_path=broken) as plane:
            plane.install(rules)
            await renewed(plane)
            assert described(plane, "the program of the relay before this one forwards: ")
            assert described(plane, reason)
            await stream.stop()
        assert stream.lost() == 0
        async with started(table, folder, keep=False) as plane:  # and everything begins anew
            assert plane.inherited() == []

    table.run(scenario)


def test_other_constants_are_another_program(table: Table, folder: Path) -> None:
    async def scenario() -> None:
        a, b = table.phones()
        rules = mirrored(a.endpoint, b.endpoint)
        async with started(table, folder) as plane:
            await in_force(plane, rules)
            said = plane._opened.pins.said  # type: ignore[union-attr]
        async with started(table, folder, keep=False, orphan_seconds=1) as plane:
            plane.install(rules)
            await renewed(plane)
            assert plane._opened.pins.said == replace(  # type: ignore[union-attr]
                said, settings=constants(Sizes(0, FAST, 16, 0, 1), said.hertz).hex()
            )
            plane._running = False  # it beats no more, as if it hung
            await asyncio.sleep(2.0)
            a.send(MEDIA_A, rtp(1))
            await wait_for(lambda: plane._tables.counters()["orphaned"] == 1)
            assert b.received() == []
            plane._tables.beat()
            a.send(MEDIA_A, rtp(2))
            assert [payload for payload, _ in await b.expect(1)] == [rtp(2)]

    table.run(scenario)
