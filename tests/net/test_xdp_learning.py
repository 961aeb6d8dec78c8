"""Parties that send from elsewhere than their SDP says: answered at once, folded once they are confirmed."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import numpy as np

from relay.dataplane import abi
from relay.dataplane.xdp import XdpDataplane
from relay.types import Endpoint, Learning, Path
from tests.net.conftest import MEDIA_A, MEDIA_B, PARTY_A, Table, mirrored, ready, rtp, wait_for

NAT = "10.7.1.77"
"""Where party A really sends from."""


def word(plane: XdpDataplane, local: Endpoint, name: str, dtype: np.dtype[Any]) -> Any:
    """One word of a port's rule, as the program sees it."""
    value = plane._tables.rules[plane._table.index(local)][name]
    return np.frombuffer(value.tobytes(), dtype)[0]


def folded(plane: XdpDataplane, times: int) -> bool:
    return plane.counters()["sources_folded"] == times


def test_a_learned_address_is_answered_at_once_and_folded(table: Table) -> None:
    async def scenario() -> None:
        table.a.ip("address", "add", f"{NAT}/24", "dev", "eth0")
        a, b = table.phone(table.a, NAT, 4444), table.phones()[1]
        signalled = Endpoint(PARTY_A, 4000)
        async with table.plane() as plane:
            plane.install(mirrored(signalled, b.endpoint, preferred_source=NAT))
            await ready(plane)
            before = int(word(plane, MEDIA_A, "control", abi.CONTROL)["generation"])
            a.send(MEDIA_A, rtp(1))
            assert len(await b.expect(1)) == 1
            b.send(MEDIA_B, rtp(1))
            assert len(await a.expect(1)) == 1
            await wait_for(lambda: plane.counters()["sources_folded"] == 1)
            control = word(plane, MEDIA_A, "control", abi.CONTROL)
            destination = word(plane, MEDIA_B, "signalled", abi.PEER)
            assert int(control["generation"]) == int(destination["generation"]) != before
            assert (int(destination["port"]), control["flags"] & abi.FIXED) == (4444, abi.FIXED)
            for number in range(2, 20):
                a.send(MEDIA_A, rtp(number))
                b.send(MEDIA_B, rtp(number))
                await asyncio.sleep(0.01)
            assert (len(await b.expect(18)), len(await a.expect(18))) == (18, 18)
            state = plane.state(MEDIA_A)
            assert (state.observed_source, state.confirmed, state.lost) == (a.endpoint, True, 0)
            assert plane.state(MEDIA_B).path is Path.FAST
            assert table.heard.sources.count((MEDIA_A, a.endpoint, True)) == 1

    table.run(scenario)


def test_a_folded_address_survives_the_same_rules_and_ends_with_a_new_signalled_one(table: Table) -> None:
    async def scenario() -> None:
        table.a.ip("address", "add", f"{NAT}/24", "dev", "eth0")
        old, b = table.phones()
        nat = table.phone(table.a, NAT, 4444)
        rules = mirrored(old.endpoint, b.endpoint, preferred_source=NAT)
        async with table.plane() as plane:
            plane.install(rules)
            await ready(plane)
            nat.send(MEDIA_A, rtp(1))
            await wait_for(lambda: plane.counters()["sources_folded"] == 1)
            plane.install([rule._replace(tos=184) for rule in rules])
            b.send(MEDIA_B, rtp(1))
            assert len(await nat.expect(1)) == 1
            plane.install(mirrored(old.endpoint, b.endpoint))
            b.send(MEDIA_B, rtp(2))
            assert len(await old.expect(1)) == 1
            assert nat.received() == []
            assert plane.state(MEDIA_A).observed_source is None

    table.run(scenario)


def test_a_source_that_nobody_signalled_is_answered_while_it_may_still_be_displaced(table: Table) -> None:
    async def scenario() -> None:
        table.a.ip("address", "add", f"{NAT}/24", "dev", "eth0")
        signalled, b = table.phones()
        nat = table.phone(table.a, NAT, 4444)
        async with table.plane() as plane:
            plane.install(mirrored(signalled.endpoint, b.endpoint))
            await ready(plane)
            nat.send(MEDIA_A, rtp(1))
            await b.expect(1)
            b.send(MEDIA_B, rtp(1))
            assert len(await nat.expect(1)) == 1
            assert plane.counters()["sources_folded"] == 0
            await wait_for(lambda: (MEDIA_A, nat.endpoint, False) in table.heard.sources)
            signalled.send(MEDIA_A, rtp(2))
            await b.expect(1)
            b.send(MEDIA_B, rtp(2))
            assert len(await signalled.expect(1)) == 1
            assert nat.received() == []
            await wait_for(lambda: (MEDIA_A, signalled.endpoint, True) in table.heard.sources)

    table.run(scenario)


