"""The look-up of a route: its question against pyroute2's own encoding, its answers as the kernel writes them."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

import pytest
from pyroute2.netlink import NLMSG_ERROR
from pyroute2.netlink.rtnl import RTM_NEWROUTE, rt_type
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from relay.nic.routes import Route, RouteLookup, any_source, question, read


def answer(kind: str, *attrs: tuple[str, Any], family: int = socket.AF_INET) -> bytes:
    message = rtmsg()
    message.update(family=family, type=rt_type[kind], attrs=list(attrs))
    message["header"].update(type=RTM_NEWROUTE)
    message.encode()
    return bytes(message.data)


def error(code: int) -> bytes:
    return struct.pack("=IHHIIi", 20, NLMSG_ERROR, 0, 1, 0, -code)


class Wire:
    """Stands in the place of the socket: keeps what was asked, answers with a route."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def send(self, data: bytearray) -> None:
        self.asked.append(bytes(data))

    def recv(self, size: int) -> bytes:
        sent = bytearray(answer("unicast", ("RTA_OIF", 5)))
        sent[8:12] = self.asked[-1][8:12]
        return bytes(sent)


def test_addresses_are_put_where_pyroute2_puts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    lookup, wire = RouteLookup(), Wire()
    lookup.close()
    monkeypatch.setattr(lookup, "_socket", wire)
    pairs = ("10.1.2.3", "10.9.8.7"), ("192.0.2.77", "0.0.0.0"), ("2001:db8::7", "fd00::1"), ("2001:db8::8", "::")
    for pair in pairs:
        assert lookup.find(*pair) == Route(5, pair[0])
        expected = question(*pair)
        expected[8:12] = struct.pack("=I", len(wire.asked))
        assert wire.asked[-1] == bytes(expected)


def test_a_route_leads_to_its_gateway_or_straight_to_the_destination() -> None:
    out = ("RTA_OIF", 5)
    table = ("RTA_TABLE", 254)
    assert read(answer("unicast", table, out, ("RTA_GATEWAY", "10.0.0.254")), "x") == Route(5, "10.0.0.254")
    assert read(answer("unicast", table, out), "10.0.0.7") == Route(5, "10.0.0.7")
    gateway = answer("unicast", table, out, ("RTA_GATEWAY", "fe80::1"), family=socket.AF_INET6)
    assert read(gateway, "2001:db8::7") == Route(5, "fe80::1")


def test_the_gateway_of_an_ipv4_route_may_be_of_ipv6() -> None:
    via = ("RTA_VIA", {"family": socket.AF_INET6, "addr": "fe80::1"})
    assert read(answer("unicast", ("RTA_OIF", 5), via), "10.0.0.7") == Route(5, "fe80::1")


def test_what_stays_in_this_host_is_no_route() -> None:
    assert read(answer("local", ("RTA_OIF", 5)), "10.0.0.7") is None
    assert read(answer("unicast"), "10.0.0.7") is None


@pytest.mark.parametrize("junk", [b"\x03\0\1\0", b"\0\0\0\0", b"\1"])
def test_junk_ends_the_walk(junk: bytes) -> None:
    assert read(answer("unicast", ("RTA_OIF", 5)) + junk, "10.0.0.7") == Route(5, "10.0.0.7")


def test_no_way_is_no_route_and_other_errors_are_raised() -> None:
    assert read(error(errno.ENETUNREACH), "10.0.0.7") is None
    with pytest.raises(OSError, match=os.strerror(errno.EPERM)):
        read(error(errno.EPERM), "10.0.0.7")


def test_an_address_of_this_host_is_no_destination() -> None:
    lookup = RouteLookup()
    for own in ("127.0.0.1", "::1"):
        assert lookup.find(own, any_source(own)) is None
        assert lookup.find(own, own) is None
    lookup.close()
