"""Service addresses kept announced as they should be: decisions of state.py, orders of operators, and the speaker.

What happened to an address is remembered with its times, for the operator who has just asked for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from control.failover.herald import Herald
from control.failover.remains import Remains, recall, remember
from control.failover.speaker import Role, Route, Speaker
from control.failover.state import Address, Limits, Order, View, partner_of
from control.replication.record import Lease
from relay.errors import HairpinError

__all__ = ["Failover", "OrderRefused", "Partners", "Place"]

log = logging.getLogger(__name__)

TICK = 0.5
"""Seconds between two looks."""
QUIET = 3.0
"""Seconds without packets after which the traffic of an address has moved."""
HAPPENINGS = 32
"""What is remembered of each address."""


class OrderRefused(HairpinError):
    """An operator's order would leave an address unserved; the text says why, and what forces it."""


class Place(NamedTuple):
    """A service address."""

    ip: str
    home: int
    """Keyspace of its home node; that of this node for its own."""


class Partners(Protocol):
    """What the pair knows (control.replication.replicator)."""

    announced: dict[str, str]
    healthy: bool

    def in_sync(self, keyspace: int) -> bool:
        """Whether all calls of a keyspace are here, as far as can be known."""

    @property
    def leases(self) -> Mapping[int, Lease]:
        """Of the other nodes that live."""


class Happening(NamedTuple):
    """Something an operator wants to know of an address; `at` in Unix seconds."""

    at: float
    what: str


