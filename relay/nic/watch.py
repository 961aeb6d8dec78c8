"""Following the host's links, addresses, routes and neighbours on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Protocol

from relay.nic.links import Address, Changes, Link, Neighbour, Rtnetlink
from relay.nic.netdev import PROTOCOL, Netdev
from relay.nic.netlink import Overrun, Subscription

_QUIET_SECONDS = 0.1

LINKS, ADDRESSES, ROUTES = "links", "addresses", "routes"


class Follower(Protocol):
    """Who acts on what changed."""

    def neighbours_changed(self, neighbours: Iterable[Neighbour]) -> None:
        """Neighbours as the kernel has them now, in the order of its events."""

    def track_lost(self, neighbours: Iterable[Neighbour]) -> None:
        """Events were lost; these are all neighbours there are. The rest follows by `host_changed`."""

    def host_changed(self, what: set[str]) -> None:
        """Some of LINKS, ADDRESSES and ROUTES changed; the watch holds them as they are now."""


class HostWatch:
    """The host as it is now. Neighbours are told at once; the rest at most every 0.1 s, however fast it changes."""

    def __init__(self, loop: asyncio.AbstractEventLoop, follower: Follower) -> None:
        self._loop = loop
        self._follower = follower
        self._pending: set[str] = set()
        self._told_at = float("-inf")
        self._open = True
        self.kernel = Rtnetlink()
        self.netdev = Netdev()
        # Subscribed before anything is read, so that nothing falls between.
        self._changes = Changes()
        self._features = Subscription(PROTOCOL, (self.netdev.group,)) if self.netdev.group else None
        self.links: dict[int, Link] = self.kernel.links()
        self.addresses: list[Address] = self.kernel.addresses()

    def start(self) -> None:
        """Begin to tell the follower."""
        self._loop.add_reader(self._changes.fileno(), self._read_changes)
        if self._features:
            self._loop.add_reader(self._features.fileno(), self._read_features)

    def soon(self, *what: str) -> None:
        """Tell the follower of these: at once after a quiet time, else together with what comes meanwhile."""
        idle = not self._pending
        self._pending.update(what)
        if idle and self._pending:
            wait = self._told_at + _QUIET_SECONDS - self._loop.time()
            self._loop.call_later(max(wait, 0.0), self._tell)

    def close(self) -> None:
        """Stop following; safe to call twice."""
        self._open = False
        for channel in filter(None, (self._changes, self._features)):
            if channel.fileno() >= 0:
                self._loop.remove_reader(channel.fileno())
            channel.close()
        self.kernel.close()
        self.netdev.close()

    def _read_changes(self) -> None:
        try:
            change = self._changes.changes()
        except Overrun:
            self._follower.track_lost(self.kernel.neighbours())
            self.soon(LINKS, ADDRESSES, ROUTES)
            return
        if change.neighbours:
            self._follower.neighbours_changed(change.neighbours)
        addresses = change.addresses or any(address not in self.addresses for address in change.announced)
        flags = ((change.links, LINKS), (addresses, ADDRESSES), (change.routes, ROUTES))
        self.soon(*(name for changed, name in flags if changed))

    def _read_features(self) -> None:
        """A device announced other XDP features: a veth's peer began or ceased to poll."""
        assert self._features is not None
        with contextlib.suppress(Overrun):
            self._features.read()
        self.soon(LINKS)

    def _tell(self) -> None:
        if not self._open:
            return
        what, self._pending = self._pending, set()
        self._told_at = self._loop.time()
        try:
            if LINKS in what:
                self.links = self.kernel.links()
            if LINKS in what or ADDRESSES in what:
                self.addresses = self.kernel.addresses()
        except OSError:  # short of memory; nobody announces the change a second time
            self.soon(*what)
            raise
        self._follower.host_changed(what)
