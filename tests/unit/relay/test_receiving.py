"""Calls that come from the journal or from another node, and go when they end there."""

from __future__ import annotations

import random
from typing import Any

import pytest

from relay.call import Signal, Who
from relay.dataplane.memory import MemoryDataplane
from relay.errors import DataplaneError, PortsExhausted, PortsTaken
from relay.ports import Interface, PortPool
from relay.types import Endpoint, Treatment
from tests.calls import ALICE, BOB, HOST, Stage, above, audio
from tests.keeping import Told, copied, written

MOVED = Endpoint("198.51.100.11", 4100)
NAT = Endpoint("198.51.100.99", 61000)
OWN = "192.0.2.2"


def partner(limit: int | None = None, share: int = 10, **settings: Any) -> Stage:
    """A relay with an address of its own, that holds calls of `HOST` ready and draws from the last pairs of it."""
    stage = Stage(limit=limit, **settings)
    theirs = PortPool(30000, 30999, random.Random(5).random, [(30000, 30999 - 2 * share)])
    own = PortPool(30000, 30999, random.Random(6).random)
    stage.serve([Interface("default", OWN, OWN, own), Interface("default", HOST, HOST, theirs, home=1)])
    return stage


@pytest.fixture
def home() -> Stage:
    stage = Stage()
    stage.offer()
    stage.answer()
    return stage


@pytest.fixture
def guest() -> Stage:
    return partner()


def test_a_partners_call_is_ready_where_it_stands(home: Stage, guest: Stage) -> None:
    call = copied(home, guest)
    assert guest.plane.installed == home.plane.installed
    assert guest.registry.find("c1") is call
    assert guest.registry.owner(guest.ports()[0]) is call
    assert (guest.registry.own, guest.registry.foreign, guest.registry.standing, len(guest.registry)) == (0, 1, 1, 1)
    assert (guest.registry.tally.received, guest.registry.tally.managed, guest.registry.tally.restored) == (1, 0, 0)
    guest.check()


def test_a_call_of_this_node_is_restored_as_its_own(home: Stage) -> None:
    again = Stage()
    copied(home, again, foreign=False)
    assert (again.registry.own, again.registry.foreign, again.registry.tally.restored) == (1, 0, 1)
    again.check()
    again.offer(tags=("alice", "bob"))
    again.answer()
    again.delete(delay=0)
    again.registry.tick(again.now)
    assert again.drawn == 0


def test_calls_of_others_do_not_count_against_the_limit(home: Stage) -> None:
    guest = partner(max_sessions=1)
    copied(home, guest)
    guest.offer(call_id="c2")
    assert guest.command("statistics")["statistics"]["currentstatistics"]["sessionsforeign"] == 1


def test_the_same_record_again_touches_nothing(home: Stage, guest: Stage) -> None:
    copied(home, guest)
    before = guest.plane.counters()["installed"]
    copied(home, guest)
    assert guest.plane.counters()["installed"] == before
    assert guest.registry.tally.received == 1
    guest.check()


def test_an_update_changes_what_differs_and_keeps_what_was_counted(home: Stage, guest: Stage) -> None:
    copied(home, guest)
    caller, callee = guest.ports()
    guest.plane.arrive(caller, NAT, packets=5)
    home.offer([audio(ALICE), audio(ALICE, kind="video")], tags=("alice", "bob"))
    home.answer([audio(BOB), audio(BOB, kind="video")])
    copied(home, guest)
    assert guest.plane.packets(caller) == 5
    assert guest.plane.installed.keys() == home.plane.installed.keys()
    assert guest.registry.query("c1").legs[0].medias[0].rtp.observed == NAT
    home.offer([audio(MOVED), audio(ALICE, kind="video", rejected=True)], tags=("alice", "bob"))
    home.answer([audio(BOB), audio(BOB, kind="video", rejected=True)])
    copied(home, guest)
    assert guest.plane.rules() != []
    assert guest.plane.installed == home.plane.installed
    assert (guest.ports()[0], guest.ports()[1]) == home.ports()
    assert guest.ports()[1] != callee, "the callee is shown a new port, since the caller moved"
    guest.check()


def test_a_reoffer_waits_for_its_answer_at_the_partner_too(home: Stage, guest: Stage) -> None:
    copied(home, guest)
    home.offer([audio(MOVED)], tags=("alice", "bob"))
    copied(home, guest)
    assert guest.plane.installed == home.plane.installed
    guest.check()
    guest.answer()
    home.answer()
    assert guest.plane.installed == home.plane.installed
    guest.check()