class Failover:
    """Announces `places` through `speaker`. `keyspace` names this node; `partners` is None where it has none.

    `health` says why packets would not be forwarded here, or nothing; `blind` whether what partners do cannot be known;
    `busy` at how many ports of an address packets came in the last second, -1 where nobody knows; `calls` how many are
    left to serve. `remains` is the file that keeps operators' orders over a restart.
    """

    def __init__(
        self,
        places: Sequence[Place],
        speaker: Speaker,
        limits: Limits,
        health: Callable[[], str],
        *,
        keyspace: int = 0,
        partners: Partners | None = None,
        blind: Callable[[], bool] = lambda: False,
        busy: Callable[[str], int] = lambda ip: -1,
        calls: Callable[[], int] = lambda: 0,
        remains: Path | None = None,
        clock: Callable[[], float],
        unix: Callable[[], float],
    ) -> None:
        self.limits = limits
        self.draining = False
        """Operators drain this relay."""
        self._places = {place.ip: place for place in places}
        self._speaker = speaker
        self._health = health
        self._keyspace = keyspace
        self._partners = partners
        self._blind = blind
        self._busy = busy
        self._calls = calls
        self._remains = remains
        self._clock = clock
        self._unix = unix
        self._addresses: dict[str, Address] = {}
        self._happenings: dict[str, deque[Happening]] = {place.ip: deque(maxlen=HAPPENINGS) for place in places}
        self._ports: dict[str, int] = {}
        self._quiet: dict[str, float] = {}
        """Since when no packets came to an address."""
        self._unwell = ""
        self._leaving = False
        self._herald = Herald(speaker, self._happened)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take up what a relay before this one left announced and what operators ordered, and begin."""
        found = await self._speaker.start()
        now = self._clock()
        for ip, place in self._places.items():
            role = found.get(ip, Role.NONE)
            self._addresses[ip] = Address(ip, place.home == self._keyspace, now, role)
            if role is not Role.NONE:
                log.info("%s is announced as %s by the relay before this one", ip, role.value)
        self._recall()
        self.look()
        self._tasks = [asyncio.create_task(self._keep_looking()), asyncio.create_task(self._herald.run())]

    async def close(self) -> None:
        """Stop; what is announced stays so for the speaker's grace. Safe to call twice."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._speaker.close()

    async def leave(self, withdraw: bool) -> None:
        """Before an orderly stop: with `withdraw` all routes go, and the speaker has confirmed that, or is away."""
        if withdraw and self._tasks:
            self._leaving = True
            self.look()
            await self._herald.leave()

    def look(self) -> None:
        """Decide anew on all addresses, and have the speaker told where that changes anything."""
        now, self._unwell = self._clock(), self._health()
        leases = self._leases()
        for address in self._addresses.values():
            self._watch_packets(address, now)
            self._finish_drain(address, now)
            self._decide(address, leases, now)
        if self._partners is not None:
            self._partners.healthy = not self._unwell
            gone = Role.NONE.value if self._leaving else None
            self._partners.announced.update({ip: gone or one.role.value for ip, one in self._addresses.items()})
        self._herald.want({ip: Route(one.role, not one.partner) for ip, one in self._addresses.items()})

    def withdraw(self, ip: str | None, force: bool) -> list[str]:
        """An operator's order; of all addresses where none is named. Returns the addresses it holds for.

        Raises OrderRefused, with nothing ordered, where no partner would serve one of them and `force` is not given.
        """
        meant = self._meant(ip)
        leases = self._leases()
        bare = [one.ip for one in meant if one.role is not Role.NONE and not self._partner(one.ip, leases)]
        if bare and not force:
            raise OrderRefused(
                f"no partner lives, is well, announces {', '.join(bare)} and has its calls: its callers would hear "
                "nothing; --force withdraws even so"
            )
        return self._order(meant, Order.WITHDRAW)

    def announce(self, ip: str | None, force: bool) -> list[str]:
        """An operator's order: announced at once, without a hold-off, and with `force` whatever health says."""
        meant = self._meant(ip)
        troubles = {one.ip: self._view(one, {}) for one in meant}
        if not force:
            for name, view in troubles.items():
                if trouble := view.unwell or view.behind:
                    raise OrderRefused(f"{name} would not be served well from here: {trouble}; --force even so")
        for one in meant:
            one.hurry = True
        return self._order(meant, Order.FORCE if force and any(_ill(v) for v in troubles.values()) else Order.ANNOUNCE)

    def drain(self) -> list[str]:
        """Routes are announced as about to go, and withdrawn when packets come elsewhere or the last call has ended."""
        self.draining = True
        return self._order([one for one in self._addresses.values() if not one.order.withdraws], Order.DRAIN)

    def resume(self) -> list[str]:
        """The end of a drain, also of one that has withdrawn addresses."""
        self.draining = False
        drained = [one for one in self._addresses.values() if one.order in (Order.DRAIN, Order.DRAINED)]
        for one in drained:
            one.hurry = True
        return self._order(drained, Order.ANNOUNCE)

    def status(self) -> dict[str, Any]:
        """What operators see of it."""
        now = self._clock()
        return {
            "speaker": self._speaker.name,
            "speaker_lines": self._speaker.describe(),
            "unconfirmed": self._herald.problem,
            "unwell": self._unwell,
            "draining": self.draining,
            "addresses": [self._row(one, now) for one in self._addresses.values()],
        }

    def _row(self, address: Address, now: float) -> dict[str, Any]:
        said = {one.name: one.announced.get(address.ip, Role.NONE.value) for one in self._leases().values()}
        ports = self._ports.get(address.ip, -1)
        return {
            "address": address.ip,
            "home": self._places[address.ip].home,
            "own": address.own,
            "role": address.role.value,
            "confirmed": self._herald.confirmed.get(address.ip) is address.role,
            "order": address.order.value,
            "why": address.why,
            "alarm": address.alarm,
            "seconds": round(now - address.since, 3),
            "partners": said,
            "busy_ports": None if ports < 0 else ports,
            "happenings": [one._asdict() for one in self._happenings[address.ip]],
        }

    async def _keep_looking(self) -> None:
        fault = ""
        while True:
            await asyncio.sleep(TICK)
            try:
                self.look()
                fault = ""
            except Exception as error:
                if repr(error) != fault:
                    log.exception("what is to be announced cannot be decided; what was decided stands")
                fault = repr(error)

    def _decide(self, address: Address, leases: Mapping[int, Lease], now: float) -> None:
        partner, role, alarm = address.partner, address.role, address.alarm
        address.decide(self._view(address, leases), now, self.limits)
        if address.role is not role:
            level = logging.WARNING if address.role is Role.NONE else logging.INFO
            log.log(level, "%s: %s instead of %s: %s", address.ip, address.role.value, role.value, address.why)
            self._happened(address.ip, f"{address.role.value} instead of {role.value}: {address.why}")
        if address.partner != partner:
            self._happened(
                address.ip,
                f"{address.partner} announces it and has its calls" if address.partner else "no partner would serve it",
            )
        if address.alarm and address.alarm != alarm:
            log.error("ALARM: %s: %s", address.ip, address.alarm)
        elif alarm and not address.alarm:
            log.warning("%s: the alarm is over: %s", address.ip, address.why)

    def _leases(self) -> Mapping[int, Lease]:
        return self._partners.leases if self._partners is not None else {}

    def _view(self, address: Address, leases: Mapping[int, Lease]) -> View:
        home = self._places[address.ip].home
        behind = ""
        if self._partners is not None and not self._partners.in_sync(home):
            behind = f"not all calls of keyspace {home} are here"
        partner = self._partner(address.ip, leases)
        return View(self._unwell, behind, partner, self._partners is None, self._blind())

    def _partner(self, ip: str, leases: Mapping[int, Lease]) -> str:
        lease = partner_of(ip, self._places[ip].home, self._keyspace, leases)
        return lease.name or f"keyspace {lease.keyspace}" if lease is not None else ""

    def _watch_packets(self, address: Address, now: float) -> None:
        ports, before = self._busy(address.ip), self._ports.get(address.ip, -1)
        self._ports[address.ip] = ports
        if ports:
            self._quiet.pop(address.ip, None)
            if before == 0:
                self._happened(address.ip, f"packets come, at {ports} ports")
        else:
            self._quiet.setdefault(address.ip, now)
            if before > 0:
                self._happened(address.ip, "no packets come any more")

    def _finish_drain(self, address: Address, now: float) -> None:
        """A drained route goes once it has nothing left to do, or its packets go to a partner."""
        if address.order is not Order.DRAIN or address.role is not Role.DRAINING:
            return
        moved = address.partner and now - max(self._quiet.get(address.ip, now), address.since) >= QUIET
        if moved or not self._calls():
            self._happened(address.ip, "drained: its packets come elsewhere" if moved else "drained: no call is left")
            self._order([address], Order.DRAINED, look=False)

    def _meant(self, ip: str | None) -> list[Address]:
        if ip is None:
            return list(self._addresses.values())
        if ip not in self._addresses:
            raise OrderRefused(f"{ip} is no service address of this relay: see `hairpin status`")
        return [self._addresses[ip]]

    def _order(self, meant: Iterable[Address], order: Order, look: bool = True) -> list[str]:
        for address in (meant := list(meant)):
            if address.order is not order:
                self._happened(address.ip, f"order: {order.value}")
            address.order = order
        self._remember()
        if look:
            self.look()
        return [address.ip for address in meant]

    def _happened(self, ip: str, what: str) -> None:
        self._happenings[ip].append(Happening(self._unix(), what))

    def _remember(self) -> None:
        if self._remains is not None:
            orders = {ip: one.order for ip, one in self._addresses.items() if one.order is not Order.ANNOUNCE}
            remember(self._remains, Remains(self.draining, orders))

    def _recall(self) -> None:
        if self._remains is None:
            return
        found = recall(self._remains)
        self.draining = found.draining
        for ip, order in found.orders.items():
            if ip in self._addresses:
                self._addresses[ip].order = order
                log.warning("%s: the order from before the restart holds: %s", ip, order.value)


def _ill(view: View) -> bool:
    return bool(view.unwell or view.behind)
