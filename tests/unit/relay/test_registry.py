"""Calls in step with ports, rules and timers."""

from __future__ import annotations

import random
import struct
from ipaddress import ip_network

import pytest

from relay.call import Call, Signal
from relay.errors import DataplaneError, PortsExhausted, UnknownCall
from relay.ports import Interface, PortPool
from relay.registry import LoadLimit, Settings
from relay.types import Direction, Endpoint
from tests.calls import ALICE, BOB, HOST, Stage, above, audio

ELSEWHERE = Endpoint("198.51.100.77", 7000)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def answered(stage: Stage, call_id: str = "c1", direction: Direction = Direction.SENDRECV) -> Stage:
    stage.offer([audio(ALICE, direction=direction)], call_id=call_id)
    stage.answer([audio(BOB)], call_id=call_id)
    return stage


# -- admission


def test_beyond_the_limit_new_calls_are_refused_and_old_ones_served() -> None:
    stage = Stage(max_sessions=1)
    stage.offer()
    with pytest.raises(LoadLimit, match=r"^Parallel session limit reached$"):
        stage.offer(call_id="c2")
    stage.offer(tags=("alice", None))
    stage.answer()
    assert stage.registry.tally.rejected == 1
    stage.check()


def test_no_session_at_all_may_be_the_limit() -> None:
    with pytest.raises(LoadLimit):
        Stage(max_sessions=0).offer()


def test_a_limit_of_load_keeps_new_calls_out_alone(stage: Stage) -> None:
    stage.offer()
    stage.registry.refuse = lambda: "Load limit exceeded"
    with pytest.raises(LoadLimit, match=r"^Load limit exceeded$"):
        stage.offer(call_id="c2")
    stage.offer()
    stage.answer()
    assert (stage.registry.standing, stage.registry.tally.rejected) == (1, 1)


def test_a_relay_that_drains_serves_the_calls_it_has(stage: Stage) -> None:
    stage.offer()
    stage.registry.draining = True
    with pytest.raises(LoadLimit, match=r"^Parallel session limit reached$"):
        stage.offer(call_id="c2")
    stage.answer()
    stage.registry.draining = False
    stage.offer(call_id="c2")


def test_a_deleted_call_does_not_count() -> None:
    stage = Stage(max_sessions=1)
    stage.offer()
    stage.delete()
    stage.offer(call_id="c2")
    assert (stage.registry.standing, len(stage.registry)) == (1, 2)


def test_a_data_plane_that_fails_leaves_no_ports_behind() -> None:
    stage = Stage(limit=3)
    with pytest.raises(DataplaneError):
        stage.offer()
    assert stage.pool.drawn == len(stage.registry) == 0
    assert stage.registry.owner(Endpoint(HOST, 30000)) is None


