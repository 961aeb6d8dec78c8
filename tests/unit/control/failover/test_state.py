"""What is announced when: each rule of control.failover.state, and what would go wrong without it."""

from __future__ import annotations

from typing import Any

import pytest

from control.failover.speaker import Role
from control.failover.state import Address, Limits, Order, View, partner_of
from control.replication.record import Lease

LIMITS = Limits(hold_off=30.0, damping=600.0, grace=3.0, settling=15.0)
COVERED = View(partner="relay2")
BARE = View()


class Clock:
    """An address that is looked at every half second."""

    def __init__(self, own: bool = True, found: Role = Role.NONE) -> None:
        self.now = 100.0
        self.address = Address("192.0.2.1", own, self.now, found)

    def run(self, view: View, seconds: float) -> Role:
        end = self.now + seconds
        while self.now < end:
            self.address.decide(view, self.now, LIMITS)
            self.now += 0.5
        self.address.decide(view, self.now, LIMITS)
        return self.address.role

    def until(self, view: View, role: Role, patience: float = 2000.0) -> float:
        began = self.now
        while self.address.role is not role:
            assert self.now < began + patience, self.address.why
            self.run(view, 0.5)
        return self.now - began


def standing(own: bool = True) -> Clock:
    clock = Clock(own)
    clock.until(BARE, Role.PRIMARY if own else Role.BACKUP)
    return clock


def test_a_relay_without_partners_announces_at_once() -> None:
    assert Clock().run(View(alone=True), 0.0) is Role.PRIMARY


def test_what_a_partner_serves_is_announced_after_the_hold_off() -> None:
    clock = Clock()
    assert clock.run(COVERED, 29.5) is Role.NONE
    assert clock.address.why == "well and in step, announced in 0 s if that lasts"
    assert clock.run(COVERED, 1.0) is Role.PRIMARY


def test_what_nobody_serves_is_announced_at_once() -> None:
    assert Clock().until(BARE, Role.PRIMARY) <= LIMITS.grace + 0.5


def test_who_has_just_got_in_step_waits_for_what_partners_may_say() -> None:
    clock = Clock()
    clock.run(BARE._replace(behind="not compared yet"), 20.0)
    assert clock.run(BARE, 2.0) is Role.NONE
    assert clock.run(COVERED, 27.0) is Role.NONE
    assert clock.run(COVERED, 2.0) is Role.PRIMARY


def test_the_hold_off_begins_with_the_end_of_the_comparison() -> None:
    clock = Clock()
    clock.run(COVERED._replace(behind="not compared yet"), 100.0)
    assert clock.until(COVERED, Role.PRIMARY) == pytest.approx(30.0, abs=1.0)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("sick", [View(unwell="not attached"), View(behind="not compared yet")])
def test_trouble_withdraws_what_a_partner_serves(own: bool, sick: View) -> None:
    clock = standing(own)
    assert clock.run(sick._replace(partner="relay2"), 2.0) is not Role.NONE
    assert clock.run(sick._replace(partner="relay2"), 2.0) is Role.NONE
    assert "relay2 serves it" in clock.address.why


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("sick", [View(unwell="not attached"), View(behind="not compared yet")])
def test_trouble_withdraws_nothing_that_nobody_else_serves(own: bool, sick: View) -> None:
    clock = standing(own)
    role = clock.address.role
    assert clock.run(sick, 1000.0) is role
    assert clock.address.alarm.startswith(sick.unwell or sick.behind)
    assert "the route stays, for no partner announces it and has its calls" in clock.address.alarm
    clock.run(BARE, 0.0)
    assert clock.address.alarm == ""


def test_a_blink_of_bad_health_withdraws_nothing() -> None:
    clock = standing()
    for _ in range(20):
        assert clock.run(COVERED._replace(unwell="not attached"), 2.0) is Role.PRIMARY
        assert clock.run(COVERED, 0.5) is Role.PRIMARY


def test_flapping_doubles_the_hold_off_up_to_the_time_of_damping() -> None:
    clock = standing()
    waited = []
    for _ in range(6):
        clock.until(COVERED._replace(unwell="not attached"), Role.NONE)
        waited.append(clock.until(COVERED, Role.PRIMARY))
    assert waited[:4] == pytest.approx([30, 60, 120, 240], abs=1.5)
    assert max(waited) <= 601
    clock.run(COVERED, 700.0)
    clock.until(COVERED._replace(unwell="not attached"), Role.NONE)
    assert clock.until(COVERED, Role.PRIMARY) == pytest.approx(30, abs=1.5)


def test_a_backup_is_announced_only_in_step() -> None:
    clock = Clock(own=False)
    assert clock.run(BARE._replace(behind="not compared yet"), 1000.0) is Role.NONE
    assert "nobody announces it" in clock.address.alarm
    assert clock.run(BARE, 4.0) is Role.BACKUP


def test_an_own_address_that_nobody_serves_comes_even_so_with_an_alarm() -> None:
    clock = Clock()
    assert clock.run(BARE._replace(behind="not compared yet"), 2.0) is Role.NONE
    assert clock.address.alarm == ""
    assert clock.run(BARE._replace(behind="not compared yet"), 27.0) is Role.NONE
    assert clock.address.alarm == "not compared yet; nobody announces it"
    assert clock.run(BARE._replace(behind="not compared yet"), 2.0) is Role.PRIMARY
    assert clock.address.alarm


