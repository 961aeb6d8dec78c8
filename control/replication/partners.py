"""What a node knows of another one's keyspace: whether its node lives, whether news arrive, whether all of it is here.

Notifications are hints, and some are lost without a word. The sequence number of a node's last transaction rides in its
lease; where fewer were notified of, and that does not change with the next leases, the keyspace is compared. Pure.
"""

from __future__ import annotations

from collections import Counter

from control.replication.ownership import Life
from control.replication.record import Lease

__all__ = ["Keyspace", "Partner"]

PATIENCE = 3
"""Leases in a row that must show a gap: what is on its way makes one for a moment."""
OVERDUE = 10.0
"""Seconds a comparison may take before it counts as one that does not come to its end."""
UNRESTORED = 10_000
"""Records of a keyspace that are kept in mind as not restored; more are counted only."""
NAMED = 5
"""Reasons that are told anew between two comparisons."""
REASONS_SHOWN = 8
"""To operators, the most frequent first: of ports that are taken each is a reason of its own."""
TOLERATED = 0.1
"""The share of a keyspace's calls that may be unrestorable while it counts as being here."""


class Keyspace:
    """The state of comparing one keyspace, a partner's or one's own."""

    __slots__ = ("_named", "asked", "calls", "compared", "keyspace", "reachable", "since", "unrestored")

    def __init__(self, keyspace: int, now: float) -> None:
        self.keyspace = keyspace
        self.reachable = False
        """News arrive; of one's own: writes do."""
        self.since = now
        """When that last changed."""
        self.asked: float | None = None
        """When the comparison was asked for that has not come to its end, None where none is under way."""
        self.compared: float | None = None
        """When the last one came to its end."""
        self.calls: frozenset[str] = frozenset()
        """What it found."""
        self.unrestored: dict[str, str] = {}
        """Call-IDs of records that could not be made calls of, and why."""
        self._named: set[str] = set()

    def reach(self, yes: bool, now: float) -> None:
        """News arrive from here on, or do not."""
        if yes != self.reachable:
            self.reachable, self.since = yes, now
        self.asked = None

    def fail(self, call_id: str, reason: str) -> bool:
        """A record cannot be restored; returns whether the reason is to be told."""
        if call_id in self.unrestored or len(self.unrestored) < UNRESTORED:
            self.unrestored[call_id] = reason
        if reason in self._named or len(self._named) >= NAMED:
            return False
        self._named.add(reason)
        return True

    def finish(self, calls: frozenset[str], now: float) -> None:
        """A comparison has told all there is."""
        self.calls, self.compared, self.asked = calls, now, None
        self.unrestored = {call_id: why for call_id, why in self.unrestored.items() if call_id in calls}
        self._named &= set(self.unrestored.values())

    def doubt(self, now: float) -> str | None:
        """Why not all calls of it can be taken to be here. While Redis is away, what is here counts as all."""
        if self.compared is None:
            return "not compared yet"
        if self.reachable and self.asked is not None and now - self.asked > OVERDUE:
            return f"a comparison has not come to its end for {now - self.asked:.0f} s"
        if len(self.unrestored) > max(1.0, TOLERATED * len(self.calls)):
            return f"{len(self.unrestored)} of {len(self.calls)} calls cannot be restored here"
        return None


class Partner(Keyspace):
    """Another node, and its keyspace."""

    __slots__ = ("_counted", "_sequence", "_shown", "heard", "lag", "life", "worst")

    def __init__(self, keyspace: int, now: float) -> None:
        super().__init__(keyspace, now)
        self.life = Life()
        self.heard: dict[str, float] = {}
        """When it last said which ports of an address packets came to."""
        self.lag = self.worst = 0.0
        """Seconds from the writing of a record to its reading: the last, and the longest since the last comparison."""
        self._sequence = self._counted = 0
        """Of the last lease; and transactions notified of, made up to how many there were when news were lost."""
        self._shown = 0
        """Leases in a row that show a gap."""

    @property
    def lease(self) -> Lease | None:
        """The last one seen, also of a node that is gone."""
        return self.life.lease

    def lives(self, now: float, limit: float) -> bool:
        """Whether its lease changed within the last `limit` seconds."""
        return self.life.moved is not None and now - self.life.moved <= limit

    def gone(self, now: float) -> float:
        """Seconds since it was heard of, or since this node began to listen."""
        return self.life.silent(now, self.since)

    def transacted(self, count: int) -> None:
        """So many more transactions were notified of."""
        self._counted += count

    def missed(self, sequence: int) -> bool:
        """Whether news were lost, by the sequence number in a fresh lease: that of the transaction before its own."""
        backwards, self._sequence = sequence < self._sequence, sequence
        gap = sequence + 1 - self._counted
        self._shown = self._shown + 1 if gap > 0 else 0
        if not backwards and self._shown < PATIENCE:
            return False
        self._counted, self._shown = sequence + 1, 0
        return True

    def told(self, written: float, unix: float) -> None:
        """A record arrived as news."""
        self.lag = max(0.0, unix - written - self.life.clock.behind)
        self.worst = max(self.worst, self.lag)

    def status(self, now: float, lease: float) -> dict[str, object]:
        """What operators are told."""
        reasons = Counter(self.unrestored.values())
        return {
            "name": self.lease.name if self.lease is not None else None,
            "lives": self.lives(now, lease),
            "heard of": round(self.gone(now), 1),
            "news arrive": self.reachable,
            "doubt": self.doubt(now),
            "records": len(self.calls),
            "lag ms": round(self.lag * 1000, 1),
            "worst lag ms": round(self.worst * 1000, 1),
            "clock behind": round(self.life.clock.behind, 3),
            "not restored": dict(reasons.most_common(REASONS_SHOWN)),
            "not restored in all": reasons.total(),
        }

    def finish(self, calls: frozenset[str], now: float) -> None:
        super().finish(calls, now)
        self.worst = 0.0