def test_a_fault_of_the_data_plane_leaves_nothing_behind_either(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(rules: object) -> None:
        raise OSError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(stage.plane, "install", fault)
        with pytest.raises(OSError, match="out of memory"):
            stage.offer()
    assert stage.pool.drawn == len(stage.registry) == 0
    stage.offer()
    stage.check()


def test_a_fault_at_the_end_of_one_call_holds_up_no_other_and_is_tried_again(stage: Stage) -> None:
    faults = [OSError("the log is full")]

    def end(call: Call, reason: str) -> None:
        if faults:
            raise faults.pop()

    registry = stage.registry = type(stage.registry)(
        stage.plane, [stage.interface], stage.registry.settings, lambda: stage.now, end
    )
    for call_id in ("c1", "c2"):
        stage.offer(call_id=call_id)
        stage.delete(call_id, delay=0)
    with pytest.raises(OSError, match="the log is full"):
        registry.tick(stage.now)
    assert registry.tick(stage.now) == 1
    assert registry.call_ids(9) == ["c1"]
    stage.wait(60)
    assert registry.call_ids(9) == []
    assert stage.pool.drawn == 0


def test_a_data_plane_that_fails_later_leaves_the_call_to_be_mended() -> None:
    stage = Stage(limit=4)
    answered(stage)
    with pytest.raises(DataplaneError):
        stage.offer([audio(ELSEWHERE)], tags=("alice", "bob"))
    stage.plane.limit = None
    stage.offer([audio(ELSEWHERE)], tags=("alice", "bob"))
    stage.answer()
    stage.check()
    stage.delete(delay=0)
    stage.registry.tick(stage.now)
    assert stage.pool.drawn == 0
    assert stage.plane.rules() == []


def test_an_answer_revives_a_call_that_was_deleted_for_another_branch(stage: Stage) -> None:
    stage.offer()
    stage.delete()
    stage.wait(3)
    stage.answer()
    stage.wait(40)
    assert stage.registry.standing == 1
    assert stage.ended == []
    stage.wait(40)
    assert stage.ended == [("c1", "timeout")]
    assert stage.pool.drawn == stage.registry.standing == 0


def test_ports_come_back_after_the_delete_delay() -> None:
    stage = Stage(30000, 30003)
    answered(stage)
    stage.delete()
    with pytest.raises(PortsExhausted):
        stage.offer(call_id="c2")
    stage.wait(30)
    stage.offer(call_id="c2")
    stage.check()


# -- interfaces


def two_interfaces(stage: Stage) -> Stage:
    pool = PortPool(20000, 20099, random.Random(3).random)
    stage.serve([stage.interface, Interface("inner", "10.0.0.1", "10.0.0.1", pool)])
    return stage


def test_each_leg_has_the_interface_the_proxy_names(stage: Stage) -> None:
    two_interfaces(stage)
    stage.offer(signal=Signal(direction=("default", "inner")))
    a, b = stage.ports()
    assert (a.ip, b.ip) == (HOST, "10.0.0.1")
    stage.answer()
    stage.offer(tags=("alice", "bob"))
    assert stage.ports() == (a, b)


def test_an_unknown_interface_is_warned_of(stage: Stage) -> None:
    outcome = stage.offer(signal=Signal(direction=("external", "default")))
    assert outcome.warnings == ["no interface is called external: default is used"]


# -- the end of a call


def test_a_deleted_call_forwards_until_its_delay_is_over(stage: Stage) -> None:
    answered(stage)
    assert stage.delete() is not None
    stage.wait(29)
    assert len(stage.plane.rules()) == 4
    assert stage.registry.call_ids(32) == ["c1"]
    stage.wait(1)
    assert stage.plane.rules() == []
    assert stage.ended == [("c1", "deleted")]
    assert stage.registry.closed == {"deleted": 1}
    with pytest.raises(UnknownCall):
        stage.registry.query("c1")
    stage.check()


def test_ports_out_of_force_stay_silent(stage: Stage) -> None:
    answered(stage)
    stage.delete(delay=0)
    stage.registry.tick(stage.now)
    assert set(stage.plane.lingering.values()) == {30}


def test_deleting_again_does_not_put_the_end_off(stage: Stage) -> None:
    answered(stage)
    stage.delete()
    stage.wait(20)
    stage.delete()
    stage.wait(10)
    assert len(stage.registry) == 0


def test_deleting_again_may_bring_the_end_forward(stage: Stage) -> None:
    call = answered(stage).delete()
    assert call is not None
    stage.delete(delay=0)
    stage.registry.finish(call, stage.now)
    assert len(stage.registry) == 0


def test_an_offer_revives_a_deleted_call_on_its_ports(stage: Stage) -> None:
    answered(stage)
    ports = stage.ports()
    stage.delete()
    stage.wait(20)
    stage.offer()
    stage.wait(20)
    assert stage.ports() == ports
    assert stage.registry.standing == 1
    stage.check()


def test_a_revived_call_waits_for_its_answer_like_a_new_one(stage: Stage) -> None:
    answered(stage)
    stage.delete()
    stage.offer()
    stage.wait(600)
    assert stage.ended == []
    stage.answer()
    stage.wait(66)
    assert stage.ended == [("c1", "timeout")]


@pytest.mark.parametrize(("asked", "seconds"), [(1e9, 3600), (-5, 30), (2, 2)])
def test_a_delete_delay_has_its_bounds(stage: Stage, asked: float, seconds: float) -> None:
    call = answered(stage).delete(delay=asked)
    assert call is not None
    assert call.deleted == stage.now + seconds


def test_a_call_knows_the_proxy_that_spoke_last(stage: Stage) -> None:
    call = stage.offer(signal=Signal(controller="192.0.2.7")).call
    assert call.controller == "192.0.2.7"
    stage.answer()
    assert call.controller == "192.0.2.7"
    stage.delete(controller="192.0.2.8")
    assert call.controller == "192.0.2.8"


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ({}, True),
        ({"from_tag": "alice"}, True),
        ({"from_tag": "bob"}, True),
        ({"from_tag": "mallory"}, False),
        ({"from_tag": "mallory", "via_branch": "z9hG4bK1"}, True),
        ({"from_tag": "alice", "via_branch": "unknown"}, True),
        ({"from_tag": "mallory", "via_branch": "unknown"}, False),
        ({"from_tag": "alice", "to_tag": "unknown"}, True),
        ({"from_tag": "mallory", "to_tag": "bob"}, False),
        ({"from_tag": "mallory", "to_tag": "bob", "match_to_tag": True}, True),
        ({"from_tag": "alice", "to_tag": "unknown", "match_to_tag": True}, False),
    ],
)
def test_which_deletes_mean_a_call(stage: Stage, how: dict[str, str], found: bool) -> None:
    stage.offer(signal=Signal(via_branch="z9hG4bK1"))
    stage.answer()
    assert (stage.delete(**how) is not None) is found


