"""Nodes that hold each other's calls: what each of them has after the events that calls must survive, or must not."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from control.replication.record import Record, decode, encode
from relay.call import Call
from relay.errors import HairpinError
from relay.types import Endpoint
from tests.nodes import TERMS, World, address

ALICE, BOB, CAROL = Endpoint("198.51.100.10", 4000), Endpoint("203.0.113.20", 5000), Endpoint("203.0.113.30", 6000)
SETTLED = 1.0
"""Seconds in which what one node writes is at the others."""


def pair(**given: object) -> World:
    """Two nodes, and a call of the first that talks."""
    world = World(**given)  # type: ignore[arg-type]
    world.set_up(1, "c1", ALICE, BOB)
    world.run(SETTLED)
    return world


def calls(world: World, call_id: str = "c1") -> list[Call]:
    return [node.registry.query(call_id) for node in world.nodes.values()]


def deeds(world: World, call_id: str = "c1") -> set[tuple[int, int]]:
    """(owner, term) as each node has it."""
    return {(call.deed.owner, call.deed.term) for call in calls(world, call_id)}


def sent_to(world: World, call_id: str = "c1") -> list[set[Endpoint | None]]:
    """Where each node sends media of a call."""
    return [{rule.destination for rule in call.rules.values()} for call in calls(world, call_id)]


def gone(world: World, call_id: str = "c1") -> bool:
    return all(node.find(call_id) is None for node in world.nodes.values())


def in_redis(world: World, keyspace: int, call_id: str = "c1") -> Record:
    data = world.redis.get(keyspace, f"call:{call_id}")
    assert data is not None
    return decode(data)


def ports(world: World, call_id: str = "c1") -> set[Endpoint]:
    return {local for local, _ in world.talking[call_id]}


# -- held ready


def test_a_call_is_in_force_at_the_partner() -> None:
    world = pair()
    assert deeds(world) == {(1, 1)}
    assert [call.deed.foreign for call in calls(world)] == [False, True]
    assert sent_to(world)[0] == sent_to(world)[1]
    assert set(world[1].plane.rules()) == set(world[2].plane.rules())
    assert (world[2].registry.own, world[2].registry.foreign) == (0, 1)


def test_a_reinvite_moves_the_copy() -> None:
    world = pair()
    world.set_up(1, "c1", ALICE, CAROL)
    world.run(SETTLED)
    assert deeds(world) == {(1, 1)}
    assert CAROL in sent_to(world)[1]
    assert ports(world) <= set(world[2].plane.rules())


def test_a_deleted_call_ends_everywhere() -> None:
    world = pair()
    world.hang_up(1, "c1", delay=5)
    world.run(SETTLED)
    assert [call.over for call in calls(world)] == [True, True]
    world.run(6)
    assert gone(world)
    assert world[2].plane.rules() == []
    assert "c1" not in world.journals[2].records


def test_a_delete_at_the_partner_ends_it_and_the_owner_writes_its_own_record_over() -> None:
    world = pair()
    assert world.hang_up(2, "c1")
    world.run(SETTLED)
    assert gone(world)
    assert in_redis(world, 1).dead
    assert in_redis(world, 2).dead


def test_three_nodes_hold_the_same() -> None:
    world = pair(number=3)
    world.set_up(3, "c1", ALICE, CAROL)
    world.run(SETTLED)
    assert deeds(world) == {(3, 2)}
    assert [call.deed.foreign for call in calls(world)] == [True, True, False]


# -- where packets go


def test_a_router_moves_an_address_and_nobody_is_told() -> None:
    world = pair()
    world.routes[1] = {2}
    world.run(200)
    assert deeds(world) == {(1, 1)}
    assert not world[1].ended
    assert not world[2].ended


def test_silence_after_such_a_move_still_ends_a_call() -> None:
    world = pair()
    world.set_up(1, "c2", ALICE, CAROL)
    world.routes[1] = {2}
    world.run(10)
    del world.talking["c1"]
    world.run(120)
    assert gone(world)
    assert world[1].ended == [("c1", "timeout")]
    assert deeds(world, "c2") == {(1, 1)}


def test_packets_at_both_change_no_owner() -> None:
    world = pair()
    world.routes[1] = {1, 2}
    world.run(60)
    assert deeds(world) == {(1, 1)}


def test_packets_claim_calls_of_a_dead_node_and_leave_silent_ones() -> None:
    world = pair()
    world.set_up(1, "silent", ALICE, CAROL)
    del world.talking["silent"]
    world.run(2)
    world.crash(1)
    world.routes[1] = {2}
    world.run(4)
    assert deeds(world) == {(1, 1)}
    world.run(6)
    assert deeds(world) == {(2, 2)}
    assert deeds(world, "silent") == {(1, 1)}
    world.start(1)
    world.routes[1] = {1}
    world.run(30)
    assert deeds(world) == {(2, 2)}
    assert deeds(world, "silent") == {(1, 1)}


def test_a_stray_packet_claims_nothing() -> None:
    world = pair()
    world.crash(1)
    world.run(8, packets=False)
    local, party = world.talking["c1"][0]
    for _ in range(2):
        world[2].plane.arrive(local, party)
        world.run(2, packets=False)
    assert deeds(world) == {(1, 1)}


def test_packets_claim_calls_of_a_withdrawn_address() -> None:
    world = pair()
    world[1].replicator.announced[address(1)] = "none"
    world.routes[1] = {2}
    world.run(6)
    assert deeds(world) == {(2, 2)}
    world[1].replicator.announced[address(1)] = "primary"
    world.routes[1] = {1}
    world.run(30)
    assert deeds(world) == {(2, 2)}


def test_two_nodes_that_withdrew_an_address_both_do_not_play_ball() -> None:
    world = pair()
    for node in world.nodes.values():
        node.replicator.announced[address(1)] = "none"
    world.routes[1] = {1, 2}
    world.run(60)
    assert deeds(world) == {(1, 1)}


def test_nothing_is_claimed_while_redis_takes_nothing() -> None:
    world = pair()
    world[2].store.connect(False)
    world.routes[1] = {2}
    world.run(60)
    assert deeds(world) == {(1, 1)}


def test_an_operator_takes_and_hands_over() -> None:
    world = pair()
    assert world[2].replicator.take(address(1)) == 1
    world.run(SETTLED)
    assert deeds(world) == {(2, 2)}
    assert world[2].replicator.release(address(1)) == 1
    world.run(3)
    assert deeds(world) == {(1, 3)}


def test_calls_that_come_or_come_back_during_a_hand_over_are_taken_too() -> None:
    world = pair()
    assert world[1].replicator.release(address(1)) == 2
    world.run(3)
    assert deeds(world) == {(2, 2)}
    world.set_up(1, "c1", ALICE, CAROL)
    world.set_up(1, "c2", ALICE, CAROL)
    world.run(SETTLED)
    assert deeds(world) == {(2, 4)}
    assert deeds(world, "c2") == {(2, 2)}
    assert CAROL in sent_to(world)[1]
    world.run(3 * TERMS.lease)
    world.set_up(1, "c1", ALICE, BOB)
    world.run(SETTLED)
    assert deeds(world) == {(1, 5)}, "the hand-over is done"


def test_two_that_hand_over_to_each_other_do_not_play_ball() -> None:
    world = pair()
    assert world[1].replicator.release(address(1)) == 2
    assert world[2].replicator.release(address(1)) == 1
    world.run(3 * TERMS.lease)
    ((_, term),) = deeds(world)
    assert term <= 3


def test_nothing_is_handed_over_where_nobody_can_take_it() -> None:
    world = pair()
    world.crash(2)
    world.run(10)
    with pytest.raises(HairpinError, match="nobody can take them"):
        world[1].replicator.release(address(1))


# -- commands


def test_a_command_at_the_partner_takes_the_call() -> None:
    world = pair()
    world.set_up(2, "c1", ALICE, CAROL)
    world.run(SETTLED)
    assert deeds(world) == {(2, 2)}
    assert sent_to(world)[0] == sent_to(world)[1]
    assert ports(world) <= set(world[1].plane.rules())
    assert {local.ip for local in ports(world)} == {address(1)}


@pytest.mark.parametrize("media", [1, 2])
def test_ten_reinvites_with_signalling_and_media_apart(media: int) -> None:
    world = pair()
    world.routes[1] = {media}
    for number in range(10):
        world.set_up(3 - media, "c1", ALICE, Endpoint(CAROL.ip, 6000 + 2 * number))
        world.run(20)
    assert deeds(world) == {(3 - media, 1 if media == 2 else 2)}
    assert not [node.ended for node in world.nodes.values() if node.ended]


def test_a_higher_term_counts_more_than_more_versions() -> None:
    world = pair()
    for _ in range(5):
        world[1].registry.keeper.changed(world[1].registry.query("c1"))
    world[1].store.connect(False)
    world.set_up(2, "c1", ALICE, CAROL)
    world[1].store.connect(True)
    world.run(SETTLED)
    assert deeds(world) == {(2, 2)}


@pytest.mark.parametrize("last", [1, 2])
def test_of_two_owners_the_one_spoken_to_last_has_its_way(last: int) -> None:
    world = pair()
    world[1].store.connect(False)
    for number, node in enumerate((3 - last, last)):
        world.set_up(node, "c1", ALICE, Endpoint(CAROL.ip, 6000 + 2 * number))
        world.run(10)
    world[1].store.connect(True)
    world.run(5)
    assert deeds(world) == {(2, 2) if last == 2 else (1, 3)}
    assert all(Endpoint(CAROL.ip, 6002) in ends for ends in sent_to(world))
    assert all(ports(world) <= set(node.plane.rules()) for node in world.nodes.values())


def test_a_delete_counts_though_the_partner_took_the_call_unknowing() -> None:
    world = pair()
    world[1].store.connect(False)
    world.hang_up(1, "c1", delay=5)
    world[2].replicator.take(address(1))
    world.run(1)
    world[1].store.connect(True)
    world.run(8)
    assert gone(world)


def test_an_end_during_a_partition_counts_for_whoever_took_the_call() -> None:
    world = pair()
    world[1].store.connect(False)
    world.set_up(2, "c1", ALICE, CAROL)
    world.hang_up(1, "c1")
    world.run(10)
    world[1].store.connect(True)
    world.run(5)
    assert gone(world)
    assert in_redis(world, 2).dead


def test_ports_drawn_on_both_sides_of_a_partition_differ() -> None:
    world = World()
    for number in range(12):
        world.set_up(1, f"c{number}", ALICE, BOB)
    world.run(SETTLED)
    world[1].store.connect(False)
    drawn: list[Endpoint] = []
    for number in range(12):
        known = ports(world, f"c{number}")
        world.set_up(2, f"c{number}", CAROL, BOB)
        drawn += ports(world, f"c{number}") - known
        for fresh in (f"{number}a", f"{number}b"):
            world.set_up(1, fresh, ALICE, BOB)
            drawn += ports(world, fresh)
    assert len(drawn) == len(set(drawn)) == 60
    world[1].store.connect(True)
    world.run(5)
    assert all(len(node.registry) == 36 for node in world.nodes.values())


# -- one Call-ID, several calls


def test_a_younger_call_takes_the_place_of_one_that_ended_unheard() -> None:
    world = pair()
    world[2].store.connect(False)
    world.hang_up(1, "c1")
    world.run(1)
    world.set_up(1, "c1", ALICE, CAROL)
    world[2].store.connect(True)
    world.run(5)
    assert len({call.deed.incarnation for call in calls(world)}) == 1
    assert CAROL in sent_to(world)[1]


def test_an_end_is_remembered_behind_the_next_call_of_its_call_id() -> None:
    world = pair()
    world[2].store.connect(False)
    world.hang_up(1, "c1")
    world.run(1)
    world.set_up(1, "c1", ALICE, CAROL)
    world.hang_up(1, "c1")
    world.run(1)
    world[2].store.connect(True)
    world.run(5)
    assert gone(world)


def test_an_end_that_was_heard_counts_for_a_call_that_looks_younger() -> None:
    world = World(shifts=(0.0, 3600.0, 0.0))
    world.set_up(2, "c1", ALICE, BOB)
    world.run(SETTLED)
    world[2].store.connect(False)
    world.hang_up(1, "c1")
    world.set_up(1, "c1", ALICE, CAROL)
    world.run(SETTLED)
    world[2].store.connect(True)
    world.run(SETTLED)
    assert deeds(world) == {(1, 1)}
    assert CAROL in sent_to(world)[1]


def test_of_an_offer_that_went_to_two_nodes_the_later_one_stands() -> None:
    world = World()
    world[1].store.connect(False)
    world.set_up(1, "c1", ALICE, BOB)
    world.run(2)
    world.set_up(2, "c1", ALICE, BOB)
    world[1].store.connect(True)
    world.run(SETTLED)
    assert deeds(world) == {(2, 1)}
    world.hang_up(2, "c1")
    world.run(SETTLED)
    assert gone(world)
    assert in_redis(world, 1).dead


# -- what Redis does


def test_a_key_that_is_gone_ends_nothing() -> None:
    world = pair()
    world.crash(1)
    world.redis.empty()
    world.run(3 * TERMS.compare)
    assert world[2].find("c1") is not None


def test_what_redis_lost_is_written_again() -> None:
    world = pair()
    world.set_up(2, "c2", ALICE, CAROL)
    world.hang_up(2, "c2")
    world.run(SETTLED)
    world.redis.empty(1)
    world.redis.empty(2)
    world.run(4)
    assert not in_redis(world, 1).dead
    assert in_redis(world, 2, "c2").dead


def test_a_partner_that_comes_back_compares_at_once() -> None:
    world = pair()
    world[2].store.connect(False)
    world.set_up(1, "c2", ALICE, CAROL)
    world.run(2)
    world[2].store.connect(True)
    world.run(SETTLED)
    assert deeds(world, "c2") == {(1, 1)}


def test_lost_news_are_noticed_by_the_sequence() -> None:
    world = pair(terms=replace(TERMS, compare=1000.0))
    world.run(10)
    world.redis.faults.lose = 1.0
    world.set_up(1, "c2", ALICE, CAROL)
    world.talking.clear()
    world[1].step()
    world.redis.faults.lose = 0.0
    world.run(8)
    assert deeds(world, "c2") == {(1, 1)}


def test_the_slow_comparison_finds_what_nothing_told_of() -> None:
    world = pair()
    world.redis.faults.lose = 1.0
    world.set_up(1, "c2", ALICE, CAROL)
    world.run(TERMS.compare + 2)
    assert deeds(world, "c2") == {(1, 1)}


def test_news_in_any_order_leave_the_latest() -> None:
    world = pair()
    versions = []
    for number in range(3):
        world.set_up(1, "c1", ALICE, Endpoint(CAROL.ip, 6000 + 2 * number))
        versions.append(world.journals[1].records["c1"])
    for data in (versions[2], versions[0], versions[1]):
        world[2].replicator.read(1, "c1", data)
    world[2].loop.run()
    assert Endpoint(CAROL.ip, 6004) in sent_to(world)[1]


# -- starts


def test_a_start_writes_over_no_tombstone() -> None:
    world = pair()
    before = dict(world.journals[1].records)
    world.hang_up(1, "c1")
    world.run(SETTLED)
    world.crash(1)
    world.crash(2)
    world.journals[1].records.update(before)
    world.start(1, connect=False)
    world.run(70)
    assert world[1].find("c1") is not None, "and it is refreshed"
    world[1].store.connect(True)
    world.run(SETTLED)
    assert in_redis(world, 1).dead
    world.start(2)
    world.run(SETTLED)
    assert gone(world)


def test_a_node_without_memory_has_its_calls_from_redis() -> None:
    world = pair()
    world.crash(1)
    world.journals[1].records.clear()
    world.start(1)
    world.run(SETTLED)
    assert deeds(world) == {(1, 1)}
    assert not world[1].registry.query("c1").deed.foreign


def test_a_call_that_moved_on_while_its_node_was_dead_is_followed() -> None:
    world = pair()
    world.crash(1)
    world.set_up(2, "c1", ALICE, CAROL)
    world.run(5)
    world.start(1)
    world.run(SETTLED)
    assert deeds(world) == {(2, 2)}
    assert CAROL in sent_to(world)[0]


def test_a_call_that_ended_while_its_node_was_dead_stays_so() -> None:
    world = pair()
    world.crash(1)
    world.hang_up(2, "c1")
    world.run(5)
    world.start(1)
    world.run(SETTLED)
    assert gone(world)
    assert in_redis(world, 1).dead


def test_a_node_without_memory_writes_over_its_record_of_what_ended_elsewhere() -> None:
    world = pair()
    world.crash(1)
    world.journals[1].records.clear()
    world.hang_up(2, "c1")
    world.run(SETTLED)
    world.start(1)
    world.run(SETTLED)
    assert gone(world)
    assert in_redis(world, 1).dead


def test_an_end_that_redis_could_not_be_told_survives_a_crash() -> None:
    world = pair()
    world[1].store.connect(False)
    world.hang_up(1, "c1")
    world.crash(1)
    world.start(1)
    world.run(SETTLED)
    assert gone(world)
    world.run(6 * TERMS.compare)
    assert world.journals[1].records == {}


def test_an_end_before_the_first_comparison_survives_a_crash() -> None:
    world = pair()
    world.crash(1)
    world.start(1)
    world.hang_up(1, "c1")
    world.crash(1)
    world.start(1)
    world.run(SETTLED)
    assert gone(world)


def test_calls_of_a_partner_survive_a_restart_without_redis() -> None:
    world = pair()
    world.crash(2)
    world.start(2, connect=False)
    world.run(SETTLED)
    assert deeds(world) == {(1, 1)}
    assert world[2].find("c1") is not None


def test_new_calls_wait_for_the_first_comparison_but_not_for_ever() -> None:
    world = pair()
    world.crash(1)
    node = world.start(1, connect=False)
    assert not node.replicator.ready
    world.run(6)
    assert node.replicator.ready
    world.crash(1)
    world.start(1)
    world.run(0.5)
    assert world[1].replicator.ready


# -- what cannot be restored


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda record: b"garbage", "no record"),
        (lambda record: encode(record).replace(b"[1,", b"[2,", 1), "a record of format 2"),
        (lambda record: encode(record._replace(body=b"[9,0]")), "format 9"),
        (lambda record: encode(record._replace(body=record.body.replace(b"192.0.2.1", b"192.0.2.9"))), "192.0.2.9"),
        (lambda record: encode(record._replace(call_id="other")), "another call than its key names"),
        (lambda record: encode(record._replace(owner=2)), "keyspace 2 owns the call"),
    ],
)
def test_what_cannot_be_restored_is_named_kept_and_tried_again(
    spoil: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    assert callable(spoil)
    world[2].store.connect(False)
    world.set_up(1, "c1", ALICE, BOB)
    world.run(SETTLED)
    good = in_redis(world, 1)
    world.redis.data[1]["call:c1"] = spoil(good), world.now + 1000
    with caplog.at_level(logging.WARNING):
        world[2].store.connect(True)
        world.run(2.5 * TERMS.compare)
    assert world[2].find("c1") is None
    (told,) = [entry.message for entry in caplog.records if "keyspace 1" in entry.message]
    assert reason in told
    assert any(reason in one for one in world[2].replicator.status()["partners"]["1"]["not restored"])
    assert not in_redis_is_dead(world)
    world.redis.data[1]["call:c1"] = encode(good), world.now + 1000
    world.run(TERMS.compare + 1)
    assert world[2].find("c1") is not None
    assert world[2].replicator.status()["partners"]["1"]["not restored"] == {}


def in_redis_is_dead(world: World) -> bool:
    """Whether a node has written over what it could not read."""
    return world.redis.get(2, "call:c1") is not None


def test_a_call_in_the_way_of_another_of_its_owner_has_ended() -> None:
    world = pair(terms=replace(TERMS, tombstone=10.0))
    world[2].store.connect(False)
    (first, _), (second, _) = world.talking["c1"]
    world.hang_up(1, "c1")
    world.run(60)
    for pool in (world[1].registry.interfaces[0].pool,):
        pool.hold([port for port in range(pool.low, pool.high) if port & ~1 not in (first.port, second.port)])
    world.set_up(1, "c2", ALICE, CAROL)
    assert ports(world, "c2") == {first, second}
    world[2].store.connect(True)
    world.run(SETTLED)
    assert world[2].find("c1") is None
    assert deeds(world, "c2") == {(1, 1)}


def test_a_lease_that_cannot_be_read_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    world = pair()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            world[2].replicator.read_lease(1, b"{}")
    assert ["the lease cannot be read" in entry.message for entry in caplog.records] == [True]


# -- when silence means nothing


def test_an_address_that_falls_silent_as_a_whole_ends_no_call() -> None:
    world = World()
    for number in range(8):
        world.set_up(1, f"c{number}", ALICE, BOB)
    world.run(10)
    talking, world.talking = world.talking, {}
    world.run(200)
    assert len(world[1].registry) == 8
    assert "fell silent at once" in world[1].replicator.status()["addresses"][address(1)]["timers"]
    world.talking = dict(list(talking.items())[:6])
    world.run(100)
    assert sorted(world[1].ended) == [("c6", "timeout"), ("c7", "timeout")]


def test_a_partner_that_might_hear_and_does_not_tell_suspends_timers() -> None:
    world = pair()
    world[2].store.connect(False)
    world.routes[1] = {2}
    world.run(200)
    assert world[1].find("c1") is not None
    assert "keyspace 2 may hear it" in world[1].replicator.status()["addresses"][address(1)]["timers"]


def test_a_partner_that_is_gone_for_good_suspends_nothing_where_packets_come() -> None:
    world = pair(terms=replace(TERMS, owner_gone=300.0))
    world.set_up(1, "c2", ALICE, CAROL)
    world.crash(2)
    del world.talking["c1"]
    world.run(200)
    assert not world[1].ended
    world.run(250)
    assert world[1].ended == [("c1", "timeout")]


def test_a_call_that_nobody_feeds_is_given_up() -> None:
    world = pair(terms=replace(TERMS, owner_gone=300.0))
    world.talking.clear()
    world.crash(1)
    world.run(280)
    assert world[2].find("c1") is not None
    world.run(120)
    assert gone(world)
    assert world[2].registry.forgotten == {"its owner is gone": 1}
    assert not in_redis(world, 1).dead
    world.run(60)
    assert gone(world)


def test_a_call_in_its_delete_delay_ends_without_its_owner() -> None:
    world = pair()
    world.hang_up(1, "c1", delay=5)
    world.run(SETTLED)
    world.crash(1)
    world.run(60)
    assert gone(world)
    assert in_redis(world, 2).dead


# -- clocks


@pytest.mark.parametrize("shift", [-3600.0, 3600.0])
def test_clocks_that_differ_shift_no_times(shift: float) -> None:
    world = pair(shifts=(0.0, shift, 0.0))
    world.set_up(1, "c1", ALICE, CAROL)
    world.run(SETTLED)
    first, second = calls(world)
    assert second.created == pytest.approx(first.created, abs=1)
    assert second.last_signal == pytest.approx(first.last_signal, abs=1)


# -- in turns


def test_what_arrives_waits_its_turn() -> None:
    world = World()
    for number in range(20):
        world.set_up(1, f"c{number}", ALICE, BOB)
    world.run(SETTLED)
    world.crash(2)
    world.journals[2].records.clear()
    node = world.start(2)
    node.store.pump()
    assert len(node.registry) == 0
    assert not node.replicator.in_sync(1)
    assert node.replicator.status()["waiting"] == 22, "20 calls and the ends of two comparisons"
    node.loop.run()
    assert len(node.registry) == 20
    assert node.replicator.in_sync(1)


def test_in_sync_stands_while_redis_is_away_and_the_lease_does_not_say_so() -> None:
    world = pair()
    world[2].store.connect(False)
    world.run(30)
    assert world[2].replicator.in_sync(1)
    assert world[1].replicator.leases == {}
    world[2].store.connect(True)
    world.run(3)
    assert world[1].replicator.leases[2].synced == {1: True}


def test_a_node_is_not_in_sync_before_it_has_asked_who_may_have_taken_its_calls() -> None:
    world = pair()
    world.crash(1)
    world.set_up(2, "c1", ALICE, CAROL)
    world.run(10)
    world.journals[1].records.clear()
    node = world.start(1, connect=False)
    node.store.connected = True
    node.replicator.reachable(1, True)
    node.step()
    assert node.replicator.own.compared is not None
    assert not node.replicator.in_sync(1), "keyspace 2 has the call as it is by now"
    node.replicator.reachable(2, True)
    node.step()
    assert node.replicator.in_sync(1)


def test_who_serves_an_address() -> None:
    world = pair()
    world.run(3)
    assert [node.replicator.serving(address(1)) for node in world.nodes.values()] == [True, False]
    world.routes[1] = {2}
    world.run(6)
    assert [node.replicator.serving(address(1)) for node in world.nodes.values()] == [False, True]
    world.talking.clear()
    world.run(10)
    assert [node.replicator.serving(address(1)) for node in world.nodes.values()] == [True, False]
    assert not world[1].replicator.serving("192.0.2.77")
