"""Health, partners, orders and the speaker joined: what is told, what is refused, what survives a restart."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from control.failover import failover as joined
from control.failover import herald
from control.failover.failover import Failover, OrderRefused, Place
from control.failover.speaker import Role, Route, SpeakerLost
from control.failover.state import Limits
from control.replication.record import Lease

OWN, THEIRS = "192.0.2.1", "192.0.2.2"
PLACES = (Place(OWN, 1), Place(THEIRS, 2))


class Speaker:
    """Remembers what it is told; refuses while it is `lost`."""

    name = "recording"

    def __init__(self, found: Mapping[str, Role] | None = None) -> None:
        self.found = found or {}
        self.told: list[dict[str, Route]] = []
        self.lost = ""
        self.error: type[Exception] = SpeakerLost

    async def start(self) -> Mapping[str, Role]:
        return self.found

    async def close(self) -> None:
        return None

    async def announce(self, routes: Mapping[str, Route]) -> None:
        if self.lost:
            raise self.error(self.lost)
        self.told.append(dict(routes))

    def describe(self) -> list[str]:
        return []

    def roles(self) -> dict[str, Role]:
        return {ip: route.role for ip, route in self.told[-1].items()}


class Partners:
    def __init__(self) -> None:
        self.announced: dict[str, str] = {}
        self.healthy = True
        self.synced = {1, 2}
        self.leases: Mapping[int, Lease] = {}

    def in_sync(self, keyspace: int) -> bool:
        return keyspace in self.synced

    def partner(self, **more: Any) -> None:
        given = {"keyspace": 2, "name": "relay2", "instance": "i", "written": 0.0, "sequence": 1, "synced": {1: True}}
        self.leases = {2: Lease(**{**given, "announced": {OWN: "backup", THEIRS: "primary"}, **more})}


class Bench:
    """A failover with a clock of its own and everything around it in the test's hands."""

    def __init__(self, folder: Path, found: Mapping[str, Role] | None = None, partners: bool = True) -> None:
        self.now = 1000.0
        self.health = ""
        self.ports = {OWN: 4, THEIRS: 0}
        self.calls = 2
        self.speaker, self.partners = Speaker(found), Partners()
        self.failover = Failover(
            PLACES if partners else PLACES[:1],
            self.speaker,
            Limits(),
            lambda: self.health,
            keyspace=1,
            partners=self.partners if partners else None,
            busy=lambda ip: self.ports[ip],
            calls=lambda: self.calls,
            remains=folder / "failover.json",
            clock=lambda: self.now,
            unix=lambda: self.now + 1e9,
        )

    async def run(self, seconds: float) -> dict[str, Role]:
        """Let time pass; returns what the speaker was told last."""
        for _ in range(int(seconds * 2) + 1):
            self.failover.look()
            self.now += 0.5
        for _ in range(5):
            await asyncio.sleep(0)
        return self.speaker.roles()

    def row(self, ip: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self.failover.status()["addresses"]
        return next(row for row in rows if row["address"] == ip)


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes where tests let it."""
    monkeypatch.setattr(joined, "TICK", 3600.0)


async def running(bench: Bench) -> Bench:
    await bench.failover.start()
    bench.partners.partner()
    await bench.run(40)
    return bench


def test_a_pair_announces_its_own_and_its_partners_address(tmp_path: Path) -> None:
    async def scene() -> None:
        bench = await running(Bench(tmp_path))
        assert bench.speaker.roles() == {OWN: Role.PRIMARY, THEIRS: Role.BACKUP}
        assert bench.partners.announced == {OWN: "primary", THEIRS: "backup"}
        assert [one[OWN].lone for one in bench.speaker.told][-1] is False
        bench.partners.leases = {}
        await bench.run(1)
        assert bench.speaker.told[-1][OWN] == Route(Role.PRIMARY, lone=True)
        told = len(bench.speaker.told)
        await bench.run(100)
        assert len(bench.speaker.told) == told  # on change only
        await bench.failover.close()

    asyncio.run(scene())


def test_bad_health_withdraws_and_tells_partners(tmp_path: Path) -> None:
    async def scene() -> None:
        bench = await running(Bench(tmp_path))
        bench.health = "the XDP program is attached to no interface"
        assert await bench.run(4) == {OWN: Role.NONE, THEIRS: Role.NONE}
        assert bench.partners.healthy is False
        bench.health = ""
        assert (await bench.run(25))[OWN] is Role.NONE
        assert (await bench.run(10))[OWN] is Role.PRIMARY
        await bench.failover.close()

    asyncio.run(scene())


def test_bad_health_without_a_partner_raises_an_alarm_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        bench = await running(Bench(tmp_path))
        bench.partners.partner(synced={1: False})
        bench.health = "gone"
        await bench.run(100)
        assert bench.speaker.roles()[OWN] is Role.PRIMARY
        assert "ALARM" not in bench.row(OWN)["alarm"]
        await bench.failover.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(scene())
    alarms = [line for line in caplog.messages if line.startswith(f"ALARM: {OWN}")]
    assert alarms == [f"ALARM: {OWN}: gone; the route stays, for no partner announces it and has its calls"]


def test_withdraw_is_refused_where_no_partner_serves(tmp_path: Path) -> None:
    async def scene() -> None:
        bench = await running(Bench(tmp_path))
        bench.partners.partner(synced={1: False})
        bench.failover.look()
        with pytest.raises(OrderRefused, match=f"announces {OWN} and has its calls.*--force"):
            bench.failover.withdraw(None, force=False)
        assert bench.row(OWN)["order"] == bench.row(THEIRS)["order"] == "announce"
        assert bench.failover.withdraw(OWN, force=True) == [OWN]
        assert (await bench.run(1))[OWN] is Role.NONE
        assert "no partner serves it" in bench.row(OWN)["alarm"]
        with pytest.raises(OrderRefused, match=r"192.0.2.9 is no service address"):
            bench.failover.withdraw("192.0.2.9", force=True)
        await bench.failover.close()

    asyncio.run(scene())


def test_a_withdrawn_address_stays_withdrawn_over_a_restart(tmp_path: Path) -> None:
    async def scene() -> None:
        bench = await running(Bench(tmp_path))
        bench.failover.withdraw(OWN, force=False)
        await bench.failover.close()
        after = await running(Bench(tmp_path, found={THEIRS: Role.BACKUP}))
        assert after.speaker.roles() == {OWN: Role.NONE, THEIRS: Role.BACKUP}
        after.failover.announce(OWN, force=False)
        assert (await after.run(0))[OWN] is Role.PRIMARY
        await after.failover.close()
        assert json.loads((tmp_path / "failover.json").read_text()) == {"draining": False, "orders": {}}

    asyncio.run(scene())


def test_what_was_announced_is_not_withdrawn_by_a_restart(tmp_path: Path) -> None:
    async def scene() -> None:
        bench = Bench(tmp_path, found={OWN: Role.PRIMARY, THEIRS: Role.BACKUP})
        bench.partners.partner()
        bench.partners.synced = set()
        await bench.failover.start()
        await bench.run(5)
        bench.partners.synced = {1, 2}
        await bench.run(60)
        assert all(one[ip].role is not Role.NONE for one in bench.speaker.told for ip in (OWN, THEIRS))
        await bench.failover.close()

    asyncio.run(scene())


@pytest.mark.parametrize("text", ["", "[]", "{", '{"draining": 1, "orders": {"192.0.2.1": "x"}}', "[" * 99999])
def test_orders_that_cannot_be_read_are_named_and_lose_nothing(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "failover.json").write_text(text)

    async def scene() -> None:
        bench = await running(Bench(tmp_path))
        assert bench.speaker.roles()[OWN] is Role.PRIMARY
        await bench.failover.close()

    asyncio.run(scene())
    assert any("failover.json" in line for line in caplog.messages)


def test_a_drain_ends_when_packets_come_elsewhere(tmp_path: Path) -> None:
    async def scene() -> None:
        bench = await running(Bench(tmp_path))
        bench.failover.drain()
        assert await bench.run(10) == {OWN: Role.DRAINING, THEIRS: Role.NONE}
        bench.ports[OWN] = 0
        assert (await bench.run(2))[OWN] is Role.DRAINING
        assert (await bench.run(2))[OWN] is Role.NONE
        assert bench.row(OWN)["order"] == "drained"
        assert "drained: its packets come elsewhere" in [one["what"] for one in bench.row(OWN)["happenings"]]
        bench.failover.resume()
        assert await bench.run(0) == {OWN: Role.PRIMARY, THEIRS: Role.BACKUP}
        await bench.failover.close()

    asyncio.run(scene())


def test_a_drain_ends_with_the_last_call_and_not_before(tmp_path: Path) -> None:
    async def scene() -> None:
        bench = Bench(tmp_path, partners=False)
        await bench.failover.start()
        await bench.run(1)
        bench.failover.drain()
        bench.ports[OWN] = 0
        assert await bench.run(60) == {OWN: Role.DRAINING}
        bench.calls = 0
        assert await bench.run(1) == {OWN: Role.NONE}
        await bench.failover.close()

    asyncio.run(scene())


def test_a_drain_goes_on_over_a_restart(tmp_path: Path) -> None:
    async def scene() -> None:
        bench = await running(Bench(tmp_path))
        bench.failover.drain()
        await bench.failover.close()
        after = await running(Bench(tmp_path, found={OWN: Role.DRAINING}))
        assert after.failover.draining
        assert after.speaker.roles()[OWN] is Role.DRAINING
        await after.failover.close()

    asyncio.run(scene())


def test_announcing_what_would_not_be_served_well_is_refused(tmp_path: Path) -> None:
    async def scene() -> None:
        bench = await running(Bench(tmp_path))
        bench.failover.withdraw(None, force=False)
        bench.health = "not attached"
        bench.failover.look()
        with pytest.raises(OrderRefused, match=f"{OWN} would not be served well from here: not attached; --force"):
            bench.failover.announce(OWN, force=False)
        bench.failover.announce(OWN, force=True)
        assert (await bench.run(100))[OWN] is Role.PRIMARY
        await bench.failover.close()

    asyncio.run(scene())


def test_what_is_not_confirmed_is_told_again_and_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(herald, "RETRY", 0.01)

    async def scene() -> None:
        bench = Bench(tmp_path, partners=False)
        bench.speaker.lost = "nobody there"
        await bench.failover.start()
        await asyncio.sleep(0.1)
        assert bench.failover.status()["unconfirmed"] == "nobody there"
        assert bench.row(OWN)["confirmed"] is False
        bench.speaker.lost = ""
        await asyncio.sleep(0.1)
        assert bench.row(OWN)["confirmed"] is True
        assert bench.speaker.roles() == {OWN: Role.PRIMARY}
        await bench.failover.close()

    asyncio.run(scene())
    assert sum("nobody there" in line for line in caplog.messages) == 1


def test_a_fault_at_the_speaker_keeps_nothing_untold_that_is_decided_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(herald, "RETRY", 0.01)

    async def scene() -> None:
        bench = Bench(tmp_path, partners=False)
        bench.speaker.lost, bench.speaker.error = "an error in the program", ValueError
        await bench.failover.start()
        await asyncio.sleep(0.1)
        assert "an error in the program" in bench.failover.status()["unconfirmed"]
        bench.speaker.lost = ""
        await asyncio.sleep(0.1)
        assert bench.speaker.roles() == {OWN: Role.PRIMARY}
        assert bench.failover.status()["unconfirmed"] == ""
        await bench.failover.close()

    asyncio.run(scene())
    assert sum("could not be told" in line for line in caplog.messages) == 1


def test_an_orderly_stop_withdraws_and_a_look_after_it_tells_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        bench = await running(Bench(tmp_path))
        await bench.failover.leave(withdraw=False)
        assert bench.speaker.roles()[OWN] is Role.PRIMARY
        await bench.failover.leave(withdraw=True)
        assert bench.speaker.told[-1] == {}
        assert bench.partners.announced == {OWN: "none", THEIRS: "none"}
        bench.health = "not attached"
        await bench.run(10)
        assert bench.speaker.told[-1] == {}
        assert bench.partners.announced == {OWN: "none", THEIRS: "none"}
        await bench.failover.close()

    asyncio.run(scene())


def test_happenings_are_told_with_their_times_and_bounded(tmp_path: Path) -> None:
    async def scene() -> None:
        bench = await running(Bench(tmp_path))
        bench.now += 1
        at = bench.now + 1e9
        bench.failover.withdraw(OWN, force=False)
        bench.ports[OWN] = 0
        await bench.run(1)
        found = [one for one in bench.row(OWN)["happenings"] if one["at"] >= at]
        assert {one["what"] for one in found} == {
            "order: withdraw",
            "none instead of primary: withdrawn by order",
            "no packets come any more",
            "recording is told: none",
            "recording has confirmed: none",
        }
        for number in range(100):
            bench.ports[OWN] = number % 2
            await bench.run(0)
        assert len(bench.row(OWN)["happenings"]) == joined.HAPPENINGS
        await bench.failover.close()

    asyncio.run(scene())
