"""Branches of a forked call: which call a command means, and what each of them holds."""

from __future__ import annotations

import pytest

from relay.call import Call, Signal
from relay.errors import CallError, PortsExhausted
from relay.registry import MAX_BRANCHES, LoadLimit
from relay.types import Endpoint
from tests.calls import ALICE, BOB, Stage, audio

CAROL = Endpoint("203.0.113.30", 6000)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def forked(stage: Stage) -> Stage:
    """Offered to two branches."""
    offer(stage, "b1")
    offer(stage, "b2")
    return stage


def offer(stage: Stage, branch: str | None, tags: tuple[str, str | None] = ("alice", None)) -> Call:
    return stage.offer(signal=Signal(via_branch=branch), tags=tags).call


def answer(stage: Stage, branch: str | None, tag: str, endpoint: Endpoint = BOB) -> Call:
    return stage.answer([audio(endpoint)], Signal(via_branch=branch), tags=("alice", tag)).call


def branches(stage: Stage) -> list[str | None]:
    return [call.branch for call in stage.registry.query("c1").members()]


def ports_of(call: Call) -> list[int]:
    return [port for _, port in call.pairs()]


def test_each_branch_has_ports_of_its_own_on_both_sides(forked: Stage) -> None:
    first, second = forked.registry.query("c1").members()
    assert not set(ports_of(first)) & set(ports_of(second))
    assert forked.pool.drawn == 4
    assert (len(forked.registry), forked.registry.tally.managed) == (1, 1)
    forked.check()


def test_a_repeated_branch_is_the_same(forked: Stage) -> None:
    assert offer(forked, "b1") is forked.registry.query("c1")
    assert branches(forked) == ["b1", "b2"]


def test_the_offerer_sees_the_ports_of_the_branch_that_answers(forked: Stage) -> None:
    first, second = forked.registry.query("c1").members()
    for call, branch, tag in ((second, "b2", "carol"), (first, "b1", "bob")):
        outcome = forked.answer([audio(BOB)], Signal(via_branch=branch), tags=("alice", tag))
        assert outcome.call is call
        assert outcome.media[0].rtp == call.legs[0].medias[0].rtp.local


def test_an_answer_of_an_unknown_branch_goes_to_one_that_waits(forked: Stage) -> None:
    first, second = forked.registry.query("c1").members()
    assert answer(forked, "other", "carol") is second
    assert answer(forked, None, "bob") is first
    assert answer(forked, None, "dave") in (first, second)


def test_a_tag_finds_its_branch_without_via(forked: Stage) -> None:
    first, second = forked.registry.query("c1").members()
    answer(forked, "b1", "bob")
    answer(forked, "b2", "carol", CAROL)
    assert offer(forked, "other", ("alice", "bob")) is first
    assert offer(forked, None, ("alice", "carol")) is second
    assert forked.offer([audio(CAROL)], tags=("carol", "alice")).call is second
    assert forked.answer([audio(ALICE)], tags=("carol", "alice")).call is second
    assert offer(forked, None, ("alice", None)) is second


def test_a_first_offer_without_branch_takes_the_next_ones(stage: Stage) -> None:
    call = offer(stage, None)
    assert offer(stage, "b1") is call
    assert offer(stage, "b2") is not call
    assert branches(stage) == ["b1", "b2"]


def test_two_unseen_tags_are_a_dialog_of_their_own(stage: Stage) -> None:
    """A B2BUA that keeps the Call-ID sends the call through the relay again."""
    outer = stage.offer(signal=Signal(label="alice")).call
    inner = stage.offer([audio(CAROL)], tags=("b2bua", None)).call
    assert inner is not outer
    assert inner.legs[0].label is None
    assert stage.answer(tags=("b2bua", "bob")).call is inner
    assert stage.answer([audio(CAROL)], tags=("alice", "other")).call is outer
    assert outer.legs[0].medias[0].rtp.signalled == ALICE
    stage.check()
    stage.delete(from_tag="b2bua")
    assert (inner.deleted is not None, outer.deleted) == (True, None)
    stage.delete(from_tag="other")
    stage.wait(31)
    assert stage.ended == [("c1", "deleted")]
    assert stage.pool.drawn == 0


def test_an_unseen_tag_is_another_name_or_another_party(stage: Stage) -> None:
    call = offer(stage, None)
    answer(stage, None, "bob")
    assert answer(stage, None, "carol") is call
    assert call.legs[1].tags == ["bob", "carol"]
    other = stage.answer([audio(CAROL)], Signal(new_branch=True), tags=("alice", "dave"))
    assert other.call is not call
    assert other.call.legs[0].medias[0].rtp.signalled == ALICE
    assert other.media[0].rtp == other.call.legs[0].medias[0].rtp.local
    fresh = stage.offer(signal=Signal(new_branch=True), tags=("alice", "erin")).call
    assert len(stage.registry.query("c1").members()) == 3
    assert fresh.legs[1].tags == ["erin"]
    stage.check()


def test_the_final_answer_names_the_party(stage: Stage) -> None:
    stage.offer()
    stage.answer(signal=Signal(provisional=True), tags=("alice", "bob"))
    call = stage.answer(signal=Signal(provisional=True), tags=("alice", "carol")).call
    assert (call.answered, call.legs[1].tags) == (False, ["bob", "carol"])
    stage.answer(tags=("alice", "carol"))
    assert (call.answered, call.legs[1].tags) == (True, ["carol", "bob"])
    stage.answer(tags=("alice", "dave"))
    assert call.legs[1].tags == ["carol", "bob", "dave"]


