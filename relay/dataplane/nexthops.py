"""The table of next hops: which device and which MAC addresses lead to each destination, kept right by netlink.

Rules name a next hop by its index. Several destinations share one (a gateway), so that a neighbour whose MAC address
changes costs one store. The kernel is asked to keep a neighbour resolved while rules use it; packets to one that is not
resolved yet go up to user space, and out by the kernel (relay.dataplane.slowpath).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from relay.dataplane.entries import Entries, Way
from relay.dataplane.words import be16
from relay.nic.links import Link, Neighbour, Route

_MAC = 6  # bytes
_IDLE_SECONDS = 60.0
_ROUTES_KEPT = 8192
_BATCH = 100  # destinations looked up again in one turn of the event loop, some 2 ms
_PAUSE_SECONDS = 0.005  # between two such turns
_RETRY_SECONDS = 1.0  # until the kernel is asked again what it could not answer


class Kernel(Protocol):
    """What is asked of the kernel; relay.nic.links.Rtnetlink answers it."""

    def route(self, destination: str, source: str | None = None) -> Route | None: ...

    def resolve(self, ifindex: int, ip: str) -> None: ...

    def release(self, neighbour: Neighbour) -> None: ...


@dataclass(slots=True, eq=False)
class Hop:
    """One entry of the table: a neighbour behind a device."""

    index: int
    ifindex: int
    ip: str
    destinations: int = 0
    idle_since: float | None = None


@dataclass(slots=True, eq=False, init=False)
class Destination:
    """An address that rules send to from `source`, its next hop (None: no way there) and the rules that use it."""

    ip: str
    source: str
    hop: Hop | None
    users: set[int]

    def __init__(self, ip: str, source: str) -> None:
        # Written out: what dataclass makes is Python code where all else is compiled.
        self.ip, self.source = ip, source
        self.hop = None
        self.users = set()

    @property
    def index(self) -> int:
        """What a rule's next-hop slot holds; 0: none."""
        return self.hop.index if self.hop else 0


