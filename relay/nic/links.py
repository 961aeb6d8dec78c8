"""Links, addresses, routes and neighbours of this network namespace, by rtnetlink."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_interface

from pyroute2.netlink import NETLINK_ROUTE, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, rtnl
from pyroute2.netlink.rtnl import ndmsg as nd
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import IFF_LOOPBACK, IFF_RUNNING, IFF_UP, ifinfmsg

from relay.nic.netlink import Message, Netlink, Subscription, attributes, raw, unchained
from relay.nic.routes import Route, RouteLookup, any_source, family_of

_RTNLGRP_NEXTHOP = 32
_GROUPS = (
    rtnl.RTNLGRP_LINK,
    rtnl.RTNLGRP_NEIGH,
    rtnl.RTNLGRP_IPV4_IFADDR,
    rtnl.RTNLGRP_IPV4_ROUTE,
    rtnl.RTNLGRP_IPV4_RULE,
    rtnl.RTNLGRP_IPV6_IFADDR,
    rtnl.RTNLGRP_IPV6_ROUTE,
    rtnl.RTNLGRP_IPV6_RULE,
    _RTNLGRP_NEXTHOP,
)
_NEIGHBOURS = {rtnl.RTM_NEWNEIGH: nd.ndmsg, rtnl.RTM_DELNEIGH: nd.ndmsg}
_DECODED = {**_NEIGHBOURS, rtnl.RTM_NEWADDR: ifaddrmsg}
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_ETH_P_8021Q = 0x8100
_NTF_EXT_MANAGED = 0x01
_NUD_FIXED = nd.NUD_NOARP | nd.NUD_PERMANENT
_NUD_VALID = nd.NUD_REACHABLE | nd.NUD_STALE | nd.NUD_DELAY | nd.NUD_PROBE | _NUD_FIXED

__all__ = ["Address", "Change", "Changes", "Link", "Neighbour", "Route", "Rtnetlink"]


@dataclass(frozen=True, slots=True)
class Link:
    """One network device, `running` while it has a carrier.

    `lower` is the device a VLAN or macvlan stands on (0: none), `master` its bond or bridge, `vlan` the number of an
    802.1Q VLAN (0: it is none, or one of 802.1ad).
    """

    index: int
    name: str
    kind: str
    mac: bytes
    mtu: int
    up: bool
    running: bool
    loopback: bool
    lower: int = 0
    master: int = 0
    vlan: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """One address of this host with its network, and the broadcast address set beside it."""

    ifindex: int
    interface: IPv4Interface | IPv6Interface
    broadcast: IPv4Address | None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One entry of ARP or NDP; `mac` is empty while not valid, `fixed` where none is done, `gone` once deleted."""

    ifindex: int
    ip: str
    mac: bytes
    fixed: bool
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What one batch of events means: neighbours in order, and whether links, addresses or routes changed.

    `announced`: addresses the kernel told of, which may be no news. It does so with every router advertisement.
    """

    neighbours: tuple[Neighbour, ...] = ()
    links: bool = False
    addresses: bool = False
    routes: bool = False
    announced: tuple[Address, ...] = ()


class Rtnetlink:
    """Questions to the kernel, answered at once."""

    def __init__(self) -> None:
        self._netlink = Netlink(
            NETLINK_ROUTE, {rtnl.RTM_NEWLINK: ifinfmsg, rtnl.RTM_NEWADDR: ifaddrmsg, rtnl.RTM_NEWNEIGH: nd.ndmsg}
        )
        self._lookup = RouteLookup()

    def close(self) -> None:
        self._netlink.close()
        self._lookup.close()

    def links(self) -> dict[int, Link]:
        """All links by index."""
        answer = self._netlink.request(ifinfmsg(), rtnl.RTM_GETLINK, NLM_F_DUMP)
        return {link.index: link for link in map(_link, answer)}

    def transmitted(self, ifindex: int) -> int:
        """Packets an interface has sent since it exists."""
        return int(self._link(ifindex).get_attr("IFLA_STATS64")["tx_packets"])

    def xdp_program(self, ifindex: int) -> int:
        """The identifier of the XDP program an interface carries, 0 for none."""
        xdp = self._link(ifindex).get_attr("IFLA_XDP")
        return int(xdp.get_attr("IFLA_XDP_PROG_ID", 0)) if xdp else 0

    def addresses(self) -> list[Address]:
        """All addresses of this host."""
        answer = self._netlink.request(ifaddrmsg(), rtnl.RTM_GETADDR, NLM_F_DUMP)
        return [_address(found) for found in answer if found["family"] in _FAMILIES]

    def neighbours(self) -> list[Neighbour]:
        """All neighbours."""
        answer = self._netlink.request(nd.ndmsg(), rtnl.RTM_GETNEIGH, NLM_F_DUMP)
        return [found for each in answer if (found := _neighbour(each))]

    def route(self, destination: str, source: str | None = None) -> Route | None:
        """The way from `source` to `destination`, None where none leads there or it ends in this host."""
        return self._lookup.find(destination, source or any_source(destination))

    def resolve(self, ifindex: int, ip: str) -> None:
        """Have the kernel resolve a neighbour now and keep it resolved from then on. Not for fixed neighbours."""
        message = nd.ndmsg()
        message.update(
            family=family_of(ip),
            ifindex=ifindex,
            flags=nd.NTF_USE,
            attrs=[("NDA_DST", ip), ("NDA_FLAGS_EXT", _NTF_EXT_MANAGED)],
        )
        self._new_neighbour(message)

    def release(self, neighbour: Neighbour) -> None:
        """Let a neighbour that was kept resolved age like any other."""
        message = nd.ndmsg()
        message.update(
            family=family_of(neighbour.ip),
            ifindex=neighbour.ifindex,
            state=nd.NUD_STALE,
            attrs=[("NDA_DST", neighbour.ip), ("NDA_LLADDR", neighbour.mac.hex(":"))],
        )
        self._new_neighbour(message)

    def _link(self, ifindex: int) -> Message:
        message = ifinfmsg()
        message["index"] = ifindex
        (answer,) = self._netlink.request(message, rtnl.RTM_GETLINK)
        return answer

    def _new_neighbour(self, message: Message) -> None:
        self._netlink.request(message, rtnl.RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE)


class Changes(Subscription):
    """The kernel's announcements of what may move packets elsewhere."""

    def __init__(self) -> None:
        super().__init__(NETLINK_ROUTE, _GROUPS, _DECODED)

    def changes(self) -> Change:
        """Read what has happened. Raises relay.nic.netlink.Overrun."""
        neighbours: list[Neighbour] = []
        announced: list[Address] = []
        links = addresses = routes = False
        for message in self.read():
            kind = message["header"]["type"]
            if kind in _NEIGHBOURS:
                if found := _neighbour(message):
                    neighbours.append(found)
            elif kind in (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK):
                links = True
            elif kind == rtnl.RTM_NEWADDR:
                announced.append(_address(message))
            elif kind == rtnl.RTM_DELADDR:
                addresses = True
            else:
                routes = True
        return Change(tuple(neighbours), links, addresses, routes, tuple(announced))


