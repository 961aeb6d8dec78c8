"""Where packets come to: each address's own sweeps and what partners say of theirs. Pure.

Two questions are answered by it. Whether silence of a port means that nobody speaks: only where all who might hear it
tell. And which calls packets have moved here with: ports that were seen on three sweeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from control.replication.hearing import Collapse, Log, Thrice, bounded
from control.replication.partners import Partner
from relay.types import Endpoint

__all__ = ["Address", "Traffic"]

SERVED = 3
"""Sweeps without a packet after which an address does not count as served here."""
FRESH = 5
"""Sweeps after which the word of a partner that hears packets is too old."""


class Address:
    """One local address: what came to it here, and what partners heard at it."""

    __slots__ = (
        "collapse",
        "here",
        "home",
        "ip",
        "mine",
        "quiet",
        "said",
        "suspended",
        "there",
        "thrice",
        "unsaid",
    )

    def __init__(self, ip: str, home: int) -> None:
        self.ip = ip
        self.home = home
        """The keyspace of the node that gives out its ports."""
        self.here, self.there = Log(), Log()
        """When packets came to its ports here, and at partners."""
        self.thrice = Thrice()
        self.collapse = Collapse()
        self.mine = 0
        """Ports that packets came to here in the last sweep."""
        self.quiet = SERVED
        """Sweeps since any came."""
        self.unsaid = 0
        """Ports that packets came to since partners were told."""
        self.said = 0
        """How many they were told of."""
        self.suspended: str | None = "the relay has just started"
        """Why silence ends no call of this address. When the reason has gone, silence counts from then on."""

    @property
    def served(self) -> bool:
        """Whether packets of it come here."""
        return self.quiet < SERVED

    def sweep(self, bitmap: int, now: float) -> None:
        """What came here since the last sweep."""
        self.here.add(now, bitmap)
        self.mine = bitmap.bit_count()
        self.quiet = 0 if bitmap else min(self.quiet + 1, SERVED)
        self.unsaid |= bitmap

    def tell(self) -> int:
        """The ports that partners are to be told of now."""
        told, self.unsaid = self.unsaid, 0
        self.said = told.bit_count()
        return told

    @property
    def changed(self) -> bool:
        """Whether much is different from what partners were told."""
        return abs(self.mine - self.said) * 4 > max(self.mine, self.said)


class Traffic:
    """All local addresses. Times are monotonic seconds, `lease`, `gone` and `sweep` lengths of time."""

    def __init__(self, homes: Mapping[str, int], lease: float, gone: float, sweep: float) -> None:
        self.addresses = {ip: Address(ip, home) for ip, home in homes.items()}
        self.suspended: frozenset[str] = frozenset(homes)
        self._lease, self._gone, self._fresh = lease, gone, max(FRESH * sweep, lease)

    def heard(self, local: Endpoint) -> float:
        """When a partner last heard packets at its copy of a port."""
        address = self.addresses.get(local.ip)
        return address.there.last(local.port) if address is not None else 0.0

    def last(self, local: Endpoint) -> float:
        """When packets last came to a port, here or at a partner."""
        address = self.addresses.get(local.ip)
        return max(address.here.last(local.port), address.there.last(local.port)) if address is not None else 0.0

    def listen(self, partner: Partner, ip: str, bitmap: bytes, now: float) -> None:
        """A partner says which ports it heard packets at."""
        address = self.addresses.get(ip)
        if address is not None:
            partner.heard[ip] = now
            address.there.add(now, bounded(bitmap))

    def judge(self, address: Address, partners: Iterable[Partner], drawn: int, now: float) -> None:
        """Whether silence may end calls of an address: after a sweep of it; `drawn` pairs are calls' there."""
        partners = list(partners)
        heard = sum(self._ports(partner, address.ip, now) for partner in partners)
        address.collapse.note(address.mine + heard, drawn)
        address.suspended = self._reason(address, partners, now)
        if (address.suspended is None) is (address.ip in self.suspended):
            self.suspended = frozenset(ip for ip, one in self.addresses.items() if one.suspended is not None)

    def _reason(self, address: Address, partners: Iterable[Partner], now: float) -> str | None:
        if address.collapse.ports:
            return f"{address.collapse.ports} ports fell silent at once"
        for partner in partners:
            lease = partner.lease
            elsewhere = lease is not None and address.ip not in lease.busy
            if elsewhere or self._tells(partner, address.ip, now):
                continue
            if not address.served or partner.gone(now) < self._gone:
                return f"keyspace {partner.keyspace} may hear it and does not tell"
        return None

    def _tells(self, partner: Partner, ip: str, now: float) -> bool:
        """Whether what a partner hears of an address is known here."""
        if not partner.reachable or not partner.lives(now, self._lease):
            return False
        assert partner.lease is not None
        return not partner.lease.busy.get(ip) or now - partner.heard.get(ip, 0.0) <= self._fresh

    def _ports(self, partner: Partner, ip: str, now: float) -> int:
        if partner.lease is None or not partner.lives(now, self._lease):
            return 0
        return partner.lease.busy.get(ip, 0)
