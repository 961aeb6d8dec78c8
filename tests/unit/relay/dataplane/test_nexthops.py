from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable

import numpy as np
import pytest

from relay.dataplane import abi
from relay.dataplane.nexthops import Destination, NextHops
from relay.nic.links import Link, Neighbour, Route

SOURCE = "10.0.0.1"
GATEWAY_MAC, OTHER_MAC, OWN_MAC = (bytes([2, 0, 0, 0, 0, number]) for number in (1, 2, 9))


def link(index: int = 7, *, up: bool = True, mac: bytes = OWN_MAC, mtu: int = 1500) -> Link:
    return Link(index, f"eth{index}", "", mac, mtu, up, up, loopback=False)


class Kernel:
    """Answers like a host whose routes and refusals the test sets."""

    def __init__(self) -> None:
        self.routes: dict[str, Route | None] = {}
        self.asked: list[str] = []
        self.short_of_memory = False
        self.resolving: list[tuple[int, str]] = []
        self.released: list[Neighbour] = []

    def route(self, destination: str, source: str | None = None) -> Route | None:
        self.asked.append(destination)
        if self.short_of_memory:
            raise OSError(errno.ENOBUFS, "no buffer space")
        return self.routes.get(destination, Route(7, "10.0.0.254"))

    def resolve(self, ifindex: int, ip: str) -> None:
        self.resolving.append((ifindex, ip))

    def release(self, neighbour: Neighbour) -> None:
        self.released.append(neighbour)


class Bench:
    """A table of next hops with all around it."""

    def __init__(self, entries: int = 8) -> None:
        self.kernel = Kernel()
        self.table = np.zeros(entries, abi.NEXTHOP)
        self.moved: list[int] = []
        self.tasks: deque[Callable[[], None]] = deque()
        self.hops = NextHops(
            self.kernel,
            self.table,
            lambda ifindex: ifindex - 7,
            self.moved.append,
            lambda _, run: self.tasks.append(run),
        )
        self.hops.load({7: link(), 8: link(8)}, [])

    def settle(self) -> None:
        while self.tasks:
            self.tasks.popleft()()

    def neighbour(self, ip: str, mac: bytes = GATEWAY_MAC, ifindex: int = 7) -> None:
        self.hops.neighbours_changed([Neighbour(ifindex, ip, mac, fixed=False)])

    def entry(self, destination: Destination) -> tuple[int, bytes, bytes, int, int]:
        record = self.table[destination.index]
        macs = record["destination_mac"].tobytes(), record["source_mac"].tobytes()
        return int(record["state"]), *macs, int(record["device"]), int(record["mtu"])


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_entry_is_ready_once_its_neighbour_is_known(bench: Bench) -> None:
    destination = bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    assert destination.index > 0
    assert not bench.hops.ready(destination)
    assert bench.kernel.resolving == [(7, "10.0.0.254")]
    bench.neighbour("10.0.0.254")
    assert bench.hops.ready(destination)
    assert bench.entry(destination) == (abi.NEXTHOP_READY, GATEWAY_MAC, OWN_MAC, 0, 1500)
    assert bench.hops.counts() == (1, 1)


def test_destinations_behind_one_gateway_share_an_entry(bench: Bench) -> None:
    first = bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    second = bench.hops.acquire(SOURCE, "192.0.2.2", 2)
    assert first is not second
    assert first.index == second.index


def test_a_route_is_looked_up_once_while_it_stands(bench: Bench) -> None:
    bench.hops.release(bench.hops.acquire(SOURCE, "192.0.2.1", 1), 1, 0.0)
    bench.hops.acquire(SOURCE, "192.0.2.1", 2)
    assert bench.kernel.asked == ["192.0.2.1"]


def test_without_a_route_there_is_no_entry(bench: Bench) -> None:
    bench.kernel.routes["192.0.2.1"] = None
    destination = bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    assert destination.index == 0
    assert not bench.hops.ready(destination)