def test_handover_follows_from_one_folded_address_to_the_next(table: Table) -> None:
    async def scenario() -> None:
        homes = [f"10.7.1.{number}" for number in (81, 82, 83)]
        for home in homes:
            table.a.ip("address", "add", f"{home}/24", "dev", "eth0")
        b = table.phones()[1]
        phones = [table.phone(table.a, home, 4444) for home in homes]
        async with table.plane() as plane:
            rules = mirrored(Endpoint(PARTY_A, 4000), b.endpoint, learning=Learning.IMMEDIATE, media_handover=True)
            plane.install(rules)
            await ready(plane)
            for turn, phone in enumerate(phones, 1):
                for number in range(3):
                    phone.send(MEDIA_A, rtp(turn * 10 + number))
                    await asyncio.sleep(0.02)
                await wait_for(partial(folded, plane, turn))
                b.send(MEDIA_B, rtp(turn))
                assert len(await phone.expect(1)) == 1
                assert plane.state(MEDIA_A).observed_source == phone.endpoint
            assert len(await b.expect(9)) == 9

    table.run(scenario)


def test_strict_source_drops_others_after_a_fold(table: Table) -> None:
    async def scenario() -> None:
        table.a.ip("address", "add", f"{NAT}/24", "dev", "eth0")
        stranger, b = table.phones()
        nat = table.phone(table.a, NAT, 4444)
        async with table.plane() as plane:
            rules = mirrored(Endpoint("10.7.1.99", 4000), b.endpoint, preferred_source=NAT, strict_source=True)
            plane.install(rules)
            await wait_for(lambda: plane.state(MEDIA_A).path is not Path.NO_NEXT_HOP)
            nat.send(MEDIA_A, rtp(1))
            await wait_for(lambda: plane.counters()["sources_folded"] == 1)
            nat.send(MEDIA_A, rtp(2))
            stranger.send(MEDIA_A, rtp(3))
            await wait_for(lambda: plane.state(MEDIA_A).last_drop == "source_mismatch")
            assert [payload for payload, _ in await b.expect(2)] == [rtp(1), rtp(2)]
            assert b.received() == []

    table.run(scenario)


def test_a_lost_event_is_found_in_the_table(table: Table) -> None:
    """With no budget for events none comes up; the sweep tells the listener and folds all the same."""

    async def scenario() -> None:
        table.a.ip("address", "add", f"{NAT}/24", "dev", "eth0")
        nat, b = table.phone(table.a, NAT, 4444), table.phones()[1]
        async with table.plane(slow_rate=0) as plane:
            plane.install(mirrored(Endpoint(PARTY_A, 4000), b.endpoint, preferred_source=NAT))
            await ready(plane)
            nat.send(MEDIA_A, rtp(1))
            assert len(await b.expect(1)) == 1
            assert plane.counters()["events_held"] > 0
            await wait_for(lambda: plane.counters()["sources_folded"] == 1)
            assert (MEDIA_A, nat.endpoint, True) in table.heard.sources

    table.run(scenario)


def test_who_forges_the_right_address_locks_the_party_out_not_even_after_a_fold(table: Table) -> None:
    """A forger sends from the address the signalling came from, by another port, before the party does."""

    async def scenario() -> None:
        table.a.ip("address", "add", f"{NAT}/24", "dev", "eth0")
        forger, party = table.phone(table.a, NAT, 9999), table.phone(table.a, NAT, 4000)
        b = table.phones()[1]
        async with table.plane() as plane:
            plane.install(mirrored(Endpoint("192.168.1.5", 4000), b.endpoint, preferred_source=NAT))
            await wait_for(lambda: plane.state(MEDIA_A).path is not Path.NO_NEXT_HOP)
            forger.send(MEDIA_A, rtp(1))
            await wait_for(partial(folded, plane, 1))
            party.send(MEDIA_A, rtp(2))
            for number in range(5):
                b.send(MEDIA_B, rtp(number))
            assert len(await party.expect(5)) == 5
            assert forger.received() == []

    table.run(scenario)


def test_a_source_the_window_closed_on_by_time_is_folded_and_may_still_be_displaced(table: Table) -> None:
    async def scenario() -> None:
        table.a.ip("address", "add", f"{NAT}/24", "dev", "eth0")
        party, b = table.phones()
        stranger = table.phone(table.a, NAT, 4444)
        async with table.plane() as plane:
            plane.install(mirrored(party.endpoint, b.endpoint))
            await ready(plane)
            for number in range(32):  # the window closes after three seconds
                stranger.send(MEDIA_A, rtp(number))
                await asyncio.sleep(0.1)
            await wait_for(partial(folded, plane, 1))
            b.send(MEDIA_B, rtp(1))
            assert len(await stranger.expect(1)) == 1
            assert plane.state(MEDIA_B).path is Path.FAST
            party.send(MEDIA_A, rtp(50))
            b.send(MEDIA_B, rtp(2))
            assert len(await party.expect(1)) == 1
            assert stranger.received() == []

    table.run(scenario)
