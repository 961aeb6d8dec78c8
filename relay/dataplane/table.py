"""The table of rules, written in place: rules become words (ebpf/abi.h has the theory).

A party's address is the destination of one rule and the source of the mirrored one, joined by a generation. A change
writes all destinations first and all control words last, so that a packet in between sees either the old address or the
new one, whole, and learns nothing until both rules agree.

    cells       where the words lie
    reading     what the rules in force have come to
    adopting    what a former process left in them
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from relay.dataplane import abi
from relay.dataplane.adopting import as_it_stands, in_step, joins, nexthops_in_use, ports_in, same_party, was_seen
from relay.dataplane.cells import (
    BYTES,
    CLOCK,
    COLD,
    COLD_QUADS,
    COLD_WORDS,
    CONTROL,
    EXPECTED,
    LEARNED,
    NEXTHOP,
    PREFERRED,
    RULE,
    RULE_QUADS,
    RULE_SHORTS,
    SIGNALLED,
    SIGNALLED_SOURCE,
    SOURCE,
    TICK,
    Standing,
)
from relay.dataplane.options import clocks_differ, flags_of
from relay.dataplane.reading import Readings
from relay.dataplane.tokens import NO_TOKENS, NoTokens, Tokens
from relay.dataplane.words import control, next_generation, rule_index
from relay.types import Endpoint, Rule

__all__ = ["RuleTable", "Standing"]

_COUNTED = bytes(RULE - TICK)
"""The hot counters of a port that begins a new life, and the guard of its rate, which compares with them."""
_CLOSED_SECONDS = 30.0
"""How long ports still drop in silence that a former process had closed."""


def _nobody(_: list[int]) -> None:
    """Nobody is told."""


class RuleTable(Readings):
    """The rules in force over the mapped tables. `screen` says why an address is never sent to from a local one.

    `addresses` are the local ones by their index, "" where it is nobody's. `taken_over` is told, some time after, at
    which places a rule was taken over from a former process.
    """

    def __init__(
        self,
        rules: npt.NDArray[np.void],
        cold: npt.NDArray[np.void],
        addresses: Sequence[str],
        screen: Callable[[Endpoint, str], str | None],
        later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float],
        tokens: Tokens | NoTokens = NO_TOKENS,
    ) -> None:
        super().__init__(rules, cold, addresses, tokens)
        self.screen = screen
        self.taken_over: Callable[[list[int]], None] = _nobody
        self._later = later
        self._clock = clock
        self._closing: dict[int, object] = {}
        self._inherited: set[int] = set(ports_in(self.rules, abi.LIVE).tolist())
        self._clear_later(ports_in(self.rules, abi.CLOSED).tolist(), _CLOSED_SECONDS)

    def inherited(self) -> list[Endpoint]:
        """Ports that a former process left in force, and that no rule was installed at since; 50 ms for 100,000."""
        return self._locals(self._inherited)

    def closing(self) -> list[Endpoint]:
        """Ports that drop in silence since their rules were removed, by a former process, too."""
        return self._locals(self._closing)

    def nexthops_in_use(self) -> set[int]:
        """The next hops that live rules send to, those of a former process included."""
        return nexthops_in_use(self.rules)

    def install(self, rules: Iterable[Rule]) -> None:
        """Put rules in force or change standing ones: destinations, then control words (which make new rules live).

        Raises DataplaneError, with nothing changed, for a local address this plane does not serve, and where no more
        IPv6 addresses of parties can be remembered.
        """
        standing = self.standing
        # All places and tokens first: what cannot be served leaves every rule as it was.
        places = [(self.index(rule.local), self.index(rule.source), rule) for rule in rules]
        ip6 = self._ip6
        for index, mirror, rule in places:
            if ip6[index >> 16] or ip6[mirror >> 16]:
                self._remember(rule)
        left = [index for index, _, _ in places if index in self._inherited] if self._inherited else None
        changing = [mirror for index, mirror, rule in places if self._joins_anew(index, rule)]
        batch = {index: self._enter(index, mirror, rule) for index, mirror, rule in places}
        for mirror in changing:
            if (met := standing.get(mirror)) is not None:
                batch[mirror] = met
                self._begin(met, None)
        for entry in batch.values():
            self._send_to(entry)
            if entry.mirror not in batch and (mirrored := self.mirrored(entry)) is not None:
                self._send_to(mirrored)
        for entry in batch.values():
            self._expect(entry)
        if left:
            self._taken(left)

    def fold(self, entry: Standing, learned: Endpoint) -> None:
        """Make a source its party's address in a new generation, which starts closed on it.

        What the signalling said stays beside it: who was signalled may still win against a forger. Raises
        DataplaneError, with nothing changed, where its address can be given no token.
        """
        self._number(learned.ip)
        self._renew(entry, learned)
        above = self.standing.get(rule_index(entry.index >> 16, entry.rule.local.port + 1))
        if entry.rule.split and above is not None:
            self._renew(above, learned)

    def remove(self, locals_: Iterable[Endpoint], linger: float) -> None:
        """Take rules out of force; their ports drop in silence for `linger` seconds, then are the kernel's again."""
        closed, left = [], bool(self._inherited)
        now = self._clock()
        for local in locals_:
            index = self.index(local)
            entry = self.standing.pop(index, None)
            if entry is None and index not in self._inherited:
                continue
            self._inherited.discard(index)
            generation = self.control(index) & abi.GENERATION_MASK
            self._hot[index * RULE_QUADS + CONTROL] = control(generation, abi.CLOSED, 0, 0, 0)
            if entry is not None and entry.destination:
                self.nexthops.release(entry.destination, index, now)
            closed.append(index)
        self._clear_later(closed, linger)
        if left and not self._inherited:
            self.nexthops.settled()

    def moved(self, index: int) -> None:
        """The destination of a rule has another next hop: stored in the slot of the same generation."""
        entry = self.standing.get(index)
        if entry and entry.destination:
            self._set_nexthop(entry, entry.target_generation)

    def screen_again(self, screen: Callable[[Endpoint, str], str | None]) -> None:
        """What may be sent to has changed: apply it to the rules in force, and to what they have learned."""
        self.screen = screen
        for entry in self.standing.values():
            if entry.wanted and self._refusal(entry.rule, entry.wanted) != entry.refused:
                self._aim(entry, entry.target_generation)
            self._forget_refused(entry)

    def close(self) -> None:
        """Let go of the mapped memory; what is asked afterwards finds no rule."""
        self.standing.clear()
        self._closing.clear()
        self._inherited.clear()
        super().close()

    def _locals(self, places: Collection[int]) -> list[Endpoint]:
        """The local ports that stand at many places."""
        found = np.fromiter(places, np.intp, len(places))
        addresses, ports = found >> 16, (found & 0x7FFF) << 1 | found >> 15 & 1
        return [
            Endpoint(self._addresses[one], port) for one, port in zip(addresses.tolist(), ports.tolist(), strict=True)
        ]

    # -- entries

    def _enter(self, index: int, mirror: int, rule: Rule) -> Standing:
        """The entry of a rule, with the generation its party is to have."""
        entry = self.standing.get(index)
        if entry is None:
            return self._take_over(index, mirror, rule) if index in self._inherited else self._add(index, mirror, rule)
        before, entry.rule = entry.rule, rule
        known = rule.known_source
        if rule.source_epoch != before.source_epoch:
            entry.mirror = mirror
            self._begin(entry, known)
        elif mirror != entry.mirror:
            entry.mirror = mirror
            self._begin(entry, None if was_seen(self, entry) else known)
        elif known is not None and known != before.known_source and self._is_news(entry, known):
            self._begin(entry, known)
        elif rule.preferred_source != before.preferred_source or clocks_differ(rule, before):
            self._describe_source(entry)
        return entry

    def _add(self, index: int, mirror: int, rule: Rule) -> Standing:
        """A port begins a new life; it is not live yet, so no packet counts meanwhile."""
        entry = Standing(index, mirror, rule, self._next_generation(index, mirror), rule.known_source)
        self._closing.pop(index, None)
        self.standing[index] = entry
        at, base = index * RULE, index * RULE_QUADS
        self._octets_ended += self._hot[base + BYTES]
        self._hot[base + LEARNED] = self._hot[base + EXPECTED] = 0  # who stood here was another call's party
        self._hot_bytes[at + TICK : at + RULE] = _COUNTED
        self._heard_packets[index] = 0
        SIGNALLED_SOURCE.pack_into(self._cold_bytes, index * COLD, *self.wording(index, rule, entry.generation))
        return entry

    def _take_over(self, index: int, mirror: int, rule: Rule) -> Standing:
        """A rule that a former process left: what it says the same of stays, with all that was learned and counted."""
        entry = self.standing[index] = as_it_stands(self, index, rule)
        self._inherited.discard(index)
        if entry.wanted is not None:
            self._hold(entry, entry.wanted)
        said, words, known = self.said(index), self.wording(index, rule, entry.generation), rule.known_source
        if mirror != entry.mirror or not same_party(self, entry, said[1], words[1]):
            entry.mirror = mirror
            self._begin(entry, known)
        elif known is not None and entry.folded is None and self._is_news(entry, known):
            self._begin(entry, known)
        elif words != said:
            self._describe_source(entry)
        return entry

    def _is_news(self, entry: Standing, known: Endpoint) -> bool:
        """Whether a source that others have seen tells of a party that was not heard of here."""
        return known != entry.folded and not was_seen(self, entry)

    def _taken(self, left: list[int]) -> None:
        """Rules were taken over: what was learned at them is looked at again, and told."""
        for index in left:
            self._forget_refused(self.standing[index])
        self._later(0.0, lambda: self.taken_over(left))
        if not self._inherited:
            self.nexthops.settled()

    def _joins_anew(self, index: int, rule: Rule) -> bool:
        """Whether the party a standing rule sends to has it on the port of RTP from here on, or has its own again.

        Then what was observed of it is the address of the other port, though the signalling may call it the same.
        """
        entry = self.standing.get(index)
        if entry is not None:
            return entry.rule.joined is not rule.joined
        return index in self._inherited and joins(self.control(index)) is not rule.joined

    def _begin(self, entry: Standing, known: Endpoint | None) -> None:
        """Give the party facing a port a new generation, of which nothing is known but what was signalled.

        It starts closed on `known` where others have seen the party there.
        """
        entry.folded, entry.told = known, None
        entry.generation = self._next_generation(entry.index, entry.mirror)
        self._describe_source(entry)

    def _renew(self, entry: Standing, folded: Endpoint | None) -> None:
        """Begin a new generation of the party facing a port, on the address it was folded to or the signalled one."""
        entry.folded = folded
        entry.generation = self._next_generation(entry.index, entry.mirror)
        self._describe_source(entry)
        if (mirrored := self.mirrored(entry)) is not None:
            self._send_to(mirrored)
        self._expect(entry)

    def _forget_refused(self, entry: Standing) -> None:
        """Let a party be learned anew where the address it was observed at is refused by now."""
        mirrored = self.mirrored(entry)
        if mirrored is None:
            return
        if self._is_refused(entry, mirrored.folded) or self._is_refused(entry, self._learned_target(entry)):
            mirrored.told = None
            self._renew(mirrored, None)

    def _is_refused(self, entry: Standing, observed: Endpoint | None) -> bool:
        return observed is not None and self.screen(observed, entry.rule.source.ip) is not None

    def _next_generation(self, index: int, mirror: int) -> int:
        """For the party facing `index`, whose address is the destination of `mirror`."""
        hot, base = self._hot, mirror * RULE_QUADS
        expected = hot[index * RULE_QUADS + EXPECTED]
        return next_generation(hot[base + SIGNALLED] >> 48, hot[base + LEARNED], expected)

    # -- words

    def _describe_source(self, entry: Standing) -> None:
        """The cold fields a learning window compares with, before the control word that opens it."""
        base = entry.index * COLD_QUADS
        preferred, *words = self.wording(entry.index, entry.rule, entry.generation)
        self._cold_words[entry.index * COLD_WORDS + PREFERRED] = preferred
        self._cold[base + SOURCE], self._cold[base + CLOCK], self._cold[base + CLOCK + 1] = words

    def _send_to(self, entry: Standing) -> None:
        """Write where the packets of a rule go: next hop, then address and generation in one word."""
        rule = entry.rule
        mirrored = self.standing.get(entry.mirror)
        if mirrored is not None:
            wanted, generation = mirrored.folded or rule.destination, mirrored.generation
        elif entry.mirror in self._inherited and in_step(self, entry.index, entry.mirror):
            return  # what stands is right until the mirror is taken over
        else:
            wanted, generation = rule.destination, self._lone_generation(entry)
        if generation == entry.target_generation and wanted == entry.wanted:
            return
        entry.wanted = wanted
        self._aim(entry, generation)

    def _aim(self, entry: Standing, generation: int) -> None:
        entry.refused = self._refusal(entry.rule, entry.wanted) if entry.wanted else None
        target = None if entry.refused else entry.wanted
        if target or entry.destination:
            self._route(entry, target)
        self._set_nexthop(entry, generation)
        self._hot[entry.index * RULE_QUADS + SIGNALLED] = self._peer(target, generation)
        entry.target_generation = generation

    def _lone_generation(self, entry: Standing) -> int:
        """The generation of a destination while the port facing it has no rule of its own."""
        if entry.target_generation >= 0 and entry.wanted == entry.rule.destination:
            return entry.target_generation
        return next_generation(self.signalled(entry.index) >> 48, self.learned(entry.index), 0)

    def _refusal(self, rule: Rule, wanted: Endpoint) -> str | None:
        source = rule.source
        if wanted.ip in self._address and wanted in (rule.local, source):
            return "a port of the same call"
        return self.screen(wanted, source.ip)

    def _hold(self, entry: Standing, target: Endpoint) -> None:
        """Have the next hop kept right that a rule sends to already; what is refused by now is sent to no more."""
        generation = entry.target_generation
        if self._refusal(entry.rule, target) is not None:
            self._aim(entry, generation)
            return
        standing = self.nexthop(entry.index, generation)
        if target.ip not in self._address:
            entry.destination = self.nexthops.acquire(entry.rule.source.ip, target.ip, entry.index, standing)
        if standing != (entry.destination.index if entry.destination else 0):
            self._set_nexthop(entry, generation)

    def _route(self, entry: Standing, target: Endpoint | None) -> None:
        """Hold the next hop of the target; one of the relay's own ports needs none."""
        before = entry.destination
        source = entry.rule.source.ip
        if target is None or target.ip in self._address:
            entry.destination = None
        elif before is None or before.ip != target.ip or before.source != source:
            entry.destination = self.nexthops.acquire(source, target.ip, entry.index)
        if before is not None and before is not entry.destination:
            self.nexthops.release(before, entry.index, self._clock())

    def _set_nexthop(self, entry: Standing, generation: int) -> None:
        place = entry.index * RULE_SHORTS + NEXTHOP + (generation & 1)
        self._hot_shorts[place] = entry.destination.index if entry.destination else 0

    def _expect(self, entry: Standing) -> None:
        """Write the control word: what the port carries and expects, and where its packets leave from."""
        rule = entry.rule
        flags = flags_of(rule) | self._arriving[entry.index >> 16] | self._leaving[entry.mirror >> 16]
        if entry.folded is not None:
            flags |= abi.FIXED
        wanted = control(entry.generation, flags, rule.tos or 0, entry.mirror >> 16, rule.source.port)
        place = entry.index * RULE_QUADS + CONTROL
        if self._hot[place] != wanted:
            self._hot[place] = wanted

    def _clear_later(self, closed: list[int], seconds: float) -> None:
        if closed:
            token = object()
            self._closing.update(dict.fromkeys(closed, token))
            self._later(seconds, lambda: self._clear(closed, token))

    def _clear(self, closed: list[int], token: object) -> None:
        for index in closed:
            if self._closing.get(index) is token:
                del self._closing[index]
                self._hot[index * RULE_QUADS + CONTROL] = 0
