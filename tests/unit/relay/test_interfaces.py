"""Which address a party gets: by name, by family, in turns, and where ports have run out."""

from __future__ import annotations

import random

import pytest

from relay.call import Signal
from relay.errors import PortsExhausted
from relay.interfaces import Interfaces
from relay.ports import Interface, PortPool
from relay.types import Direction, Endpoint
from tests.calls import ALICE, BOB, HOST, Stage, above, audio, two_families

ALICE6, BOB6 = Endpoint("2001:db8:1::10", 4000), Endpoint("2001:db8:2::20", 5000)
HOST6 = "2001:db8::1"
ELSEWHERE = Endpoint("198.51.100.77", 7000)


@pytest.fixture
def stage() -> Stage:
    return two_families()


def place(name: str, address: str, pairs: int = 5, home: int = -1) -> Interface:
    return Interface(name, address, address, PortPool(30000, 29999 + 2 * pairs, random.Random(3).random), home)


def addresses(stage: Stage) -> tuple[str, str]:
    first, second = stage.ports()
    return first.ip, second.ip


# -- families


def test_an_ipv6_caller_is_met_on_ipv6_on_both_sides(stage: Stage) -> None:
    stage.offer([audio(ALICE6)])
    assert addresses(stage) == (HOST6, HOST6)
    stage.answer([audio(BOB6)])
    stage.check()


@pytest.mark.parametrize(("caller", "callee", "family"), [(ALICE, BOB6, 6), (ALICE6, BOB, 4)])
def test_families_are_bridged(stage: Stage, caller: Endpoint, callee: Endpoint, family: int) -> None:
    outcome = stage.offer([audio(caller)], Signal(family=family))
    assert outcome.warnings == []
    stage.answer([audio(callee)])
    a, b = stage.ports()
    assert {":" in a.ip, ":" in b.ip} == {True, False}
    rule = stage.plane.installed[a]
    assert (rule.source, rule.destination, rule.signalled_source) == (b, callee, caller)
    assert stage.plane.installed[b].destination == caller
    assert stage.plane.installed[above(b)].source == above(a)
    stage.check()


def test_a_family_stays_for_the_call(stage: Stage) -> None:
    stage.offer(signal=Signal(family=6))
    stage.answer([audio(BOB6)])
    before = stage.ports()
    stage.offer(tags=("alice", "bob"))
    stage.answer([audio(BOB6)])
    stage.offer([audio(BOB6)], tags=("bob", "alice"))
    assert stage.ports() == before


def test_a_party_that_moves_to_another_family_is_met_there(stage: Stage) -> None:
    stage.offer()
    stage.answer()
    a, b = stage.ports()
    stage.offer([audio(ALICE6)], tags=("alice", "bob"))
    assert addresses(stage) == (HOST6, HOST)
    assert {a, b, above(a), above(b)} <= set(stage.plane.rules())
    shown = stage.answer().media[0].rtp
    assert shown == stage.ports()[0]
    assert a not in stage.plane.installed
    assert stage.plane.installed[stage.ports()[1]].destination == ALICE6
    stage.check()


def test_a_hold_to_nowhere_says_nothing_of_families(stage: Stage) -> None:
    stage.offer([audio(ALICE6)])
    stage.answer([audio(BOB6)])
    before = stage.ports()
    nowhere = Endpoint("0.0.0.0", 4000)
    stage.offer([audio(nowhere, held=True, direction=Direction.SENDONLY)], tags=("alice", "bob"))
    assert stage.ports() == before


def test_a_hold_to_nowhere_in_ipv6_is_one_of_ipv6(stage: Stage) -> None:
    stage.offer([audio(Endpoint("::", 4000), held=True, direction=Direction.SENDONLY)])
    assert addresses(stage) == (HOST6, HOST6)


def test_a_family_that_is_not_there_is_warned_of() -> None:
    stage = Stage()
    assert stage.offer(signal=Signal(family=6)).warnings == [f"no interface has an IPv6 address: {HOST} is used"]
    assert addresses(stage) == (HOST, HOST)