def test_totals_go_on_and_count_nothing_twice(home: Stage, guest: Stage) -> None:
    def total(stage: Stage) -> int:
        return int(stage.command("query", call_id="c1")["totals"]["RTP"]["packets"])

    caller, _ = home.ports()
    home.plane.arrive(caller, ALICE, packets=100)
    copied(home, guest)
    assert total(guest) == 100
    guest.plane.arrive(caller, ALICE, packets=20)
    assert total(guest) == 120
    copied(guest, home, foreign=True)
    assert total(home) == 120
    home.plane.arrive(caller, ALICE, packets=3)
    assert total(home) == 123
    copied(guest, home, foreign=True)
    assert total(home) == 123


def test_counters_that_stood_through_a_restart_are_not_added_to_what_was_written(home: Stage) -> None:
    caller, _ = home.ports()
    home.plane.arrive(caller, ALICE, packets=100)
    record = written(home)
    home.plane.arrive(caller, ALICE, packets=11)
    again = Stage()
    again.plane = MemoryDataplane(former=home.plane)
    again.serve([again.interface])
    again.registry.receive(again.registry.read(record, 0.0, lambda memory: memory, again.now), again.now)
    assert again.command("query", call_id="c1")["totals"]["RTP"]["packets"] == 111


def test_a_port_of_another_call_refuses_the_call_and_leaves_all_as_it_was(home: Stage, guest: Stage) -> None:
    copied(home, guest)
    before = dict(guest.plane.installed)
    other = written(guest).replace(b'"c1"', b'"c2"')
    with pytest.raises(PortsTaken, match=r"belongs to another call$"):
        guest.registry.receive(guest.registry.read(other, 0.0, lambda memory: memory, guest.now), guest.now)
    assert guest.plane.installed == before
    assert guest.registry.find("c2") is None
    guest.check()


def test_a_pair_that_stands_twice_in_a_call_refuses_it(home: Stage, guest: Stage) -> None:
    caller, callee = (str(local.port).encode() for local in home.ports())
    data = written(home).replace(callee, caller)
    with pytest.raises(PortsTaken, match=r"^port \d+ of 192.0.2.1 stands twice in the call$"):
        guest.registry.receive(guest.registry.read(data, 0.0, lambda memory: memory, guest.now), guest.now)
    assert guest.drawn == 0


def test_a_plane_that_has_no_room_leaves_all_as_it_was(home: Stage) -> None:
    guest = partner(limit=4)
    copied(home, guest)
    before, call = dict(guest.plane.installed), guest.registry.find("c1")
    home.offer([audio(MOVED), audio(ALICE, kind="video")], tags=("alice", "bob"))
    with pytest.raises(DataplaneError, match="no room"):
        copied(home, guest)
    assert guest.plane.installed == before
    assert guest.registry.find("c1") is call
    guest.check()
    guest.plane.limit = None
    copied(home, guest)
    assert guest.plane.installed == home.plane.installed


def test_a_command_goes_on_with_a_partners_call_on_its_address_and_in_this_nodes_slice(
    home: Stage, guest: Stage
) -> None:
    copied(home, guest)
    shown = guest.offer([audio(MOVED)], tags=("alice", "bob")).media[0].rtp
    assert shown is not None
    assert shown.ip == HOST
    assert shown.port >= 30980
    guest.answer()
    assert (guest.registry.own, guest.registry.foreign) == (0, 1), "whose it is, is for the keeper to say"
    guest.check()


def test_a_branch_of_a_partners_call_stays_on_its_address(guest: Stage) -> None:
    home = Stage()
    home.offer(signal=Signal(via_branch="b1"))
    copied(home, guest)
    shown = guest.offer(signal=Signal(via_branch="b2")).media[0].rtp
    assert shown is not None
    assert shown.ip == HOST
    assert shown.port >= 30980
    assert {interface.address for call in guest.members() for interface, _ in call.pairs()} == {HOST}
    guest.check()


def test_new_calls_are_made_on_addresses_of_this_node_alone(guest: Stage) -> None:
    for number in range(20):
        for name in ((), ("round-robin-calls", "round-robin-calls"), ("default", "default")):
            outcome = guest.offer(signal=Signal(direction=name), call_id=f"{number} {name}")
            assert {interface.address for interface, _ in outcome.call.pairs()} == {OWN}


