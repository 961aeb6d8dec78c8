"""RTP and RTCP on one port, for each party by itself (RFC 5761): what is shown, and which rules follow."""

from __future__ import annotations

import pytest

from relay.call import Mux, Signal
from relay.types import Carries, LocalMedia
from tests.calls import ALICE, BOB, Stage, above, audio

BOTH = Carries.RTP | Carries.RTCP
TWO, ONE, FALLBACK = "two ports", "one port", "one port, two as the fallback"


@pytest.fixture
def stage() -> Stage:
    return Stage()


def shown(media: LocalMedia) -> str:
    assert media.rtp is not None
    if not media.rtcp_mux:
        assert media.rtcp == above(media.rtp)
        return TWO
    return ONE if media.rtcp == media.rtp else FALLBACK


def exchange(stage: Stage, words: tuple[str, ...], offered: bool, accepted: bool) -> tuple[str, str]:
    """What callee and caller are shown."""
    tags = ("alice", "bob") if len(stage.registry) else ("alice", None)
    offer = stage.offer([audio(ALICE, mux=offered)], Signal(mux=words), tags=tags)
    answer = stage.answer([audio(BOB, mux=accepted)], Signal(mux=words))
    stage.check()
    return shown(offer.media[0]), shown(answer.media[0])


def muxed(stage: Stage) -> tuple[bool, bool]:
    first, second = (leg.medias[0].mux for leg in stage.registry.query("c1").legs)
    assert Mux.OFFERED not in (first, second)
    return first is Mux.ON, second is Mux.ON


@pytest.mark.parametrize(
    ("words", "offered", "accepted", "to_callee", "to_caller", "parties"),
    [
        ((), False, False, TWO, TWO, (False, False)),
        ((), True, False, FALLBACK, TWO, (False, False)),
        ((), True, True, FALLBACK, ONE, (True, True)),
        (("offer",), False, False, FALLBACK, TWO, (False, False)),
        (("offer",), False, True, FALLBACK, TWO, (False, True)),
        (("offer",), True, False, FALLBACK, TWO, (False, False)),
        (("offer",), True, True, FALLBACK, ONE, (True, True)),
        (("require",), False, False, ONE, TWO, (False, False)),
        (("require",), False, True, ONE, TWO, (False, True)),
        (("offer", "require"), True, True, ONE, ONE, (True, True)),
        (("demux",), False, False, TWO, TWO, (False, False)),
        (("demux",), True, False, TWO, ONE, (True, False)),
        (("accept",), False, False, TWO, TWO, (False, False)),
        (("accept",), True, False, FALLBACK, ONE, (True, False)),
        (("accept",), True, True, FALLBACK, ONE, (True, True)),
        (("reject",), True, False, FALLBACK, TWO, (False, False)),
        (("reject",), True, True, FALLBACK, TWO, (False, True)),
        (("offer", "reject"), False, True, FALLBACK, TWO, (False, True)),
        (("accept", "require"), True, True, ONE, ONE, (True, True)),
    ],
)
def test_the_matrix(
    stage: Stage,
    words: tuple[str, ...],
    offered: bool,
    accepted: bool,
    to_callee: str,
    to_caller: str,
    parties: tuple[bool, bool],
) -> None:
    assert exchange(stage, words, offered, accepted) == (to_callee, to_caller)
    assert muxed(stage) == parties
    assert len(stage.plane.rules()) == (2 if all(parties) else 4)


@pytest.mark.parametrize(
    ("words", "offered", "accepted", "again", "to_callee", "to_caller"),
    [
        ((), True, True, (), ONE, ONE),
        (("demux",), True, False, ("demux",), TWO, ONE),
        (("offer",), False, True, ("offer",), ONE, TWO),
        (("offer",), False, True, (), ONE, TWO),
    ],
)
def test_in_a_re_offer_a_party_keeps_what_it_agreed_to(
    stage: Stage,
    words: tuple[str, ...],
    offered: bool,
    accepted: bool,
    again: tuple[str, ...],
    to_callee: str,
    to_caller: str,
) -> None:
    exchange(stage, words, offered, accepted)
    assert exchange(stage, again, offered, accepted) == (to_callee, to_caller)


def test_a_party_that_was_demuxed_is_offered_mux_by_the_other(stage: Stage) -> None:
    exchange(stage, ("demux",), offered=True, accepted=False)
    offered = stage.offer([audio(BOB)], tags=("bob", "alice")).media[0]
    assert shown(offered) == ONE


def test_mux_can_be_given_up(stage: Stage) -> None:
    exchange(stage, (), offered=True, accepted=True)
    assert exchange(stage, (), offered=False, accepted=False) == (ONE, TWO)
    assert muxed(stage) == (False, False)


def test_two_answers_of_which_only_the_last_one_has_mux(stage: Stage) -> None:
    exchange(stage, (), offered=True, accepted=False)
    assert shown(stage.answer([audio(BOB, mux=True)]).media[0]) == ONE
    assert muxed(stage) == (True, True)


def test_rtcp_of_one_port_is_split_to_two_and_joined_again(stage: Stage) -> None:
    exchange(stage, ("demux",), offered=True, accepted=False)
    a, b = stage.ports()
    rules = stage.plane.installed
    assert (rules[a].split, rules[a].carries, rules[a].destination) == (True, BOTH, BOB)
    assert (rules[b].split, rules[b].carries, rules[b].destination) == (False, Carries.RTP, ALICE)
    assert (rules[above(a)].source, rules[above(a)].destination) == (above(b), above(BOB))
    assert (rules[above(b)].joined, rules[above(b)].destination) == (True, ALICE)
    assert rules[above(b)].destination_epoch == rules[a].source_epoch
    assert rules[above(b)].source == above(a)
    assert not rules[above(a)].joined


def test_the_callee_alone_on_one_port_mirrors_it(stage: Stage) -> None:
    exchange(stage, ("offer",), offered=False, accepted=True)
    a, b = stage.ports()
    rules = stage.plane.installed
    assert (rules[b].split, rules[a].split) == (True, False)
    assert (rules[above(a)].joined, rules[above(a)].destination) == (True, BOB)
    assert (rules[above(b)].joined, rules[above(b)].destination) == (False, above(ALICE))


def test_until_the_answer_rtcp_may_come_to_either_port(stage: Stage) -> None:
    stage.offer([audio(ALICE, mux=True)])
    a, b = stage.ports()
    rules = stage.plane.installed
    assert rules[a].carries == rules[b].carries == BOTH
    assert rules[above(a)].carries is rules[above(b)].carries is Carries.RTCP
    assert not any(rule.split or rule.joined for rule in rules.values())


def test_mux_is_of_no_use_to_what_is_not_rtp(stage: Stage) -> None:
    outcome = stage.offer([audio(ALICE, mux=True, kind="image", protocol="udptl")], Signal(mux=("offer",)))
    assert (outcome.media[0].rtcp, outcome.media[0].rtcp_mux) == (None, False)


def test_a_muxed_call_that_turns_to_fax_has_no_mux_in_it() -> None:
    stage = Stage()
    stage.offer([audio(ALICE, mux=True)])
    stage.answer([audio(BOB, mux=True)])
    stage.offer([audio(ALICE, kind="image", protocol="udptl")], tags=("alice", "bob"))
    (shown,) = stage.answer([audio(BOB, mux=True)]).media
    assert (shown.rtcp, shown.rtcp_mux) == (None, False)
    stage.check()