def test_a_named_interface_without_the_family_is_used_in_the_other(stage: Stage) -> None:
    outcome = stage.offer(signal=Signal(direction=("default", "inner"), family=6))
    assert outcome.warnings == ["interface inner has no IPv6 address: 10.0.0.1 is used"]
    assert addresses(stage) == (HOST, "10.0.0.1")


def test_the_callees_side_follows_its_interface_without_a_word(stage: Stage) -> None:
    outcome = stage.offer([audio(ALICE6)], Signal(direction=("default", "inner")))
    assert outcome.warnings == []
    assert addresses(stage) == (HOST6, "10.0.0.1")


def test_the_address_of_the_signalling_tells_the_family_where_it_is_taken(stage: Stage) -> None:
    stage.offer(signal=Signal(received_from=ALICE6.ip, sip_source=True))
    assert addresses(stage) == (HOST6, HOST6)
    assert stage.plane.installed[stage.ports()[1]].destination == ALICE6


# -- names


def test_another_interface_in_a_re_offer_means_new_ports_there(stage: Stage) -> None:
    stage.offer()
    stage.answer()
    a, b = stage.ports()
    offered = stage.offer(signal=Signal(direction=("default", "inner")), tags=("alice", "bob")).media[0]
    assert offered.rtp == stage.ports()[1]
    assert addresses(stage) == (HOST, "10.0.0.1")
    assert stage.plane.installed[a].source == b
    stage.answer()
    assert stage.plane.installed[a].source == stage.ports()[1]
    assert b not in stage.plane.installed
    stage.check()


def test_the_same_names_in_a_re_offer_change_nothing(stage: Stage) -> None:
    signal = Signal(direction=("base", "inner"))
    stage.offer(signal=signal)
    stage.answer()
    before = stage.ports()
    stage.offer(signal=signal, tags=("alice", "bob"))
    assert stage.ports() == before


def test_an_unknown_name_in_a_re_offer_changes_nothing_but_is_told(stage: Stage) -> None:
    stage.offer(signal=Signal(direction=("inner", "inner")))
    stage.answer()
    before = stage.ports()
    outcome = stage.offer(signal=Signal(direction=("nowhere", "inner")), tags=("alice", "bob"))
    assert outcome.warnings == ["no interface is called nowhere: inner is used"]
    assert stage.ports() == before


def test_a_re_offer_without_room_where_it_is_to_move_leaves_the_call_where_it_was(stage: Stage) -> None:
    stage.offer()
    stage.answer()
    ports, rules = stage.ports(), dict(stage.plane.installed)
    inner = next(one for one in stage.registry.interfaces if one.name == "inner")
    while inner.pool.available:
        inner.pool.draw(stage.now)
    with pytest.raises(PortsExhausted):
        stage.offer(signal=Signal(direction=("inner", "inner")), tags=("alice", "bob"))
    assert (stage.ports(), stage.plane.installed) == (ports, rules)
    stage.offer(tags=("alice", "bob"))
    assert stage.ports() == ports


# -- in turns


def names(places: Interfaces, name: str, family: int = 4, calls: int = 4) -> list[str]:
    warnings: list[str] = []
    found = [places.choose(name, family, warnings)[0].name for _ in range(calls)]
    assert warnings == []
    return found


def test_names_with_a_common_base_are_taken_in_turns() -> None:
    places = Interfaces([place("x", "10.0.0.9"), *(place(f"out:{n}", f"10.0.0.{n}") for n in (1, 2, 3))])
    assert names(places, "out") == ["out:1", "out:2", "out:3", "out:1"]
    assert names(places, "out:2") == ["out:2"] * 4


def test_a_turn_passes_over_who_has_no_ports_or_not_the_family() -> None:
    full, free = place("out:1", "10.0.0.1", pairs=1), place("out:2", "10.0.0.2")
    places = Interfaces([full, free, place("out:3", HOST6)])
    full.pool.draw(0.0)
    assert names(places, "out") == ["out:2"] * 4
    assert names(places, "out", family=6) == ["out:3"] * 4


def test_any_interface_in_turns() -> None:
    places = Interfaces([place("a", "10.0.0.1"), place("b", "10.0.0.2")])
    assert names(places, "round-robin-calls") == ["a", "b", "a", "b"]


# -- several addresses of a name


