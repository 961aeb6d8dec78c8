"""Links, addresses, routes and neighbours of this network namespace, by rtnetlink (IPv4)."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface

from relay.nic.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REPLACE,
    Message,
    Netlink,
    Subscription,
    attribute,
    attributes,
    text,
    u32,
)

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
_GROUPS = (1, 3, 5, 7, 8, 32)  # links, neighbours, IPv4 addresses, routes and rules, next-hop objects

_IFINFO = struct.Struct("=BxHiII")
_IFA = struct.Struct("=BBBBI")
_RTM = struct.Struct("=BBBBBBBBI")
_NDM = struct.Struct("=BxxxiHBB")
_TX_PACKETS = struct.Struct("=8xQ")  # struct rtnl_link_stats64

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 5, 10, 18
_IFLA_INFO_KIND = 1
_IFLA_XDP, _IFLA_XDP_PROG_ID = 43, 4
_IFLA_STATS64 = 23
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_VIA = 1, 2, 4, 5, 18
_NDA_DST, _NDA_LLADDR, _NDA_FLAGS_EXT = 1, 2, 15
_NTF_USE, _NTF_EXT_MANAGED = 0x01, 0x01
_RTN_UNICAST = 1

_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING = 0x1, 0x8, 0x40
_NUD_NOARP, _NUD_PERMANENT, _NUD_STALE = 0x40, 0x80, 0x04
_NUD_VALID = 0x02 | 0x04 | 0x08 | 0x10 | _NUD_NOARP | _NUD_PERMANENT

UNREACHABLE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES, errno.ENETDOWN)
"""What the kernel answers for a destination no route leads to."""


@dataclass(frozen=True, slots=True)
class Link:
    """One network device, `running` while it has a carrier.

    `lower` is the device a VLAN or macvlan stands on (0: none), `master` its bond or bridge.
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


@dataclass(frozen=True, slots=True)
class Address:
    """One IPv4 address of this host with its network, and the broadcast address set beside it."""

    ifindex: int
    interface: IPv4Interface
    broadcast: IPv4Address | None


@dataclass(frozen=True, slots=True)
class Route:
    """The way to one destination: out of `ifindex` to the neighbour `hop`."""

    ifindex: int
    hop: str


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One ARP entry; `mac` is empty while it is not valid, `fixed` where no ARP is done for it, `gone` once deleted."""

    ifindex: int
    ip: str
    mac: bytes
    fixed: bool
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What one batch of events means: neighbours in order, and whether links, addresses or routes changed."""

    neighbours: tuple[Neighbour, ...] = ()
    links: bool = False
    addresses: bool = False
    routes: bool = False


class Rtnetlink:
    """Questions to the kernel, answered at once."""

    def __init__(self) -> None:
        self._netlink = Netlink(socket.NETLINK_ROUTE)

    def close(self) -> None:
        self._netlink.close()

    def links(self) -> dict[int, Link]:
        """All links by index."""
        answer = self._netlink.request(_RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0), NLM_F_DUMP)
        return {link.index: link for link in map(_parse_link, answer)}

    def transmitted(self, ifindex: int) -> int:
        """Packets an interface has sent since it exists."""
        ((_, body),) = self._netlink.request(_RTM_GETLINK, _IFINFO.pack(0, 0, ifindex, 0, 0))
        return int(_TX_PACKETS.unpack_from(attributes(body, _IFINFO.size)[_IFLA_STATS64])[0])

    def xdp_program(self, ifindex: int) -> int:
        """The identifier of the XDP program an interface carries, 0 for none."""
        ((_, body),) = self._netlink.request(_RTM_GETLINK, _IFINFO.pack(0, 0, ifindex, 0, 0))
        found = attributes(body, _IFINFO.size)
        xdp = attributes(found[_IFLA_XDP]) if _IFLA_XDP in found else {}
        return u32(xdp[_IFLA_XDP_PROG_ID]) if _IFLA_XDP_PROG_ID in xdp else 0

    def addresses(self) -> list[Address]:
        """All IPv4 addresses of this host."""
        answer = self._netlink.request(_RTM_GETADDR, _IFA.pack(socket.AF_INET, 0, 0, 0, 0), NLM_F_DUMP)
        return [_parse_address(message) for message in answer]

    def neighbours(self) -> list[Neighbour]:
        """All IPv4 neighbours."""
        answer = self._netlink.request(_RTM_GETNEIGH, _NDM.pack(socket.AF_INET, 0, 0, 0, 0), NLM_F_DUMP)
        return [found for message in answer if (found := _parse_neighbour(message))]

    def route(self, destination: str, source: str | None = None) -> Route | None:
        """The way from `source` to `destination`, None where none leads there or it ends in this host."""
        body = _RTM.pack(socket.AF_INET, 32, 32 if source else 0, 0, 0, 0, 0, 0, 0)
        body += attribute(_RTA_DST, socket.inet_aton(destination))
        if source:
            body += attribute(_RTA_SRC, socket.inet_aton(source))
        try:
            (answer,) = self._netlink.request(_RTM_GETROUTE, body)
        except OSError as error:
            if error.errno in UNREACHABLE:
                return None
            raise
        return _parse_route(answer[1], destination)

    def resolve(self, ifindex: int, ip: str) -> None:
        """Have the kernel resolve a neighbour now and keep it resolved from then on. Not for fixed neighbours."""
        body = _NDM.pack(socket.AF_INET, ifindex, 0, _NTF_USE, 0)
        body += attribute(_NDA_DST, socket.inet_aton(ip))
        self._new_neighbour(body + attribute(_NDA_FLAGS_EXT, struct.pack("=I", _NTF_EXT_MANAGED)))

    def release(self, neighbour: Neighbour) -> None:
        """Let a neighbour that was kept resolved age like any other."""
        body = _NDM.pack(socket.AF_INET, neighbour.ifindex, _NUD_STALE, 0, 0)
        body += attribute(_NDA_DST, socket.inet_aton(neighbour.ip)) + attribute(_NDA_LLADDR, neighbour.mac)
        self._new_neighbour(body)

    def _new_neighbour(self, body: bytes) -> None:
        self._netlink.request(_RTM_NEWNEIGH, body, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)


