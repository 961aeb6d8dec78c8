"""What is announced of each service address, and why. Pure.

An own address is announced as primary, a partner's as backup. What counts, in this order:

1. The operator's order. A withdrawn address stays withdrawn, whatever becomes of the partners.
2. A route that stands goes for bad health or for calls that are out of step only while a partner lives, is well,
   announces the address and has its calls. Otherwise it stays, and an alarm says why: a relay that may be wrong about
   itself is better than none. For both, what lasts less than the grace does not count.
3. A route that does not stand comes when this relay is well and in step: where nobody else serves the address as soon
   as that has lasted for the grace, for what partners say may be on its way; else after the hold-off, which doubles
   with each withdrawal by rule 2 in the time of damping. A relay without partners waits for nothing.
4. An own address that nobody serves comes after the hold-off even so, with an alarm; but not from a relay that is not
   well while it cannot know what partners do: one of them may serve it, as when it was withdrawn.

Overload is not among the inputs.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from control.failover.speaker import Role
from control.replication.record import Lease

__all__ = ["Address", "Limits", "Order", "View", "partner_of"]

_FLAPS = 16
"""Withdrawals remembered: with so many, any hold-off has reached its bound."""


class Order(enum.Enum):
    """What operators want of an address. The value is what is kept over a restart."""

    ANNOUNCE = "announce"
    FORCE = "announce by force"
    """Announced whatever health and step may be."""
    WITHDRAW = "withdraw"
    DRAIN = "drain"
    DRAINED = "drained"
    """Withdrawn at the end of a drain: a resume undoes it."""

    @property
    def withdraws(self) -> bool:
        return self in (Order.WITHDRAW, Order.DRAINED)


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds."""

    hold_off: float = 30.0
    damping: float = 600.0
    grace: float = 3.0
    """How long health or step is to be lost before it counts."""
    settling: float = 15.0
    """The same at the start, for routes that a relay before this one left."""


class View(NamedTuple):
    """What is known of an address at one moment."""

    unwell: str = ""
    """Why this relay would not forward its packets; empty where it would."""
    behind: str = ""
    """Why its calls may not all be here; empty where they are."""
    partner: str = ""
    """Who else lives, is well, announces it and has its calls; empty for nobody."""
    alone: bool = False
    """This relay has no partners."""
    blind: bool = False
    """What partners do cannot be known here: that none is seen says nothing."""


class Address:
    """One service address. `decide` is called often; `role`, `why`, `since` and `alarm` hold until the next call."""

    def __init__(self, ip: str, own: bool, now: float, found: Role = Role.NONE) -> None:
        """`found`: how a relay before this one left it announced."""
        self.ip = ip
        self.own = own
        self.order = Order.ANNOUNCE
        self.role = found
        self.why = "as it was found" if found is not Role.NONE else "the relay has just begun"
        self.since = now
        """When the role was taken."""
        self.alarm = ""
        """What an operator should look at; empty where all is as it should be."""
        self.hurry = False
        """An operator has asked to announce it: no hold-off."""
        self.partner = ""
        self._begun = now
        self._found = found is not Role.NONE
        self._ill_since: float | None = None
        self._well_since: float | None = None
        self._bare_since: float | None = None
        self._flaps: deque[float] = deque(maxlen=_FLAPS)

    def decide(self, view: View, now: float, limits: Limits) -> bool:
        """Take what is known at this moment; returns whether the role has changed."""
        trouble = view.unwell or view.behind
        self.partner = view.partner
        self._ill_since = (self._ill_since if self._ill_since is not None else now) if trouble else None
        self._well_since = None if trouble else self._well_since if self._well_since is not None else now
        self._bare_since = None if view.partner else self._bare_since if self._bare_since is not None else now
        before, self.alarm = self.role, ""
        self.role = self._decided(view, now, limits)
        self.hurry = self.hurry and self.role is Role.NONE
        if self.role is not before:
            self.since = now
        return self.role is not before

    def hold(self, now: float, limits: Limits) -> float:
        """Seconds of the hold-off as it stands, after what has happened within the time of damping."""
        flaps = sum(1 for one in self._flaps if now - one < limits.damping)
        return min(limits.hold_off * float(1 << max(flaps - 1, 0)), max(limits.damping, limits.hold_off))

    def _decided(self, view: View, now: float, limits: Limits) -> Role:
        if self.order.withdraws:
            self.why = "withdrawn by order" if self.order is Order.WITHDRAW else "drained by order"
            if not view.partner and not view.alone:
                self.alarm = f"{self.why}, and no partner serves it"
            return Role.NONE
        stands = self._comes(view, now, limits) if self.role is Role.NONE else self._stays(view, now, limits)
        if not stands:
            return Role.NONE
        if self.order is not Order.DRAIN:
            return Role.PRIMARY if self.own else Role.BACKUP
        self.why = "draining by order"
        if self.own:
            return Role.DRAINING
        return Role.NONE if view.partner else Role.BACKUP

    def _stays(self, view: View, now: float, limits: Limits) -> bool:
        """Rule 2, of a route that stands."""
        trouble = view.unwell or view.behind
        if not trouble:
            self.why = "well and in step" + ("; by force it stays whatever comes" if self.order is Order.FORCE else "")
            return True
        if self.order is Order.FORCE:
            self.why = self.alarm = f"announced by force: {trouble}"
            return True
        assert self._ill_since is not None
        since = max(self._ill_since, self._begun + limits.settling - limits.grace) if self._found else self._ill_since
        if now - since < limits.grace:
            self.why = f"within the grace: {trouble}"
            return True
        if view.partner:
            self._flaps.append(now)
            self.why = f"withdrawn: {trouble}; {view.partner} serves it"
            return False
        self.why = self.alarm = f"{trouble}; the route stays, for no partner announces it and has its calls"
        return True

    def _comes(self, view: View, now: float, limits: Limits) -> bool:
        """Rules 3 and 4, of a route that does not stand."""
        trouble = view.unwell or view.behind
        if self.order is Order.FORCE:
            self.why = f"announced by force: {trouble}" if trouble else "announced by order"
            return True
        hold = self.hold(now, limits)
        bare = -1.0 if self._bare_since is None else now - self._bare_since
        if self._well_since is not None:
            waited = now - self._well_since
            unserved = min(bare, waited) >= limits.grace and not view.blind
            if self.hurry or view.alone or unserved or waited >= hold:
                self.why = "announced by order" if self.hurry else "well and in step"
                return True
            self.why = f"well and in step, announced in {hold - waited:.0f} s if that lasts"
            return False
        self.why = f"not announced: {trouble}" + (f"; {view.partner} serves it" if view.partner else "")
        if self.own and bare >= hold and not (view.unwell and view.blind):
            self.why = self.alarm = f"{trouble}; announced even so, for no partner serves it"
            return True
        if bare >= limits.grace:
            self.alarm = f"{trouble}; nobody announces it"
        return False


def partner_of(ip: str, keyspace: int, own: int, leases: Mapping[int, Lease]) -> Lease | None:
    """The node that would serve an address of `keyspace` if node `own` did not; `leases` are of nodes that live."""
    for lease in leases.values():
        announces = lease.announced.get(ip) in (Role.PRIMARY.value, Role.BACKUP.value)
        knows = lease.keyspace == keyspace or lease.synced.get(keyspace, False)
        if lease.keyspace != own and lease.healthy and announces and knows:
            return lease
    return None
