"""What the program knows of this host: the media addresses it serves, and the addresses nothing is ever sent to."""

from __future__ import annotations

import os
import platform
import struct
import sys
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path

from relay.dataplane import abi
from relay.dataplane.libbpf import Map
from relay.errors import DataplaneError
from relay.nic.links import Address

Network = IPv4Network | IPv6Network

_KERNEL = (6, 1)
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_PERFMON": 38, "CAP_BPF": 39}
_CAP_SYS_ADMIN = 21
_IN_SYS_ADMIN = ("CAP_PERFMON", "CAP_BPF")


def check_host(status: Path = Path("/proc/self/status"), release: str | None = None) -> None:
    """Raise DataplaneError naming what this host or process lacks for XDP."""
    if sys.platform != "linux" or sys.byteorder != "little":
        raise DataplaneError("XDP needs Linux on a little-endian machine")
    release = release or platform.release()
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if version < _KERNEL:
        raise DataplaneError(f"XDP needs Linux {_KERNEL[0]}.{_KERNEL[1]} or later, this is {release}")
    if missing := missing_capabilities(status.read_text()):
        who = "root" if os.geteuid() == 0 else "this user"
        raise DataplaneError(f"{who} lacks {', '.join(missing)}: run as root or grant them to the process")


def missing_capabilities(status: str) -> list[str]:
    """The capabilities XDP needs that a process with this /proc/PID/status does not have in effect."""
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    effective = int(line.split()[1], 16)
    if effective >> _CAP_SYS_ADMIN & 1:
        effective |= sum(1 << _CAPABILITIES[name] for name in _IN_SYS_ADMIN)
    return [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]


def denied_networks(deny: Iterable[Network], media: Iterable[str], addresses: Iterable[Address]) -> tuple[Network, ...]:
    """Where media never goes: the operator's networks, this host's other addresses, its networks' broadcasts."""
    served = {ip_address(ip) for ip in media}
    found: set[Network] = set(deny)
    for address in addresses:
        interface = address.interface
        if interface.ip not in served and not interface.ip.is_loopback:
            found.add(ip_network(interface.ip))
        found.update(IPv4Network(broadcast) for broadcast in _broadcasts(address))
    return tuple(sorted(found, key=str))


def _broadcasts(address: Address) -> set[IPv4Address]:
    interface, found = address.interface, {address.broadcast} if address.broadcast else set()
    if isinstance(interface, IPv4Interface) and interface.network.prefixlen < 31 and not interface.ip.is_loopback:
        found.add(interface.network.broadcast_address)
    return found


class DeniedMap:
    """The program's copy of the denied networks of one family, 4 or 6; a former process may have filled it."""

    def __init__(self, table: Map, version: int) -> None:
        self._table = table
        self._version = version
        self._standing = set(table.keys())

    def set(self, networks: Iterable[Network]) -> None:
        """Make the map hold exactly those of these that are of its family. Raises BpfError where it is full."""
        wanted = {
            struct.pack("=I", network.prefixlen) + network.network_address.packed
            for network in networks
            if network.version == self._version
        }
        for key in wanted - self._standing:
            self._table.update(key, b"\1")
        for key in self._standing - wanted:
            self._table.delete(key)
        self._standing = wanted


def room_for(media: Sequence[str], max_addresses: int) -> int:
    """Rules the tables are made for. Raises DataplaneError for addresses that cannot be served."""
    if not media:
        raise DataplaneError("no media address is given: name one with --interface")
    for ip in media:
        address = ip_address(ip)
        # What XDP redirects to the loopback device the kernel takes for a martian.
        if address.is_loopback:
            raise DataplaneError(f"XDP cannot serve the loopback address {ip}: name another with --interface")
        if address.version == 6 and address.is_link_local:
            raise DataplaneError(f"XDP cannot serve the link-local address {ip}: name another with --interface")
    if len(set(media)) != len(media):
        raise DataplaneError("a media address is given twice")
    if len(media) > max_addresses:
        raise DataplaneError(f"{len(media)} media addresses are more than --max-addresses={max_addresses}")
    return len(media) * abi.PORTS