def test_a_new_mac_address_takes_effect_in_place(bench: Bench) -> None:
    destination = bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    bench.neighbour("10.0.0.254")
    bench.neighbour("10.0.0.254", OTHER_MAC)
    assert bench.entry(destination)[:2] == (abi.NEXTHOP_READY, OTHER_MAC)
    assert bench.moved == []


def test_a_failed_neighbour_sends_packets_up_again(bench: Bench) -> None:
    destination = bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    bench.neighbour("10.0.0.254")
    bench.neighbour("10.0.0.254", b"")
    assert not bench.hops.ready(destination)


def test_a_deleted_neighbour_is_asked_for_again(bench: Bench) -> None:
    bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    bench.kernel.resolving.clear()
    bench.hops.neighbours_changed([Neighbour(7, "10.0.0.254", b"", fixed=False, gone=True)])
    assert bench.kernel.resolving == [(7, "10.0.0.254")]


def test_a_fixed_neighbour_is_left_alone(bench: Bench) -> None:
    bench.hops.load({7: link()}, [Neighbour(7, "10.0.0.254", GATEWAY_MAC, fixed=True)])
    destination = bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    assert bench.hops.ready(destination)
    bench.hops.close()
    assert (bench.kernel.resolving, bench.kernel.released) == ([], [])


def test_a_changed_route_moves_the_rules_that_use_it(bench: Bench) -> None:
    destination = bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    bench.hops.acquire(SOURCE, "192.0.2.1", 2)
    bench.hops.acquire(SOURCE, "192.0.2.9", 3)
    before = destination.index
    bench.kernel.routes["192.0.2.1"] = Route(8, "10.0.1.254")
    bench.hops.routes_changed()
    bench.settle()
    assert destination.index != before
    assert sorted(bench.moved) == [1, 2]
    assert bench.hops.devices() == {7, 8}


def test_a_route_change_during_a_pass_makes_another(bench: Bench) -> None:
    destinations = [bench.hops.acquire(SOURCE, f"192.0.2.{number}", number) for number in range(1, 250)]
    bench.hops.routes_changed()
    bench.tasks.popleft()()
    bench.kernel.routes["192.0.2.1"] = None
    bench.hops.routes_changed()
    bench.settle()
    assert destinations[0].index == 0
    assert bench.moved == [1]


def test_a_link_that_goes_down_takes_its_entries_along(bench: Bench) -> None:
    destination = bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    bench.neighbour("10.0.0.254")
    bench.hops.links_changed({7: link(up=False)})
    assert not bench.hops.ready(destination)
    bench.hops.links_changed({7: link(mac=OTHER_MAC, mtu=9000)})
    assert bench.entry(destination) == (abi.NEXTHOP_READY, GATEWAY_MAC, OTHER_MAC, 0, 9000)


def test_other_links_that_change_cost_nothing(bench: Bench) -> None:
    bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    bench.hops.links_changed({7: link(), 8: link(8, up=False), 9: link(9)})
    assert not bench.tasks


def test_an_unused_entry_is_freed_after_a_while_and_its_place_used_again() -> None:
    bench = Bench(entries=2)
    first = bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    bench.neighbour("10.0.0.254")
    index = first.index
    bench.kernel.routes["192.0.2.2"] = Route(7, "10.0.0.253")
    assert bench.hops.acquire(SOURCE, "192.0.2.2", 2).index == 0
    assert bench.hops.exhausted == 1
    bench.hops.release(first, 1, 100.0)
    bench.hops.expire(159.0)
    assert bench.hops.counts()[0] == 1
    bench.hops.expire(160.0)
    assert bench.hops.counts()[0] == 0
    assert [neighbour.ip for neighbour in bench.kernel.released] == ["10.0.0.254"]
    bench.kernel.routes["192.0.2.3"] = Route(7, "10.0.0.252")
    assert bench.hops.acquire(SOURCE, "192.0.2.3", 3).index == index