def test_an_unanswered_call_is_known_by_its_caller_alone(stage: Stage) -> None:
    stage.offer()
    assert stage.delete(from_tag="alice", to_tag="bob", match_to_tag=True) is not None


def test_a_relay_that_stops_ends_all_calls(stage: Stage) -> None:
    answered(stage)
    for branch in ("one", "two"):
        stage.offer(call_id="forked", signal=Signal(via_branch=branch))
    stage.offer(call_id="deleted", tags=("carol", None))
    stage.registry.delete("deleted", stage.now, delay=30)
    stage.registry.stop(stage.now)
    assert stage.ended == [("c1", "the relay stopped"), ("forked", "the relay stopped"), ("deleted", "deleted")]
    assert stage.plane.rules() == []
    stage.check()


def test_an_operator_ends_a_call_at_once(stage: Stage) -> None:
    answered(stage)
    stage.registry.terminate("c1", stage.now)
    assert stage.ended == [("c1", "terminated by the operator")]
    assert stage.plane.rules() == []
    stage.check()


# -- timers


def test_a_call_without_media_times_out(stage: Stage) -> None:
    answered(stage)
    stage.wait(59)
    assert stage.ended == []
    stage.wait(7)
    assert stage.ended == [("c1", "timeout")]
    stage.check()


def test_media_on_one_stream_keeps_a_call(stage: Stage) -> None:
    answered(stage)
    a, _ = stage.ports()
    for _ in range(20):
        stage.wait(10)
        stage.plane.arrive(a, ALICE)
    assert stage.ended == []
    stage.wait(70)
    assert stage.ended == [("c1", "timeout")]


def test_stopping_streams_one_after_the_other_gains_no_time(stage: Stage) -> None:
    answered(stage)
    a, b = stage.ports()
    for _ in range(30):
        stage.plane.arrive(b, BOB)
        stage.plane.arrive(a, ALICE)
        stage.wait(1)
    for _ in range(200):
        stage.plane.arrive(a, ALICE)
        stage.wait(1)
    stage.wait(66)
    assert stage.ended == [("c1", "timeout")]


