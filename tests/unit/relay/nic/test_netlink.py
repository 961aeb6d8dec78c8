from __future__ import annotations

import errno
import os
import socket
import struct

import pytest

from relay.nic import links
from relay.nic.links import Rtnetlink
from relay.nic.netlink import Netlink, attribute, attributes, messages, text, u32


def test_attributes_come_back_from_their_encoding() -> None:
    body = memoryview(
        b"headxxxx" + attribute(1, b"abc") + attribute(2, struct.pack("=I", 77)) + attribute(3, b"eth0\0")
    )
    found = attributes(body, 8)
    assert bytes(found[1]) == b"abc"
    assert u32(found[2]) == 77
    assert text(found[3]) == "eth0"


def test_marks_on_an_attributes_type_are_ignored() -> None:
    assert bytes(attributes(memoryview(attribute(0x8005, b"in")))[5]) == b"in"


@pytest.mark.parametrize("junk", [b"\x03\0\1\0", b"\0\0\0\0", b"\xff\xff\1\0", b"\1"])
def test_junk_ends_the_walk(junk: bytes) -> None:
    assert list(attributes(memoryview(attribute(1, b"good") + junk))) == [1]


def message(kind: int, sequence: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 0) + body + bytes(-len(body) % 4)


def test_a_datagram_is_split_into_its_messages() -> None:
    found = list(messages(message(20, 1, b"abcde") + message(3, 1, b"")))
    assert [(kind, sequence, bytes(body)) for kind, sequence, body in found] == [(20, 1, b"abcde"), (3, 1, b"")]


def test_a_message_cut_short_is_left_out() -> None:
    assert list(messages(message(20, 1, b"abcde")[:-4])) == []


def test_the_kernels_error_is_raised() -> None:
    netlink = Netlink(socket.NETLINK_ROUTE)
    with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
        netlink.request(0xFFF, b"")
    netlink.close()


def test_this_hosts_loopback_device_is_seen() -> None:
    kernel = Rtnetlink()
    loopback = kernel.links()[1]
    assert (loopback.name, loopback.loopback, len(loopback.mac)) == ("lo", True, 6)
    assert all(link.index == index for index, link in kernel.links().items())
    kernel.close()


def test_an_address_of_this_host_is_no_destination() -> None:
    kernel = Rtnetlink()
    assert kernel.route("127.0.0.1") is None
    kernel.close()


IFINFO, NDM, RTM = struct.Struct("=BxHiII"), struct.Struct("=BxxxiHBB"), struct.Struct("=BBBBBBBBI")


def test_a_links_place_in_a_stack_is_read() -> None:
    info = attribute(18, attribute(1, b"vlan\0"))
    body = IFINFO.pack(0, 1, 9, 0x1 | 0x40, 0) + attribute(3, b"eth0.7\0") + attribute(4, struct.pack("=I", 1400))
    body += attribute(1, bytes(6)) + attribute(5, struct.pack("=I", 2)) + attribute(10, struct.pack("=I", 4)) + info
    found = links._parse_link((16, memoryview(body)))
    assert found == links.Link(9, "eth0.7", "vlan", bytes(6), 1400, True, True, False, lower=2, master=4)


def test_the_peer_of_a_veth_is_no_device_below_it() -> None:
    info = attribute(18, attribute(1, b"veth\0"))
    body = IFINFO.pack(0, 1, 9, 0, 0) + attribute(3, b"v\0") + attribute(4, struct.pack("=I", 1500))
    found = links._parse_link((16, memoryview(body + attribute(5, struct.pack("=I", 2)) + info)))
    assert (found.lower, found.up, found.running) == (0, False, False)


@pytest.mark.parametrize(
    ("kind", "state", "mac", "expected"),
    [
        (28, 0x02, b"abcdef", (b"abcdef", False, False)),  # NUD_REACHABLE
        (28, 0x04, b"abcdef", (b"abcdef", False, False)),  # NUD_STALE
        (28, 0x80, b"abcdef", (b"abcdef", True, False)),  # NUD_PERMANENT
        (28, 0x01, b"", (b"", False, False)),  # NUD_INCOMPLETE
        (28, 0x20, b"abcdef", (b"", False, False)),  # NUD_FAILED
        (29, 0x02, b"abcdef", (b"", False, True)),  # deleted
    ],
)
def test_a_neighbour_has_a_mac_address_while_it_is_valid(
    kind: int, state: int, mac: bytes, expected: tuple[bytes, bool, bool]
) -> None:
    body = NDM.pack(socket.AF_INET, 3, state, 0, 1) + attribute(1, bytes([10, 0, 0, 2])) + attribute(2, mac)
    found = links._parse_neighbour((kind, memoryview(body)))
    assert found == links.Neighbour(3, "10.0.0.2", *expected)


def test_neighbours_of_other_families_are_not_ours() -> None:
    body = NDM.pack(socket.AF_INET6, 3, 2, 0, 1) + attribute(1, bytes(16))
    assert links._parse_neighbour((28, memoryview(body))) is None


def route(kind: int, *parts: bytes) -> memoryview:
    return memoryview(RTM.pack(socket.AF_INET, 32, 0, 0, 254, 0, 0, kind, 0) + b"".join(parts))


def test_a_route_leads_to_its_gateway_or_straight_to_the_destination() -> None:
    out = attribute(4, struct.pack("=I", 5))
    assert links._parse_route(route(1, out, attribute(5, bytes([10, 0, 0, 254]))), "x") == links.Route(5, "10.0.0.254")
    assert links._parse_route(route(1, out), "10.0.0.7") == links.Route(5, "10.0.0.7")


def test_what_does_not_leave_by_ethernet_and_ipv4_is_no_route() -> None:
    out = attribute(4, struct.pack("=I", 5))
    assert links._parse_route(route(2, out), "10.0.0.7") is None  # RTN_LOCAL
    assert links._parse_route(route(1), "10.0.0.7") is None
    assert links._parse_route(route(1, out, attribute(18, bytes(18))), "10.0.0.7") is None  # an IPv6 gateway
