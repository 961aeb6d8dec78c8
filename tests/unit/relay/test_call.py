"""Offers and answers over the life of a call: which ports, which endpoints, when something is learned anew."""

from __future__ import annotations

import pytest

from relay.call import Signal
from relay.errors import CallError, PortsExhausted, UnknownCall
from relay.types import Carries, Direction, Endpoint, Learning, LocalMedia
from tests.calls import ALICE, BOB, HOST, Stage, above, audio

ELSEWHERE = Endpoint("198.51.100.77", 7000)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def standing(stage: Stage) -> Stage:
    """With one answered call."""
    stage.offer()
    stage.answer()
    return stage


def shown(media: list[LocalMedia]) -> list[Endpoint | None]:
    return [one.rtp for one in media]


def epochs(stage: Stage) -> list[int]:
    return [stream.epoch for leg in stage.registry.query("c1").legs for stream in leg.medias[0].streams]


# -- the first exchange


def test_each_party_is_shown_the_port_that_faces_it(stage: Stage) -> None:
    offered = stage.offer().media
    answered = stage.answer().media
    a, b = stage.ports()
    assert offered == [LocalMedia(b, above(b))]
    assert answered == [LocalMedia(a, above(a))]
    assert a != b
    assert a.port % 2 == b.port % 2 == 0
    stage.check()


def test_a_repeated_answer_changes_nothing(standing: Stage) -> None:
    installed = standing.plane.counters()["installed"]
    before = standing.answer().media
    assert standing.answer().media == before
    assert standing.plane.counters()["installed"] == installed


def test_a_repeated_offer_keeps_ports_and_epochs(standing: Stage) -> None:
    before = epochs(standing)
    ports = standing.ports()
    installed = standing.plane.counters()["installed"]
    standing.offer(tags=("alice", "bob"))
    standing.answer()
    assert (standing.ports(), epochs(standing)) == (ports, before)
    assert standing.plane.counters()["installed"] == installed


def test_directions_pass_through(stage: Stage) -> None:
    offered = stage.offer([audio(ALICE, direction=Direction.SENDONLY)]).media
    answered = stage.answer([audio(BOB, direction=Direction.RECVONLY)]).media
    assert offered[0].direction is Direction.SENDONLY
    assert answered[0].direction is Direction.RECVONLY


def test_a_late_offer_from_the_callee_is_a_call_like_any_other(stage: Stage) -> None:
    stage.offer([audio(BOB)], tags=("bob", "alice"))
    stage.answer([audio(ALICE)], tags=("bob", "alice"))
    call = stage.registry.query("c1")
    assert [leg.tag for leg in call.legs] == ["bob", "alice"]
    stage.check()


def test_an_answer_to_no_call_is_refused(stage: Stage) -> None:
    with pytest.raises(UnknownCall, match=r"^Unknown call-id$"):
        stage.answer()


def test_an_answer_between_strangers_is_refused(standing: Stage) -> None:
    with pytest.raises(CallError, match=r"^Invalid dialogue association$"):
        standing.answer(tags=("mallory", "trudy"))


def test_an_answer_to_what_was_never_offered_takes_nothing_away(stage: Stage) -> None:
    stage.offer()
    ports, rules = stage.ports(), set(stage.plane.rules())
    stage.answer([audio(ALICE)], tags=("bob", "alice"))
    assert (stage.ports(), set(stage.plane.rules())) == (ports, rules)


# -- forking


def test_another_branch_answers_on_the_same_ports(standing: Stage) -> None:
    ports = standing.ports()
    standing.answer([audio(ELSEWHERE)], tags=("alice", "carol"))
    call = standing.registry.query("c1")
    assert standing.ports() == ports
    assert call.legs[1].tags == ["bob", "carol"]
    assert standing.plane.installed[ports[0]].destination == ELSEWHERE


def test_a_branch_may_offer_under_its_own_tag(standing: Stage) -> None:
    standing.answer([audio(ELSEWHERE)], tags=("alice", "carol"))
    outcome = standing.offer([audio(ELSEWHERE)], tags=("carol", "alice"))
    assert shown(outcome.media) == [standing.ports()[0]]


def test_names_are_forgotten_before_they_pile_up(standing: Stage) -> None:
    for number in range(100):
        standing.answer(tags=("alice", f"branch{number}"))
    call = standing.registry.query("c1")
    assert call.legs[1].tag == "bob"
    assert len(call.tags) < 40