def _link(message: Message) -> Link:
    found = attributes(message)
    info = unchained(found["IFLA_LINKINFO"].value) if "IFLA_LINKINFO" in found else None
    kind = info.get_attr("IFLA_INFO_KIND", "") if info else ""
    # A veth names its peer as its "link", which is no device below it.
    stands_on_link = kind != "veth" and "IFLA_LINK" in found
    return Link(
        index=message["index"],
        name=found["IFLA_IFNAME"].value,
        kind=kind,
        mac=raw(found["IFLA_ADDRESS"]) if "IFLA_ADDRESS" in found else b"",
        mtu=found["IFLA_MTU"].value,
        up=bool(message["flags"] & IFF_UP),
        running=bool(message["flags"] & IFF_RUNNING),
        loopback=bool(message["flags"] & IFF_LOOPBACK),
        lower=found["IFLA_LINK"].value if stands_on_link else 0,
        master=found["IFLA_MASTER"].value if "IFLA_MASTER" in found else 0,
        vlan=_vlan(info) if kind == "vlan" else 0,
    )


def _vlan(info: Message) -> int:
    """The number in a VLAN device's tags."""
    data = info.get_attr("IFLA_INFO_DATA")
    if data is None or unchained(data).get_attr("IFLA_VLAN_PROTOCOL", _ETH_P_8021Q) != _ETH_P_8021Q:
        return 0
    return int(data.get_attr("IFLA_VLAN_ID", 0))


def _address(message: Message) -> Address:
    found = attributes(message)
    local = found.get("IFA_LOCAL") or found["IFA_ADDRESS"]
    broadcast = IPv4Address(found["IFA_BROADCAST"].value) if "IFA_BROADCAST" in found else None
    return Address(message["index"], ip_interface((local.value, message["prefixlen"])), broadcast)


def _neighbour(message: Message) -> Neighbour | None:
    found = attributes(message)
    if message["family"] not in _FAMILIES or "NDA_DST" not in found:
        return None
    gone, state = message["header"]["type"] == rtnl.RTM_DELNEIGH, message["state"]
    valid = not gone and state & _NUD_VALID
    mac = raw(found["NDA_LLADDR"]) if valid and "NDA_LLADDR" in found else b""
    fixed = bool(valid and state & _NUD_FIXED)
    return Neighbour(message["ifindex"], socket.inet_ntop(message["family"], raw(found["NDA_DST"])), mac, fixed, gone)
