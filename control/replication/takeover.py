"""Which calls of other nodes become this one's own without a command, and which are given up.

Packets claim a call only when its owner is gone, or has withdrawn the address they come to, and only when they were
seen on three sweeps: with both relays in a call's way for a while, ownership would move to and fro otherwise. Operators
claim all calls of an address at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from control.replication.hearing import bits
from control.replication.partners import Keyspace, Partner
from control.replication.traffic import Address, Traffic
from relay.call import Call
from relay.registry import Registry
from relay.types import Endpoint

__all__ = ["Takeover", "Terms", "addresses"]

WITHDRAWN = "none"
"""What a node says in its lease of an address that it does not announce."""


LOOK = 30.0
"""Seconds between two looks for calls that nobody feeds, unless what they look for takes less."""
PIECE = 50
"""Calls that are looked at between two pauses."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Lengths of time, in seconds."""

    lease: float = 5.0
    """After which a node that was not heard of is taken for dead."""
    sweep: float = 1.0
    """Between two looks at where packets come to."""
    compare: float = 60.0
    """Between two comparisons with a partner."""
    owner_gone: float = 7200.0
    """After which a call whose owner is gone, and that nobody feeds, is given up."""
    expires: float = 86400.0
    """After which Redis forgets a record."""
    tombstone: float = 900.0
    """For which it is remembered that a call has ended."""

    @property
    def look(self) -> float:
        """Between two looks for calls that nobody feeds."""
        return min(LOOK, self.owner_gone / 4) if self.owner_gone else LOOK


def addresses(head: Call) -> set[str]:
    """The local addresses of a call's ports."""
    return {local.ip for member in head.members() for local in member.rules}


def _overdue(member: Call, now: float) -> bool:
    return member.deleted is not None and member.deleted < now


@dataclass
class Takeover:
    """Claims that wait to be made, and the look for calls that nobody feeds."""

    registry: Registry
    own: Keyspace
    partners: Mapping[int, Partner]
    traffic: Traffic
    terms: Terms
    announced: Mapping[str, str]
    """What this node says of its addresses."""
    _claims: dict[str, bool] = field(default_factory=dict)
    """Call-IDs, and whether whoever owns them has to be gone."""
    _claimable: dict[str, frozenset[int]] = field(default_factory=dict)
    """Whose calls packets to an address may claim, by the last sweep."""
    _absent: dict[str, float] = field(default_factory=dict)
    """Calls of partners that have no record there, and since when."""

    def __len__(self) -> int:
        return len(self._claims)

    def may_claim(self, owner: int, ip: str, now: float) -> bool:
        """Whether packets to an address may claim calls of a node.

        Where news do not arrive, or did not for as long as a lease, nothing is known of its owner; where Redis takes
        nothing from this node, it may take nothing from the owner either.
        """
        partner = self.partners.get(owner)
        if partner is None or partner.gone(now) > self.terms.owner_gone > 0:
            return True
        news = (self.own, partner)
        if partner.compared is None or any(not one.reachable or now - one.since <= self.terms.lease for one in news):
            return False
        if partner.lease is None or not partner.lives(now, self.terms.lease):
            return True
        return partner.lease.announced.get(ip) == WITHDRAWN != self.announced.get(ip)

    def sweep(self, address: Address, bitmap: int, now: float) -> None:
        """Packets came to these ports of an address since the last sweep."""
        ip = address.ip
        claimable = frozenset(owner for owner in self.partners if self.may_claim(owner, ip, now))
        if claimable != self._claimable.get(ip, frozenset()):
            self._claimable[ip] = claimable
            address.thrice.reset()
        if not claimable:
            return
        for port in bits(address.thrice.add(bitmap)):
            call = self.registry.owner(Endpoint(ip, port))
            if call is not None and call.deed.foreign and call.deed.owner in claimable:
                self._claims.setdefault(call.call_id, True)

    def order(self, ip: str, owner: int | None = None) -> int:
        """Claim all calls of an address, or those of one node; returns how many there are."""
        found = [
            head.call_id
            for head in self.registry
            if head.deed.foreign and (owner is None or head.deed.owner == owner) and ip in addresses(head)
        ]
        self._claims.update(dict.fromkeys(found, False))
        return len(found)

    def inherit(self, call_id: str) -> None:
        """Claim a call that came only after its owner had begun to hand an address of it over to this node."""
        head = self.registry.find(call_id)
        owner = self.partners.get(head.deed.owner) if head is not None and head.deed.foreign else None
        if head is None or owner is None or owner.lease is None or not owner.lease.released:
            return
        if any(owner.lease.released.get(ip) == self.own.keyspace for ip in addresses(head)):
            self._claims.setdefault(call_id, False)

    def work(self, now: float) -> bool:
        """Make one claim; returns whether there was one to make."""
        if not self._claims:
            return False
        call_id = next(iter(self._claims))
        by_packets = self._claims.pop(call_id)
        head = self.registry.find(call_id)
        if head is None or not head.deed.foreign:
            return True
        if not by_packets or any(self.may_claim(head.deed.owner, ip, now) for ip in addresses(head)):
            self.registry.keeper.changed(head)
        return True

    def look(self, now: float) -> Iterator[str | None]:
        """Calls of others that are to be given up, with a None now and then: the loop is long.

        Those that only their owner could end, and it is gone or no partner of this node, are claimed to end here.
        """
        absent, self._absent = self._absent, {}
        for number, head in enumerate(self.registry):
            if number % PIECE == 0:
                yield None
            if not head.deed.foreign:
                continue
            partner = self.partners.get(head.deed.owner)
            if partner is None:
                self._claims.setdefault(head.call_id, False)
            elif self._unfed(head, partner, absent, now):
                yield head.call_id
            elif all(_overdue(member, now - self.terms.lease) for member in head.members()):
                self._claims.setdefault(head.call_id, True)

    def _unfed(self, head: Call, partner: Partner, absent: Mapping[str, float], now: float) -> bool:
        """Whether for all of `owner_gone` neither its owner nor packets nor a command said anything of a call."""
        limit, gone = self.terms.owner_gone, partner.gone(now)
        if partner.compared is not None and head.call_id not in partner.calls:
            since = self._absent[head.call_id] = absent.get(head.call_id, now)
            gone = max(gone, partner.compared - since)
        if not limit or gone <= limit:
            return False
        heard = [self.traffic.last(local) for member in head.members() for local in member.rules]
        return now - max([head.last_signal, *heard]) > limit
