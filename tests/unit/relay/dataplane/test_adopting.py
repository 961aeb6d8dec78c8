"""Rules over tables that a former process wrote; the test plays the program's part, and the former process's."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.dataplane import abi
from relay.dataplane.adopting import addresses_in_use, nexthops_in_use
from relay.dataplane.learning import Learning
from relay.dataplane.nexthops import NextHops
from relay.dataplane.table import RuleTable
from relay.dataplane.words import peer
from relay.flows import Screen
from relay.nic.links import Link, Neighbour, Route
from relay.types import Carries, Endpoint, Path, Rule, Treatment
from relay.types import Learning as Mode

ADDRESSES = ("10.0.0.1", "10.0.0.2")
FACING_A, FACING_B = Endpoint(ADDRESSES[0], 30000), Endpoint(ADDRESSES[1], 30002)
A, B, NAT, FAR = (
    Endpoint("192.0.2.10", 4000),
    Endpoint("192.0.2.20", 6000),
    Endpoint("198.51.100.7", 61000),
    Endpoint("198.51.100.8", 5),
)
OWN_MAC = bytes([2, 0, 0, 0, 0, 1])


def above(endpoint: Endpoint) -> Endpoint:
    return Endpoint(endpoint.ip, endpoint.port + 1)


class Kernel:
    """Every address is a neighbour of its own, whose MAC address follows from it."""

    def route(self, destination: str, source: str | None = None) -> Route | None:
        return Route(7, destination)

    def resolve(self, ifindex: int, ip: str) -> None:
        pass

    def release(self, neighbour: Neighbour) -> None:
        pass


def mac_of(ip: str) -> bytes:
    return bytes([2, 1, *(int(part) for part in ip.split("."))])


class Memory:
    """What outlives a process."""

    def __init__(self) -> None:
        self.rules = np.zeros(2 * abi.PORTS, abi.RULE)
        self.cold = np.zeros(2 * abi.PORTS, abi.COLD)
        self.nexthops = np.zeros(64, abi.NEXTHOP)

    def picture(self) -> tuple[bytes, bytes]:
        return self.rules.tobytes(), self.cold.tobytes()

    def copy(self) -> Memory:
        made = Memory()
        made.rules, made.cold, made.nexthops = self.rules.copy(), self.cold.copy(), self.nexthops.copy()
        return made


class Process:
    """A table over memory, with next hops for every address it is told of."""

    def __init__(self, memory: Memory, screen: Screen | None = None) -> None:
        self.memory = memory
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.told: list[tuple[Endpoint, Endpoint, bool]] = []
        self.table = RuleTable(memory.rules, memory.cold, ADDRESSES, screen or Screen(), self.later, lambda: 0.0)
        self.hops = NextHops(
            Kernel(), memory.nexthops, lambda _: 0, self.table.moved, self.later, self.table.nexthops_in_use()
        )
        self.table.nexthops = self.hops
        neighbours = [Neighbour(7, f"{net}.{host}", mac_of(f"{net}.{host}"), fixed=True)
                      for net in ("192.0.2", "198.51.100") for host in range(1, 60)]  # fmt: skip
        self.hops.load({7: Link(7, "eth0", "", OWN_MAC, 1500, True, True, False)}, neighbours)
        self.learning = Learning(self.table, Ring(), lambda *news: self.told.append(news))  # type: ignore[arg-type]

    def later(self, seconds: float, run: Callable[[], None]) -> None:
        self.timers.append((seconds, run))

    def run_timers(self, until: float = 0.0) -> None:
        due = [run for seconds, run in self.timers if seconds <= until]
        self.timers = [timer for timer in self.timers if timer[0] > until]
        for run in due:
            run()

    def rule(self, local: Endpoint) -> Any:
        return self.memory.rules[self.table.index(local)]

    def learn(self, local: Endpoint, source: Endpoint, state: int) -> None:
        """What the program does when a packet teaches it a source."""
        entry = self.table.standing[self.table.index(local)]
        self.memory.rules[entry.mirror]["learned"] = peer(source, entry.generation)
        self.memory.rules[entry.index]["expected"] = peer(source, 0) | (entry.generation << 2 | state) << 48

    def sends_to(self, local: Endpoint) -> tuple[Endpoint | None, bytes]:
        """Where the program would send a packet of a rule, and by which neighbour."""
        rule = self.rule(local)
        signalled, learned = int(rule["signalled"]), int(rule["learned"])
        used = learned if learned >> 48 == signalled >> 48 and learned & 0xFFFFFFFF else signalled
        address = used & 0xFFFFFFFF
        if not address:
            return None, b""
        port = (used >> 40 & 0xFF) | (used >> 32 & 0xFF) << 8
        ip = ".".join(str(part) for part in address.to_bytes(4, "little"))
        hop = self.memory.nexthops[rule["nexthop"][signalled >> 48 & 1]]
        ready = address == signalled & 0xFFFFFFFF and hop["state"] == abi.NEXTHOP_READY
        return Endpoint(ip, port), hop["destination_mac"].tobytes() if ready else b""

    def flags(self, local: Endpoint) -> int:
        return int(self.rule(local)["control"]) >> 16 & 0xFFFF

    def generations(self) -> tuple[int, int]:
        """Of party A: what its port expects, and what its address at the other port has."""
        expects = int(self.rule(FACING_A)["control"]) & abi.GENERATION_MASK
        return expects, int(self.rule(FACING_B)["signalled"]) >> 48


class Ring:
    def read(self, limit: int) -> list[memoryview]:
        return []


def pair(
    a: Endpoint | None = A, b: Endpoint | None = B, epochs: tuple[int, int] = (1, 1), **options: Any
) -> list[Rule]:
    carries = Carries.RTP | Carries.RTCP
    return [
        Rule(FACING_A, FACING_B, b, epochs[1], a, epochs[0], carries, **options),
        Rule(FACING_B, FACING_A, a, epochs[0], b, epochs[1], carries, **options),
    ]


def bridged() -> list[Rule]:
    """A has RTP and RTCP on one port, B on two."""
    rtp, back = pair()
    return [
        rtp._replace(split=True),
        back._replace(carries=Carries.RTP),
        Rule(above(FACING_A), above(FACING_B), above(B), 1, A, 1, Carries.RTCP),
        Rule(above(FACING_B), above(FACING_A), A, 1, above(B), 1, Carries.RTCP, joined=True),
    ]


@pytest.fixture
def former() -> Process:
    return Process(Memory())


def follow(former: Process, screen: Screen | None = None) -> Process:
    """The process after it, which was told nothing."""
    return Process(former.memory, screen)


def test_fresh_tables_leave_nothing(former: Process) -> None:
    assert former.table.inherited() == []
    assert former.timers == []


def test_what_stands_is_inherited_until_it_is_taken_over(former: Process) -> None:
    former.table.install([*pair(), *bridged()[2:]])
    table = follow(former).table
    assert set(table.inherited()) == {FACING_A, FACING_B, above(FACING_A), above(FACING_B)}
    assert table.get(FACING_A) is None
    table.install(pair())
    assert set(table.inherited()) == {above(FACING_A), above(FACING_B)}
    assert table.get(FACING_A) is not None


def test_what_was_removed_last_is_known_until_it_is_the_kernel_s_again(former: Process) -> None:
    former.table.install(pair())
    former.table.remove([FACING_A], 30.0)
    process = follow(former)
    assert process.table.closing() == [FACING_A]
    assert process.table.inherited() == [FACING_B]
    process.run_timers(60.0)
    assert process.table.closing() == []


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_the_same_rules_store_nothing(former: Process, one_by_one: bool, turned: bool) -> None:
    rules = bridged()
    former.table.install([*rules])
    former.learn(FACING_A, NAT, abi.OPEN)
    former.rule(FACING_A)["packets"] = 70
    former.memory.cold[former.table.index(FACING_A)]["drops"] = 3
    before = former.memory.picture()
    table = follow(former).table
    for part in [[rule] for rule in rules[:: -1 if turned else 1]] if one_by_one else [rules]:
        table.install(part)
    assert former.memory.picture() == before
    entry = table.get(FACING_A)
    assert entry is not None
    state = table.state(entry)
    assert (state.packets, state.drops, state.observed_source) == (70, 3, NAT)


def test_what_was_learned_goes_on_and_is_told(former: Process) -> None:
    former.table.install(pair())
    former.learn(FACING_A, Endpoint(A.ip, 4444), abi.CONFIRMED)
    process = follow(former)
    process.table.install([rule._replace(known_source=A if rule.local == FACING_A else None) for rule in pair()])
    assert process.sends_to(FACING_B)[0] == Endpoint(A.ip, 4444)
    assert process.told == []
    process.run_timers()
    assert process.told == [(FACING_A, Endpoint(A.ip, 4444), True)]


def test_what_was_learned_and_not_yet_folded_is_folded(former: Process) -> None:
    former.table.install(pair())
    former.learn(FACING_A, NAT, abi.CONFIRMED)
    process = follow(former)
    process.table.install(pair())
    process.run_timers()
    assert process.flags(FACING_A) & abi.FIXED
    assert process.sends_to(FACING_B) == (NAT, mac_of(NAT.ip))


@pytest.mark.parametrize("known", [None, A, FAR])
@pytest.mark.parametrize("turned", [False, True])
def test_a_folded_source_stays_folded(former: Process, known: Endpoint | None, turned: bool) -> None:
    former.table.install(pair())
    former.learn(FACING_A, NAT, abi.CONFIRMED)
    former.learning.look([former.table.index(FACING_A)])
    assert former.sends_to(FACING_B) == (NAT, mac_of(NAT.ip))
    before = former.memory.picture()
    process = follow(former)
    first, second = pair()
    rules = [first._replace(known_source=known), second]
    for rule in rules[:: -1 if turned else 1]:
        process.table.install([rule])
    assert process.memory.picture() == before
    entry = process.table.get(FACING_A)
    assert entry is not None
    assert process.table.observed(entry) == (NAT, True)
    process.table.install(pair(epochs=(2, 1)))
    assert process.sends_to(FACING_B) == (A, mac_of(A.ip))


@pytest.mark.parametrize("turned", [False, True])
def test_a_party_that_has_moved_gets_a_generation_and_the_other_keeps_its_own(former: Process, turned: bool) -> None:
    former.table.install(pair())
    former.learn(FACING_A, NAT, abi.OPEN)
    former.learn(FACING_B, B, abi.CONFIRMED)
    former.rule(FACING_A)["packets"] = 70
    before, other = former.generations(), int(former.rule(FACING_B)["control"]) & abi.GENERATION_MASK
    process = follow(former)
    for rule in pair(a=FAR)[:: -1 if turned else 1]:
        process.table.install([rule])
    after = process.generations()
    assert after[0] == after[1]
    assert (after[0] ^ before[0]) & 1 == 1
    assert process.sends_to(FACING_B) == (FAR, mac_of(FAR.ip))
    facing_a, facing_b = process.table.get(FACING_A), process.table.get(FACING_B)
    assert facing_a is not None
    assert facing_b is not None
    assert process.table.observed(facing_a) == (None, False)
    assert process.table.observed(facing_b) == (B, True)
    assert process.table.packets(facing_a.index) == 70
    assert int(process.rule(FACING_B)["control"]) & abi.GENERATION_MASK == other


def test_options_change_in_place(former: Process) -> None:
    former.table.install(pair(clocks=((0, 8000),)))
    former.learn(FACING_A, A, abi.CONFIRMED)
    before = former.generations()
    process = follow(former)
    changed: dict[str, Any] = {"tos": 184, "strict_source": True, "learning": Mode.HEURISTIC, "clocks": ((8, 8000),)}
    process.table.install(pair(preferred_source="203.0.113.5", treatment=Treatment.BLOCK, **changed))
    assert process.generations() == before
    flags = process.flags(FACING_A)
    assert flags & (abi.STRICT | abi.LEARN_MASK | abi.TREATMENT_MASK) == abi.STRICT | abi.LEARN_HEURISTIC | abi.BLOCK
    cold = process.memory.cold[process.table.index(FACING_A)]
    assert int(cold["preferred"]) == 0xCB007105
    assert cold["clock"][0].tolist()[0] == 8
    entry = process.table.get(FACING_A)
    assert entry is not None
    assert process.table.observed(entry) == (A, True)


def test_another_mirror_is_another_generation(former: Process) -> None:
    former.table.install(pair())
    former.learn(FACING_A, NAT, abi.OPEN)
    process = follow(former)
    moved = Endpoint(FACING_B.ip, FACING_B.port + 10)
    first, second = pair()
    process.table.install([first._replace(source=moved), second._replace(local=moved)])
    assert process.sends_to(moved) == (A, mac_of(A.ip))
    assert process.table.inherited() == [FACING_B]
    process.table.remove([FACING_B], 0)
    assert process.table.inherited() == []
    assert process.flags(FACING_B) == abi.CLOSED


def test_a_change_that_was_cut_short_is_begun_again(former: Process) -> None:
    """The former process had stored where A has moved, and not yet that A is expected from there."""
    former.table.install(pair())
    stood = int(former.rule(FACING_A)["control"])
    former.table.install(pair(a=FAR, epochs=(2, 1)))
    former.rule(FACING_A)["control"] = stood
    process = follow(former)
    process.table.install(pair())
    expects, at_other = process.generations()
    assert expects == at_other
    assert process.sends_to(FACING_B) == (A, mac_of(A.ip))


def test_a_destination_that_is_out_of_step_with_its_party_is_joined_again(former: Process) -> None:
    former.table.install(pair())
    former.rule(FACING_B)["signalled"] = peer(A, former.generations()[0] + 2)
    process = follow(former)
    process.table.install(pair())
    expects, at_other = process.generations()
    assert expects == at_other
    assert process.sends_to(FACING_B) == (A, mac_of(A.ip))


@pytest.mark.parametrize("folded", [False, True])
def test_what_is_refused_by_now_is_sent_to_no_more(former: Process, folded: bool) -> None:
    former.table.install(pair())
    if folded:
        former.learn(FACING_A, NAT, abi.CONFIRMED)
        former.learning.look([former.table.index(FACING_A)])
    denied = ip_network((NAT if folded else A).ip)
    process = follow(former, Screen((denied,)))
    process.table.install(pair())
    assert process.sends_to(FACING_B) == ((A, mac_of(A.ip)) if folded else (None, b""))
    entry = process.table.get(FACING_B)
    assert entry is not None
    assert (process.table.path(entry, 1) is Path.REFUSED) is not folded


def test_what_was_learned_is_forgotten_where_it_is_refused_by_now(former: Process) -> None:
    former.table.install(pair())
    former.learn(FACING_A, NAT, abi.OPEN)
    process = follow(former, Screen((ip_network(NAT.ip),)))
    process.table.install(pair())
    assert process.sends_to(FACING_B) == (A, mac_of(A.ip))


def test_what_was_refused_may_be_sent_to_by_now(former: Process) -> None:
    former.table.screen_again(Screen((ip_network(A.ip),)))
    former.table.install(pair())
    assert former.sends_to(FACING_B) == (None, b"")
    process = follow(former)
    process.table.install(pair())
    assert process.sends_to(FACING_B) == (A, mac_of(A.ip))


def test_a_source_others_saw_counts_where_none_was_seen_here(former: Process) -> None:
    former.table.install(pair())
    process = follow(former)
    first, second = pair()
    process.table.install([first._replace(known_source=NAT), second])
    assert process.sends_to(FACING_B) == (NAT, mac_of(NAT.ip))
    assert process.flags(FACING_A) & abi.FIXED


def test_a_party_that_gets_a_port_of_its_own_is_learned_anew(former: Process) -> None:
    former.table.install(bridged())
    before = int(former.rule(above(FACING_A))["control"]) & abi.GENERATION_MASK
    process = follow(former)
    rtp, back, rtcp, rtcp_back = bridged()
    process.table.install([rtp._replace(split=False), back, rtcp, rtcp_back._replace(joined=False)])
    assert int(process.rule(above(FACING_A))["control"]) & abi.GENERATION_MASK != before


def test_removal_needs_no_rule_and_is_cleared(former: Process) -> None:
    former.table.install(pair())
    process = follow(former)
    process.table.remove([FACING_A, FACING_B], 5.0)
    assert process.table.inherited() == []
    assert process.flags(FACING_A) == abi.CLOSED
    process.run_timers(5.0)
    assert process.flags(FACING_A) == process.flags(FACING_B) == 0


def test_ports_that_were_closing_are_cleared(former: Process) -> None:
    former.table.install(pair())
    former.table.remove([FACING_A, FACING_B], 30.0)
    process = follow(former)
    assert process.table.inherited() == []
    assert process.flags(FACING_A) == abi.CLOSED
    process.table.install(pair()[1:])
    process.run_timers(30.0)
    assert process.flags(FACING_A) == 0
    assert process.flags(FACING_B) & abi.LIVE


def test_counters_go_on(former: Process) -> None:
    former.table.install(pair())
    former.rule(FACING_A)["bytes"], former.rule(FACING_A)["packets"] = 1600, 10
    table = follow(former).table
    assert table.octets() == 1600
    assert table.heard(FACING_A.ip) == b""
    former.rule(FACING_A)["packets"] = 11
    assert table.heard(FACING_A.ip)[FACING_A.port >> 3] == 1 << (FACING_A.port & 7)
    table.install(pair())
    assert table.octets() == 1600
    assert table.heard(FACING_A.ip) == b""


# -- next hops


def test_a_rule_keeps_its_next_hop_and_what_nobody_uses_is_freed(former: Process) -> None:
    former.table.install(bridged())
    former.table.install([rule._replace(local=Endpoint(rule.local.ip, rule.local.port + 500), destination=FAR)
                          for rule in pair()[:1]])  # fmt: skip
    held = int(former.rule(FACING_A)["nexthop"].max())
    assert nexthops_in_use(former.memory.rules) == {1, 2, 3}
    process = follow(former)
    process.table.install(bridged())
    assert int(process.rule(FACING_A)["nexthop"].max()) == held
    process.hops.expire(1e9)
    assert process.hops.counts()[0] == 2
    assert {int(index) for index in np.flatnonzero(process.memory.nexthops["state"])} == {1, 2, 3}
    process.table.remove(process.table.inherited(), 0)
    assert len(np.flatnonzero(process.memory.nexthops["state"])) == 2


def test_an_entry_is_not_freed_while_a_rule_may_use_it_that_is_not_taken_over(former: Process) -> None:
    former.table.install(bridged())
    index = int(former.rule(FACING_B)["nexthop"].max())
    process = follow(former)
    process.table.install(bridged()[:2])
    process.table.remove([FACING_A, FACING_B], 0)
    process.hops.expire(1e9)
    assert process.memory.nexthops[index]["state"] == abi.NEXTHOP_READY
    process.table.remove(process.table.inherited(), 0)
    process.hops.expire(2e9)
    assert process.hops.counts()[0] == 0
    assert not process.memory.nexthops["state"].any()


def test_several_entries_for_one_neighbour_become_one(former: Process) -> None:
    former.table.install(bridged())
    index, double = int(former.rule(FACING_B)["nexthop"].max()), 9
    former.memory.nexthops[double] = former.memory.nexthops[index]
    joined = former.rule(above(FACING_B))
    joined["nexthop"] = np.where(joined["nexthop"] == index, double, joined["nexthop"])
    process = follow(former)
    process.table.install(bridged())
    assert process.sends_to(above(FACING_B)) == process.sends_to(FACING_B) == (A, mac_of(A.ip))
    assert nexthops_in_use(process.memory.rules) >= {index}
    assert double not in nexthops_in_use(process.memory.rules)
    assert process.memory.nexthops[double]["state"] == 0


def test_an_entry_that_leads_elsewhere_is_left_to_those_who_still_use_it(former: Process) -> None:
    former.table.install(pair())
    index = int(former.rule(FACING_B)["nexthop"].max())
    former.memory.nexthops[index]["destination_mac"] = np.frombuffer(mac_of(FAR.ip), np.uint8)
    process = follow(former)
    process.table.install(pair()[1:])
    assert process.sends_to(FACING_B) == (A, mac_of(A.ip))
    assert process.memory.nexthops[index]["destination_mac"].tobytes() == mac_of(FAR.ip)
    assert process.memory.nexthops[index]["state"] == abi.NEXTHOP_READY


def test_an_entry_stays_while_the_kernel_does_not_know_its_neighbour(former: Process) -> None:
    former.table.install(pair())
    process = follow(former)
    process.hops.load({7: Link(7, "eth0", "", OWN_MAC, 1500, True, True, False)}, [])
    process.table.install(pair())
    assert process.sends_to(FACING_B) == (A, mac_of(A.ip))
    process.hops.neighbours_changed([Neighbour(7, A.ip, b"", fixed=False)])
    assert process.sends_to(FACING_B) == (A, b"")


def test_new_next_hops_take_no_entry_that_is_in_use(former: Process) -> None:
    former.table.install(pair())
    former.rule(FACING_A)["nexthop"] = 60
    former.memory.nexthops[60] = former.memory.nexthops[1]
    former.memory.nexthops[1] = np.zeros((), abi.NEXTHOP)
    process = follow(former)
    for host in range(30, 50):
        local = Endpoint(ADDRESSES[0], 40000 + 2 * host)
        process.table.install([pair()[0]._replace(local=local, destination=Endpoint(f"192.0.2.{host}", 9))])
        assert process.sends_to(local)[1] == mac_of(f"192.0.2.{host}")
    assert 60 not in {int(process.rule(Endpoint(ADDRESSES[0], 40000 + 2 * host))["nexthop"].max()) for host in (30, 49)}


def test_addresses_of_live_rules_and_of_where_they_send_from_are_in_use(former: Process) -> None:
    assert addresses_in_use(former.memory.rules) == set()
    former.table.install(pair()[:1])
    assert addresses_in_use(former.memory.rules) == {0, 1}


# -- any history: who adopts what stands goes on like who wrote it

PORTS = tuple(Endpoint(ADDRESSES[number % 2], 30000 + number) for number in range(8))
PARTIES = st.sampled_from([A, B, NAT, FAR, None, Endpoint("127.0.0.1", 9)])
STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["install", "install", "first", "remove", "learn", "sweep"]),
        PARTIES,
        PARTIES,
        st.integers(0, 2),
        st.sampled_from([abi.OPEN, abi.WEAK, abi.CONFIRMED]),
    ),
    max_size=12,
)


class History:
    """Calls that come, change, are learned from and end, over one process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.calls: dict[int, list[Rule]] = {}
        self.epochs: dict[tuple[int, Endpoint | None, int], int] = {}

    def take(self, step: tuple[int, str, Endpoint | None, Endpoint | None, int, int]) -> None:
        number, deed, a, b, option, state = step
        table, here, there = self.process.table, PORTS[2 * number], PORTS[2 * number + 1]
        if deed in ("install", "first"):
            epochs = (self.epoch(number, a, 0), self.epoch(number, b, 1))
            rules = [
                Rule(here, there, b, epochs[1], a, epochs[0], Carries.RTP, tos=option * 8),
                Rule(there, here, a, epochs[0], b, epochs[1], Carries.RTP, strict_source=option == 1),
            ]
            self.calls[number] = rules
            table.install(rules if deed == "install" else rules[:1])
            if deed == "first":
                table.install(rules[1:])
        elif deed == "remove":
            table.remove([rule.local for rule in self.calls.pop(number, [])], 1.0)
        elif deed == "learn" and number in self.calls:
            if a is not None and a.ip != "127.0.0.1":
                self.process.learn(here, a, state)
        elif deed == "sweep":
            self.process.learning.look(list(table.standing))

    def epoch(self, number: int, party: Endpoint | None, side: int) -> int:
        return self.epochs.setdefault((number, party, side), len(self.epochs) + 1)

    def cold(self) -> list[bytes]:
        table = self.process.table
        return [self.process.memory.cold[table.index(local)].tobytes() for local in PORTS]

    def ways(self) -> dict[Endpoint, tuple[Any, ...]]:
        process = self.process
        return {
            rule.local: (*process.sends_to(rule.local), process.flags(rule.local), process.rule(rule.local)["expected"])
            for rules in self.calls.values()
            for rule in rules
        }


@settings(max_examples=40, deadline=None)
@given(STEPS, STEPS, st.randoms(use_true_random=False))
def test_who_adopts_goes_on_like_who_wrote(before: Any, after: Any, chance: Any) -> None:
    history = History(Process(Memory()))
    for step in before:
        history.take(step)
    ways, memory = history.ways(), history.process.memory.copy()
    cold = history.cold()
    heir = History(Process(memory))
    heir.calls, heir.epochs = dict(history.calls), dict(history.epochs)
    assert set(heir.process.table.inherited()) == {rule.local for rules in heir.calls.values() for rule in rules}
    rules = [rule for rules in heir.calls.values() for rule in rules]
    chance.shuffle(rules)
    for rule in rules:
        heir.process.table.install([rule])
    assert heir.process.table.inherited() == []
    assert (heir.cold(), heir.ways()) == (cold, ways)
    history.process.learning.look(list(history.process.table.standing))
    heir.process.run_timers()
    for step in after:
        history.take(step)
        heir.take(step)
        assert heir.ways() == history.ways()
