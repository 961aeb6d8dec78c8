"""Logical interfaces: as people write them, and the addresses of a host they stand for."""

from __future__ import annotations

import pytest

from control.config import ConfigError, HostAddress, Interface, load, resolve
from control.config.interfaces import check_ports, from_section, interface, repeated

HERE = (
    HostAddress("lo", "127.0.0.1"),
    HostAddress("lo", "::1"),
    HostAddress("eth0", "192.0.2.1"),
    HostAddress("eth0", "fe80::1"),
    HostAddress("eth1.5", "10.0.0.1"),
    HostAddress("eth1.5", "2001:db8::1"),
    HostAddress("tun0", "fe80::2"),
)
NAMES = {"media.example.net": "198.51.100.1"}


def lookup(name: str) -> str:
    try:
        return NAMES[name]
    except KeyError:
        raise ValueError(f"{name} is nobody") from None


def resolved(*texts: str) -> list[str]:
    return [str(one) for one in resolve([interface(text) for text in texts], HERE, lookup)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", Interface("default", "192.0.2.1")),
        ("in/192.0.2.1", Interface("in", "192.0.2.1")),
        ("in:1/2001:DB8:0::1", Interface("in:1", "2001:db8::1")),
        ("in/192.0.2.1!203.0.113.1", Interface("in", "192.0.2.1", "203.0.113.1")),
        ("eth0!203.0.113.1", Interface("default", "eth0", "203.0.113.1")),
        ("any", Interface("default", "any")),
        ("in/eth1.5", Interface("in", "eth1.5")),
        ("in/eth1.5!media.example.net", Interface("in", "eth1.5", "media.example.net")),
        ("old = in", Interface("old", "in", alias=True)),
    ],
)
def test_spellings(text: str, expected: Interface) -> None:
    assert interface(text) == expected


