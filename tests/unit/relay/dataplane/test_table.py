"""The words that rules become, over tables in ordinary memory; the test plays the XDP program's part."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import numpy as np
import pytest

from relay.dataplane import abi
from relay.dataplane.nexthops import NextHops
from relay.dataplane.table import RuleTable
from relay.dataplane.words import peer
from relay.errors import DataplaneError
from relay.flows import Screen
from relay.nic.links import Link, Neighbour, Route
from relay.types import Carries, Endpoint, Learning, Rule, Treatment

ADDRESSES = ("10.0.0.1", "10.0.0.2")
FACING_A, FACING_B = Endpoint(ADDRESSES[0], 30000), Endpoint(ADDRESSES[1], 30002)
A, B, NAT = Endpoint("192.0.2.10", 4000), Endpoint("192.0.2.20", 6000), Endpoint("198.51.100.7", 61000)
MAC = bytes([2, 0, 0, 0, 0, 1])


class Kernel:
    def route(self, destination: str, source: str | None = None) -> Route | None:
        return Route(7, destination)

    def resolve(self, ifindex: int, ip: str) -> None:
        pass

    def release(self, neighbour: Neighbour) -> None:
        pass


class Bench:
    def __init__(self) -> None:
        self.timers: list[tuple[float, Callable[[], None]]] = []
        rules, cold = np.zeros(2 * abi.PORTS, abi.RULE), np.zeros(2 * abi.PORTS, abi.COLD)
        self.table = RuleTable(rules, cold, ADDRESSES, Screen(), self.later, lambda: 0.0)
        self.table.nexthops = NextHops(
            Kernel(), np.zeros(64, abi.NEXTHOP), lambda _: 0, self.table.moved, lambda *_: None
        )
        self.table.nexthops.load({7: Link(7, "eth0", "", MAC, 1500, True, True, False)}, [])

    def later(self, seconds: float, run: Callable[[], None]) -> None:
        self.timers.append((seconds, run))

    def word(self, local: Endpoint, name: str) -> Any:
        """A word of a rule as the structure the program reads."""
        dtype = {"control": abi.CONTROL, "expected": abi.EXPECTED}.get(name, abi.PEER)
        return np.frombuffer(self.table.rules[self.table.index(local)][name].tobytes(), dtype)[0]

    def cold(self, local: Endpoint) -> Any:
        return self.table.cold[self.table.index(local)]

    def destination(self, local: Endpoint) -> tuple[str, int]:
        found = self.word(local, "signalled")
        number = int(found["address"])
        return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0)), int(found["port"])

    def generations(self) -> tuple[int, int]:
        """Of party A: what its port expects, and what its address at the other port has."""
        return int(self.word(FACING_A, "control")["generation"]), int(self.word(FACING_B, "signalled")["generation"])

    def learn(self, local: Endpoint, source: Endpoint, state: int) -> None:
        """What the program does when a packet teaches it a source."""
        entry = self.table.standing[self.table.index(local)]
        self.table.rules[entry.mirror]["learned"] = peer(source, entry.generation)
        tag = entry.generation << 2 | state
        self.table.rules[entry.index]["expected"] = peer(source, 0) | tag << 48


@pytest.fixture
def bench() -> Bench:
    return Bench()


def pair(
    a: Endpoint | None = A, b: Endpoint | None = B, epochs: tuple[int, int] = (1, 1), **options: Any
) -> list[Rule]:
    carries = Carries.RTP | Carries.RTCP
    return [
        Rule(FACING_A, FACING_B, b, epochs[1], a, epochs[0], carries, **options),
        Rule(FACING_B, FACING_A, a, epochs[0], b, epochs[1], carries, **options),
    ]


def test_a_new_pair_is_joined_by_generations(bench: Bench) -> None:
    bench.table.install(pair(tos=184))
    control = bench.word(FACING_A, "control")
    assert control["flags"] == abi.LIVE | abi.RTP | abi.RTCP | abi.LEARN_DELAYED
    assert (control["tos"], control["address"], control["port"]) == (184, 1, FACING_B.port)
    assert bench.destination(FACING_A) == B
    assert bench.destination(FACING_B) == A
    expects, at_other = bench.generations()
    assert expects == at_other != 0


def test_the_cold_line_holds_what_a_window_compares_with(bench: Bench) -> None:
    bench.table.install(pair(preferred_source="203.0.113.5", clocks=((8, 8000), (0, 8000))))
    cold = bench.cold(FACING_A)
    assert int(cold["source"]) == peer(A, bench.generations()[0])
    assert int(cold["preferred"]) == 0xCB007105
    assert [tuple(clock) for clock in cold["clock"].tolist()] == [(8, 0, 32), (0, 0, 32), (255, 0, 0), (255, 0, 0)]


def test_the_next_hop_stands_in_the_slot_of_the_generations_parity(bench: Bench) -> None:
    bench.table.install(pair())
    generation = bench.generations()[1]
    slots = bench.table.rules[bench.table.index(FACING_B)]["nexthop"]
    assert slots[generation & 1] > 0
    assert slots[1 - (generation & 1)] == 0


def test_the_same_rules_again_store_nothing(bench: Bench) -> None:
    bench.table.install(pair())
    before = bench.table.rules.tobytes()
    bench.table.install(pair())
    assert bench.table.rules.tobytes() == before


def test_a_new_epoch_changes_both_rules_of_the_party_and_no_other_generation(bench: Bench) -> None:
    bench.table.install(pair())
    other = int(bench.word(FACING_B, "control")["generation"])
    before = bench.generations()
    bench.table.install(pair(a=NAT, epochs=(2, 1)))
    after = bench.generations()
    assert after[0] == after[1] != before[0]
    assert (after[0] ^ before[0]) & 1 == 1
    assert bench.destination(FACING_B) == NAT
    assert int(bench.word(FACING_B, "control")["generation"]) == other


def test_a_generation_that_a_stale_word_holds_is_skipped(bench: Bench) -> None:
    bench.table.install(pair())
    current = bench.generations()[0]
    bench.table.rules[bench.table.index(FACING_B)]["learned"] = peer(NAT, current + 1)
    bench.table.rules[bench.table.index(FACING_A)]["expected"] = (current + 3 << 2 | abi.CONFIRMED) << 48
    bench.table.install(pair(epochs=(2, 1)))
    assert bench.generations() == (current + 5, current + 5)


def test_options_change_in_place(bench: Bench) -> None:
    bench.table.install(pair())
    bench.learn(FACING_A, A, abi.CONFIRMED)
    generation = bench.generations()
    bench.table.install(pair(strict_source=True, media_handover=True, learning=Learning.HEURISTIC, tos=8))
    control = bench.word(FACING_A, "control")
    assert control["flags"] & (abi.STRICT | abi.HANDOVER | abi.LEARN_MASK) == 0x30 | abi.LEARN_HEURISTIC
    assert control["tos"] == 8
    assert bench.generations() == generation


def test_rules_that_come_one_by_one_are_joined_as_well(bench: Bench) -> None:
    for rule in pair():
        bench.table.install([rule])
    expects, at_other = bench.generations()
    assert expects == at_other
    assert bench.word(FACING_A, "signalled")["generation"] == bench.word(FACING_B, "control")["generation"]


def test_a_lone_rule_follows_its_destination(bench: Bench) -> None:
    first = pair()[0]
    bench.table.install([first])
    generation = int(bench.word(FACING_A, "signalled")["generation"])
    bench.table.install([first._replace(destination=NAT, destination_epoch=2)])
    assert bench.destination(FACING_A) == NAT
    assert (int(bench.word(FACING_A, "signalled")["generation"]) ^ generation) & 1 == 1


def test_a_confirmed_source_is_folded_into_both_rules(bench: Bench) -> None:
    bench.table.install(pair())
    bench.learn(FACING_A, NAT, abi.CONFIRMED)
    before = bench.generations()[0]
    entry = bench.table.get(FACING_A)
    assert entry
    bench.table.fold(entry, NAT)
    expects, at_other = bench.generations()
    assert expects == at_other != before
    assert bench.destination(FACING_B) == NAT
    assert bench.word(FACING_A, "control")["flags"] & abi.FIXED
    assert int(bench.cold(FACING_A)["source"]) == peer(A, expects)
    assert bench.table.observed(entry) == (NAT, True)


def test_a_fold_lasts_as_long_as_the_epoch(bench: Bench) -> None:
    bench.table.install(pair())
    entry = bench.table.get(FACING_A)
    assert entry
    bench.table.fold(entry, NAT)
    bench.table.install(pair(tos=8))
    assert bench.destination(FACING_B) == NAT
    bench.table.install(pair(epochs=(2, 1)))
    assert bench.destination(FACING_B) == A
    assert not bench.word(FACING_A, "control")["flags"] & abi.FIXED


def test_a_known_source_starts_folded(bench: Bench) -> None:
    first, second = pair()
    bench.table.install([first._replace(known_source=NAT), second])
    assert bench.destination(FACING_B) == NAT
    assert bench.word(FACING_A, "control")["flags"] & abi.FIXED


def test_the_target_is_the_learned_address_while_its_generation_stands(bench: Bench) -> None:
    bench.table.install(pair())
    sends_to_a = bench.table.get(FACING_B)
    assert sends_to_a
    assert bench.table.target(sends_to_a) == A
    bench.learn(FACING_A, NAT, abi.OPEN)
    assert bench.table.target(sends_to_a) == NAT
    bench.table.install(pair(epochs=(2, 1)))
    assert bench.table.target(sends_to_a) == A


@pytest.mark.parametrize("refused", [Endpoint("127.0.0.1", 5), Endpoint("224.1.1.1", 5), FACING_A, FACING_B])
def test_a_refused_destination_stays_without_an_address(bench: Bench, refused: Endpoint) -> None:
    bench.table.install(pair(b=refused))
    entry = bench.table.get(FACING_A)
    assert entry
    assert entry.refused
    assert bench.destination(FACING_A) == ("0.0.0.0", 0)
    assert bench.word(FACING_A, "control")["flags"] & abi.LIVE


def test_octets_are_counted_beyond_the_end_of_a_call(bench: Bench) -> None:
    bench.table.install(pair())
    bench.table.rules[bench.table.index(FACING_A)]["bytes"] = 700
    assert bench.table.octets() == 700
    bench.table.remove([FACING_A, FACING_B], 0)
    assert bench.table.octets() == 700
    bench.table.install(pair())
    bench.table.rules[bench.table.index(FACING_B)]["bytes"] = 50
    assert bench.table.octets() == 750


def test_a_treatment_changes_flags_and_clocks_in_place(bench: Bench) -> None:
    clocks = ((8, 8000), (0, 8000))
    bench.table.install(pair(clocks=clocks))
    generation = bench.generations()
    bench.table.install(pair(clocks=clocks, fills=((8, 0xD5),), treatment=Treatment.SILENCE))
    assert bench.word(FACING_A, "control")["flags"] & abi.TREATMENT_MASK == abi.SILENCE
    assert [tuple(clock) for clock in bench.cold(FACING_A)["clock"].tolist()][:2] == [(8, 0xD5, 32), (0, 0, 32)]
    bench.table.install(pair(clocks=clocks))
    assert bench.word(FACING_A, "control")["flags"] & abi.TREATMENT_MASK == 0
    assert [tuple(clock) for clock in bench.cold(FACING_A)["clock"].tolist()][:2] == [(8, 0, 32), (0, 0, 32)]
    assert bench.generations() == generation


def test_a_source_folded_at_a_port_for_both_is_folded_for_the_port_above(bench: Bench) -> None:
    """The party has RTP and RTCP on one port; the other has not."""
    above_a, above_b = (Endpoint(local.ip, local.port + 1) for local in (FACING_A, FACING_B))
    rtp, back = pair(b=B)
    rtcp = Rule(above_a, above_b, Endpoint(B.ip, B.port + 1), 1, A, 1, Carries.RTCP)
    rtcp_back = Rule(above_b, above_a, A, 1, Endpoint(B.ip, B.port + 1), 1, Carries.RTCP, joined=True)
    bench.table.install([rtp._replace(split=True), back, rtcp, rtcp_back])
    assert bench.word(FACING_A, "control")["flags"] & abi.SPLIT
    assert bench.word(above_b, "control")["flags"] & abi.JOINED
    entry = bench.table.get(FACING_A)
    assert entry
    bench.table.fold(entry, NAT)
    assert bench.destination(FACING_B) == bench.destination(above_b) == NAT
    assert int(bench.word(above_a, "control")["generation"]) == int(bench.word(above_b, "signalled")["generation"])


def test_a_learned_address_that_is_denied_later_is_forgotten(bench: Bench) -> None:
    bench.table.install(pair())
    before = bench.generations()[0]
    bench.learn(FACING_A, NAT, abi.OPEN)
    sends_to_a, facing_a = bench.table.get(FACING_B), bench.table.get(FACING_A)
    assert sends_to_a
    assert facing_a
    bench.table.screen_again(Screen((ip_network("198.51.100.0/24"),)))
    assert bench.table.target(sends_to_a) == A
    expects, at_other = bench.generations()
    assert expects == at_other != before
    assert bench.table.observed(facing_a) == (None, False)


def test_a_folded_address_that_is_denied_later_gives_way_to_the_signalled_one(bench: Bench) -> None:
    bench.table.install(pair())
    entry = bench.table.get(FACING_A)
    assert entry
    bench.table.fold(entry, NAT)
    bench.table.screen_again(Screen((ip_network("198.51.100.0/24"),)))
    assert bench.destination(FACING_B) == A
    assert not bench.word(FACING_A, "control")["flags"] & abi.FIXED


def test_a_party_of_the_other_address_family_is_nobody(bench: Bench) -> None:
    bench.table.install(pair(a=Endpoint("2001:db8::1", 4000), preferred_source="2001:db8::2"))
    entry = bench.table.get(FACING_B)
    assert entry
    assert entry.refused
    assert int(bench.cold(FACING_A)["source"]) == peer(None, bench.generations()[0])
    assert int(bench.cold(FACING_A)["preferred"]) == 0


def test_what_is_refused_may_change(bench: Bench) -> None:
    bench.table.install(pair())
    generation = bench.generations()
    bench.table.screen_again(Screen((ip_network("192.0.2.0/27"),)))
    assert bench.destination(FACING_B) == ("0.0.0.0", 0)
    bench.table.screen_again(Screen())
    assert bench.destination(FACING_B) == A
    assert bench.generations() == generation


def test_one_of_the_relays_own_ports_needs_no_next_hop(bench: Bench) -> None:
    own = Endpoint(ADDRESSES[0], 40000)
    bench.table.install(pair(b=own))
    entry = bench.table.get(FACING_A)
    assert entry
    assert entry.destination is None
    assert bench.destination(FACING_A) == own


def test_a_removed_port_is_closed_then_cleared(bench: Bench) -> None:
    bench.table.install(pair())
    bench.table.remove([FACING_A], 30.0)
    assert bench.word(FACING_A, "control")["flags"] == abi.CLOSED
    assert bench.word(FACING_B, "control")["flags"] & abi.LIVE
    ((seconds, clear),) = bench.timers
    assert seconds == 30.0
    clear()
    assert bench.word(FACING_A, "control")["flags"] == 0


def test_a_port_used_again_is_not_cleared_by_the_old_timer(bench: Bench) -> None:
    bench.table.install(pair())
    bench.table.remove([FACING_A, FACING_B], 30.0)
    bench.table.install(pair())
    bench.table.remove([FACING_A, FACING_B], 30.0)
    bench.timers[0][1]()
    assert bench.word(FACING_A, "control")["flags"] == abi.CLOSED
    bench.timers[1][1]()
    assert bench.word(FACING_A, "control")["flags"] == 0


def test_a_new_life_counts_from_zero_and_knows_nobody(bench: Bench) -> None:
    bench.table.install(pair())
    index = bench.table.index(FACING_A)
    bench.learn(FACING_A, NAT, abi.CONFIRMED)
    bench.table.rules[index]["packets"] = bench.table.rules[index]["bytes"] = 9
    bench.table.cold[index]["drops"] = 3
    bench.table.rules[index]["tick"], bench.table.rules[index]["mark"] = 7, 9
    bench.table.remove([FACING_A, FACING_B], 0)
    bench.table.install(pair())
    entry = bench.table.get(FACING_A)
    assert entry
    state = bench.table.state(entry)
    assert (state.packets, state.bytes, state.drops, state.observed_source) == (0, 0, 0, None)
    # The guard of the rate takes the difference of mark and packets.
    assert (bench.table.rules[index]["tick"], bench.table.rules[index]["mark"]) == (0, 0)
    assert bench.table.expected(index) == bench.table.learned(bench.table.index(FACING_B)) == 0


def test_loss_and_jitter_are_read_as_the_program_keeps_them(bench: Bench) -> None:
    bench.table.install(pair(clocks=((8, 8000),)))
    index = bench.table.index(FACING_A)
    rule, cold = bench.table.rules[index], bench.table.cold[index]
    rule["sequence"], rule["ssrc"], rule["packets"] = abi.FIRST_CYCLE + 109, 0xCAFE, 120
    cold["base_sequence"], cold["base_packets"], cold["other"] = abi.FIRST_CYCLE + 10, 20, 5
    cold["prior_expected"], cold["prior_received"] = 50, 45
    cold["jitter"], cold["payload_type"], cold["drop_reason"] = 2500 * 16, 8, abi.COUNTERS.index("rate")
    entry = bench.table.get(FACING_A)
    assert entry
    state = bench.table.state(entry)
    assert (state.expected, state.received, state.lost) == (150, 140, 10)
    assert (state.ssrc, state.highest_sequence, state.payload_type) == (0xCAFE, 109, 8)
    assert (state.jitter_ms, state.last_drop) == (2.5, "rate")


def test_an_address_that_is_not_served_is_an_error(bench: Bench) -> None:
    first, second = pair()
    with pytest.raises(DataplaneError, match=r"10\.9\.9\.9 is not a media address"):
        bench.table.install([first, second._replace(local=Endpoint("10.9.9.9", 30000))])
    assert not bench.table.standing
    assert not bench.table.rules.view("u1").any()
