"""The contract of the data planes over sockets: rules in, datagrams through, counters out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from pyroute2.netlink import NETLINK_ROUTE, rtnl

from relay.dataplane import Listener
from relay.dataplane.heard import port_bitmap
from relay.dataplane.host import denied_networks
from relay.dataplane.userspace.payload import Kind, classify, read_header, treat
from relay.dataplane.userspace.port import Port
from relay.dataplane.userspace.sockets import LocalSocket, Received, raise_file_limit
from relay.dataplane.userspace.window import Verdict
from relay.errors import DataplaneError
from relay.flows import Screen
from relay.nic.links import Rtnetlink
from relay.nic.netlink import Overrun, Subscription
from relay.types import Carries, Endpoint, Rule, StreamState, Treatment

__all__ = ["COUNTER_TEXTS", "UserspaceDataplane", "UserspaceSettings"]

_log = logging.getLogger(__name__)

Network = IPv4Network | IPv6Network

COUNTER_TEXTS = {"send_failed": "the kernel did not take the packet, its buffer full or a firewall in the way"}
"""Counters and drop reasons that the XDP program has not."""

_DATAGRAM = 65536
_BATCH = 8
"""Datagrams of one port before others, and the proxy's commands, have their turn."""
_ECN = 3  # RFC 3168: the bits of the TOS byte that are not ours
_ADDRESSES = (rtnl.RTNLGRP_IPV4_IFADDR, rtnl.RTNLGRP_IPV6_IFADDR)


@dataclass(frozen=True, slots=True)
class UserspaceSettings:
    """How the plane is to run."""

    addresses: tuple[str, ...]
    """Local media addresses of both families."""
    port_rate: int = 2000
    """Packets a second one port takes; the rest is dropped early."""
    slow_rate: int = 16
    """RTCP packets a second of one port that are looked at for statistics."""
    deny: tuple[Network, ...] = ()
    """Networks media is never sent to."""
    commanded: frozenset[int] = frozenset()
    """Ports at which the relay takes commands: who may choose a destination on loopback must not speak there."""
    reason: str = ""
    """Why no faster plane was taken, for the operator."""


