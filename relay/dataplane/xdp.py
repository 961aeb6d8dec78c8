"""The XDP data plane: rules written into the program's tables, packets forwarded in the driver of the network card.

This module joins the parts and answers the contract (relay.dataplane.Dataplane):
    host        what this machine must offer, its media and other addresses
    opening     the tables to run on: loaded anew (program), or pinned by a relay before this one (pins)
    attaching   which interfaces the program stands on, native or generic (placement, devices, probe)
    table       the rules and their words
    nexthops    where packets leave, kept right by netlink
    learning    what XDP learned of addresses
    tokens      IPv6 addresses of parties by number
    slowpath    what came up to user space
    reassembly  what came in fragments
Everything runs on the event loop's thread; the packets need none of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing

import numpy as np
import numpy.typing as npt

from relay.dataplane import Listener, abi
from relay.dataplane.addresses import fill_host
from relay.dataplane.attaching import Attaching
from relay.dataplane.host import DeniedMap, Network, check_host, denied_networks
from relay.dataplane.learning import Learning
from relay.dataplane.nexthops import NextHops
from relay.dataplane.opening import Renewal, open_tables
from relay.dataplane.reassembly import Reassembly
from relay.dataplane.settings import XdpSettings
from relay.dataplane.slowpath import Complaints, Copies, RawSender
from relay.dataplane.table import RuleTable
from relay.dataplane.tokens import NO_TOKENS, NoTokens, TokenCollector, Tokens, held_tokens
from relay.errors import DataplaneError
from relay.flows import Screen
from relay.nic.links import Neighbour
from relay.nic.watch import ADDRESSES, LINKS, ROUTES, HostWatch
from relay.types import Endpoint, Path, Rule, StreamState

__all__ = ["COUNTER_TEXTS", "XdpDataplane", "XdpSettings"]

_log = logging.getLogger(__name__)

COUNTER_TEXTS = {
    **abi.COUNTER_TEXTS,
    "slow_path_sent": "packets sent on from user space",
    "slow_path_failed": "packets the kernel refused to send on",
    "sources_folded": "learned addresses given a next hop of their own",
    "nexthops_exhausted": "times the table of next hops was full",
    "too_big_told": "ICMP errors sent for what was larger than the next link takes",
    "reassembled_too_long": "datagrams in fragments that are longer than can be forwarded",
    "reassembled_failed": "datagrams in fragments the kernel did not run the program on",
    "reassembled_lost": "datagrams in fragments beyond what is forwarded in a second",
}
"""What each counter says to the operator."""

_BEAT_SECONDS = 1.0
_SWEEP_SECONDS = 1.0  # in which every port is looked at once
_LEAST_MTU = 1280


class XdpDataplane:
    """Forwards in XDP, on the interfaces of the network namespace it is started in."""

    name = "xdp"

    def __init__(self, settings: XdpSettings) -> None:
        self._settings = settings
        self._deny = settings.deny
        self._held = ExitStack()
        self._running = False
        self._adopted = self._keep = False
        self._renewal: Renewal | None = None

    async def start(self, listener: Listener) -> None:
        """Load, attach and begin to forward. Raises DataplaneError naming what is missing and what to do."""
        check_host()
        self._loop = asyncio.get_running_loop()
        try:
            await self._load()
            self._read_host()
            if not self._adopted:
                self._tables.beat()  # the program is about to be tried
            await self._attaching.start()
            self._tables.beat()
        except BaseException:
            await self.close(keep=self._adopted)
            raise
        self._listen(listener)
        self._running = True
        if self._renewal:
            self._renewal.start()

    async def close(self, keep: bool = False) -> None:
        """Detach and let go of everything; safe to call twice.

        With `keep`, what is pinned forwards on until another takes it over, or `orphan_seconds` are over.
        """
        self._running = False
        self._keep = keep and self._settings.pins is not None
        if self._renewal:
            await self._renewal.close()
        self._held.close()

    def install(self, rules: Iterable[Rule]) -> None:
        """Put rules in force or change them in place. Raises DataplaneError for a local address not served here."""
        self._table.install(rules)

    def remove(self, locals_: Iterable[Endpoint], linger: float) -> None:
        """Take rules out of force; for `linger` seconds their ports drop in silence."""
        self._table.remove(locals_, linger)

    def deny(self, networks: Iterable[Network]) -> None:
        """Never send to these networks from here on. Raises DataplaneError where the program has no room for them."""
        before, self._deny = self._deny, tuple(networks)
        try:
            self._table.screen_again(self._screen())
        except DataplaneError:
            self._deny = before
            self._screen_again()
            raise

    def packets(self, local: Endpoint) -> int:
        """Packets admitted at one port, 0 where there is no rule."""
        entry = self._table.get(local)
        return self._table.packets(entry.index) if entry else 0

    def octets(self) -> int:
        """UDP payload admitted at all ports since the start; reads the whole table, 0.3 ms an address."""
        return self._table.octets()

    def inherited(self) -> list[Endpoint]:
        """Ports that a former process left in force, and that no rule was installed at since."""
        return self._table.inherited()

    def closing(self) -> list[Endpoint]:
        """Ports that drop in silence since their rules were removed, by a former process, too."""
        return self._table.closing()

    def heard(self, ip: str) -> bytes:
        """Which ports of a local address took packets since this was last asked; 0.3 ms."""
        return self._table.heard(ip)

    def rules(self) -> list[Endpoint]:
        """Ports with a rule in force."""
        return [entry.rule.local for entry in self._table.standing.values()]

    def state(self, local: Endpoint) -> StreamState:
        """Counters and path of one rule, read in place."""
        entry = self._table.get(local)
        if entry is None:
            return StreamState()
        state = self._table.state(entry)
        if not self._attaching.standing:
            state.path = Path.NOT_ATTACHED
        return state

    def counters(self) -> Mapping[str, int]:
        """What the program counted, and what user space did for it; nothing once closed."""
        if not self._running:
            return {}
        return self._tables.counters() | {
            "slow_path_sent": self._sender.sent - self._complaints.sent,
            "slow_path_failed": sum(self._sender.failures.values()),
            "sources_folded": self._learning.folds,
            "nexthops_exhausted": self._nexthops.exhausted,
            "too_big_told": self._complaints.sent,
            "reassembled_too_long": self._reassembly.too_long,
            "reassembled_failed": self._reassembly.failed,
            "reassembled_lost": self._reassembly.lost,
        }

    def health(self) -> str:
        """Why packets are not forwarded, for the operator; empty where they are."""
        return self._attaching.flaw() if self._running else "not running"

    def describe(self) -> list[str]:
        """Interfaces, mode and why, addresses, next hops."""
        if not self._running:
            return ["not running"]
        entries, resolved = self._nexthops.counts()
        addresses = ", ".join(self._settings.addresses)
        return [
            *self._attaching.describe(),
            f"media addresses {addresses}; {resolved} of {entries} next hops resolved",
            *self._reassembly.describe(),
            *self._opened.describe(),
            *(self._renewal.describe() if self._renewal else ()),
        ]

    def neighbours_changed(self, neighbours: Iterable[Neighbour]) -> None:
        """The host learned of neighbours (relay.nic.watch)."""
        self._nexthops.neighbours_changed(neighbours)

    def track_lost(self, neighbours: Iterable[Neighbour]) -> None:
        """Events of the host were lost (relay.nic.watch)."""
        self._nexthops.load(self._watch.links, neighbours)

    def host_changed(self, what: set[str]) -> None:
        """Links, addresses or routes of the host changed (relay.nic.watch)."""
        if LINKS in what:
            self._attaching.links_changed()
            self._nexthops.links_changed(self._watch.links)
        if what & {ADDRESSES, ROUTES}:
            self._nexthops.routes_changed()
        if ADDRESSES in what:
            self._screen_again()
        self._attaching.host_changed()

    def _screen_again(self) -> None:
        try:
            self._table.screen_again(self._screen())
        except DataplaneError as error:
            _log.error("the addresses nothing is sent to cannot be changed: %s", error)

    async def _load(self) -> None:
        settings = self._settings
        self._opened = opened = await open_tables(settings)
        self._held.callback(lambda: opened.close(keep=self._keep))
        self._adopted, self._tables = opened.adopted, opened.tables
        if opened.pins and opened.adopted:
            self._renewal = Renewal(opened.pins, settings, self._run_others)
        self._addresses = fill_host(self._tables.host, settings.addresses, self._tables.rules)
        self._tokens: Tokens | NoTokens = NO_TOKENS
        if any(":" in ip for ip in self._addresses):
            tables = self._tables
            self._tokens = self._held.enter_context(closing(Tokens(tables.peers, tables.tokens, tables.spare)))
            self._tokens.fill()
        self._denied = DeniedMap(self._tables.denied, 4), DeniedMap(self._tables.denied6, 6)

    async def _run_others(self) -> None:
        """Run the programs that stand in the place of the former ones by now."""
        self._reassembly.renew(self._tables.program("reassembled"), self._tables.program("sink"))
        await self._attaching.renew()

    def _read_host(self) -> None:
        settings, tables, loop = self._settings, self._tables, self._loop
        self._watch = watch = self._held.enter_context(closing(HostWatch(loop, self)))
        self._check_addresses()
        self._table = RuleTable(
            tables.rules, tables.cold, self._addresses, self._screen(), loop.call_later, loop.time, self._tokens
        )
        self._held.callback(self._table.close)
        self._attaching = Attaching(
            *(watch, self._opened, settings.addresses, settings.mode, settings.interfaces),
            lambda: self._nexthops.devices(),
        )
        table, held = self._table, self._table.nexthops_in_use()
        self._nexthops = NextHops(
            watch.kernel, tables.nexthops, self._attaching.slot, table.moved, loop.call_later, held
        )
        self._held.callback(lambda: self._nexthops.close(self._keep))
        self._held.callback(lambda: self._attaching.close(self._keep))
        self._table.nexthops = self._nexthops
        self._nexthops.load(watch.links, watch.kernel.neighbours())

    def _listen(self, listener: Listener) -> None:
        """Begin to hear of events, copies and the host."""
        table, tables = self._table, self._tables
        self._sender = self._held.enter_context(closing(RawSender(self._mtu)))
        self._learning = Learning(table, self._tables.events, listener.learned)
        self._complaints = Complaints(self._sender, lambda to, ip: table.screen(to, ip), self._loop.time)
        copies = Copies(
            self._tables.copies,
            self._sender,
            self._complaints,
            lambda index, source, packet: listener.rtcp(table.local(index), source, packet),
        )
        for ring, read in ((self._tables.events, self._learning.read), (self._tables.copies, copies.read)):
            self._loop.add_reader(ring.fd, read)
            self._held.callback(self._loop.remove_reader, ring.fd)
        self._reassembly = self._held.enter_context(closing(Reassembly(tables.program("reassembled"), self._sender)))
        self._reassembly.start(self._loop, self._settings.addresses, tables.program("sink"), tables.sinks)
        if isinstance(self._tokens, Tokens):
            self._collect_tokens(self._tokens)
        self._watch.start()
        self._sweep_later()
        self._beat_later()

    def _collect_tokens(self, tokens: Tokens) -> None:
        """Give back what no rule holds, in turns over the media addresses."""
        addresses, later = self._addresses, self._loop.call_later

        def held(address: int) -> npt.NDArray[np.bool_]:
            part = slice(address * abi.PORTS, (address + 1) * abi.PORTS)
            return held_tokens(self._table.rules[part], self._table.cold[part], ":" in addresses[address], tokens.size)

        self._held.enter_context(closing(TokenCollector(tokens, held, len(addresses), later))).start()

    def _sweep_later(self) -> None:
        wait = _SWEEP_SECONDS / len(self._addresses)
        self._timer = self._loop.call_later(wait, self._sweep)

    def _sweep(self) -> None:
        if self._running:
            self._sweep_later()
            self._attaching.look()
            self._learning.sweep()
            self._nexthops.expire(self._loop.time())

    def _beat_later(self) -> None:
        self._loop.call_later(_BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        if self._running:
            self._beat_later()
            self._tables.beat()

    def _check_addresses(self) -> None:
        here = {str(address.interface.ip) for address in self._watch.addresses}
        for ip in self._settings.addresses:
            if ip not in here and not self._adopted:  # what stands goes on with those that are there
                raise DataplaneError(f"media address {ip} is on no interface of this host: add it, or name another")

    def _screen(self) -> Screen:
        networks = denied_networks(self._deny, self._settings.addresses, self._watch.addresses)
        for denied in self._denied:
            denied.set(networks)
        return Screen(networks)

    def _mtu(self, source: str, destination: str) -> int:
        """Bytes of the largest packet that leaves here for a destination."""
        route = self._watch.kernel.route(destination, source)
        link = self._watch.links.get(route.ifindex) if route else None
        return link.mtu if link else _LEAST_MTU
