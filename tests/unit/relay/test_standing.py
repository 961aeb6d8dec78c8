"""What the keeper of calls is told and asked, and what it makes of the timers."""

from __future__ import annotations

import pytest

from relay.call import Signal, Who
from relay.errors import UnknownCall
from relay.types import Endpoint, Treatment
from tests.calls import ALICE, BOB, Stage, audio, sdp
from tests.keeping import Told, copied

ELSEWHERE = Endpoint("198.51.100.77", 7000)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def stage(told: Told) -> Stage:
    return told.keep(Stage())


def standing(stage: Stage, told: Told) -> Stage:
    """With a call in it, and nothing told of it yet."""
    stage.offer()
    stage.answer()
    told.events.clear()
    told.asked.clear()
    return stage


# -- commands


def test_each_command_is_told_once(stage: Stage, told: Told) -> None:
    stage.offer()
    stage.answer()
    stage.registry.treat("c1", Who("alice"), Treatment.BLOCK, True, stage.now)
    stage.delete()
    stage.offer(tags=("alice", "bob"))
    assert told.events == ["changed c1"] * 5


def test_what_a_command_did_is_kept_with_what_control_remembers(stage: Stage, told: Told) -> None:
    body = sdp(ALICE, "a=mid:0")
    stage.command("offer", call_id="c1", from_tag="alice", sdp=body)
    assert told.events == ["changed c1"]
    assert stage.registry.query("c1").legs[0].memory is not None


def test_a_call_that_failed_is_not_told_of(stage: Stage, told: Told) -> None:
    outcome = stage.registry.offer("c1", "alice", None, [audio(ALICE)], Signal(), stage.now)
    stage.registry.abandon(outcome, stage.now)
    assert told.events == []
    assert stage.drawn == 0


def test_a_reoffer_that_could_not_be_passed_on_is_in_force_and_told(stage: Stage, told: Told) -> None:
    standing(stage, told)
    outcome = stage.registry.offer("c1", "alice", "bob", [audio(ELSEWHERE)], Signal(), stage.now)
    stage.registry.abandon(outcome, stage.now)
    assert told.events == ["changed c1"]


def test_a_delete_at_once_is_told_as_the_end(stage: Stage, told: Told) -> None:
    standing(stage, told)
    stage.command("delete", call_id="c1", delete_delay=0)
    assert told.events == ["ended c1: deleted"]


def test_a_branch_that_goes_is_told_of_while_others_stand(stage: Stage, told: Told) -> None:
    stage.offer(signal=Signal(via_branch="b1"))
    stage.offer(signal=Signal(via_branch="b2"))
    told.events.clear()
    stage.command("delete", call_id="c1", from_tag="alice", via_branch="b1", delete_delay=0)
    assert told.events[0] == "changed c1"
    assert set(told.events) == {"changed c1", "noticed c1"}
    assert len(stage.registry.query("c1").members()) == 1


@pytest.mark.parametrize("how", ["offer", "answer", "query", "delete", "block media", "start recording"])
def test_a_command_has_a_call_restored_that_waits_to_be(stage: Stage, told: Told, how: str) -> None:
    old = Stage()
    old.offer()
    old.answer()
    told.waiting["c1"] = lambda: copied(old, stage, foreign=False)
    body = sdp(BOB if how == "answer" else ALICE)
    reply = stage.command(how, call_id="c1", from_tag="alice", to_tag="bob", sdp=body)
    assert told.asked == ["c1"]
    assert stage.registry.find("c1") is not None
    assert "Unknown" not in reply.get("error-reason", "")
    assert stage.ports() == old.ports()
    stage.check()


def test_what_nobody_has_stays_unknown_and_listing_asks_for_nothing(stage: Stage, told: Told) -> None:
    with pytest.raises(UnknownCall):
        stage.registry.query("c9")
    assert told.asked == ["c9"]
    stage.command("list", call_id="c8")
    assert stage.registry.find("c8") is None
    assert told.asked == ["c9"]


# -- packets


def test_a_source_that_is_confirmed_is_noticed_once(stage: Stage, told: Told) -> None:
    standing(stage, told)
    caller, _ = stage.ports()
    stage.plane.arrive(caller, ELSEWHERE, confirm=False)
    assert told.events == []
    stage.plane.arrive(caller, ELSEWHERE)
    stage.plane.arrive(caller, ELSEWHERE)
    stage.registry.learned(caller, ELSEWHERE, True)
    assert told.events == ["noticed c1"]


