"""What the configuration's interfaces become on a host: addresses, pools of ports, and what is left alone."""

from __future__ import annotations

import socket
from fractions import Fraction
from ipaddress import ip_network

import pytest

from control.config import Config, ConfigError, HostAddress, Interface
from control.config.replication import Slice
from control.host import Host, MediaPorts, media_addresses
from relay.ports import Interface as Placed
from relay.types import Endpoint

HERE = Host(
    (
        HostAddress("lo", "127.0.0.1"),
        HostAddress("eth0", "192.0.2.1"),
        HostAddress("eth0", "192.0.2.2"),
        HostAddress("eth0", "2001:db8::1"),
        HostAddress("eth0", "fe80::1"),
    ),
    frozenset({"lo", "eth0", "eth1"}),
)


def ranged(name: str, address: str, low: int, high: int, *excluded: int) -> Interface:
    return Interface(name, address, "", low, high, excluded)


def test_interfaces_get_the_addresses_and_ports_of_this_host() -> None:
    config = Config(
        interface=(Interface("in", "eth0", "203.0.113.1"), ranged("out", "127.0.0.1", 20000, 20099)), port_max=31000
    )
    assert media_addresses(config, HERE) == (
        Interface("in", "192.0.2.1", "203.0.113.1", 30000, 31000),
        Interface("in", "192.0.2.2", "203.0.113.1", 30000, 31000),
        Interface("in", "2001:db8::1", "", 30000, 31000),
        ranged("out", "127.0.0.1", 20000, 20099),
    )