# -- re-INVITE


def test_a_moved_offerer_gets_a_new_port_towards_the_other(standing: Stage) -> None:
    a, b = standing.ports()
    outcome = standing.offer([audio(ELSEWHERE)], tags=("alice", "bob"))
    new_a, new_b = standing.ports()
    assert new_a == a
    assert new_b != b
    assert shown(outcome.media) == [new_b]
    standing.check()


def test_media_in_flight_keeps_its_rule_until_the_answer(standing: Stage) -> None:
    _, b = standing.ports()
    before = standing.plane.installed[b]
    standing.offer([audio(ELSEWHERE)], tags=("alice", "bob"))
    assert standing.plane.installed[b] == before
    standing.answer(tags=("alice", "bob"))
    assert b not in standing.plane.installed
    assert above(b) not in standing.plane.installed
    standing.check()


def test_moving_again_before_the_answer_keeps_only_the_port_in_use(standing: Stage) -> None:
    _, b = standing.ports()
    standing.offer([audio(ELSEWHERE)], tags=("alice", "bob"))
    _, unused = standing.ports()
    standing.offer([audio(ALICE)], tags=("alice", "bob"))
    assert b in standing.plane.installed
    assert unused not in standing.plane.installed
    standing.check()
    standing.answer()
    assert standing.pool.drawn == 2


def test_the_callee_may_offer_and_move(standing: Stage) -> None:
    a, b = standing.ports()
    outcome = standing.offer([audio(ELSEWHERE)], tags=("bob", "alice"))
    new_a, new_b = standing.ports()
    assert shown(outcome.media) == [new_a]
    assert new_a != a
    assert new_b == b
    assert shown(standing.answer([audio(ALICE)], tags=("bob", "alice")).media) == [b]
    standing.check()


def test_the_callee_is_known_by_the_callers_tag(standing: Stage) -> None:
    outcome = standing.offer([audio(BOB)], tags=("bob2", "alice"))
    assert shown(outcome.media) == [standing.ports()[0]]


@pytest.mark.parametrize(
    ("changes", "signal"),
    [
        ({"direction": Direction.SENDONLY}, Signal()),
        ({"direction": Direction.INACTIVE}, Signal()),
        ({"held": True}, Signal()),
        ({}, Signal(port_latching=True)),
    ],
)
def test_ports_stay_on_hold_and_with_latching(standing: Stage, changes: dict[str, object], signal: Signal) -> None:
    ports = standing.ports()
    standing.offer([audio(ELSEWHERE, **changes)], signal, tags=("alice", "bob"))  # type: ignore[arg-type]
    assert standing.ports() == ports


def test_hold_to_nowhere_remembers_the_endpoint(standing: Stage) -> None:
    before = epochs(standing)
    nowhere = Endpoint("0.0.0.0", ALICE.port)
    held = standing.offer([audio(nowhere, held=True, direction=Direction.SENDONLY)], tags=("alice", "bob")).media
    assert held[0].held
    assert held[0].direction is Direction.SENDONLY
    assert standing.plane.installed[standing.ports()[1]].destination == ALICE
    standing.answer()
    standing.offer(tags=("alice", "bob"))
    standing.answer()
    assert epochs(standing) == before


def test_a_hold_from_the_start_has_no_destination(stage: Stage) -> None:
    stage.offer([audio(Endpoint("0.0.0.0", 4000), held=True)])
    assert stage.plane.installed[stage.ports()[1]].destination is None


# -- what is learned of a party


def test_a_confirmed_source_keeps_its_standing_on_a_new_port(standing: Stage) -> None:
    _, b = standing.ports()
    behind_nat = Endpoint(BOB.ip, 61000)
    standing.plane.arrive(b, behind_nat)
    standing.offer([audio(ELSEWHERE)], tags=("alice", "bob"))
    _, new_b = standing.ports()
    assert standing.plane.installed[new_b].known_source == behind_nat
    assert standing.plane.installed[above(new_b)].known_source is None


def test_a_source_nobody_signalled_has_to_prove_itself_again(standing: Stage) -> None:
    _, b = standing.ports()
    standing.plane.arrive(b, Endpoint("198.51.100.66", 6))
    standing.offer([audio(ELSEWHERE)], tags=("alice", "bob"))
    assert standing.plane.installed[standing.ports()[1]].known_source is None


