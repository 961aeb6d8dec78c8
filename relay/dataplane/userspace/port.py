"""What stands for one rule while it is in force: counters, where its packets go, and the guards of rate and budget."""

from __future__ import annotations

from relay.dataplane.userspace.reception import Reception
from relay.dataplane.userspace.window import Terms, Window
from relay.types import Carries, Endpoint, Path, Rule, StreamState, Treatment

__all__ = ["Port"]

_TICKS_PER_SECOND = 4


class Port:
    """A rule in force.

    `generation` numbers the address of the party facing this port, `target_generation` that of the party packets go to.
    What the mirrored port learned of the latter counts only while it belongs to that number.
    """

    __slots__ = (
        "_budget_second",
        "_budget_spent",
        "_heard",
        "_mark",
        "_tick",
        "bytes",
        "drops",
        "foreign",
        "generation",
        "known",
        "last_drop",
        "learned",
        "learned_refused",
        "packets",
        "reception",
        "refused",
        "rule",
        "target",
        "target_generation",
        "told",
        "wanted",
        "window",
    )

    def __init__(self, rule: Rule, generation: int) -> None:
        self.rule = rule
        self.generation = generation
        self.known = rule.known_source
        self.window = Window(self._terms())
        self.reception = Reception()
        self.wanted: Endpoint | None = None
        """Where packets are to go by the signalling."""
        self.target: Endpoint | None = None
        """The same, None where it is refused."""
        self.refused: str | None = None
        self.target_generation = -1
        self.learned: Endpoint | None = None
        """Where that party was observed, in this generation of its address."""
        self.learned_refused = False
        """What was observed then has since become an address that nothing is sent to."""
        self.packets = self.bytes = self.drops = self.foreign = 0
        self.last_drop: str | None = None
        self.told: tuple[Endpoint, bool] | None = None
        """What the listener heard last of this port's party."""
        self._tick = self._mark = self._heard = 0
        self._budget_second = self._budget_spent = 0

    @property
    def destination(self) -> Endpoint | None:
        """Where the next packet goes: as observed, else as signalled."""
        return self.target if self.learned_refused else self.learned or self.target

    def change(self, rule: Rule) -> None:
        """Take a changed rule over."""
        self.rule = rule
        self.window.terms = self._terms()

    def renew(self, generation: int, known: Endpoint | None) -> None:
        """The party's address is another than before; `known`: others have seen it send from there."""
        self.generation, self.known, self.told = generation, known, None
        self.window.renew()
        self.window.terms = self._terms()

    def aim(self, wanted: Endpoint | None, generation: int, refused: str | None) -> None:
        """Send to another address, or to the one of another generation."""
        if generation != self.target_generation:
            self.learned = None
        self.wanted, self.refused, self.target_generation = wanted, refused, generation
        self.target = None if refused else wanted

    def too_many(self, now: float, per_second: int) -> bool:
        """Whether the port has had its share of packets in this quarter of a second."""
        tick = int(now * _TICKS_PER_SECOND)
        if tick != self._tick:
            self._tick, self._mark = tick, self.packets
        return (self.packets - self._mark) * _TICKS_PER_SECOND >= per_second

    def moved(self) -> bool:
        """Whether packets were admitted since this was last asked."""
        before, self._heard = self._heard, self.packets
        return before != self.packets

    def within_budget(self, now: float, per_second: int) -> bool:
        """Whether one more thing may be told of this port in this second."""
        second = int(now)
        if second != self._budget_second:
            self._budget_second, self._budget_spent = second, 0
        self._budget_spent += 1
        return self._budget_spent <= per_second

    def drop(self, reason: str) -> None:
        self.drops += 1
        self.last_drop = reason

    def state(self) -> StreamState:
        """A picture of the counters."""
        state = StreamState(self.packets, self.bytes, self.drops, self.last_drop, foreign=self.foreign)
        state.observed_source, state.confirmed = self.window.observed
        self.reception.fill(state, measured=any(hertz for _, hertz in self.rule.clocks))
        state.path = self._path()
        return state

    def _path(self) -> Path:
        if self.rule.treatment is Treatment.BLOCK and self.rule.carries is not Carries.RTCP:
            return Path.BLOCKED
        if self.destination is None:
            return Path.REFUSED if self.refused else Path.NO_DESTINATION
        return Path.SOCKET if self.packets else Path.NO_PACKET

    def _terms(self) -> Terms:
        rule = self.rule
        signalled = rule.signalled_source
        if signalled is not None and (":" in signalled.ip) != (":" in rule.local.ip):
            signalled = None  # a party of the other address family is nobody whose packets could come in here
        return Terms(
            rule.learning, signalled, rule.preferred_source, rule.strict_source, rule.media_handover, self.known
        )