class UserspaceDataplane:
    """Forwards through one UDP socket per port, on the event loop it is started on."""

    name = "userspace"

    def __init__(self, settings: UserspaceSettings) -> None:
        self._settings = settings
        self._deny = settings.deny
        self._ports: dict[Endpoint, Port] = {}
        self._sockets: dict[Endpoint, LocalSocket] = {}
        self._lingering: dict[Endpoint, object] = {}
        self._generations = itertools.count(1)
        self._counters: Counter[str] = Counter()
        self._octets = 0
        self._buffer = bytearray(_DATAGRAM)
        self._view = memoryview(self._buffer)
        self._guarded = {ip for ip in settings.addresses if not ip_address(ip).is_loopback}
        """Addresses on which packets go to ports of calls only; on loopback the parties live as well."""
        self._screen = Screen(settings.deny)
        self._changes: Subscription | None = None
        self._room = 0

    async def start(self, listener: Listener) -> None:
        """Ask for as many files as may be had; raises DataplaneError where no media address is given."""
        if not self._settings.addresses:
            raise DataplaneError("no media address is given: name one with --interface")
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._room = raise_file_limit()
        self._changes = Subscription(NETLINK_ROUTE, _ADDRESSES)
        self._loop.add_reader(self._changes.fileno(), self._read_changes)
        try:
            self._screen = self._own_screen(self._deny)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close all sockets; safe to call twice."""
        for local in list(self._sockets):
            self._close(local)
        self._ports.clear()
        self._lingering.clear()
        if self._changes is not None:
            self._loop.remove_reader(self._changes.fileno())
            self._changes.close()
            self._changes = None

    def describe(self) -> list[str]:
        """What it means for the operator, and how many calls there is room for."""
        held = len(self._sockets)
        lines = [f"userspace: a UDP socket per port, {held} open, {self._room} at most by the limit of open files"]
        if self._settings.reason:
            lines.append(f"not XDP: {self._settings.reason}")
        return lines

    def install(self, rules: Iterable[Rule]) -> None:
        """Put rules in force or change standing ones in place.

        Raises DataplaneError, with nothing changed, where a socket cannot be opened: another program holds the port.
        """
        rules = list(rules)
        self._open_all([rule.local for rule in rules if rule.local not in self._sockets])
        joins = [rule.source for rule in rules if self._joins_anew(rule)]
        batch = [self._enter(rule) for rule in rules]
        for port in filter(None, map(self._ports.get, joins)):
            port.renew(next(self._generations), None)
        for port in batch:
            self._aim(port)
            mirrored = self._ports.get(port.rule.source)
            if mirrored is not None and mirrored.rule.source == port.rule.local:
                self._aim(mirrored)

    def remove(self, locals_: Iterable[Endpoint], linger: float) -> None:
        """Take rules out of force; for `linger` seconds their sockets stay and what comes is dropped in silence."""
        token = object()
        removed = [local for local in locals_ if self._ports.pop(local, None) is not None]
        self._lingering.update(dict.fromkeys(removed, token))
        if linger > 0:
            self._loop.call_later(linger, self._let_go, removed, token)
        else:
            self._let_go(removed, token)

    def state(self, local: Endpoint) -> StreamState:
        """Counters and path of one rule; an empty state for a port without one."""
        port = self._ports.get(local)
        return port.state() if port is not None else StreamState()

    def packets(self, local: Endpoint) -> int:
        """Packets admitted at one port."""
        port = self._ports.get(local)
        return port.packets if port is not None else 0

    def deny(self, networks: Iterable[Network]) -> None:
        """Never send to these networks from here on. Raises DataplaneError, with no change."""
        self._screen_again(tuple(networks))

    def octets(self) -> int:
        """UDP payload admitted at all ports since the start."""
        return self._octets

    def inherited(self) -> list[Endpoint]:
        """Nothing stands from before: the sockets went with their process."""
        return []

    def closing(self) -> list[Endpoint]:
        """Ports whose sockets only drop what comes."""
        return list(self._lingering)

    def heard(self, ip: str) -> bytes:
        """Which ports of a local address took packets since this was last asked."""
        return port_bitmap([local.port for local, port in self._ports.items() if local.ip == ip and port.moved()])

    def rules(self) -> list[Endpoint]:
        """Ports with a rule in force."""
        return list(self._ports)

    def sockets(self) -> list[Endpoint]:
        """Ports this plane holds, those of ended calls included."""
        return list(self._sockets)

    def counters(self) -> Mapping[str, int]:
        """Occurrences and drop reasons by the names of ebpf/counters.inc, and of COUNTER_TEXTS."""
        return dict(self._counters)

    # -- rules

    def _open_all(self, locals_: list[Endpoint]) -> None:
        opened: list[LocalSocket] = []
        try:
            for local in dict.fromkeys(locals_):
                opened.append(LocalSocket(local))
        except DataplaneError:
            for each in opened:
                each.close()
            raise
        for each in opened:
            self._sockets[each.local] = each
            self._loop.add_reader(each.fileno(), self._readable, each)

    def _enter(self, rule: Rule) -> Port:
        """The port of a rule, with the generation its party is to have."""
        port = self._ports.get(rule.local)
        if port is None:
            self._lingering.pop(rule.local, None)
            port = self._ports[rule.local] = Port(rule, next(self._generations))
            return port
        if self._renews(port, rule):
            keeps = rule.source_epoch == port.rule.source_epoch and port.window.seen
            port.renew(next(self._generations), None if keeps else rule.known_source)
        port.change(rule)
        return port

    def _renews(self, port: Port, rule: Rule) -> bool:
        """Whether a rule tells of a party at another address, or of a source others saw while none was seen here."""
        before, known = port.rule, rule.known_source
        if rule.source_epoch != before.source_epoch or rule.source != before.source:
            return True
        return known is not None and known not in (before.known_source, port.known) and not port.window.seen

    def _joins_anew(self, rule: Rule) -> bool:
        """Whether the party it sends to has its port with RTP from here on, or has one of its own again."""
        port = self._ports.get(rule.local)
        return port is not None and port.rule.joined is not rule.joined

    def _aim(self, port: Port) -> None:
        """Say where the packets of a port go: to the party that its mirror faces."""
        rule = port.rule
        mirrored = self._ports.get(rule.source)
        if mirrored is not None:
            wanted, generation = mirrored.known or rule.destination, mirrored.generation
        elif port.target_generation >= 0 and port.wanted == rule.destination:
            return
        else:
            wanted, generation = rule.destination, next(self._generations)
        if generation != port.target_generation or wanted != port.wanted:
            port.aim(wanted, generation, self._refusal(rule, wanted))
            if mirrored is not None:
                self._answer(port, mirrored.window.answer)

    def _answer(self, port: Port, learned: Endpoint | None) -> None:
        """Send to where a party is observed, unless nothing is to be sent there any more."""
        port.learned = learned
        port.learned_refused = self._refusal(port.rule, learned) is not None

    def _refusal(self, rule: Rule, wanted: Endpoint | None) -> str | None:
        if wanted is None:
            return None
        if wanted in (rule.local, rule.source):
            return "a port of the same call"
        return self._screened(wanted, rule.source.ip)

    def _screened(self, endpoint: Endpoint, local_ip: str) -> str | None:
        if endpoint.port in self._settings.commanded and ip_address(local_ip).is_loopback:
            return "a port at which the relay takes commands"
        return self._screen(endpoint, local_ip)

    def _let_go(self, locals_: list[Endpoint], token: object) -> None:
        for local in locals_:
            if self._lingering.get(local) is token:
                del self._lingering[local]
                self._close(local)

    def _close(self, local: Endpoint) -> None:
        closed = self._sockets.pop(local)
        self._loop.remove_reader(closed.fileno())
        closed.close()

    # -- the host

    def _own_screen(self, deny: Iterable[Network]) -> Screen:
        """Of the operator's networks and this host's addresses. Raises DataplaneError."""
        try:
            with contextlib.closing(Rtnetlink()) as kernel:
                return Screen(denied_networks(deny, self._settings.addresses, kernel.addresses()))
        except OSError as error:
            raise DataplaneError(f"the addresses of this host cannot be read: {error}") from error

    def _read_changes(self) -> None:
        """The host's addresses are among those that nothing is sent to."""
        assert self._changes is not None
        with contextlib.suppress(Overrun):  # what changed is read below in any case
            self._changes.read()
        try:
            self._screen_again(self._deny)
        except DataplaneError as error:
            _log.error("the addresses nothing is sent to cannot be changed: %s", error)

    def _screen_again(self, deny: tuple[Network, ...]) -> None:
        self._screen = self._own_screen(deny)
        self._deny = deny
        for port in self._ports.values():
            port.aim(port.wanted, port.target_generation, self._refusal(port.rule, port.wanted))
            self._answer(port, port.learned)

    # -- packets

    def _readable(self, local_socket: LocalSocket) -> None:
        for _ in range(_BATCH):
            received = local_socket.receive(self._buffer)
            if received is None:
                return
            self._arrived(local_socket.local, received)

    def _arrived(self, local: Endpoint, received: Received) -> None:
        """Admit and forward one datagram, then tell of it."""
        port = self._ports.get(local)
        if port is None:
            self._counters["closed"] += 1
            return
        now = time.monotonic()
        reason = self._admit(port, received, now)
        if reason is None:
            payload = self._view[: received.size]
            kind, passes = self._observe(port, payload, now)
            reason = self._forward(port, kind, payload, received) if passes else "blocked"
            self._tell(port, kind, received, payload, now)
        if reason is not None:
            self._counters[reason] += 1
            port.drop(reason)

    def _admit(self, port: Port, received: Received, now: float) -> str | None:
        """Count a packet as one of the port's, or give the reason to drop it."""
        source = received.source
        if port.too_many(now, self._settings.port_rate):
            return "rate"
        if not port.window.takes(source) and (reason := self._learn(port, source, now)) is not None:
            return reason
        port.packets += 1
        port.bytes += received.size
        self._octets += received.size
        return None

    def _learn(self, port: Port, source: Endpoint, now: float) -> str | None:
        rule = port.rule
        if not source.port or self._screened(source, rule.local.ip) is not None:
            return "source_refused"
        mirrored = self._ports.get(rule.source)
        if mirrored is None:
            return None
        if mirrored.rule.joined:  # this party has RTP and RTCP on the port below, and is learned there
            port.foreign += 1
            return "source_mismatch" if rule.strict_source else None
        if mirrored.target_generation != port.generation:
            return None  # a change is under way: what was signalled belongs to nobody yet
        answered = port.window.answer
        verdict = port.window.judge(source, now)
        if verdict is not Verdict.TAKEN:
            port.foreign += 1
            return "source_mismatch" if verdict is Verdict.MISMATCH else None
        if port.window.answer != answered:
            self._counters["learned"] += 1
            self._answer(mirrored, port.window.answer)
        return None

    def _observe(self, port: Port, payload: memoryview, now: float) -> tuple[Kind, bool]:
        """What an admitted packet is, in the books of its port; False where it is blocked."""
        rule = port.rule
        kind = classify(payload, rule.carries)
        header = read_header(payload) if kind is Kind.RTP else None
        if header is not None:
            port.reception.hear(header, port.packets - 1, rule.clocks, now)
        elif Carries.RTP in rule.carries:
            port.reception.hear_other()
        if kind in (Kind.STUN, Kind.DTLS):
            self._counters[kind.value] += 1
        passes = treat(payload, kind, header, rule)
        if passes and kind is Kind.RTP and rule.treatment is Treatment.SILENCE:
            self._counters["silenced"] += 1
        return kind, passes

    def _forward(self, port: Port, kind: Kind, payload: memoryview, received: Received) -> str | None:
        """Send a packet on its way, or give the reason it is dropped."""
        to, leaving, tos = self._way(port, kind)
        if to is None:
            return "no_destination"
        if received.ttl <= 1:
            return "ttl"
        if to.ip in self._guarded and to not in self._ports:
            return "no_rule_at_destination"
        outgoing = self._sockets.get(leaving)
        if outgoing is None:
            return "send_failed"
        as_marked = received.tos if tos is None else tos | received.tos & _ECN
        reason = outgoing.send(payload, to, received.ttl - 1, as_marked)
        if reason is None:
            self._counters["forwarded"] += 1
        return reason

    def _way(self, port: Port, kind: Kind) -> tuple[Endpoint | None, Endpoint, int | None]:
        """Destination, the port to leave from, and TOS.

        A party with RTP and RTCP on one port is bridged to one that has two: its RTCP goes by the rule of the port
        above (`split`), and to it both go to one address and from one port (`joined`).
        """
        local = port.rule.local
        if port.rule.split and kind is Kind.RTCP:
            port = self._ports.get(Endpoint(local.ip, local.port + 1), port)
        rule = port.rule
        if not rule.joined:
            return port.destination, rule.source, rule.tos
        below = self._ports.get(Endpoint(rule.local.ip, rule.local.port - 1), port)
        return below.destination, Endpoint(rule.source.ip, rule.source.port - 1), rule.tos

    def _tell(self, port: Port, kind: Kind, received: Received, payload: memoryview, now: float) -> None:
        """Tell the listener of a learned source, and of RTCP from the source that is expected."""
        window = port.window
        if window.state and window.expected is not None:
            news = window.expected, window.closed
            if news != port.told:
                port.told = news
                self._listener.learned(port.rule.local, *news)
        if kind is not Kind.RTCP or received.source != window.expected:
            return
        if not port.within_budget(now, self._settings.slow_rate):
            self._counters["copies_held"] += 1
            return
        self._counters["rtcp_copied"] += 1
        self._listener.rtcp(port.rule.local, received.source, bytes(payload))
