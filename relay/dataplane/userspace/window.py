"""Whose packets a port takes for its party's, and where answers to that party go: the rules of ebpf/learn.h.

A source is scored against what the signalling said: 2 for the IP address of the SDP or the one the signalling came
from, 1 more for the port of the SDP.

    state       a packet from another source S
    UNSEEN      S stands. CONFIRMED if immediate, or good enough for the mode (delayed: 2, heuristic: 3), else OPEN.
                Who stood before the party's address changed is OPEN below 3: a party that has moved speaks from the
                old place until it is answered
    OPEN        delayed: S displaces unless its score is lower (last seen wins); heuristic: only if it is higher
                over time: CONFIRMED with a score of 2 or more, else WEAK
    WEAK        S displaces with a score of 2 or more that is higher
    CONFIRMED   S displaces with a score of 3 one of 2: who forges the right address with a wrong port locks nobody out

With media handover any source displaces a closed one. A source that does not displace is foreign: forwarded, or dropped
under strict-source once the window is closed.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from relay.types import Endpoint, Learning

__all__ = ["WINDOW_SECONDS", "State", "Terms", "Verdict", "Window"]

WINDOW_SECONDS = 3.0
_SCORE_ADDRESS, _SCORE_PORT, _SCORE_EXACT = 2, 1, 3


class State(enum.IntEnum):
    """Where a window stands; WEAK and CONFIRMED are closed."""

    UNSEEN = 0
    OPEN = 1
    WEAK = 2
    """Closed by time on a source whose address is not the signalled one: that may still win."""
    CONFIRMED = 3


class Verdict(enum.Enum):
    """What becomes of a packet, as far as its source goes."""

    TAKEN = "taken"
    FOREIGN = "foreign"
    """From another source than the one expected: forwarded all the same."""
    MISMATCH = "mismatch"
    """The same under strict-source: dropped."""


class Terms(NamedTuple):
    """What the signalling said of a party, and how its source is learned."""

    learning: Learning
    signalled: Endpoint | None
    preferred: str | None
    """IP address the signalling came from."""
    strict: bool
    handover: bool
    known: Endpoint | None
    """Where the party is known to send from: the window starts closed on it."""

    def score(self, source: Endpoint) -> int:
        """How well a source fits, 0 to 3."""
        signalled = self.signalled
        points = 0
        if source.ip == self.preferred or (signalled is not None and source.ip == signalled.ip):
            points += _SCORE_ADDRESS
        if signalled is not None and source.port == signalled.port:
            points += _SCORE_PORT
        return points

    @property
    def commits(self) -> bool:
        """Whether the mode keeps to a source whatever the signalling said of it."""
        return self.learning in (Learning.IMMEDIATE, Learning.OFF)


class Window:
    """The source one port expects. `now` is monotonic, in seconds."""

    __slots__ = ("_opened", "answer", "expected", "state", "terms")

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.expected: Endpoint | None = None
        """Who stands; in UNSEEN, who stood before the party's address changed."""
        self.state = State.UNSEEN
        self.answer: Endpoint | None = None
        """Where answers go, None for the signalled or known address."""
        self._opened = 0.0

    def renew(self) -> None:
        """The party's address has changed: learn anew."""
        self.state = State.UNSEEN
        self.answer = None

    @property
    def seen(self) -> bool:
        """Whether the party was heard of since its address last changed."""
        return self.state is not State.UNSEEN

    @property
    def closed(self) -> bool:
        return self.state >= State.WEAK

    @property
    def observed(self) -> tuple[Endpoint | None, bool]:
        """Where the party really sends from, and whether that is confirmed."""
        if self.state is State.UNSEEN:
            return self.terms.known, self.terms.known is not None
        return self.expected, self.state is State.CONFIRMED

    def takes(self, source: Endpoint) -> bool:
        """Whether this is the source a closed window stands on, which needs no `judge`."""
        return source == self.expected and self.state >= State.WEAK

    def judge(self, source: Endpoint, now: float) -> Verdict:
        """Take in a packet's source."""
        if self.state is State.UNSEEN:
            self._open(source, now)
        elif self.state is State.OPEN:
            self._close_in_time(now)
        if self.state is State.UNSEEN or source == self.expected:
            return Verdict.TAKEN
        state = self._displacing(source)
        if state is not None:
            self._stand(source, state)
            return Verdict.TAKEN
        return Verdict.MISMATCH if self.closed and self.terms.strict else Verdict.FOREIGN

    def _open(self, source: Endpoint, now: float) -> None:
        """The first packet since the party's address changed."""
        terms = self.terms
        if terms.known is not None or terms.learning is Learning.OFF:
            self._close_on(terms.known or terms.signalled)
            return
        self._opened = now
        self._stand(source, State.OPEN if self._may_move(source) else self._first_state(source))

    def _may_move(self, source: Endpoint) -> bool:
        """Who stood before the change goes on standing, but another source as good may follow within the window."""
        return source == self.expected and not self.terms.commits and self.terms.score(source) < _SCORE_EXACT

    def _first_state(self, source: Endpoint) -> State:
        learning, score = self.terms.learning, self.terms.score(source)
        enough = _SCORE_EXACT if learning is Learning.HEURISTIC else _SCORE_ADDRESS
        return State.CONFIRMED if learning is Learning.IMMEDIATE or score >= enough else State.OPEN

    def _close_in_time(self, now: float) -> None:
        if self.terms.commits or now - self._opened >= WINDOW_SECONDS:
            self._close_on(self.expected)

    def _close_on(self, source: Endpoint | None) -> None:
        """Close on who stands, or on who was signalled; stay as it is where that is nobody."""
        if source is None:
            return
        self.expected = source
        confirmed = self.terms.commits or self.terms.score(source) >= _SCORE_ADDRESS
        self.state = State.CONFIRMED if confirmed else State.WEAK

    def _stand(self, source: Endpoint, state: State) -> None:
        self.expected = self.answer = source
        self.state = state

    def _displacing(self, source: Endpoint) -> State | None:
        """The state in which `source` displaces the standing one, None if it does not."""
        terms = self.terms
        assert self.expected is not None
        score, standing = terms.score(source), terms.score(self.expected)
        if terms.learning is Learning.OFF:
            return None
        if self.closed and terms.handover:
            return State.CONFIRMED
        if self.state is State.CONFIRMED:
            forged = standing == _SCORE_ADDRESS and score == _SCORE_EXACT
            return State.CONFIRMED if forged else None
        if self.state is State.WEAK:
            better = score >= _SCORE_ADDRESS and score > standing
            return State.CONFIRMED if better else None
        if score > standing or (score == standing and terms.learning is Learning.DELAYED):
            return self._first_state(source)
        return None
