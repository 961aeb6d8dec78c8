"""The contract of the data planes: what installs rules and reads their counters.

`xdp` forwards in the network card's driver, `userspace` by a UDP socket per port (no privileges, loopback), `memory`
keeps rules and forwards nothing (tests, dry run). One contract test suite runs over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from relay.types import Endpoint, Rule, StreamState

__all__ = ["Dataplane", "Listener"]


class Listener(Protocol):
    """Who is told of what packets brought. Called on the event loop's thread, never from within a plane's method."""

    def learned(self, local: Endpoint, source: Endpoint, confirmed: bool) -> None:
        """The party at port `local` sends from `source`; `confirmed` once its learning window is closed."""

    def rtcp(self, local: Endpoint, source: Endpoint, payload: bytes) -> None:
        """A copy of a compound RTCP packet (RFC 3550 section 6) from the expected source, which was forwarded."""


class Dataplane(Protocol):
    """Rules in, counters out. All methods but start and close are plain calls that never block."""

    name: str

    async def start(self, listener: Listener) -> None:
        """Load, attach and begin to forward. Raises DataplaneError naming what is missing and what to do about it."""

    async def close(self) -> None:
        """Stop forwarding and let go of everything; safe to call twice."""

    def describe(self) -> list[str]:
        """What was chosen and why, a few lines for the operator."""

    def install(self, rules: Iterable[Rule]) -> None:
        """Put rules in force, or change standing ones in place; no packet is lost and none goes to a mixed address.

        Raises DataplaneError, with none of these rules in force, where it cannot.
        A rule whose destination this plane refuses (relay.flows.Screen) stays in force without a destination. A known
        source counts for the epoch that it comes with, and in a standing one while no packet of that has come here.
        """

    def remove(self, locals_: Iterable[Endpoint], linger: float) -> None:
        """Take rules out of force. For `linger` seconds their ports still drop in silence (no ICMP leaves the host)."""

    def state(self, local: Endpoint) -> StreamState:
        """Counters of one rule, read in place; an empty state for a port without a rule."""

    def packets(self, local: Endpoint) -> int:
        """Packets admitted at one port: the cheap half of `state`, for the timers."""

    def octets(self) -> int:
        """UDP payload admitted at all ports since the start, also of ended calls: what bandwidth is told by."""

    def deny(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        """Never send to these networks, besides unsafe ones; in place of those that were denied before.

        It holds for rules in force and for what they have learned. Raises DataplaneError, with no change.
        """

    def inherited(self) -> list[Endpoint]:
        """Local ports that the relay before this one left in force, and that no rule was installed at since.

        They forward as they did. `install` takes such a port over where it stands: what was counted and learned at it
        stays as far as the rule says the same. `remove` takes it out of force.
        """

    def closing(self) -> list[Endpoint]:
        """Local ports that still drop in silence since their rules were removed, by the relay before this one, too."""

    def heard(self, ip: str) -> bytes:
        """Which ports of a local address took packets since this was last asked.

        A bitmap of 65,536 bits: port p is bit p & 7 of byte p >> 3. Empty where nothing came at all.
        """

    def rules(self) -> list[Endpoint]:
        """The local endpoints with a rule in force that was installed here, for operators and tests."""

    def counters(self) -> Mapping[str, int]:
        """Plane-wide counters and drop reasons by name."""