def test_a_held_call_may_be_silent_for_longer(stage: Stage) -> None:
    answered(stage, direction=Direction.INACTIVE)
    stage.wait(3500)
    assert stage.ended == []
    stage.wait(110)
    assert stage.ended == [("c1", "silent timeout")]


def test_an_offer_that_nobody_answers_ends(stage: Stage) -> None:
    stage.offer()
    stage.wait(3500)
    assert stage.ended == []
    stage.wait(110)
    assert stage.ended == [("c1", "offer timeout")]


def test_the_final_timeout_ends_any_call() -> None:
    stage = Stage(final_timeout=100)
    answered(stage)
    a, _ = stage.ports()
    for _ in range(110):
        stage.plane.arrive(a, ALICE)
        stage.wait(1)
    assert stage.ended == [("c1", "final timeout")]


def test_timeouts_of_0_never_end_a_call() -> None:
    stage = Stage(timeout=0, silent_timeout=0, offer_timeout=0)
    answered(stage)
    stage.wait(100_000)
    assert stage.ended == []


def test_a_command_counts_as_life(stage: Stage) -> None:
    answered(stage)
    stage.wait(50)
    stage.offer(tags=("alice", "bob"))
    stage.answer()
    stage.wait(50)
    assert stage.ended == []


def test_idle_time_costs_no_look_at_any_call(stage: Stage) -> None:
    for number in range(50):
        answered(stage, f"c{number}")
    looked: list[Endpoint] = []
    packets = stage.plane.packets
    stage.plane.packets = lambda local: looked.append(local) or packets(local)  # type: ignore[method-assign,func-returns-value]
    stage.now += 1
    stage.registry.tick(stage.now)
    assert looked == []


def test_the_timers_books_do_not_grow(stage: Stage) -> None:
    answered(stage)
    for _ in range(500):
        stage.offer(tags=("alice", "bob"))
        stage.delete()
    stage.wait(31)
    assert len(stage.registry._agenda) == 0


# -- other settings


def test_shorter_limits_hold_for_calls_that_stand(stage: Stage) -> None:
    answered(stage)
    stage.registry.reload(Settings(timeout=5))
    stage.wait(7)
    assert stage.ended == [("c1", "timeout")]


def test_longer_limits_hold_for_calls_that_stand(stage: Stage) -> None:
    answered(stage)
    stage.registry.reload(Settings(timeout=600))
    stage.wait(500)
    assert stage.ended == []


def test_networks_denied_later_are_sent_to_no_more(stage: Stage) -> None:
    answered(stage)
    a, b = stage.ports()
    stage.registry.reload(Settings(denied=(ip_network("198.51.100.0/24"),)))
    assert (stage.plane.installed[b].destination, stage.plane.installed[a].destination) == (None, BOB)
    stage.check()
    stage.registry.reload(Settings())
    assert stage.plane.installed[b].destination == ALICE
    stage.check()


@pytest.mark.parametrize(("said", "taken"), [(None, True), (True, True), (False, False)])
def test_the_proxy_decides_whose_address_is_taken(said: bool | None, taken: bool) -> None:
    stage = Stage(sip_source=True)
    stage.offer(signal=Signal("203.0.113.99", sip_source=said))
    destination = stage.plane.installed[stage.ports()[1]].destination
    assert destination == (Endpoint("203.0.113.99", ALICE.port) if taken else ALICE)


# -- what packets tell


def test_a_learned_source_is_kept_for_its_stream(stage: Stage) -> None:
    answered(stage)
    a, b = stage.ports()
    source = Endpoint("198.51.100.10", 61000)
    stage.plane.arrive(a, source)
    call = stage.registry.query("c1")
    assert (call.legs[0].medias[0].rtp.observed, call.legs[0].medias[0].rtp.confirmed) == (source, True)
    assert call.legs[1].medias[0].rtp.observed is None
    stage.registry.learned(Endpoint(HOST, 4), source, True)
    stage.registry.learned(above(b), source, False)
    assert call.legs[1].medias[0].rtcp.observed == source


