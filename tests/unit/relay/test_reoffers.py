"""What is in force of an answered call stays in force until the next answer, whatever an offer asks for."""

from __future__ import annotations

import pytest

from relay.call import Signal
from relay.types import Carries, Direction, Endpoint
from tests.calls import ALICE, BOB, Stage, above, audio

ELSEWHERE = Endpoint("198.51.100.77", 7000)
BEHIND_NAT = Endpoint(BOB.ip, 61000)
FAX = {"kind": "image", "protocol": "udptl"}


@pytest.fixture
def stage() -> Stage:
    """With one answered call, whose callee is behind a NAT."""
    stage = Stage()
    stage.offer()
    stage.answer()
    stage.plane.arrive(stage.ports()[1], BEHIND_NAT)
    return stage


def moved(stage: Stage) -> tuple[Endpoint, Endpoint, Endpoint]:
    """The caller offers from elsewhere: its port, the callee's old one and its new one."""
    a, b = stage.ports()
    stage.offer([audio(ELSEWHERE)], tags=("alice", "bob"))
    stage.check()
    return a, b, stage.ports()[1]


def test_a_party_behind_nat_hears_from_the_port_it_knows_until_it_answers(stage: Stage) -> None:
    before = dict(stage.plane.installed)
    a, b, new = moved(stage)
    assert {local: stage.plane.installed[local] for local in before} == before
    assert stage.plane.installed[a].source == b
    stage.answer()
    assert stage.plane.installed[a].source == new
    assert stage.plane.installed[new].known_source == BEHIND_NAT
    assert b not in stage.plane.installed
    stage.check()


def test_early_media_on_the_new_port_already_reaches_the_new_place(stage: Stage) -> None:
    a, _, new = moved(stage)
    assert (stage.plane.installed[new].source, stage.plane.installed[new].destination) == (a, ELSEWHERE)
    assert stage.plane.installed[above(new)].destination == above(ELSEWHERE)


def test_a_re_offer_that_is_refused_leaves_the_call_as_it_was(stage: Stage) -> None:
    a, _, new = moved(stage)
    rules = {local: rule for local, rule in stage.plane.installed.items() if local.port & ~1 != new.port}
    stage.offer(tags=("alice", "bob"))
    assert {local: rule for local, rule in stage.plane.installed.items() if local in rules} == rules
    assert new not in stage.plane.installed
    stage.answer()
    assert stage.plane.installed[a].destination == BOB
    assert stage.pool.drawn == 2
    stage.check()


def test_media_on_the_old_port_alone_keeps_a_call_whose_re_offer_was_refused(stage: Stage) -> None:
    _, b, _ = moved(stage)
    for _ in range(20):
        stage.wait(10)
        stage.plane.arrive(b, BEHIND_NAT)
    assert stage.ended == []
    stage.wait(70)
    assert stage.ended == [("c1", "timeout")]


def test_what_is_learned_meanwhile_is_of_where_the_party_was(stage: Stage) -> None:
    a, _, _ = moved(stage)
    stage.registry.learned(a, ALICE, True)
    assert stage.registry.query("c1").legs[0].medias[0].rtp.observed is None
    stage.answer()
    stage.registry.learned(a, ELSEWHERE, True)
    assert stage.registry.query("c1").legs[0].medias[0].rtp.observed == ELSEWHERE


def test_an_offer_that_was_never_answered_gives_way_to_the_next_at_once() -> None:
    stage = Stage()
    stage.offer()
    _, b = stage.ports()
    stage.offer([audio(ELSEWHERE)])
    assert b not in stage.plane.installed
    assert stage.plane.installed[stage.ports()[1]].destination == ELSEWHERE
    stage.check()


def test_a_provisional_answer_counts_for_what_is_in_force() -> None:
    stage = Stage()
    stage.offer()
    stage.answer(signal=Signal(provisional=True))
    _, b = stage.ports()
    stage.offer([audio(ELSEWHERE)], tags=("alice", "bob"))
    assert b in stage.plane.installed


def test_ports_of_a_deleted_call_with_an_open_re_offer_all_come_back(stage: Stage) -> None:
    moved(stage)
    stage.delete()
    stage.wait(30)
    assert (stage.pool.drawn, stage.plane.rules()) == (0, [])