def test_the_next_address_of_a_name_serves_when_the_first_has_no_ports() -> None:
    stage = Stage()
    stage.serve([place("default", "10.0.0.1", pairs=1), place("default", "10.0.0.2", pairs=2)])
    stage.offer()
    assert sorted(addresses(stage)) == ["10.0.0.1", "10.0.0.2"]
    with pytest.raises(PortsExhausted):
        stage.offer(call_id="c2")
    stage.check()
    stage.answer()
    stage.delete(delay=0)
    stage.registry.tick(stage.now)
    assert stage.drawn == 0


def test_each_address_shows_its_own_advertised_one() -> None:
    stage = Stage()
    pool = PortPool(30000, 30001, random.Random(3).random)
    more = Interface("default", "10.0.0.2", "203.0.113.2", PortPool(40000, 40009, random.Random(4).random))
    stage.serve([Interface("default", "10.0.0.1", "203.0.113.1", pool), more])
    outcome = stage.offer()
    a, b = stage.ports()
    assert (a.ip, b.ip) == ("10.0.0.1", "10.0.0.2")
    assert outcome.media[0].rtp == Endpoint("203.0.113.2", b.port)
    assert 40000 <= b.port < 40010
    assert stage.answer([audio(ELSEWHERE)]).media[0].rtp == Endpoint("203.0.113.1", a.port)
    own = Endpoint("203.0.113.2", b.port)
    assert stage.answer([audio(own)]).warnings[0].endswith("a port of this very call")


# -- addresses of partners


def of_two_nodes() -> Interfaces:
    theirs = [place("out", "192.0.2.2", home=2), place("out", "2001:db8::2", home=2), place("in", "10.0.0.2", home=2)]
    return Interfaces([*theirs, place("out", HOST), place("out", "192.0.2.9"), place("in", "10.0.0.1")])


def test_a_partners_addresses_are_known_and_not_chosen() -> None:
    both = of_two_nodes()
    assert {"192.0.2.2", HOST} <= both.own
    for name in (None, "out", "in", "round-robin-calls"):
        for family in (0, 4, 6):
            assert {one.home for one in both.choose(name, family, [])} == {-1}


@pytest.mark.parametrize(
    ("name", "family", "there"),
    [
        (None, 0, "192.0.2.2"),
        ("out", 4, "192.0.2.2"),
        (None, 6, "2001:db8::2"),
        ("out", 6, "2001:db8::2"),
        ("in", 0, "10.0.0.2"),
        ("in", 6, "10.0.0.1"),
        ("round-robin-calls", 4, "192.0.2.2"),
    ],
)
def test_a_call_stays_on_its_partners_addresses_as_long_as_these_have_what_is_asked_for(
    name: str | None, family: int, there: str
) -> None:
    both, warnings = of_two_nodes(), list[str]()
    assert both.kept(both.placed("out", "192.0.2.2"), name, family, warnings)[0].address == there
    assert warnings == (["interface in has no IPv6 address: 10.0.0.1 is used"] if (name, family) == ("in", 6) else [])


def test_what_is_written_of_an_address_finds_it_by_whatever_name() -> None:
    both = of_two_nodes()
    assert [one.address for one in both.placed("out", HOST)] == [HOST, "192.0.2.9"]
    assert [one.address for one in both.placed("outside", "192.0.2.9")] == [HOST, "192.0.2.9"]
    assert both.placed("out", "192.0.2.77") == ()
    found = both.at("outside", HOST, 30002)
    assert found is not None
    assert (found.name, found.address) == ("out", HOST)
    assert both.at("out", HOST, 40000) is both.at("out", "192.0.2.77", 30002) is None


def test_one_address_may_have_several_ranges_under_several_names() -> None:
    low, high = place("low", HOST), Interface("high", HOST, HOST, PortPool(40000, 40009, random.Random(3).random))
    both = Interfaces([low, high])
    assert both.at("low", HOST, 40002) is both.at("high", HOST, 40002) is high


def test_a_relay_without_an_address_of_its_own_is_none() -> None:
    with pytest.raises(ValueError, match="an interface of its own"):
        Interfaces([place("out", "192.0.2.2", home=2)])
