"""What this host has for media: its addresses under the names of the configuration, and their ports.

Nothing is taken by looking: `hairpin check-config` asks the same questions as a start.
"""

from __future__ import annotations

import logging
import random
import socket
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from control.config import Config, ConfigError, HostAddress, Network, check, resolve
from control.config import Interface as Given
from control.config.replication import Slice
from relay.nic.links import Rtnetlink
from relay.nic.portreserve import PortReservation
from relay.nic.sockets import busy_udp_ports
from relay.ports import Interface, PortPool, Span, lent, slices
from relay.types import Endpoint

log = logging.getLogger("hairpin")

FAR_AWAY = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Addresses for documentation (RFC 5737 and 3849): only a default route leads there; nothing is sent."""


class Host(NamedTuple):
    """Addresses and network devices of this network namespace."""

    addresses: tuple[HostAddress, ...]
    devices: frozenset[str]

    def others(self, media: Iterable[str]) -> tuple[Network, ...]:
        """This host's addresses that carry no media, and that media is not sent to either.

        Loopback addresses are for parties of a loopback media address, and for nobody else: relay.flows sees to that.
        """
        left = sorted({one.ip for one in self.addresses} - set(media))
        return tuple(ip_network(ip) for ip in left if not ip_address(ip).is_loopback)


def survey() -> Host:
    """Ask the kernel."""
    kernel = Rtnetlink()
    try:
        links = kernel.links()
        names = {index: link.name for index, link in links.items()}
        addresses = [(names.get(one.ifindex), str(one.interface.ip)) for one in kernel.addresses()]
    finally:
        kernel.close()
    found = tuple(HostAddress(device, ip) for device, ip in addresses if device is not None)
    return Host(found, frozenset(names.values()))


def default_interface() -> Given:
    """The address the default route sends from, IPv4 if there is one. Raises ConfigError where there is none."""
    reason = ""
    for family, far in FAR_AWAY:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((far, 9))
            except OSError as error:
                reason = reason or str(error.strerror)
                continue
            return Given("default", probe.getsockname()[0])
    raise ConfigError(f"no default route ({reason}), so no address to choose: name one with --interface=ADDRESS")


def media_addresses(config: Config, host: Host) -> tuple[Given, ...]:
    """The configured interfaces by addresses this host has, each with its range of ports. Raises ConfigError."""
    found = [config.with_ports(one) for one in resolve(config.interface or (default_interface(),), host.addresses)]
    own = {one.ip for one in host.addresses}
    problems = [
        f"--interface={one.address} is no address of this host, which has {', '.join(sorted(own))}"
        for one in found
        if one.address not in own and not ip_address(one.address).is_loopback
    ]
    problems += [
        f"--attach={name} is no network interface here; there are {', '.join(sorted(host.devices))}"
        for name in config.attach
        if name not in host.devices
    ]
    if problems := [*dict.fromkeys(problems), *check(config, found)]:
        raise ConfigError(*problems)
    return tuple(found)


def places(config: Config) -> tuple[Given, ...]:
    """The same, on the host as it is by now."""
    return media_addresses(config, survey())


class MediaPorts:
    """The ports of all media addresses: one pool for each address and range, by whatever names it goes.

    `keyspace` is this node's, `shares` say which part of every range each node draws from as a guest.
    """

    def __init__(self, given: Sequence[Given], keyspace: int = 0, shares: Sequence[Slice] = ()) -> None:
        self._keyspace = keyspace
        self._shares = [(one.keyspace, float(one.share)) for one in shares]
        self.interfaces: list[Interface] = []
        self._pools: dict[tuple[str, int, int], PortPool] = {}
        self._excluded: dict[PortPool, frozenset[int]] = {}
        self._reservations: dict[tuple[int, int], PortReservation] = {}
        for one in given:
            pool = self._pool(one)
            self._excluded[pool] = self._excluded.get(pool, frozenset()) | frozenset(one.exclude_ports)
            self.interfaces.append(Interface(*_shown(one), pool, self._home(one)))

    def _pool(self, one: Given) -> PortPool:
        key = (one.address, one.port_min, one.port_max)
        if key not in self._pools:
            pool = PortPool(one.port_min, one.port_max, random.SystemRandom().random, self._lent(one))
            self._pools[key] = pool
        return self._pools[key]

    def _home(self, one: Given) -> int:
        return -1 if one.keyspace == self._keyspace else one.keyspace

    def _lent(self, one: Given) -> list[Span]:
        """The ports of an address that are other nodes' to draw."""
        cut = slices(one.port_min, one.port_max, self._shares)
        return lent(one.port_min, one.port_max, cut, self._home(one), self._keyspace)

    def skip_busy(self, own: Iterable[Endpoint]) -> None:
        """Leave ports alone that other programs hold, and those the configuration leaves out; `own` are ours."""
        ours = set(own)
        for (address, _, _), pool in self._pools.items():
            excluded = self._excluded[pool]
            try:
                busy = {port for port in busy_udp_ports(address) if Endpoint(address, port) not in ours}
            except OSError as error:
                log.warning("cannot see which UDP ports other programs hold: %s", error)
                busy = set()
            pool.skip(busy | excluded)

    def grows_to(self, given: Sequence[Given]) -> bool:
        """Whether these are the same addresses by the same names, with all ports of today or more."""
        here = [(one.name, one.address, one.advertised, one.home) for one in self.interfaces]
        if [(*_shown(one), self._home(one)) for one in given] != here:
            return False
        spans: dict[PortPool, tuple[int, int]] = {}
        for one, interface in zip(given, self.interfaces, strict=True):
            span, pool = (one.port_min, one.port_max), interface.pool
            if spans.setdefault(pool, span) != span or not span[0] <= pool.low < pool.high <= span[1]:
                return False
        return True

    def grow(self, given: Sequence[Given]) -> None:
        """Take these ranges and what is left out of them; only where it `grows_to` them."""
        self._excluded = {interface.pool: frozenset() for interface in self.interfaces}
        for one, interface in zip(given, self.interfaces, strict=True):
            interface.pool.widen(one.port_min, one.port_max)
            interface.pool.lend(self._lent(one))
            self._excluded[interface.pool] |= frozenset(one.exclude_ports)
        self._pools = {(one.address, one.pool.low, one.pool.high): one.pool for one in self.interfaces}

    def reserve(self, left_behind: str, note: Callable[[str], None]) -> str:
        """Keep the host's own sockets off all ranges, and say in words whether that worked.

        Done again each time: another relay of this namespace takes ports that both want out of the list when it ends.
        `left_behind`: what a relay that was killed had added. `note` is told what is ours in the list when it changes.
        """
        before = left_behind or self._added()
        try:
            for _, low, high in self._pools:
                if (low, high) not in self._reservations:
                    self._reservations[low, high] = PortReservation(low, high)
            for reservation in self._reservations.values():
                reservation.take(left_behind)
                left_behind = ""
            if self._added() != before:
                note(self._added())
        except (OSError, ValueError) as error:
            return f"not reserved from the host ({error}): a program may take one for itself"
        return "reserved from the host (net.ipv4.ip_local_reserved_ports), given back at the end"

    def _added(self) -> str:
        return ",".join(one.added for one in self._reservations.values() if one.added)

    def give_back(self) -> None:
        """Take the ranges out of the host's list again."""
        for reservation in self._reservations.values():
            try:
                reservation.give_back()
            except (OSError, ValueError) as error:
                log.warning("net.ipv4.ip_local_reserved_ports could not be put back: %s", error)


def _shown(one: Given) -> tuple[str, str, str]:
    """Name, address, and what the SDP shows."""
    return one.name, one.address, one.advertised or one.address