@pytest.mark.parametrize("text", ["192.0.2.1", "in:1/192.0.2.1!203.0.113.1", "in/eth0", "a=b"])
def test_they_are_written_as_they_are_read(text: str) -> None:
    assert interface(str(interface(text))) == interface(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("in/192.0.2.300", "'192.0.2.300' is no IPv4 or IPv6 address"),
        ("in/", "'' is no IPv4 or IPv6 address"),
        ("a!b/192.0.2.1", "'a!b' is no name for an interface"),
        ("in/224.0.0.1", "must be one address of this host, which the SDP can name"),
        ("in/fe80::1%eth0", "must be one address of this host, which the SDP can name"),
        ("in/192.0.2.1!2001:db8::1", "must advertise an address of the same family"),
        ("=in", "'' is no name for an interface"),
        ("old=in/192.0.2.1", "'in/192.0.2.1' is no name for an interface"),
        ("in/eth 0", "'eth 0' is no IPv4 or IPv6 address"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(") + "$"):
        interface(text)


def test_what_names_stand_for() -> None:
    assert resolved("in/eth1.5", "out/192.0.2.1") == ["in/10.0.0.1", "in/2001:db8::1", "out/192.0.2.1"]
    assert resolved("any") == ["default/192.0.2.1", "default/10.0.0.1", "default/2001:db8::1"]
    assert resolved("lo") == ["default/127.0.0.1", "default/::1"]
    assert resolved("in/media.example.net") == ["in/198.51.100.1"]


def test_an_alias_is_all_that_its_name_stands_for() -> None:
    assert resolved("in/eth1.5!203.0.113.1", "old=in", "older=old") == [
        "in/10.0.0.1!203.0.113.1",
        "in/2001:db8::1",
        "old/10.0.0.1!203.0.113.1",
        "old/2001:db8::1",
        "older/10.0.0.1!203.0.113.1",
        "older/2001:db8::1",
    ]


def test_what_is_advertised_is_shown_for_addresses_of_its_family() -> None:
    assert resolved("in/eth1.5!media.example.net") == ["in/10.0.0.1!198.51.100.1", "in/2001:db8::1"]
    assert resolved("in/192.0.2.1!192.0.2.1") == ["in/192.0.2.1"]


def test_the_first_of_the_same_name_and_address_counts() -> None:
    assert resolved("in/192.0.2.1!203.0.113.1", "in/eth0") == ["in/192.0.2.1!203.0.113.1"]
    given = [interface(text) for text in ("in/192.0.2.1!203.0.113.1", "in/192.0.2.1", "out/192.0.2.1")]
    assert list(repeated(given)) == ["interface in/192.0.2.1 does not count: in/192.0.2.1!203.0.113.1 stands before it"]


def test_names_that_nobody_has_are_all_told() -> None:
    with pytest.raises(ConfigError) as caught:
        resolved("in/eth7", "in/tun0", "old=new", "out/192.0.2.1")
    assert list(caught.value.problems) == [
        "interface in/eth7: neither a network device with an address nor a host is called eth7; "
        "the devices are eth0, eth1.5, lo, tun0",
        "interface in/tun0: tun0 has only addresses that an SDP cannot name",
        "interface old=new: no interface before it is called new",
    ]


@pytest.mark.parametrize(
    ("low", "high", "wrong"),
    [(30000, 40000, False), (40001, 45000, False), (35000, 35003, True), (20000, 30000, True), (20000, 50000, True)],
)
def test_ports_of_one_address_are_shared_or_apart(low: int, high: int, wrong: bool) -> None:
    first = Interface("in", "192.0.2.1", "", 30000, 40000)
    assert bool(list(check_ports([first, Interface("out", "192.0.2.1", "", low, high)]))) is wrong
    assert not list(check_ports([first, Interface("out", "192.0.2.2", "", low, high)]))


@pytest.mark.parametrize(("low", "high", "wrong"), [(30000, 30003, False), (30001, 30004, True), (40000, 30000, True)])
def test_a_range_has_room_for_a_call(low: int, high: int, wrong: bool) -> None:
    assert bool(list(check_ports([Interface("in", "192.0.2.1", "", low, high)]))) is wrong


# -- addresses of partners


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("192.0.2.1@2", Interface("default", "192.0.2.1", keyspace=2)),
        ("out/192.0.2.1!203.0.113.1@0", Interface("out", "192.0.2.1", "203.0.113.1", keyspace=0)),
        ("in:1/2001:db8::1@16383", Interface("in:1", "2001:db8::1", keyspace=16383)),
    ],
)
def test_an_address_may_be_a_partners(text: str, given: Interface) -> None:
    assert interface(text) == given
    assert interface(str(given)) == given


@pytest.mark.parametrize("text", ["192.0.2.1@", "192.0.2.1@two", "192.0.2.1@16384", "192.0.2.1@-1"])
def test_what_is_no_keyspace_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="must be the keyspace of a partner, from 0 to 16383"):
        interface(text)


def test_a_section_may_name_the_keyspace_too() -> None:
    given = from_section("interface-out", {"address": "192.0.2.1,192.0.2.2", "keyspace": 0, "port-min": 20000})
    assert [(one.address, one.keyspace, one.port_min) for one in given] == [
        ("192.0.2.1", 0, 20000),
        ("192.0.2.2", 0, 20000),
    ]


REDIS = ("--redis=127.0.0.1:6379/1", "--subscribe-keyspace=2")


def refused(*arguments: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(["--config-file=none", *arguments])
    return list(error.value.problems)


def test_own_and_partners_addresses_stand_side_by_side() -> None:
    given = load(["--config-file=none", *REDIS, "-i", "out/192.0.2.1@1;out/192.0.2.2@2"]).interface
    assert [one.keyspace for one in given] == [1, 2]


def test_a_partner_nobody_listens_to_is_named() -> None:
    assert refused(*REDIS, "-i", "192.0.2.1;192.0.2.3@3") == [
        "interface default/192.0.2.3@3 belongs to keyspace 3, which is neither this node's own (1) nor among "
        "subscribe-keyspace"
    ]


def test_a_relay_needs_an_address_to_make_calls_on() -> None:
    assert refused(*REDIS, "-i", "192.0.2.2@2") == [
        "all interfaces are partners': calls are made on an address of this node's own, which needs no keyspace"
    ]


def test_slices_that_a_range_has_no_room_for_are_named() -> None:
    assert refused(*REDIS, "-i", "192.0.2.1", "-m", "30000", "-M", "30009") == [
        "takeover-slices: of the ports 30000 to 30009 the slices leave no pair for keyspace 1; widen the range, or "
        "give larger shares to fewer nodes"
    ]
