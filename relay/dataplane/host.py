"""What the program knows of this host: the media addresses it serves, and the addresses nothing is ever sent to."""

from __future__ import annotations

import os
import platform
import struct
import sys
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

import numpy as np
import numpy.typing as npt

from relay.dataplane import abi
from relay.dataplane.addresses import place_addresses
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


def fill_host(table: npt.NDArray[np.void], media: Sequence[str]) -> None:
    """Write the media addresses, by their index, and where the program finds each. Raises DataplaneError."""
    numbers = [int(IPv4Address(ip)) for ip in media]
    slots = place_addresses(numbers)
    for index, number in enumerate(numbers):
        table[0]["slot"][slots[number]] = (number, index)
        table[0]["address"][index] = number


def denied_networks(deny: Iterable[Network], media: Iterable[str], addresses: Iterable[Address]) -> tuple[Network, ...]:
    """Where media never goes: the operator's networks, this host's other addresses, its networks' broadcasts."""
    served = {IPv4Address(ip) for ip in media}
    found: set[Network] = set(deny)
    for address in addresses:
        interface = address.interface
        if interface.ip not in served and not interface.ip.is_loopback:
            found.add(IPv4Network(interface.ip))
        broadcasts = {address.broadcast} if address.broadcast else set()
        if interface.network.prefixlen < 31 and not interface.ip.is_loopback:
            broadcasts.add(interface.network.broadcast_address)
        found.update(IPv4Network(broadcast) for broadcast in broadcasts)
    return tuple(sorted(found, key=str))


class DeniedMap:
    """The program's copy of the denied networks (IPv4)."""

    def __init__(self, table: Map) -> None:
        self._table = table
        self._standing: set[bytes] = set()

    def set(self, networks: Iterable[Network]) -> None:
        """Make the map hold exactly these. Raises BpfError where it is full."""
        wanted = {
            struct.pack("=I", network.prefixlen) + network.network_address.packed
            for network in networks
            if isinstance(network, IPv4Network)
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
    # What XDP redirects to the loopback device the kernel takes for a martian.
    if loopback := [ip for ip in media if IPv4Address(ip).is_loopback]:
        raise DataplaneError(f"XDP cannot serve the loopback address {loopback[0]}: name another with --interface")
    if len(set(media)) != len(media):
        raise DataplaneError("a media address is given twice")
    if len(media) > max_addresses:
        raise DataplaneError(f"{len(media)} media addresses are more than --max-addresses={max_addresses}")
    return len(media) * abi.PORTS