def test_a_slice_that_ran_out_refuses_the_offer_and_draws_from_nobody_else(home: Stage) -> None:
    guest = partner(share=1)
    copied(home, guest)
    guest.offer([audio(MOVED)], tags=("alice", "bob"))
    with pytest.raises(PortsExhausted):
        guest.offer([audio(NAT)], tags=("alice", "bob"))
    guest.check()


def test_a_call_that_ends_elsewhere_is_forgotten_without_a_word(home: Stage, guest: Stage) -> None:
    told = Told()
    told.keep(guest)
    copied(home, guest)
    assert guest.registry.forget("c1", "ended elsewhere", guest.now) is not None
    assert guest.registry.forget("c1", "ended elsewhere", guest.now) is None
    assert told.events == []
    assert guest.ended == []
    assert (len(guest.registry), guest.drawn, guest.registry.tally.ended) == (0, 0, 0)
    assert guest.registry.forgotten == {"ended elsewhere": 1}
    assert guest.plane.rules() == []


def test_a_stop_ends_this_nodes_calls_and_only_lets_go_of_others(home: Stage, guest: Stage) -> None:
    told = Told()
    told.keep(guest)
    copied(home, guest)
    guest.offer(call_id="c2")
    guest.registry.stop(guest.now)
    assert told.events == ["changed c2", "ended c2: the relay stopped"]
    assert guest.ended == [("c2", "the relay stopped")]
    assert len(guest.registry) == guest.drawn == 0


def test_treatments_and_delete_delays_travel(home: Stage, guest: Stage) -> None:
    home.registry.treat("c1", Who("alice"), Treatment.BLOCK, True, home.now)
    home.delete(delay=20)
    copied(home, guest, foreign=False)
    assert guest.plane.installed == home.plane.installed
    assert guest.registry.standing == 0
    guest.wait(21)
    assert guest.ended == [("c1", "deleted")]


def test_a_pair_that_both_sides_gave_another_endpoint_is_learned_anew(home: Stage, guest: Stage) -> None:
    copied(home, guest)
    caller, _ = guest.ports()
    guest.plane.arrive(caller, ALICE)
    guest.offer([audio(NAT)], Signal(port_latching=True), tags=("alice", "bob"))
    guest.answer()
    home.offer([audio(MOVED)], Signal(port_latching=True), tags=("alice", "bob"))
    home.answer()
    here, there = guest.plane.installed[caller], home.plane.installed[caller]
    assert here.source_epoch == there.source_epoch
    copied(home, guest)
    assert guest.plane.installed[caller].signalled_source == MOVED
    assert guest.plane.installed[caller].source_epoch > there.source_epoch
    epoch = guest.plane.installed[caller].source_epoch
    copied(home, guest)
    assert guest.plane.installed[caller].source_epoch == epoch
    guest.check()


# -- ports of calls that are yet to come


def test_what_forwards_for_calls_to_come_is_drawn_for_no_other() -> None:
    stage = Stage(30000, 30007)
    old = Stage(30000, 30007)
    old.offer()
    caller, callee = old.ports()
    stage.registry.hold([caller, above(callee)])
    stage.offer(call_id="c2")
    with pytest.raises(PortsExhausted):
        stage.offer(call_id="c3")
    copied(old, stage, foreign=False)
    assert stage.ports() == (caller, callee)
    stage.check()


def test_what_nobody_came_for_is_drawn_again() -> None:
    stage = Stage(30000, 30007)
    stage.registry.hold([Endpoint(HOST, port) for port in range(30000, 30008)])
    with pytest.raises(PortsExhausted):
        stage.offer()
    stage.registry.unhold()
    stage.offer()


def test_a_call_that_cannot_be_restored_yet_goes_on_forwarding(home: Stage) -> None:
    again = Stage()
    again.plane = MemoryDataplane(limit=3, former=home.plane)
    again.serve([again.interface])
    members = again.registry.read(written(home), 0.0, lambda memory: memory, again.now)
    with pytest.raises(DataplaneError, match="no room"):
        again.registry.receive(members, again.now)
    assert set(again.plane.inherited()) == set(home.plane.rules())
    assert again.drawn == len(again.registry) == 0
    again.plane.limit = None
    again.registry.receive(members, again.now)
    assert again.plane.inherited() == []
    assert again.plane.installed == home.plane.installed
