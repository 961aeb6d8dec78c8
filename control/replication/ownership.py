"""Who owns a call, and which of two records of it holds. Pure: decides about records, and does nothing.

Each node writes its own keyspace and nothing else; records of one call that stand in several keyspaces are merged on
reading, by an order on which all nodes agree whatever sequence they read them in:

    the same incarnation       dead before alive (for good), then the higher term, owner, version
    another incarnation        one that has ended never comes back; of two that live the younger holds, and the older
                               has ended by that

An incarnation is one call from its first offer to its end; a Call-ID can have several, one after the other. A term is
one node's ownership: who takes a call over, by a command, by packets or on an operator's word, counts it up. Absence of
a record says nothing at all: a call ends by a tombstone, by silence where its owner governs it, or with an owner that
is gone for good.

    event at a node                               then
    -------------------------------------------   ------------------------------------------------------------------
    a command for a call of another node          it is this node's at once, with the next term
    packets for a call of another node            nothing, unless its owner is gone or has withdrawn the address, and
                                                  then only when seen on three sweeps: the next term
    a record that is later than what stands       takes its place; an own call becomes another node's by that
    a tombstone of what stands                    it ends here, and its record in this node's keyspace is written over
    a living record of what has ended             a tombstone in this node's keyspace, for whoever wrote the record
    two nodes took one call (they were parted)    the order decides; but a loser who heard a later command than the
                                                  winner takes it again (`outspoken`), so that what the proxy said
                                                  last is in force everywhere
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Container
from typing import NamedTuple

from control.replication.record import Lease, Record
from relay.types import Deed

__all__ = ["Clock", "Life", "Verdict", "Word", "incarnation", "judge", "outspoken", "tombstone"]

CLOCK_SAMPLES = 64
"""Leases by which the difference of two clocks is told."""
DOUBT = 1.0
"""Seconds by which a command must be later to count as later."""


class Verdict(enum.Enum):
    """What a record means for what stands here."""

    SAME = "same"
    """It says what is known."""
    OLDER = "older"
    """What stands here is later."""
    INSTALL = "install"
    """It is to stand here, in place of an older record of the same call if there is one."""
    REPLACE = "replace"
    """It is to stand here in place of an earlier call of the same Call-ID, which has ended."""
    END = "end"
    """What stands here has ended."""
    BURY = "bury"
    """A call that does not stand here has ended: to be remembered."""
    DEAD = "dead"
    """It tells as alive what is known to have ended."""

    __hash__ = object.__hash__


def incarnation(unix: float, keyspace: int, noise: int) -> str:
    """A name for a call that begins at a Unix time at a node; `noise` is 32 random bits. Later ones compare greater."""
    return f"{int(unix * 1000):012x}-{keyspace:04x}-{noise & 0xFFFFFFFF:08x}"


def judge(standing: Deed | None, record: Record, ended: Container[str]) -> Verdict:
    """What a record means here, where `standing` is whose the call is that stands and `ended` what is known to be over.

    `ended` names incarnations of the Call-ID.
    """
    same = standing is not None and standing.incarnation == record.incarnation
    if record.dead:
        known = record.incarnation in ended
        return Verdict.END if same else Verdict.SAME if known else Verdict.BURY
    if record.incarnation in ended:
        return Verdict.DEAD
    if standing is None:
        return Verdict.INSTALL
    if not same:
        return Verdict.REPLACE if record.incarnation > standing.incarnation else Verdict.OLDER
    known_as = standing.term, standing.owner, standing.version
    told_as = record.term, record.owner, record.version
    if told_as == known_as:
        return Verdict.SAME
    return Verdict.INSTALL if told_as > known_as else Verdict.OLDER


class Word(NamedTuple):
    """The last a proxy said of a call, as one node knows it."""

    at: float
    """When, by the clock of the node that compares."""
    over: bool
    """It was to delete the call."""


def outspoken(own: Word, winner: Word) -> bool:
    """Whether the loser of a contest takes the call again, since it heard the later command of the two.

    Where one has heard that the call is over, the other must have heard more since. As far as clocks are known, never
    do both find themselves the later one.
    """
    if own.over and not winner.over:
        return winner.at <= own.at + DOUBT
    return own.at > winner.at + DOUBT


def tombstone(call_id: str, deed: Deed, written: float) -> Record:
    """The record of a call that has ended."""
    return Record(call_id, deed.incarnation, deed.term, deed.owner, deed.version, dead=True, written=written)


class Clock:
    """How far another node's clock is behind this one's, in seconds, as its leases tell it.

    A lease shows the difference plus the time it took to arrive: of the last few, the one that took least is right.
    """

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=CLOCK_SAMPLES)

    def note(self, written: float, unix: float) -> None:
        """A lease came that says it was written at `written`, when it was `unix` here."""
        self._samples.append(unix - written)

    @property
    def behind(self) -> float:
        """0.0 as long as nothing was heard."""
        return min(self._samples, default=0.0)


class Life:
    """Whether a node lives: by this node's clock, since its lease was last seen to change."""

    __slots__ = ("clock", "lease", "moved")

    def __init__(self) -> None:
        self.lease: Lease | None = None
        """The last one seen, also of a node that is gone."""
        self.moved: float | None = None
        """When it last changed, monotonic."""
        self.clock = Clock()

    def note(self, lease: Lease, now: float, unix: float) -> bool:
        """Take a lease that was read; returns whether it is of another start of the node than the one before."""
        before, self.lease = self.lease, lease
        if before is not None and (before.instance, before.written) == (lease.instance, lease.written):
            return False
        self.moved = now
        restarted = before is not None and before.instance != lease.instance
        if restarted:  # perhaps for a clock that was wrong
            self.clock = Clock()
        self.clock.note(lease.written, unix)
        return restarted

    def silent(self, now: float, since: float) -> float:
        """Seconds since the node was heard of, or since a time if it never was."""
        return now - (since if self.moved is None else self.moved)