def sender_report(ntp: int, ssrc: int) -> bytes:
    return struct.pack("!BBHIQIII", 0x80, 200, 6, ssrc, ntp << 16, 0, 1, 1)


def receiver_report(about: int, last: int, delay: float, fraction: int = 0, jitter: int = 0) -> bytes:
    return struct.pack("!BBHIIIIIII", 0x81, 201, 7, 9, about, fraction << 24, 0, jitter, last, int(delay * 65536))


def test_round_trips_are_found_between_two_parties_reports(stage: Stage) -> None:
    answered(stage)
    a, b = stage.ports()
    stage.plane.arrive_rtcp(above(a), above(ALICE), sender_report(7, 0xA))
    stage.now += 0.75
    stage.plane.arrive_rtcp(above(b), above(BOB), receiver_report(0xA, 7, 0.5, fraction=64, jitter=80))
    heard = stage.registry.query("c1").legs[1].medias[0].heard
    assert heard is not None
    assert heard.ssrc == 0xA
    assert heard.last.round_trip == pytest.approx(0.25)
    assert (heard.last.loss_percent, heard.last.jitter_ms) == (25, 10)


def test_rtcp_from_elsewhere_says_nothing(stage: Stage) -> None:
    answered(stage)
    _, b = stage.ports()
    stage.plane.arrive(above(b), above(BOB))
    stage.registry.rtcp(above(b), ELSEWHERE, receiver_report(0xA, 0, 0))
    assert stage.registry.query("c1").legs[1].medias[0].heard is None


def test_rtcp_of_a_source_that_is_not_confirmed_says_nothing(stage: Stage) -> None:
    answered(stage)
    _, b = stage.ports()
    stage.plane.arrive(above(b), above(BOB), confirm=False)
    stage.registry.rtcp(above(b), above(BOB), receiver_report(0xA, 0, 0))
    assert stage.registry.query("c1").legs[1].medias[0].heard is None


def test_a_lost_event_is_made_up_for_when_rtcp_comes(stage: Stage) -> None:
    answered(stage)
    _, b = stage.ports()
    stage.plane.arrive(above(b), above(BOB))
    stage.registry.learned(above(b), ELSEWHERE, True)
    stage.registry.rtcp(above(b), above(BOB), receiver_report(0xA, 0, 0))
    assert stage.registry.query("c1").legs[1].medias[0].heard is not None


def test_encrypted_rtcp_is_not_read(stage: Stage) -> None:
    stage.offer([audio(ALICE, protocol="RTP/SAVP")])
    stage.answer([audio(BOB, protocol="RTP/SAVP")])
    _, b = stage.ports()
    stage.plane.arrive_rtcp(above(b), above(BOB), receiver_report(0xA, 0, 0))
    assert stage.registry.query("c1").legs[1].medias[0].heard is None


def test_packets_of_ports_let_go_stay_in_the_totals(stage: Stage) -> None:
    answered(stage)
    _, b = stage.ports()
    stage.plane.arrive(b, BOB, packets=5)
    stage.plane.arrive(above(b), above(BOB), size=60, packets=2)
    stage.offer([audio(ELSEWHERE)], tags=("alice", "bob"))
    stage.answer()
    call = stage.registry.query("c1")
    assert (call.gone_rtp.packets, call.gone_rtcp.packets, call.gone_rtcp.bytes) == (5, 2, 120)
    stage.registry.terminate("c1", stage.now)
    assert stage.registry.tally.packets == 7


def test_a_reoffer_that_finds_no_room_leaves_the_call_as_it_was() -> None:
    stage = answered(Stage(30000, 30003))
    call = stage.registry.query("c1")
    before = (call.tos, call.strict_source, dict(call.tags), dict(call.rules))
    asked = Signal(tos=184, strict_source=True)
    with pytest.raises(PortsExhausted):
        stage.offer([audio(ALICE), audio(above(ALICE))], asked, tags=("alice's other", "bob"))
    assert (call.tos, call.strict_source, call.tags, call.rules) == before
    stage.check()