def test_ice_finds_its_own_way_on_the_same_ports(stage: Stage) -> None:
    ports = stage.ports()
    stage.offer([audio(ELSEWHERE)._replace(ice=True)], tags=("alice", "bob"))
    assert stage.ports() == ports


# -- audio, fax and back


def test_fax_is_offered_beside_the_audio_in_force(stage: Stage) -> None:
    before = dict(stage.plane.installed)
    stage.offer([audio(ALICE, **FAX)], tags=("alice", "bob"))  # type: ignore[arg-type]
    assert stage.plane.installed == before
    stage.answer([audio(BOB, **FAX)])  # type: ignore[arg-type]
    assert {rule.carries for rule in stage.plane.installed.values()} == {Carries.OPAQUE}
    assert set(stage.plane.rules()) == set(stage.ports())
    stage.check()


def test_fax_that_is_refused_leaves_the_audio(stage: Stage) -> None:
    before = dict(stage.plane.installed)
    stage.offer([audio(ALICE, **FAX)], tags=("alice", "bob"))  # type: ignore[arg-type]
    stage.offer(tags=("alice", "bob"))
    stage.answer()
    assert stage.plane.installed == before


def test_audio_comes_back_on_the_line(stage: Stage) -> None:
    ports = stage.ports()
    for media in (FAX, {}, FAX, {}):
        stage.offer([audio(BOB, **media)], tags=("bob", "alice"))  # type: ignore[arg-type]
        stage.answer([audio(ALICE, **media)], tags=("bob", "alice"))  # type: ignore[arg-type]
        stage.check()
    assert stage.ports() == ports
    assert {rule.carries for rule in stage.plane.installed.values()} == {Carries.RTP, Carries.RTCP}


# -- transport protocols


@pytest.mark.parametrize(
    ("own", "wanted", "shown"),
    [
        ("RTP/AVP", "RTP/AVPF", "RTP/AVPF"),
        ("RTP/AVPF", "RTP/AVP", "RTP/AVP"),
        ("RTP/SAVP", "RTP/SAVPF", "RTP/SAVPF"),
        ("UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVP"),
        ("RTP/AVP", "RTP/AVP", None),
        ("RTP/AVP", "RTP/SAVP", None),
        ("RTP/SAVP", "RTP/AVP", None),
        ("RTP/SAVP", "UDP/TLS/RTP/SAVP", None),
        ("RTP/AVP", None, None),
    ],
)
def test_profiles_with_and_without_feedback_are_converted(own: str, wanted: str | None, shown: str | None) -> None:
    stage = Stage()
    assert stage.offer([audio(ALICE, protocol=own)], Signal(transport=wanted)).media[0].protocol == shown
    assert stage.answer([audio(BOB, protocol=shown or own)]).media[0].protocol == (own if shown else None)


def test_a_party_keeps_its_profile_over_re_offers() -> None:
    stage = Stage()
    stage.offer(signal=Signal(transport="RTP/AVPF"))
    stage.answer([audio(BOB, protocol="RTP/AVPF")])
    assert stage.offer(tags=("alice", "bob")).media[0].protocol == "RTP/AVPF"
    stage.answer([audio(BOB, protocol="RTP/AVPF")])
    assert stage.offer([audio(BOB, protocol="RTP/AVPF")], tags=("bob", "alice")).media[0].protocol == "RTP/AVP"
    assert stage.offer([audio(BOB)], tags=("bob", "alice")).media[0].protocol is None


def test_what_is_not_rtp_is_never_converted() -> None:
    stage = Stage()
    fax = audio(ALICE, kind="image", protocol="udptl")
    assert stage.offer([fax], Signal(transport="RTP/AVP")).media[0].protocol is None


# -- hold


@pytest.mark.parametrize("how", [{"direction": Direction.INACTIVE}, {"direction": Direction.SENDONLY}, {"held": True}])
def test_hold_and_back_changes_no_rule(stage: Stage, how: dict[str, object]) -> None:
    before = dict(stage.plane.installed)
    where = Endpoint("0.0.0.0", ALICE.port) if "held" in how else ALICE
    stage.offer([audio(where, **how)], tags=("alice", "bob"))  # type: ignore[arg-type]
    stage.answer([audio(BOB, direction=Direction.RECVONLY)])
    stage.offer(tags=("alice", "bob"))
    stage.answer()
    assert stage.plane.installed == before