class NextHops:
    """Destinations in use and the mapped table of their next hops.

    `table` is the map in place; `slot` gives a device's place in the devmap (None: it cannot have one).
    `moved` is told of each rule whose destination has got another next hop; `later` runs a function after some seconds.
    `held` are the entries that rules of a former process send to: they stay as they are until `acquire` is told who
    uses one, or `settled` that nobody will.
    """

    def __init__(
        self,
        kernel: Kernel,
        table: npt.NDArray[Any],
        slot: Callable[[int], int | None],
        moved: Callable[[int], None],
        later: Callable[[float, Callable[[], None]], object],
        held: AbstractSet[int] = frozenset(),
    ) -> None:
        self._kernel = kernel
        self._entries = Entries(table, held)
        self._slot = slot
        self._moved = moved
        self._later = later
        self._links: dict[int, Link] = {}
        self._neighbours: dict[tuple[int, str], Neighbour] = {}
        self._routes: dict[tuple[str, str], Route | None] = {}
        self._destinations: dict[tuple[str, str], Destination] = {}
        self._hops: dict[tuple[int, str], Hop] = {}
        self._idle: set[Hop] = set()
        self._dirty: deque[Destination] = deque()
        self._again = False
        self._retrying = False
        self.exhausted = 0

    def acquire(self, source: str, ip: str, user: int, held: int = 0) -> Destination:
        """The destination `ip` as seen from the local address `source`, now used by the rule `user`.

        A rule of a former process has the entry `held`, and keeps it if that leads to where the destination is found.
        """
        key = source, ip
        destination = self._destinations.get(key)
        if destination is None:
            destination = self._destinations[key] = Destination(ip, source)
            try:
                self._assign(destination, self._route(key), held)
            except OSError:  # short of memory: no way is known until it is asked again
                self._retry()
        destination.users.add(user)
        return destination

    def release(self, destination: Destination, user: int, now: float) -> None:
        """The rule `user` sends there no more."""
        destination.users.discard(user)
        if not destination.users:
            del self._destinations[destination.source, destination.ip]
            if destination.hop:
                self._drop(destination.hop, now)

    def ready(self, destination: Destination) -> bool:
        """Whether packets leave there from the fast path."""
        return destination.hop is not None and self._entries.ready(destination.hop.index)

    def devices(self) -> set[int]:
        """The devices that next hops in use are behind."""
        return {hop.ifindex for hop in self._hops.values() if hop.destinations}

    def counts(self) -> tuple[int, int]:
        """Next hops in the table, and how many of them are resolved."""
        resolved = sum(self._entries.ready(hop.index) for hop in self._hops.values())
        return len(self._hops), resolved

    def load(self, links: dict[int, Link], neighbours: Iterable[Neighbour]) -> None:
        """Take the whole state of the host: at the start, and when events were lost."""
        self._neighbours = {(n.ifindex, n.ip): n for n in neighbours}
        self._links = links
        for hop in self._hops.values():
            self._refresh(hop)
        self.routes_changed()

    def links_changed(self, links: dict[int, Link]) -> None:
        """Devices came, went, or changed in state, address or MTU. Routes over one that went are not announced."""
        before, self._links = self._links, links
        changed = [hop for hop in self._hops.values() if _stack(before, hop.ifindex) != _stack(links, hop.ifindex)]
        for hop in changed:
            self._refresh(hop)
        if changed:
            self.routes_changed()

    def routes_changed(self) -> None:
        """Look up every destination again, some at a time; one pass is finished before the next begins."""
        self._routes.clear()
        if self._dirty:
            self._again = True
        elif self._destinations:
            self._dirty = deque(self._destinations.values())
            self._later(0, self._settle)

    def neighbours_changed(self, neighbours: Iterable[Neighbour]) -> None:
        """Apply what the kernel learned of neighbours."""
        for neighbour in neighbours:
            key = neighbour.ifindex, neighbour.ip
            if neighbour.gone:
                self._neighbours.pop(key, None)
            else:
                self._neighbours[key] = neighbour
            hop = self._hops.get(key)
            if hop is None:
                continue
            self._write(hop)
            if neighbour.gone and hop.destinations:
                self._resolve(hop)

    def settled(self) -> None:
        """Every rule of a former process was taken over or has ended: free the entries that none of them kept."""
        self._entries.settle()

    def expire(self, now: float) -> None:
        """Free the entries no rule has used for a minute, but for those that rules of a former process may use."""
        idle = [hop for hop in self._idle if not self._entries.is_held(hop.index)]
        for hop in [h for h in idle if h.idle_since is not None and now - h.idle_since >= _IDLE_SECONDS]:
            self._idle.discard(hop)
            del self._hops[hop.ifindex, hop.ip]
            self._entries.free(hop.index)
            self._release(hop)

    def close(self, keep: bool = False) -> None:
        """Let the neighbours that were kept resolved age again; `keep`: the program goes on sending to them."""
        for hop in () if keep else self._hops.values():
            self._release(hop)
        self._hops.clear()
        self._destinations.clear()
        self._dirty.clear()
        self._again = False
        self._entries.close()

    def _settle(self) -> None:
        for _ in range(min(_BATCH, len(self._dirty))):
            destination = self._dirty.popleft()
            if destination.users:
                self._look_again(destination)
        if self._dirty:
            self._later(_PAUSE_SECONDS, self._settle)
        elif self._again:
            self._again = False
            self.routes_changed()

    def _look_again(self, destination: Destination) -> None:
        before = destination.hop
        try:
            route = self._route((destination.source, destination.ip))
        except OSError:  # short of memory: the way that stands is the best there is
            self._retry()
            return
        self._assign(destination, route, 0)
        if destination.hop is not before:
            if before:
                self._drop(before, 0.0)
            for user in destination.users:
                self._moved(user)
        elif before:
            before.destinations -= 1  # _assign counted it a second time

    def _retry(self) -> None:
        if not self._retrying:
            self._retrying = True
            self._later(_RETRY_SECONDS, self._ask_again)

    def _ask_again(self) -> None:
        self._retrying = False
        self.routes_changed()

    def _route(self, key: tuple[str, str]) -> Route | None:
        """What the kernel says of a way, or said since routes last changed. Raises OSError where it cannot say."""
        if key in self._routes:
            return self._routes[key]
        if len(self._routes) >= _ROUTES_KEPT:
            self._routes.clear()
        source, ip = key
        route = self._routes[key] = self._kernel.route(ip, source)
        return route

    def _assign(self, destination: Destination, route: Route | None, held: int) -> None:
        hop = self._hop(route, held) if route else None
        destination.hop = hop
        if hop:
            hop.destinations += 1
            hop.idle_since = None
            self._idle.discard(hop)

    def _drop(self, hop: Hop, now: float) -> None:
        hop.destinations -= 1
        if not hop.destinations:
            hop.idle_since = now
            self._idle.add(hop)

    def _hop(self, route: Route, held: int) -> Hop | None:
        key = route.ifindex, route.hop
        hop = self._hops.get(key)
        if hop is None:
            mac = self._mac(*key)
            kept = bool(held) and self._entries.claim(held, mac, self._way(route.ifindex))
            index = held if kept else self._entries.take()
            if index is None:
                self.exhausted += 1
                return None
            hop = self._hops[key] = Hop(index, *key)
            if kept and not mac:  # what stands is the best there is until the neighbour has answered
                self._resolve(hop)
            else:
                self._refresh(hop)
        return hop

    def _refresh(self, hop: Hop) -> None:
        """Write an entry anew, and have its neighbour kept resolved."""
        self._write(hop)
        neighbour = self._neighbours.get((hop.ifindex, hop.ip))
        if not neighbour or not neighbour.fixed:
            self._resolve(hop)

    def _write(self, hop: Hop) -> None:
        """The entry as links and neighbours say it is."""
        self._entries.write(hop.index, self._mac(hop.ifindex, hop.ip), self._way(hop.ifindex))

    def _mac(self, ifindex: int, ip: str) -> bytes:
        """The MAC address of a neighbour, empty where it is not known."""
        neighbour = self._neighbours.get((ifindex, ip))
        return neighbour.mac if neighbour and len(neighbour.mac) == _MAC else b""

    def _way(self, ifindex: int) -> Way | None:
        """How frames leave by a device, None where they cannot."""
        link, device = _stack(self._links, ifindex)
        slot = self._slot(device.index) if link and link.up and device and device.up else None
        if not link or slot is None or len(link.mac) != _MAC:
            return None
        tag = be16(link.vlan) if device is not link else 0
        return Way(int.from_bytes(link.mac, "little") | slot << 48, link.mtu, tag)

    def _resolve(self, hop: Hop) -> None:
        with contextlib.suppress(OSError):  # the device is down or gone: its return announces itself
            self._kernel.resolve(hop.ifindex, hop.ip)

    def _release(self, hop: Hop) -> None:
        neighbour = self._neighbours.get((hop.ifindex, hop.ip))
        if neighbour and neighbour.mac and not neighbour.fixed:
            with contextlib.suppress(OSError):
                self._kernel.release(neighbour)


def _stack(links: dict[int, Link], ifindex: int) -> tuple[Link | None, Link | None]:
    """A device and the one frames leave by: of a VLAN the one below it, where they leave with a tag."""
    link = links.get(ifindex)
    return link, links.get(link.lower) if link and link.vlan else link