def test_an_entry_used_again_in_time_stays(bench: Bench) -> None:
    bench.hops.release(bench.hops.acquire(SOURCE, "192.0.2.1", 1), 1, 100.0)
    again = bench.hops.acquire(SOURCE, "192.0.2.1", 2)
    bench.hops.expire(1000.0)
    assert again.index > 0
    assert bench.hops.counts()[0] == 1


def test_a_kernel_short_of_memory_is_asked_again_when_a_rule_wants_a_way(bench: Bench) -> None:
    bench.kernel.short_of_memory = True
    destination = bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    other = bench.hops.acquire(SOURCE, "192.0.2.2", 2)
    assert (destination.index, other.index, len(bench.tasks)) == (0, 0, 1)
    bench.kernel.short_of_memory = False
    bench.settle()
    assert destination.index > 0
    assert sorted(bench.moved) == [1, 2]


def test_a_kernel_short_of_memory_takes_no_way_and_stops_no_pass(bench: Bench) -> None:
    first, second = (bench.hops.acquire(SOURCE, f"192.0.2.{number}", number) for number in (1, 2))
    before = first.index
    bench.kernel.short_of_memory = True
    bench.hops.routes_changed()
    bench.tasks.popleft()()
    assert first.index == second.index == before > 0
    bench.kernel.short_of_memory = False
    bench.kernel.routes["192.0.2.1"] = Route(8, "192.0.2.1")
    bench.settle()
    assert first.index != before
    assert bench.moved == [1]


def vlan(number: int, *, up: bool = True) -> Link:
    return Link(9, "eth0.5", "vlan", OTHER_MAC, 1496, up, up, loopback=False, lower=7, vlan=number)


def test_a_next_hop_in_a_vlan_leaves_by_the_lower_device_with_a_tag(bench: Bench) -> None:
    bench.kernel.routes["192.0.2.1"] = Route(9, "10.5.0.1")
    destination = bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    bench.hops.links_changed({7: link(), 8: link(8), 9: vlan(5)})
    bench.neighbour("10.5.0.1", ifindex=9)
    assert bench.entry(destination) == (abi.NEXTHOP_READY, GATEWAY_MAC, OTHER_MAC, 0, 1496)
    assert int(bench.table[destination.index]["vlan"]) == 5
    bench.hops.links_changed({7: link(up=False), 8: link(8), 9: vlan(5)})
    assert not bench.hops.ready(destination)
    bench.hops.links_changed({7: link(), 8: link(8), 9: vlan(6)})
    assert bench.hops.ready(destination)
    assert int(bench.table[destination.index]["vlan"]) == 6


def test_a_vlan_whose_lower_device_is_not_here_is_no_way(bench: Bench) -> None:
    bench.kernel.routes["192.0.2.1"] = Route(9, "10.5.0.1")
    destination = bench.hops.acquire(SOURCE, "192.0.2.1", 1)
    bench.hops.links_changed({9: vlan(5)})
    bench.neighbour("10.5.0.1", ifindex=9)
    assert not bench.hops.ready(destination)


def test_an_entry_used_again_without_a_vlan_has_no_tag() -> None:
    bench = Bench(entries=2)
    bench.hops.load({7: link(), 9: vlan(5)}, [])
    bench.kernel.routes["192.0.2.1"] = Route(9, "10.5.0.1")
    bench.hops.release(bench.hops.acquire(SOURCE, "192.0.2.1", 1), 1, 0.0)
    bench.hops.expire(60.0)
    again = bench.hops.acquire(SOURCE, "192.0.2.2", 2)
    bench.neighbour("10.0.0.254")
    assert bench.hops.ready(again)
    assert int(bench.table[again.index]["vlan"]) == 0


def test_neighbours_of_ipv6_are_next_hops_like_others(bench: Bench) -> None:
    bench.kernel.routes["2001:db8::1"] = Route(7, "fe80::1")
    destination = bench.hops.acquire("2001:db8:1::1", "2001:db8::1", 1)
    assert bench.kernel.resolving == [(7, "fe80::1")]
    bench.neighbour("fe80::1")
    assert bench.hops.ready(destination)
