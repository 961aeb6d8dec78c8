"""Blocked and silenced media: whose, which packets, and for how long."""

from __future__ import annotations

import pytest

from relay.call import Signal, Who
from relay.errors import CallError, UnknownCall
from relay.flows import events, fills
from relay.types import Carries, Endpoint, PayloadType, Treatment
from tests.calls import ALICE, BOB, EVENTS, PCMU, Stage, above, audio

BLOCK, SILENCE, BLOCK_EVENTS, PASS = Treatment.BLOCK, Treatment.SILENCE, Treatment.BLOCK_EVENTS, Treatment.PASS
ELSEWHERE = Endpoint("198.51.100.77", 7000)


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.offer(signal=Signal(received_from="198.51.100.1", label="A", set_label="B"))
    stage.answer()
    return stage


def treat(stage: Stage, treatment: Treatment, on: bool = True, who: Who = Who()) -> None:  # noqa: B008 - immutable
    stage.registry.treat("c1", who, treatment, on, stage.now)
    stage.check()


def treatments(stage: Stage) -> tuple[Treatment, Treatment]:
    a, b = stage.ports()
    assert stage.plane.installed[above(a)].treatment is stage.plane.installed[above(b)].treatment is PASS
    return stage.plane.installed[a].treatment, stage.plane.installed[b].treatment


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        (Who(), (BLOCK, BLOCK)),
        (Who("alice"), (BLOCK, PASS)),
        (Who("bob"), (PASS, BLOCK)),
        (Who(label="A"), (BLOCK, PASS)),
        (Who(label="B"), (PASS, BLOCK)),
        (Who(address=ALICE.ip), (BLOCK, PASS)),
        (Who(address="198.51.100.1"), (BLOCK, PASS)),
        (Who(address=BOB.ip), (PASS, BLOCK)),
    ],
)
def test_a_party_is_named_in_several_ways(stage: Stage, who: Who, expected: tuple[Treatment, Treatment]) -> None:
    treat(stage, BLOCK, who=who)
    assert treatments(stage) == expected
    treat(stage, BLOCK, False, who)
    assert treatments(stage) == (PASS, PASS)


@pytest.mark.parametrize(
    ("who", "text"),
    [(Who("x" * 99), "tag " + "x" * 64), (Who(label="C"), "label C"), (Who(address="::1"), "address ::1")],
)
def test_nobody_is_an_error_that_names_him(stage: Stage, who: Who, text: str) -> None:
    with pytest.raises(CallError, match=f"^No party of the call has the {text}$"):
        treat(stage, BLOCK, who=who)
    assert treatments(stage) == (PASS, PASS)


def test_no_call_is_an_error() -> None:
    with pytest.raises(UnknownCall):
        treat(Stage(), BLOCK)


def test_the_strongest_of_several_works(stage: Stage) -> None:
    treat(stage, BLOCK_EVENTS, who=Who("alice"))
    treat(stage, SILENCE)
    assert treatments(stage) == (SILENCE, SILENCE)
    treat(stage, BLOCK, who=Who("bob"))
    assert treatments(stage) == (SILENCE, BLOCK)
    treat(stage, SILENCE, False)
    assert treatments(stage) == (BLOCK_EVENTS, BLOCK)


def test_what_is_ordered_for_all_leaves_single_orders_unless_each_is_meant(stage: Stage) -> None:
    treat(stage, BLOCK, who=Who("alice"))
    treat(stage, BLOCK, False)
    assert treatments(stage) == (BLOCK, PASS)
    treat(stage, BLOCK, False, Who(each=True))
    assert treatments(stage) == (PASS, PASS)


def test_an_order_holds_over_re_offers_and_moved_ports(stage: Stage) -> None:
    treat(stage, SILENCE, who=Who("alice"))
    _, b = stage.ports()
    stage.offer([audio(ELSEWHERE)], tags=("alice", "bob"))
    assert treatments(stage) == (SILENCE, PASS)
    treat(stage, BLOCK, who=Who("bob"))
    assert treatments(stage) == (SILENCE, BLOCK)
    assert stage.plane.installed[b].treatment is BLOCK
    treat(stage, BLOCK, False, who=Who("bob"))
    assert stage.plane.installed[b].treatment is PASS
    stage.answer()
    assert treatments(stage) == (SILENCE, PASS)


def test_a_branch_that_comes_later_is_under_the_same_orders(stage: Stage) -> None:
    treat(stage, BLOCK)
    treat(stage, SILENCE, who=Who("alice"))
    later = stage.offer(signal=Signal(new_branch=True), tags=("alice", "carol")).call
    assert [leg.treatment for leg in later.legs] == [BLOCK, BLOCK]
    treat(stage, BLOCK, False)
    assert [leg.treatment for leg in later.legs] == [SILENCE, PASS]


def test_rules_carry_what_a_treatment_needs_and_nothing_else(stage: Stage) -> None:
    a, _ = stage.ports()
    assert (stage.plane.installed[a].event_types, stage.plane.installed[a].fills) == ((), ())
    treat(stage, SILENCE)
    assert stage.plane.installed[a].event_types == (101,)
    assert stage.plane.installed[a].fills == ((0, 0xFF),)
    treat(stage, SILENCE, False)
    assert (stage.plane.installed[a].event_types, stage.plane.installed[a].fills) == ((), ())


def test_what_is_not_rtp_can_be_blocked_alone() -> None:
    stage = Stage()
    stage.offer([audio(ALICE, kind="image", protocol="udptl")])
    a, b = stage.ports()
    stage.registry.treat("c1", Who(), SILENCE, True, stage.now)
    assert stage.plane.installed[a].treatment is PASS
    stage.registry.treat("c1", Who(), BLOCK, True, stage.now)
    assert stage.plane.installed[a].treatment is stage.plane.installed[b].treatment is BLOCK
    assert stage.plane.installed[a].carries is Carries.OPAQUE


def test_the_numbers_are_those_the_receiver_has_given(stage: Stage) -> None:
    types = (PayloadType(96, "G722", 8000), PayloadType(97, "telephone-event", 8000))
    stage.answer([audio(BOB, payload_types=types)])
    treat(stage, SILENCE)
    a, b = stage.ports()
    assert (stage.plane.installed[a].fills, stage.plane.installed[a].event_types) == (((96, 0xFA),), (97,))
    assert stage.plane.installed[b].fills == ((0, 0xFF),)


def test_silence_and_events_go_by_the_name_of_the_encoding() -> None:
    types = (
        PCMU,
        PayloadType(110, "pcma", 8000),
        PayloadType(9, "G722", 8000),
        PayloadType(111, "opus", 48000),
        EVENTS,
    )
    assert fills(types) == ((0, 0xFF), (110, 0xD5), (9, 0xFA))
    assert events((EVENTS, PayloadType(102, "Telephone-Event", 48000), PayloadType(103, "telephone-event", 1))) == (
        101,
        102,
    )