def test_a_call_rings_for_longer_than_media_may_be_silent(stage: Stage) -> None:
    stage.offer()
    stage.answer(signal=Signal(provisional=True))
    stage.wait(600)
    assert stage.ended == []


# -- deleting


def test_a_branch_that_is_deleted_leaves_the_other_alone(forked: Stage) -> None:
    first, second = forked.registry.query("c1").members()
    forked.plane.arrive(first.legs[1].medias[0].rtp.local or ALICE, BOB, packets=3)
    assert forked.delete(from_tag="alice", via_branch="b1") is first
    assert (first.deleted is not None, second.deleted, forked.registry.standing) == (True, None, 1)
    forked.wait(30)
    assert forked.registry.query("c1").members() == [second]
    assert second.gone_rtp.packets == 3
    assert forked.ended == []
    forked.check()
    answer(forked, "b2", "carol")
    forked.delete(from_tag="alice", via_branch="b2", delay=0)
    forked.registry.finish(second, forked.now)
    assert forked.ended == [("c1", "deleted")]
    assert forked.registry.tally.packets == 3
    assert forked.pool.drawn == 0


@pytest.mark.parametrize(
    ("how", "gone"),
    [
        ({}, ["b1", "b2"]),
        ({"from_tag": "alice"}, ["b1", "b2"]),
        ({"from_tag": "alice", "via_branch": "b2"}, ["b2"]),
        ({"from_tag": "alice", "via_branch": "other"}, ["b1", "b2"]),
        ({"from_tag": "mallory", "via_branch": "b1"}, ["b1"]),
        ({"from_tag": "bob"}, ["b1", "b2"]),
        ({"from_tag": "alice", "to_tag": "bob"}, ["b1", "b2"]),
        ({"from_tag": "alice", "to_tag": "bob", "match_to_tag": True}, ["b1"]),
        ({"from_tag": "alice", "to_tag": "new", "match_to_tag": True}, ["b2"]),
        ({"from_tag": "alice", "to_tag": "new", "via_branch": "b1", "match_to_tag": True}, ["b1"]),
        ({"from_tag": "mallory", "to_tag": "bob"}, []),
    ],
)
def test_which_branches_a_delete_means(forked: Stage, how: dict[str, str], gone: list[str]) -> None:
    answer(forked, "b1", "bob")
    found = forked.delete(**how)
    assert [call.branch for call in forked.members() if call.deleted is not None] == gone
    assert (found is not None) is bool(gone)
    assert forked.registry.standing == (0 if gone == ["b1", "b2"] else 1)


def test_who_hangs_up_beside_the_call_that_talks_ends_only_his_own(forked: Stage) -> None:
    answer(forked, "b1", "bob")
    forked.now += 1
    answer(forked, "b2", "carol", CAROL)
    forked.delete(from_tag="bob")
    assert [call.branch for call in forked.members() if call.deleted is not None] == ["b1"]
    forked.delete(from_tag="carol")
    assert forked.registry.standing == 0


def test_a_branch_revives_without_its_sister(forked: Stage) -> None:
    forked.delete(from_tag="alice")
    assert forked.registry.standing == 0
    answer(forked, "b2", "carol")
    assert forked.registry.standing == 1
    forked.wait(31)
    assert branches(forked) == ["b2"]
    forked.check()


def test_all_branches_end_together(forked: Stage) -> None:
    answer(forked, "b1", "bob")
    forked.delete()
    forked.wait(30)
    assert forked.ended == [("c1", "deleted")]
    assert forked.pool.drawn == 0


def test_media_of_one_branch_keeps_the_call(forked: Stage) -> None:
    first, second = forked.registry.query("c1").members()
    answer(forked, "b1", "bob")
    answer(forked, "b2", "carol", CAROL)
    local = second.legs[0].medias[0].rtp.local
    assert local is not None
    for _ in range(20):
        forked.wait(10)
        forked.plane.arrive(local, ALICE)
    assert forked.registry.query("c1").members() == [first, second]
    forked.wait(70)
    assert forked.ended == [("c1", "timeout")]
    assert forked.pool.drawn == 0


# -- limits


def test_another_dialog_of_a_call_id_is_a_new_call_for_the_limits(forked: Stage) -> None:
    forked.registry.draining = True
    with pytest.raises(LoadLimit):
        offer(forked, None, ("mallory", None))
    assert offer(forked, "b3").branch == "b3"
    forked.check()


def test_branches_do_not_pile_up(stage: Stage) -> None:
    for number in range(MAX_BRANCHES):
        offer(stage, f"b{number}")
    with pytest.raises(CallError, match=r"^Too many branches of a call, 32 stand$"):
        offer(stage, "one more")
    offer(stage, "b3")
    stage.check()


def test_a_branch_without_room_leaves_the_others(stage: Stage) -> None:
    small = Stage(30000, 30003)
    offer(small, "b1")
    with pytest.raises(PortsExhausted):
        offer(small, "b2")
    assert branches(small) == ["b1"]
    assert small.registry.tally.rejected == 0
    small.check()


def test_a_branch_whose_offer_is_not_passed_on_goes_alone(stage: Stage) -> None:
    offer(stage, "b1")
    outcome = stage.offer(signal=Signal(via_branch="b2"))
    stage.registry.abandon(outcome, stage.now)
    assert branches(stage) == ["b1"]
    stage.check()