@pytest.mark.parametrize(
    ("config", "problems"),
    [
        (
            Config(interface=(Interface("in", "192.0.2.9"),), attach=("eth7",)),
            [
                "--interface=192.0.2.9 is no address of this host, which has "
                "127.0.0.1, 192.0.2.1, 192.0.2.2, 2001:db8::1, fe80::1",
                "--attach=eth7 is no network interface here; there are eth0, eth1, lo",
            ],
        ),
        (
            Config(interface=(Interface("in", "any"),), max_addresses=2),
            ["3 local addresses for media, but the tables have room for max-addresses = 2"],
        ),
        (
            Config(interface=(Interface("in", "eth0"), ranged("out", "192.0.2.1", 35000, 45000))),
            [
                "interfaces in and out share the address 192.0.2.1, but their ports 30000-40000 and 35000-45000 "
                "overlap: give both the same ports, or ports apart"
            ],
        ),
        (
            Config(interface=(Interface("in", "eth1"),)),
            [
                "interface in/eth1: neither a network device with an address nor a host is called eth1; "
                "the devices are eth0, lo"
            ],
        ),
    ],
)
def test_what_this_host_has_not_is_told(config: Config, problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        media_addresses(config, HERE)
    assert list(caught.value.problems) == problems


def test_addresses_without_media_are_denied_but_for_loopback() -> None:
    assert HERE.others({"192.0.2.1", "2001:db8::1"}) == (ip_network("192.0.2.2/32"), ip_network("fe80::1/128"))


def test_names_of_one_address_and_range_share_one_pool() -> None:
    ports = MediaPorts(
        (
            ranged("in", "127.0.0.1", 30000, 30099),
            ranged("out", "127.0.0.1", 30000, 30099),
            ranged("apart", "127.0.0.1", 31000, 31099),
            ranged("x", "127.0.0.2", 30000, 30099),
        )
    )
    first, second, third, fourth = (one.pool for one in ports.interfaces)
    assert first is second
    assert len({id(pool) for pool in (first, third, fourth)}) == 3
    assert [(one.name, one.address, one.advertised) for one in ports.interfaces][:2] == [
        ("in", "127.0.0.1", "127.0.0.1"),
        ("out", "127.0.0.1", "127.0.0.1"),
    ]


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_excluded_ports_and_those_of_others_are_left_alone(ip: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((ip, 0))
        taken = other.getsockname()[1] & ~1
        low = min(max(taken - 4, 1024), 65536 - 10)
        ports = MediaPorts((ranged("in", ip, low, low + 9, low + 9),))
        ports.skip_busy(())
        pool = ports.interfaces[0].pool
        drawn = {pool.draw(0.0) for _ in range(pool.available)}
    assert pool.pairs == 5
    assert drawn == set(range(low, low + 8, 2)) - {taken}


def test_ports_held_for_media_are_not_anothers() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        port = own.getsockname()[1]
        low = min(port & ~1, 65532)
        ports = MediaPorts((ranged("in", "127.0.0.1", low, low + 3),))
        ports.skip_busy([Endpoint("127.0.0.1", port)])
        assert ports.interfaces[0].pool.available == 2


def test_a_wider_range_keeps_what_is_drawn() -> None:
    ports = MediaPorts((ranged("in", "127.0.0.1", 30000, 30003), ranged("out", "127.0.0.1", 30000, 30003)))
    wider = (ranged("in", "127.0.0.1", 29999, 30009), ranged("out", "127.0.0.1", 29999, 30009, 30008))
    pool = ports.interfaces[0].pool
    drawn = {pool.draw(0.0), pool.draw(0.0)}
    assert ports.grows_to(wider)
    ports.grow(wider)
    ports.skip_busy(())
    assert ports.interfaces[1].pool is pool
    assert (pool.low, pool.high, pool.drawn) == (29999, 30009, 2)
    assert {pool.draw(0.0), pool.draw(0.0)} | drawn == {30000, 30002, 30004, 30006}


@pytest.mark.parametrize(
    "given",
    [
        (ranged("in", "127.0.0.1", 30000, 30002), ranged("out", "127.0.0.1", 30000, 30002)),
        (ranged("in", "127.0.0.1", 30000, 30005), ranged("out", "127.0.0.1", 30000, 30003)),
        (ranged("in", "127.0.0.1", 30000, 30005), ranged("out", "127.0.0.2", 30000, 30005)),
        (ranged("in", "127.0.0.1", 30000, 30005), ranged("new", "127.0.0.1", 30000, 30005)),
        (ranged("in", "127.0.0.1", 30000, 30005),),
        (ranged("in", "127.0.0.1", 30000, 30003), Interface("out", "127.0.0.1", "192.0.2.1", 30000, 30003)),
    ],
)
def test_fewer_ports_or_other_addresses_are_no_growth(given: tuple[Interface, ...]) -> None:
    ports = MediaPorts((ranged("in", "127.0.0.1", 30000, 30003), ranged("out", "127.0.0.1", 30000, 30003)))
    assert not ports.grows_to(given)


def drained(interface: Placed) -> set[int]:
    found = set()
    while interface.pool.has_free:
        found.add(interface.pool.draw(0.0))
    return found


def test_nodes_of_a_set_share_out_the_ports_of_all_their_addresses() -> None:
    shares = (Slice(1, Fraction(1, 8)), Slice(2, Fraction(1, 8)))
    given = [ranged("out", f"127.0.0.{node}", 30000, 30159)._replace(keyspace=node) for node in (1, 2)]
    one, two = (MediaPorts(given, node, shares).interfaces for node in (1, 2))
    assert [place.home for place in one] == [-1, 2]
    assert [place.home for place in two] == [1, -1]
    home, guest = drained(one[0]), drained(two[0])
    assert guest == set(range(30120, 30140, 2))
    assert home | guest == set(range(30000, 30160, 2))
    assert not home & guest
    assert drained(one[1]) == set(range(30140, 30160, 2))


def test_slices_grow_with_their_range() -> None:
    shares = (Slice(1, Fraction(1, 8)), Slice(2, Fraction(1, 8)))
    ports = MediaPorts([ranged("out", "127.0.0.1", 30000, 30159)], 1, shares)
    wider = [ranged("out", "127.0.0.1", 30000, 30319)]
    assert ports.grows_to(wider)
    ports.grow(wider)
    assert drained(ports.interfaces[0]) == {*range(30000, 30240, 2), *range(30280, 30320, 2)}


def test_an_address_that_becomes_a_partners_waits_for_a_restart() -> None:
    ports = MediaPorts([ranged("out", "127.0.0.1", 30000, 30159)], 1)
    assert not ports.grows_to([ranged("out", "127.0.0.1", 30000, 30159)._replace(keyspace=2)])