# -- timers


def test_the_end_by_silence_is_told_while_ports_still_count(stage: Stage, told: Told) -> None:
    standing(stage, told)
    stage.wait(70)
    assert told.events == ["ended c1: timeout"]


def test_silence_ends_no_call_that_is_not_governed_and_counts_from_then_on(stage: Stage, told: Told) -> None:
    standing(stage, told)
    told.ungoverned.add("c1")
    stage.wait(500)
    assert stage.registry.standing == 1
    told.ungoverned.clear()
    stage.wait(50)
    assert stage.registry.standing == 1
    stage.wait(20)
    assert stage.ended == [("c1", "timeout")]


def test_the_final_timeout_waits_for_whoever_governs(told: Told) -> None:
    stage = told.keep(Stage(final_timeout=100, timeout=0))
    stage.offer()
    told.ungoverned.add("c1")
    stage.wait(500)
    assert stage.ended == []
    told.ungoverned.clear()
    stage.wait(301)
    assert stage.ended == [("c1", "final timeout")]


def test_what_a_partner_hears_keeps_a_call(stage: Stage, told: Told) -> None:
    standing(stage, told)
    caller, _ = stage.ports()
    for _ in range(10):
        stage.wait(40)
        told.partners[caller] = stage.now - 2
    assert stage.registry.standing == 1
    stage.wait(70)
    assert stage.ended == [("c1", "timeout")]


def test_a_partner_hears_ports_that_a_reoffer_is_about_to_replace(stage: Stage, told: Told) -> None:
    standing(stage, told)
    callee = stage.ports()[1]
    stage.offer([audio(ELSEWHERE)], tags=("alice", "bob"))
    assert stage.ports()[1] != callee
    for _ in range(5):
        stage.wait(40)
        told.partners[callee] = stage.now
    assert stage.registry.standing == 1


def test_the_end_of_a_delete_delay_is_the_owners(stage: Stage, told: Told) -> None:
    home = Stage()
    home.offer()
    home.delete(delay=20)
    told.ungoverned.add("c1")
    copied(home, stage)
    stage.wait(600)
    assert len(stage.registry) == 1
    assert told.events == []


def test_a_deleted_call_does_not_outlive_its_owner_where_it_is_governed(stage: Stage, told: Told) -> None:
    home = Stage()
    home.offer()
    home.delete(delay=20)
    copied(home, stage)
    stage.wait(75)
    assert len(stage.registry) == 1
    stage.wait(30)
    assert told.events == ["ended c1: deleted"]
    assert stage.drawn == 0


def test_a_call_received_long_after_it_spoke_has_all_its_time_before_it(stage: Stage, told: Told) -> None:
    home = Stage()
    home.offer()
    home.answer()
    home.now += 5000
    stage.now += 5000
    copied(home, stage, foreign=False)
    stage.wait(50)
    assert stage.registry.standing == 1
    stage.wait(20)
    assert stage.ended == [("c1", "timeout")]


# -- the count


def test_calls_are_counted_as_whose_they_are(stage: Stage, told: Told) -> None:
    home = Stage()
    for name in ("c1", "c2", "c3"):
        home.offer(call_id=name)
        copied(home, stage, name)
    stage.registry.interfaces[0].pool.hold(())
    assert (stage.registry.own, stage.registry.foreign) == (0, 3)
    stage.offer(call_id="c1", tags=("alice", None))
    assert (stage.registry.own, stage.registry.foreign) == (1, 2)
    assert stage.registry.counts() == {"standing": 1, "deleted": 0, "ready": 2}
    head = stage.registry.query("c2")
    head.deed.foreign = False
    stage.registry.noted(head)
    assert (stage.registry.own, stage.registry.foreign) == (2, 1)
    stage.registry.query("c3").deed.foreign = False
    stage.wait(6)
    assert (stage.registry.own, stage.registry.foreign, stage.registry.standing) == (3, 0, 3)
    stage.delete("c3")
    assert (stage.registry.own, stage.registry.standing, len(stage.registry)) == (2, 2, 3)
    assert stage.registry.counts() == {"standing": 2, "deleted": 1, "ready": 0}


def test_a_call_can_be_ended_for_any_reason(stage: Stage, told: Told) -> None:
    standing(stage, told)
    stage.registry.end("c1", "its address is gone", stage.now)
    assert told.events == ["ended c1: its address is gone"]
    assert stage.registry.closed == {"its address is gone": 1}
