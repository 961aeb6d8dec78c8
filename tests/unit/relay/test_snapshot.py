"""Calls to bytes and back, and what of other bytes is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay import flows, snapshot
from relay.call import Call, Signal, Who
from relay.errors import SnapshotError
from relay.interfaces import Interfaces
from relay.ports import Interface, PortPool
from relay.types import Direction, Endpoint, Learning, Treatment
from tests.calls import ALICE, BOB, HOST, Stage, audio
from tests.keeping import OFFSET, written

MOVED = Endpoint("198.51.100.11", 4100)
NAT = Endpoint("198.51.100.99", 61000)


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.offer([audio(ALICE), audio(ALICE, kind="image", protocol="udptl")], Signal("198.51.100.10", label="a"))
    stage.answer([audio(BOB, mux=True), audio(BOB, kind="image", protocol="udptl")])
    return stage


def read(stage: Stage, data: bytes | None = None, offset: float = OFFSET) -> list[Call]:
    return stage.registry.read(data or written(stage), offset, lambda memory: memory, stage.now)


def again(stage: Stage, members: list[Call]) -> bytes:
    return snapshot.encode(members, stage.plane, OFFSET, lambda memory: memory)


def same_rules(call: Call, other: Call) -> None:
    """The same rules, but for sources that only the writer had found."""
    made, stood = flows.rules(other), flows.rules(call)
    assert made.keys() == stood.keys()
    for local, rule in made.items():
        assert rule._replace(known_source=stood[local].known_source) == stood[local]


def changed(data: bytes, *path: int, to: object) -> bytes:
    """A snapshot with one field replaced."""
    value = place = orjson.loads(data)
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return orjson.dumps(value)


def test_a_call_reads_back_with_the_same_rules_and_writes_the_same_again(stage: Stage) -> None:
    stage.registry.treat("c1", Who("alice"), Treatment.SILENCE, True, stage.now)
    (call,) = read(stage)
    same_rules(stage.registry.query("c1"), call)
    assert call.rules == {}
    assert orjson.loads(again(stage, [call]))[3][0][:-1] == orjson.loads(written(stage))[3][0][:-1]


def test_what_parties_are_and_said_is_there_again(stage: Stage) -> None:
    (call,) = read(stage)
    first = stage.registry.query("c1")
    assert (call.call_id, call.tags, call.answered, call.created) == ("c1", first.tags, True, first.created)
    assert [leg.tags for leg in call.legs] == [["alice"], ["bob"]]
    assert (call.legs[0].label, call.legs[0].received_from) == ("a", "198.51.100.10")
    assert [media.description for media in call.legs[1].medias] == [media.description for media in first.legs[1].medias]
    assert [media.mux for media in call.legs[1].medias] == [media.mux for media in first.legs[1].medias]
    assert call.pairs() == first.pairs()


def test_times_are_those_of_the_readers_clock(stage: Stage) -> None:
    stage.wait(5)
    stage.delete(delay=20)
    (call,) = read(stage, offset=OFFSET + 40)
    assert (call.created, call.last_signal, call.deleted) == (60.0, 60.0, 85.0)
    assert call.awake == stage.now


def test_a_clock_that_is_ahead_keeps_no_timer_from_running_out(stage: Stage) -> None:
    stage.delete(delay=20)
    (call,) = read(stage, offset=OFFSET - 1e6)
    assert (call.created, call.last_signal, call.deleted) == (stage.now, stage.now, stage.now + 3600)


def test_a_source_that_was_confirmed_is_known_to_the_reader(stage: Stage) -> None:
    local = stage.ports()[0]
    stage.plane.arrive(local, NAT)
    (call,) = read(stage)
    assert call.legs[0].medias[0].rtp.confirmed
    assert flows.rules(call)[local].known_source == NAT
    stage.plane.arrive(stage.ports()[1], NAT, confirm=False)
    (call,) = read(stage)
    assert flows.rules(call)[stage.ports()[1]].known_source is None


def test_what_ports_counted_is_told_beside_what_is_gone(stage: Stage) -> None:
    stage.plane.arrive(stage.ports()[0], ALICE, packets=7)
    (call,) = read(stage)
    assert call.told is not None
    assert (call.gone_rtp.packets, call.told[0].packets, call.told[0].bytes) == (0, 7, 7 * 172)


def test_what_a_reoffer_left_in_force_is_written(stage: Stage) -> None:
    stage.offer([audio(MOVED), audio(ALICE, kind="image", protocol="udptl")], tags=("alice", "bob"))
    (call,) = read(stage)
    held = call.legs[0].medias[0].line.held
    assert held is not None
    assert len(held.pairs) == 1
    same_rules(stage.registry.query("c1"), call)


def test_branches_stay_together() -> None:
    stage = Stage()
    stage.offer(signal=Signal(via_branch="b1"))
    stage.offer(signal=Signal(via_branch="b2"))
    stage.answer(signal=Signal(via_branch="b2"), tags=("alice", "carol"))
    one, two = read(stage)
    assert one.members() is two.members()
    assert (one.branch, two.branch, one.deed) == ("b1", "b2", two.deed)
    assert len(snapshot.ports(written(stage))) == 4


def test_what_control_remembers_passes_through_its_own_hands(stage: Stage) -> None:
    stage.registry.query("c1").legs[0].memory = frozenset("m")
    members = stage.registry.query("c1").members()
    data = snapshot.encode(members, stage.plane, OFFSET, lambda memory: sorted(memory))  # type: ignore[call-overload]
    (call,) = stage.registry.read(data, OFFSET, lambda memory: frozenset(memory), stage.now)  # type: ignore[call-overload]
    assert call.legs[0].memory == frozenset("m")

    def fault(memory: object) -> object:
        raise ValueError("seven is no memory")

    with pytest.raises(SnapshotError, match=r"^call: branch 1: leg 1: memory cannot be read: seven is no memory$"):
        stage.registry.read(data, OFFSET, fault, stage.now)


def test_names_that_are_no_utf8_are_kept_as_they_came(stage: Stage) -> None:
    stage.offer(call_id="c\udcff", tags=("a\udc80", None))
    (call,) = read(stage, written(stage, "c\udcff"))
    assert (call.call_id, call.legs[0].tags) == ("c\udcff", ["a\udc80"])


def test_a_plain_call_takes_little_room(stage: Stage) -> None:
    stage.offer(call_id="c2")
    stage.answer(call_id="c2")
    assert len(written(stage, "c2")) < 1000


# -- what is not read

MEDIA = "call: branch 1: m-line 1: media"
EPOCH = f"{MEDIA}: rtp: epoch is no number from 0 to 2147483648"
PORT = f"{MEDIA}: description: rtp has no port from 1 to 65535"


@pytest.mark.parametrize(
    ("path", "to", "text"),
    [
        ([0], 2, "a call in format 2.0: this relay reads format 1"),
        ([2], 7, "call: Call-ID is no text, or too long"),
        ([2], "", "call: Call-ID is empty"),
        ([3], [], "call has no branch"),
        ([3, 0, 0, 0], ["default", "nowhere"], "call: branch 1: interface 1: address is no IP address"),
        ([3, 0, 0, 0], ["default", "192.0.2.77"], "no interface here has the address 192.0.2.77"),
        ([3, 0, 1, 0, 0, 0], 3, f"{MEDIA} names entry 3 of 1"),
        ([3, 0, 1, 0, 0, 1], 30001, f"{MEDIA}: port is odd"),
        ([3, 0, 1, 0, 0, 1], 20000, "no interface here has the port 20000 of 192.0.2.1"),
        ([3, 0, 1, 0, 0, 1], None, "call: branch 1: m-line 1 has ports on one side alone"),
        ([3, 0, 1, 0, 0, 4, 2], ["198.51.100.010", 4], f"{MEDIA}: description: rtp is no IP address"),
        ([3, 0, 1, 0, 0, 4, 2], ["198.51.100.10", 0], PORT),
        ([3, 0, 1, 0, 0, 5, 3], -1, EPOCH),
        ([3, 0, 1, 0, 0, 5, 3], True, EPOCH),
        ([3, 0, 2], [[]], "call: branch 1 has not two legs"),
        ([3, 0, 2, 0, 1], ["bob", "bob"], "call: branch 1: leg 1: tags is no text, or names a party twice"),
        ([3, 0, 2, 1], [0, ["bob"]], "call: branch 1: leg 2: created is missing"),
        ([3, 0, 8], 3, "call: branch 1: tos has its low bits set"),
        ([3, 0, 9], 4, "call: branch 1: learning is no number from 0 to 3"),
        ([3], [{}], "call: branch 1 is no list"),
    ],
)  # fmt: skip
def test_a_field_that_is_wrong_is_named(stage: Stage, path: list[int], to: object, text: str) -> None:
    data = changed(written(stage), *path, to=to)
    with pytest.raises(SnapshotError) as error:
        read(stage, data)
    assert str(error.value) == text


@pytest.mark.parametrize("data", [b"", b"[", b"\xff", b"[" * 5000, b"7", b"null", b"{}", b"[1]"])
def test_what_is_no_call_is_refused(stage: Stage, data: bytes) -> None:
    with pytest.raises(SnapshotError, match="call"):
        stage.registry.read(data, OFFSET, lambda memory: memory, 0.0)


def test_more_than_a_call_can_be_is_not_even_looked_at(stage: Stage) -> None:
    with pytest.raises(SnapshotError, match=r"^a call of 1048577 bytes: at most 1048576 are read$"):
        read(stage, b" " * (1 << 20) + b"1")


def test_what_a_later_revision_adds_is_passed_over(stage: Stage) -> None:
    value: Any = orjson.loads(written(stage))
    value[1] = 7
    rows = [value, value[3][0], value[3][0][1][0], value[3][0][1][0][0], value[3][0][2][0], value[3][0][1][0][0][5]]
    for row in rows:
        row.append({"more": [1]})
    (call,) = read(stage, orjson.dumps(value))
    same_rules(stage.registry.query("c1"), call)


def test_a_rule_that_a_reoffer_left_must_be_at_the_calls_own_ports(stage: Stage) -> None:
    stage.offer([audio(MOVED), audio(ALICE, kind="image", protocol="udptl")], tags=("alice", "bob"))
    data = changed(written(stage), 3, 0, 1, 0, 2, 1, 0, 0, 0, to=[HOST, 30998])
    with pytest.raises(SnapshotError, match=r"^call: branch 1 has a rule at 192.0.2.1:30998 or .* is no port of it$"):
        read(stage, data)


def test_nothing_is_sent_where_this_relay_sends_nothing(stage: Stage) -> None:
    stage.offer([audio(MOVED), audio(ALICE, kind="image", protocol="udptl")], tags=("alice", "bob"))
    data = changed(written(stage), 3, 0, 1, 0, 2, 1, 0, 0, 2, to=["224.0.0.1", 5])
    data = changed(data, 3, 0, 1, 0, 0, 5, 0, to=["127.0.0.1", 5])
    (call,) = read(stage, data)
    assert call.legs[0].medias[0].rtp.refusal == "a loopback address"
    assert all(
        rule.destination is None or rule.destination.ip not in ("224.0.0.1", "127.0.0.1")
        for rule in flows.rules(call).values()
    )


def test_interfaces_are_found_by_address_whatever_the_partner_calls_them(stage: Stage) -> None:
    data, call = written(stage), stage.registry.query("c1")
    here = Interface("outside", HOST, "203.0.113.1", PortPool(30000, 30999, lambda: 0.0), home=2)
    more = Interface("outside", "192.0.2.2", "192.0.2.2", PortPool(30000, 30999, lambda: 0.0))
    where = Interfaces([more, here])
    (found,) = snapshot.decode(data, where, lambda endpoint, local: None, OFFSET, lambda memory: memory, 0.0)
    assert {interface for interface, _ in found.pairs()} == {here}
    assert found.legs[0].places == (here,)
    assert [port for _, port in found.pairs()] == [port for _, port in call.pairs()]


def test_directions_and_ways_of_learning_survive() -> None:
    stage = Stage()
    for direction in Direction:
        for learning in Learning:
            name = f"{direction.value} {learning.value}"
            stage.offer([audio(ALICE, direction=direction)], Signal(learning=learning), call_id=name)
            (call,) = read(stage, written(stage, name))
            assert call.learning is call.legs[0].medias[0].rtp.learning is learning
            assert call.legs[0].medias[0].description == audio(ALICE, direction=direction)