def test_what_is_known_ends_with_the_epoch(standing: Stage) -> None:
    _, b = standing.ports()
    standing.plane.arrive(b, Endpoint(BOB.ip, 61000))
    standing.offer([audio(ELSEWHERE)], tags=("alice", "bob"))
    standing.answer([audio(Endpoint(BOB.ip, 5100))])
    assert standing.plane.installed[standing.ports()[1]].known_source is None


def test_a_reset_learns_the_offerer_anew_and_changes_no_port(standing: Stage) -> None:
    before, (a, b) = epochs(standing), standing.ports()
    standing.plane.arrive(a, Endpoint(ALICE.ip, 61000))
    call = standing.offer(signal=Signal(reset=True), tags=("alice", "bob")).call
    assert standing.ports() == (a, b)
    assert standing.ended == []
    assert call.legs[0].medias[0].rtp.observed is None
    assert [now != then for now, then in zip(epochs(standing), before, strict=True)] == [True, True, False, False]
    standing.check()


@pytest.mark.parametrize(
    "signal",
    [Signal(received_from="198.51.100.99"), Signal(learning=Learning.OFF), Signal(asymmetric=True)],
)
def test_what_opens_a_window_is_a_new_epoch(standing: Stage, signal: Signal) -> None:
    before = epochs(standing)
    standing.offer(signal=signal, tags=("alice", "bob"))
    assert epochs(standing) == [before[0] + 1, before[1] + 1, *before[2:]]


def test_what_does_not_open_a_window_is_none(standing: Stage) -> None:
    before = epochs(standing)
    standing.offer(signal=Signal(tos=184, strict_source=True, label="x"), tags=("alice", "bob"))
    assert epochs(standing) == before


def test_asymmetric_learns_nothing_of_its_sender_alone(stage: Stage) -> None:
    stage.offer(signal=Signal(asymmetric=True))
    stage.answer()
    a, b = stage.ports()
    assert stage.plane.installed[a].learning is Learning.OFF
    assert stage.plane.installed[b].learning is Learning.DELAYED


def test_the_address_of_the_signalling_can_stand_for_the_sdps(stage: Stage) -> None:
    stage.offer(signal=Signal(received_from="203.0.113.99", sip_source=True))
    assert stage.plane.installed[stage.ports()[1]].destination == Endpoint("203.0.113.99", ALICE.port)


# -- several m-lines


def test_lines_are_added_and_rejected(standing: Stage) -> None:
    two = [audio(ALICE), audio(ELSEWHERE, kind="video")]
    offered = standing.offer(two, tags=("alice", "bob")).media
    assert None not in shown(offered)
    assert standing.pool.drawn == 4
    answered = standing.answer([audio(BOB), audio(BOB, kind="video", rejected=True)]).media
    assert shown(answered) == [standing.ports()[0], None]
    assert standing.pool.drawn == 2
    standing.check()


def test_a_line_offered_with_port_0_keeps_its_ports_until_answered(standing: Stage) -> None:
    ports = standing.ports()
    offered = standing.offer([audio(ALICE, rejected=True)], tags=("alice", "bob")).media
    assert shown(offered) == [None]
    assert ports[0] in standing.plane.installed
    answered = standing.answer([audio(BOB, rejected=True)]).media
    assert shown(answered) == [None]
    assert standing.plane.installed == {}
    assert standing.pool.drawn == 0


def test_a_rejected_line_can_come_back(standing: Stage) -> None:
    standing.offer([audio(ALICE, rejected=True)], tags=("alice", "bob"))
    standing.answer([audio(BOB, rejected=True)])
    standing.offer(tags=("alice", "bob"))
    assert None not in shown(standing.answer().media)
    standing.check()


def test_an_answer_cannot_add_lines(stage: Stage) -> None:
    stage.offer()
    assert shown(stage.answer([audio(BOB), audio(ELSEWHERE)]).media) == [stage.ports()[0], None]
    stage.check()


def test_messages_pass_by_with_their_own_address(stage: Stage) -> None:
    outcome = stage.offer([audio(ALICE, kind="message", protocol="TCP/MSRP"), audio(ELSEWHERE)])
    assert outcome.media[0] == LocalMedia(ALICE)
    assert stage.pool.drawn == 2
    answered = stage.answer([audio(BOB, kind="message", protocol="TCP/MSRP"), audio(BOB)])
    assert answered.media[0] == LocalMedia(BOB)
    stage.check()


