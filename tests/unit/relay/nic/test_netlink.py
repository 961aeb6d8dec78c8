"""What is read from pyroute2's messages, and the sockets they travel on."""

from __future__ import annotations

import errno
import gc
import os
import socket
from typing import Any

import pytest
from pyroute2.netlink import NETLINK_ROUTE, nlmsg
from pyroute2.netlink.marshal import Marshal
from pyroute2.netlink.rtnl import RTM_NEWLINK, RTM_NEWNEIGH, RTNLGRP_LINK
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from relay.nic import links
from relay.nic.links import Address, Changes, Link, Neighbour, Rtnetlink
from relay.nic.netdev import Netdev
from relay.nic.netlink import Netlink, Overrun, Subscription, attributes, raw

MAC = "02:00:00:00:be:ef"


def received(message: Any, kind: int, attrs: list[tuple[str, Any]], **fields: int) -> Any:
    """A message as the kernel would send it, read."""
    message.update(**fields, attrs=attrs)
    message["header"].update(type=kind)
    message.encode()
    marshal = Marshal()
    marshal.msg_map = {kind: type(message)}
    (found,) = marshal.parse(bytes(message.data))
    return found


def test_the_kernels_error_is_raised() -> None:
    netlink = Netlink(NETLINK_ROUTE, {})
    with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)) as caught:
        netlink.request(nlmsg(), 0xFFF)
    assert caught.value.errno == errno.EOPNOTSUPP
    netlink.close()


def test_an_answer_that_was_not_waited_for_is_not_taken_for_the_next_one() -> None:
    netlink = Netlink(NETLINK_ROUTE, {RTM_NEWLINK: ifinfmsg})
    stray = ifinfmsg()
    stray["index"] = 1
    stray["header"].update(type=18, flags=1, sequence_number=77)
    stray.encode()
    netlink._socket.send(stray.data)
    missing = ifinfmsg()
    missing["index"] = 0x7FFFFFFF
    with pytest.raises(OSError, match=os.strerror(errno.ENODEV)):
        netlink.request(missing, 18)
    netlink.close()


def test_lost_events_are_told() -> None:
    subscription = Subscription(NETLINK_ROUTE, (RTNLGRP_LINK,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subscription, "_socket", Full())
        with pytest.raises(Overrun):
            subscription.read()
    assert subscription.read() == []
    subscription.close()


class Full:
    """A socket whose buffer ran over."""

    def recv(self, size: int) -> bytes:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))


def test_this_hosts_loopback_device_is_seen() -> None:
    kernel = Rtnetlink()
    loopback = kernel.links()[1]
    assert (loopback.name, loopback.loopback, len(loopback.mac)) == ("lo", True, 6)
    assert all(link.index == index for index, link in kernel.links().items())
    assert kernel.xdp_program(1) == 0
    before = kernel.transmitted(1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.sendto(b"", ("127.0.0.1", 9))
    assert kernel.transmitted(1) > before
    kernel.close()


def test_what_was_read_leaves_no_cycles() -> None:
    kernel = Rtnetlink()
    gc.collect()
    gc.disable()
    try:
        assert kernel.links()
        assert kernel.addresses()
        assert gc.collect() == 0
    finally:
        gc.enable()
        kernel.close()


def test_a_device_that_is_not_there_has_no_features() -> None:
    netdev = Netdev()
    assert netdev.features(0x7FFFFFFF) is None
    netdev.close()


def test_a_links_place_in_a_stack_is_read() -> None:
    attrs = [
        ("IFLA_IFNAME", "eth0.7"),
        ("IFLA_MTU", 1400),
        ("IFLA_ADDRESS", MAC),
        ("IFLA_LINK", 2),
        ("IFLA_MASTER", 4),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "vlan")]}),
    ]
    found = links._link(received(ifinfmsg(), 16, attrs, index=9, flags=0x1 | 0x40))
    mac = bytes.fromhex(MAC.replace(":", ""))
    assert found == Link(9, "eth0.7", "vlan", mac, 1400, True, True, False, lower=2, master=4)


def test_the_peer_of_a_veth_is_no_device_below_it() -> None:
    info = {"attrs": [("IFLA_INFO_KIND", "veth")]}
    attrs = [("IFLA_IFNAME", "v"), ("IFLA_MTU", 1500), ("IFLA_LINK", 2), ("IFLA_LINKINFO", info)]
    found = links._link(received(ifinfmsg(), 16, attrs, index=9))
    assert (found.lower, found.up, found.running, found.mac) == (0, False, False, b"")