def test_a_route_withdrawn_for_bad_health_comes_back_when_the_partner_dies() -> None:
    clock = standing()
    sick = View(unwell="not attached")
    clock.until(sick._replace(partner="relay2"), Role.NONE)
    assert clock.until(sick, Role.PRIMARY) == pytest.approx(30, abs=1.0)


def test_a_relay_that_is_not_well_and_sees_nothing_of_partners_leaves_an_address_to_them() -> None:
    clock = standing()
    sick = View(unwell="not attached")
    clock.until(sick._replace(partner="relay2"), Role.NONE)
    assert clock.run(sick._replace(blind=True), 1000.0) is Role.NONE
    assert clock.address.alarm == "not attached; nobody announces it"
    assert clock.until(sick, Role.PRIMARY) < 1


def test_a_relay_that_sees_nothing_of_partners_keeps_to_the_hold_off() -> None:
    assert Clock().until(View(blind=True), Role.PRIMARY) == pytest.approx(30, abs=1)
    assert Clock().until(View(blind=True, behind="not compared yet"), Role.PRIMARY) == pytest.approx(30, abs=1)


def test_what_was_found_announced_stays_while_calls_are_compared() -> None:
    for own, role in ((True, Role.PRIMARY), (False, Role.BACKUP)):
        clock = Clock(own, found=role)
        assert clock.run(COVERED._replace(behind="not compared yet"), 14.0) is role
        assert clock.run(COVERED, 60.0) is role


def test_a_backup_that_was_found_goes_when_it_does_not_get_in_step() -> None:
    clock = Clock(own=False, found=Role.BACKUP)
    assert clock.run(COVERED._replace(behind="not compared yet"), 16.0) is Role.NONE


def test_a_withdrawn_address_stays_withdrawn_and_says_when_nobody_serves_it() -> None:
    clock = standing()
    clock.address.order = Order.WITHDRAW
    assert clock.run(COVERED, 1000.0) is Role.NONE
    assert clock.address.alarm == ""
    assert clock.run(BARE, 1000.0) is Role.NONE
    assert clock.address.alarm == "withdrawn by order, and no partner serves it"
    assert clock.run(View(alone=True), 1.0) is Role.NONE
    assert clock.address.alarm == ""


def test_an_operator_announces_without_a_hold_off() -> None:
    clock = standing()
    clock.address.order = Order.WITHDRAW
    clock.run(COVERED, 10.0)
    clock.address.order, clock.address.hurry = Order.ANNOUNCE, True
    assert clock.run(COVERED, 0.0) is Role.PRIMARY
    assert clock.address.why == "announced by order"
    clock.until(COVERED._replace(unwell="not attached"), Role.NONE)
    assert clock.until(COVERED, Role.PRIMARY) > 20  # the hurry was for once


def test_to_announce_what_is_announced_shortens_no_hold_off_later_on() -> None:
    clock = standing()
    clock.address.hurry = True
    clock.run(COVERED, 3600.0)
    clock.until(COVERED._replace(unwell="not attached"), Role.NONE)
    assert clock.until(COVERED, Role.PRIMARY) > 20


def test_force_announces_whatever_health_says() -> None:
    clock = Clock()
    clock.address.order = Order.FORCE
    assert clock.run(COVERED._replace(unwell="not attached"), 1000.0) is Role.PRIMARY
    assert clock.address.alarm == "announced by force: not attached"
    clock.run(COVERED, 10.0)
    assert (clock.address.alarm, clock.address.why) == ("", "well and in step; by force it stays whatever comes")


def test_a_drain_announces_own_addresses_as_going_and_drops_backups() -> None:
    own, backup = standing(True), standing(False)
    own.address.order = backup.address.order = Order.DRAIN
    assert own.run(COVERED, 10.0) is Role.DRAINING
    assert backup.run(COVERED, 0.5) is Role.NONE
    assert own.run(BARE, 10.0) is Role.DRAINING
    own.address.order = Order.ANNOUNCE
    assert own.run(COVERED, 0.0) is Role.PRIMARY


def test_a_drain_keeps_a_backup_that_nobody_else_serves() -> None:
    clock = standing(False)
    clock.address.order = Order.DRAIN
    assert clock.run(BARE, 10.0) is Role.BACKUP


def lease(**more: Any) -> Lease:
    given = {"keyspace": 2, "name": "relay2", "instance": "i", "written": 0.0, "sequence": 1, "synced": {1: True}}
    return Lease(**{**given, "announced": {"192.0.2.1": "backup"}, **more})


def test_a_partner_that_lives_announces_and_has_the_calls_serves_an_address() -> None:
    assert partner_of("192.0.2.1", 1, 1, {2: lease()}) == lease()
    assert partner_of("192.0.2.1", 2, 1, {2: lease(synced={}, announced={"192.0.2.1": "primary"})}) is not None


@pytest.mark.parametrize(
    "more",
    [
        {"synced": {1: False}},
        {"synced": {}},
        {"announced": {"192.0.2.1": "none"}},
        {"announced": {"192.0.2.1": "draining"}},
        {"announced": {}},
        {"healthy": False},
        {"keyspace": 1},
    ],
)
def test_nobody_else_does(more: dict[str, Any]) -> None:
    assert partner_of("192.0.2.1", 1, 1, {2: lease(**more)}) is None
    assert partner_of("192.0.2.1", 1, 1, {}) is None