def test_audio_may_turn_into_fax(standing: Stage) -> None:
    standing.offer([audio(ELSEWHERE, kind="image", protocol="udptl")], tags=("alice", "bob"))
    standing.answer([audio(BOB, kind="image", protocol="udptl")])
    a, b = standing.ports()
    assert standing.plane.installed.keys() == {a, b}
    assert standing.plane.installed[a].carries is Carries.OPAQUE
    standing.check()


def test_mux_ends_with_an_offer_that_does_not_want_it(stage: Stage) -> None:
    stage.offer([audio(ALICE, mux=True)])
    assert stage.answer([audio(BOB, mux=True)]).media[0].rtcp_mux
    a, b = stage.ports()
    assert stage.answer([audio(BOB, mux=True)]).media[0].rtcp == a
    stage.offer(tags=("alice", "bob"))
    assert above(b) in stage.plane.installed
    assert not stage.answer().media[0].rtcp_mux
    assert stage.plane.installed[a].carries is Carries.RTP


# -- refusals


def test_a_calls_own_port_is_refused_as_its_endpoint(standing: Stage) -> None:
    a, b = standing.ports()
    for own in (a, b, above(b)):
        outcome = standing.answer([audio(own)])
        assert outcome.warnings[0] == f"media 1: nothing is sent to {own}, a port of this very call"
        assert standing.plane.installed[a].destination is None


def test_another_calls_port_is_a_fine_endpoint(standing: Stage) -> None:
    _, b = standing.ports()
    outcome = standing.offer([audio(b)], call_id="c2")
    assert outcome.warnings == []
    assert standing.plane.installed[standing.ports("c2")[1]].destination == b


def test_a_refused_endpoint_is_named(stage: Stage) -> None:
    outcome = stage.offer([audio(Endpoint("224.0.0.5", 4000))])
    assert outcome.warnings == [
        "media 1: nothing is sent to 224.0.0.5:4000, a multicast address",
        "media 1: nothing is sent to 224.0.0.5:4001, a multicast address",
    ]


def test_a_good_endpoint_after_a_refused_one_is_used(stage: Stage) -> None:
    stage.offer([audio(Endpoint("224.0.0.5", 4000))])
    stage.offer()
    assert stage.plane.installed[stage.ports()[1]].destination == ALICE


# -- when ports are short


def test_an_offer_without_room_leaves_a_standing_call_alone() -> None:
    stage = Stage(30000, 30003)
    stage.offer()
    stage.answer()
    ports, rules = stage.ports(), dict(stage.plane.installed)
    for media in ([audio(ELSEWHERE)], [audio(ALICE), audio(ELSEWHERE)]):
        with pytest.raises(PortsExhausted):
            stage.offer(media, tags=("alice", "bob"))
        assert (stage.ports(), stage.plane.installed) == (ports, rules)
        stage.check()


def test_nothing_is_left_of_a_call_that_found_no_room() -> None:
    stage = Stage(30000, 30005)
    with pytest.raises(PortsExhausted):
        stage.offer([audio(ALICE), audio(ELSEWHERE)])
    assert len(stage.registry) == stage.pool.drawn == 0
    stage.offer()
    stage.check()


def test_the_advertised_address_is_shown_and_the_own_one_used() -> None:
    stage = Stage(advertised="203.0.113.250")
    outcome = stage.offer()
    _, b = stage.ports()
    assert b.ip == HOST
    assert shown(outcome.media) == [Endpoint("203.0.113.250", b.port)]
    own = Endpoint("203.0.113.250", b.port)
    assert stage.answer([audio(own)]).warnings[0].endswith("a port of this very call")


def test_a_port_that_a_party_named_before_it_was_drawn_is_the_calls_own() -> None:
    stage = Stage(30000, 30007)
    call = stage.offer().call
    free = next(port for port in range(30000, 30008, 2) if port not in [pair for _, pair in call.pairs()])
    named = Endpoint(HOST, free)
    stage.answer([audio(named)])
    assert stage.plane.installed[stage.ports()[0]].destination == named
    stage.offer([audio(ALICE), audio(above(ALICE))], tags=("alice", "bob"))
    assert free in [pair for _, pair in call.pairs()]
    assert stage.plane.installed[stage.ports()[0]].destination is None
    assert named not in [rule.destination for rule in stage.plane.installed.values()]