def test_a_tunnels_address_has_the_length_the_kernel_gave_it() -> None:
    found = received(ndmsg(), 28, [("NDA_LLADDR", "10.0.0.1"), ("NDA_PROBES", 0xFFFFFFFF)])
    assert raw(attributes(found)["NDA_LLADDR"]) == bytes([10, 0, 0, 1])


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        (
            [("IFA_ADDRESS", "10.0.0.2"), ("IFA_LOCAL", "10.0.0.1"), ("IFA_BROADCAST", "10.0.0.255")],
            ("10.0.0.1/24", "10.0.0.255"),
        ),
        ([("IFA_ADDRESS", "10.0.0.2")], ("10.0.0.2/24", "None")),
        ([("IFA_ADDRESS", "fd00::1")], ("fd00::1/24", "None")),
    ],
)
def test_an_address_is_the_local_one(attrs: list[tuple[str, str]], expected: tuple[str, str]) -> None:
    family = socket.AF_INET6 if ":" in attrs[0][1] else socket.AF_INET
    found = links._address(received(ifaddrmsg(), 20, attrs, family=family, prefixlen=24, index=3))
    assert isinstance(found, Address)
    assert (found.ifindex, str(found.interface), str(found.broadcast)) == (3, *expected)


@pytest.mark.parametrize(
    ("kind", "state", "expected"),
    [
        (28, 0x02, (True, False, False)),  # NUD_REACHABLE
        (28, 0x04, (True, False, False)),  # NUD_STALE
        (28, 0x80, (True, True, False)),  # NUD_PERMANENT
        (28, 0x01, (False, False, False)),  # NUD_INCOMPLETE
        (28, 0x20, (False, False, False)),  # NUD_FAILED
        (29, 0x02, (False, False, True)),  # deleted
    ],
)
def test_a_neighbour_has_a_mac_address_while_it_is_valid(
    kind: int, state: int, expected: tuple[bool, bool, bool]
) -> None:
    known, fixed, gone = expected
    attrs = [("NDA_DST", "10.0.0.2"), ("NDA_LLADDR", MAC)]
    found = links._neighbour(received(ndmsg(), kind, attrs, family=socket.AF_INET, ifindex=3, state=state))
    assert found == Neighbour(3, "10.0.0.2", bytes.fromhex(MAC.replace(":", "")) if known else b"", fixed, gone)


def test_neighbours_are_of_ipv4_or_ipv6() -> None:
    attrs = [("NDA_DST", "fd00::1"), ("NDA_LLADDR", MAC)]
    found = received(ndmsg(), RTM_NEWNEIGH, attrs, family=socket.AF_INET6, ifindex=3, state=2)
    assert links._neighbour(found) == Neighbour(3, "fd00::1", bytes.fromhex(MAC.replace(":", "")), False)
    bridged = received(ndmsg(), RTM_NEWNEIGH, [("NDA_LLADDR", MAC)], family=socket.AF_BRIDGE, ifindex=3, state=2)
    assert links._neighbour(bridged) is None


@pytest.mark.parametrize(("protocol", "vlan"), [(0x8100, 7), (0x88A8, 0)])
def test_a_vlan_of_8021q_has_its_number(protocol: int, vlan: int) -> None:
    data = {"attrs": [("IFLA_VLAN_ID", 7), ("IFLA_VLAN_PROTOCOL", protocol)]}
    info = {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", data)]}
    attrs = [("IFLA_IFNAME", "eth0.7"), ("IFLA_MTU", 1500), ("IFLA_LINK", 2), ("IFLA_LINKINFO", info)]
    found = links._link(received(ifinfmsg(), 16, attrs, index=9))
    assert (found.vlan, found.lower) == (vlan, 2)


def test_events_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = Changes()
    neighbour = received(ndmsg(), 28, [("NDA_DST", "10.0.0.2")], family=socket.AF_INET, ifindex=3, state=1)
    headers = {kind: received(nlmsg(), kind, []) for kind in (16, 21, 24, 32)}
    attrs = [("IFA_ADDRESS", "fd00::1")]
    address = received(ifaddrmsg(), 20, attrs, family=socket.AF_INET6, prefixlen=64, index=3)
    for events, expected in (
        ([neighbour], (1, False, False, False)),
        ([headers[16]], (0, True, False, False)),
        ([headers[21]], (0, False, True, False)),
        ([address], (0, False, False, False)),
        ([headers[24], headers[32]], (0, False, False, True)),
    ):
        monkeypatch.setattr(changes, "read", lambda events=events: events)
        change = changes.changes()
        assert (len(change.neighbours), change.links, change.addresses, change.routes) == expected
        assert [str(found.interface) for found in change.announced] == ["fd00::1/64"] * (events == [address])
    changes.close()