class Changes(Subscription):
    """The kernel's announcements of what may move packets elsewhere."""

    def __init__(self) -> None:
        super().__init__(socket.NETLINK_ROUTE, _GROUPS)

    def changes(self) -> Change:
        """Read what has happened. Raises relay.nic.netlink.Overrun."""
        neighbours: list[Neighbour] = []
        links = addresses = routes = False
        for message in self.read():
            kind = message[0]
            if kind in (_RTM_NEWNEIGH, _RTM_DELNEIGH):
                if found := _parse_neighbour(message):
                    neighbours.append(found)
            elif kind in (_RTM_NEWLINK, _RTM_DELLINK):
                links = True
            elif kind in (_RTM_NEWADDR, _RTM_DELADDR):
                addresses = True
            else:
                routes = True
        return Change(tuple(neighbours), links, addresses, routes)


def _parse_link(message: Message) -> Link:
    body = message[1]
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = attributes(body, _IFINFO.size)
    info = attributes(found[_IFLA_LINKINFO]) if _IFLA_LINKINFO in found else {}
    kind = text(info[_IFLA_INFO_KIND]) if _IFLA_INFO_KIND in info else ""
    # A veth names its peer as its "link", which is no device below it.
    stands_on_link = kind != "veth" and _IFLA_LINK in found
    return Link(
        index=index,
        name=text(found[_IFLA_IFNAME]),
        kind=kind,
        mac=bytes(found.get(_IFLA_ADDRESS, b"")),
        mtu=u32(found[_IFLA_MTU]),
        up=bool(flags & _IFF_UP),
        running=bool(flags & _IFF_RUNNING),
        loopback=bool(flags & _IFF_LOOPBACK),
        lower=u32(found[_IFLA_LINK]) if stands_on_link else 0,
        master=u32(found[_IFLA_MASTER]) if _IFLA_MASTER in found else 0,
    )


def _parse_address(message: Message) -> Address:
    body = message[1]
    _, length, _, _, index = _IFA.unpack_from(body)
    found = attributes(body, _IFA.size)
    local = IPv4Address(bytes(found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]))
    broadcast = IPv4Address(bytes(found[_IFA_BROADCAST])) if _IFA_BROADCAST in found else None
    return Address(index, IPv4Interface((int(local), length)), broadcast)


def _parse_route(body: memoryview, destination: str) -> Route | None:
    if _RTM.unpack_from(body)[7] != _RTN_UNICAST:
        return None
    found = attributes(body, _RTM.size)
    if _RTA_OIF not in found or _RTA_VIA in found:  # an IPv6 gateway (RFC 5549) is left to the kernel's own output
        return None
    gateway = found.get(_RTA_GATEWAY)
    return Route(u32(found[_RTA_OIF]), socket.inet_ntoa(gateway) if gateway is not None else destination)


def _parse_neighbour(message: Message) -> Neighbour | None:
    kind, body = message
    family, index, state, _, _ = _NDM.unpack_from(body)
    found = attributes(body, _NDM.size)
    if family != socket.AF_INET or _NDA_DST not in found:
        return None
    valid = kind == _RTM_NEWNEIGH and state & _NUD_VALID
    mac = bytes(found[_NDA_LLADDR]) if valid and _NDA_LLADDR in found else b""
    fixed = bool(valid and state & (_NUD_NOARP | _NUD_PERMANENT))
    return Neighbour(index, socket.inet_ntoa(found[_NDA_DST]), mac, fixed, gone=kind == _RTM_DELNEIGH)
