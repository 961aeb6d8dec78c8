"""The table of rules, written in place: rules in, words and counters out (ebpf/abi.h has the theory).

A party's address is the destination of one rule and the source of the mirrored one, joined by a generation. A change
writes all destinations first and all control words last, so that a packet in between sees either the old address or the
new one, whole, and learns nothing until both rules agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from relay.dataplane import abi
from relay.dataplane.counts import read_state
from relay.dataplane.nexthops import Destination, NextHops
from relay.dataplane.options import (
    arriving_flags,
    clocks_differ,
    clocks_of,
    flags_of,
    leaving_flags,
    measures_jitter,
)
from relay.dataplane.tokens import NO_TOKENS, NoTokens, Tokens
from relay.dataplane.words import (
    be32,
    control,
    ip_text,
    next_generation,
    reader,
    rule_index,
    rule_port,
    window,
    word,
    word_address,
    word_port,
)
from relay.errors import DataplaneError
from relay.types import Carries, Endpoint, Path, Rule, StreamState, Treatment

# An Enum's members are found by a search, at each time of asking.
_BLOCK: Final = Treatment.BLOCK
_RTCP: Final = Carries.RTCP
_BLOCKED: Final = Path.BLOCKED
_REFUSED: Final = Path.REFUSED
_NO_DESTINATION: Final = Path.NO_DESTINATION
_NO_NEXT_HOP: Final = Path.NO_NEXT_HOP
_NO_PACKET: Final = Path.NO_PACKET
_FAST: Final = Path.FAST
_RULE = abi.RULE.itemsize
_COLD = abi.COLD.itemsize


def _place(dtype: np.dtype[np.void], field: str, unit: int) -> int:
    """Where a field lies in its record, in units of its own size."""
    assert dtype.fields is not None
    return int(dtype.fields[field][1]) // unit


_CONTROL, _SIGNALLED, _LEARNED, _EXPECTED, _PACKETS, _BYTES = (
    _place(abi.RULE, field, 8) for field in ("control", "signalled", "learned", "expected", "packets", "bytes")
)
_NEXTHOP = _place(abi.RULE, "nexthop", 2)
_SOURCE, _CLOCK = _place(abi.COLD, "source", 8), _place(abi.COLD, "clock", 8)
_PREFERRED = _place(abi.COLD, "preferred", 4)
_FRESH = reader(abi.COLD, "preferred", "source", "clock")
"""Packs these fields and zeros between them: the cold record of a port that begins a new life."""
assert _FRESH.size == _COLD
_TICK = _place(abi.RULE, "tick", 1)
_COUNTED = bytes(_RULE - _TICK)
"""The hot counters of such a port, and the guard of its rate, which compares with them."""
_RULE_QUADS, _RULE_SHORTS = _RULE // 8, _RULE // 2
_COLD_QUADS, _COLD_WORDS = _COLD // 8, _COLD // 4


@dataclass(slots=True, eq=False, init=False)
class Standing:
    """A rule in force: what the caller wants, and what was made of it."""

    index: int
    mirror: int
    rule: Rule
    generation: int
    """Of the party facing this port: its control word's, and that of the mirrored rule's destination."""
    wanted: Endpoint | None
    """Where packets are to go: what was signalled to the other side, or the source it was folded to."""
    refused: str | None
    """Why nothing is sent there."""
    target_generation: int
    """Of the signalled word; -1 before the first was written."""
    destination: Destination | None
    folded: Endpoint | None
    """The source that packets to this party are sent to instead of the signalled address."""
    told: tuple[Endpoint, bool] | None
    """What the listener heard last of this port's party."""

    def __init__(self, index: int, mirror: int, rule: Rule, generation: int) -> None:
        # Written out: what dataclass makes is Python code where all else is compiled.
        self.index, self.mirror, self.rule, self.generation = index, mirror, rule, generation
        self.wanted = self.refused = self.destination = self.told = None
        self.target_generation = -1
        self.folded = rule.known_source


class RuleTable:
    """The rules in force over the mapped tables. `screen` says why an address is never sent to from a local one."""

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
        self.rules = rules
        self.cold = cold
        self.screen = screen
        self.nexthops: NextHops  # joined after construction: it calls `moved` of this table
        self.standing: dict[int, Standing] = {}
        self._addresses = list(addresses)
        self._address = {ip: position for position, ip in enumerate(addresses)}
        self._ip6 = [":" in ip for ip in addresses]
        self._arriving = [arriving_flags(ip) for ip in addresses]
        self._leaving = [leaving_flags(ip) for ip in addresses]
        self._hot = rules.view(np.uint8).data.cast("Q")
        self._hot_bytes = self._hot.cast("B")
        self._hot_shorts = self._hot_bytes.cast("H")
        self._cold = cold.view(np.uint8).data.cast("Q")
        self._cold_bytes = self._cold.cast("B")
        self._cold_words = self._cold_bytes.cast("I")
        self._later = later
        self._clock = clock
        self._closing: dict[int, object] = {}
        self._tokens = tokens
        self._octets_ended = 0
        self._marks: npt.NDArray[np.uint64] = rules["packets"].copy()
        self._mark = self._marks.data.cast("B").cast("Q")

    def index(self, local: Endpoint) -> int:
        """The place of a local port. Raises DataplaneError for an address this plane does not serve."""
        try:
            return rule_index(self._address[local.ip], local.port)
        except KeyError:
            raise DataplaneError(f"{local.ip} is not a media address of this relay") from None

    def local(self, index: int) -> Endpoint:
        """The local port that stands at a place."""
        address, port = rule_port(index)
        return Endpoint(self._addresses[address], port)

    def get(self, local: Endpoint) -> Standing | None:
        address = self._address.get(local.ip)
        return None if address is None else self.standing.get(rule_index(address, local.port))

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
        joins = [mirror for index, mirror, rule in places if self._joins_anew(index, rule)]
        batch = {index: self._enter(index, mirror, rule) for index, mirror, rule in places}
        for mirror in joins:
            if (met := standing.get(mirror)) is not None:
                batch[mirror] = met
                self._begin(met)
        for entry in batch.values():
            self._send_to(entry)
            mirrored = standing.get(entry.mirror) if entry.mirror not in batch else None
            if mirrored is not None and mirrored.mirror == entry.index:
                self._send_to(mirrored)
        for entry in batch.values():
            self._expect(entry)

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

    def _renew(self, entry: Standing, folded: Endpoint | None) -> None:
        """Begin a new generation of the party facing a port, on the address it was folded to or the signalled one."""
        entry.folded = folded
        entry.generation = self._next_generation(entry.index, entry.mirror)
        self._describe_source(entry)
        mirrored = self.standing.get(entry.mirror)
        if mirrored is not None and mirrored.mirror == entry.index:
            self._send_to(mirrored)
        self._expect(entry)

    def remove(self, locals_: Iterable[Endpoint], linger: float) -> None:
        """Take rules out of force; their ports drop in silence for `linger` seconds, then are the kernel's again."""
        token = object()
        closed = []
        now = self._clock()
        for local in locals_:
            index = self.index(local)
            entry = self.standing.pop(index, None)
            if entry is None:
                continue
            self._hot[index * _RULE_QUADS + _CONTROL] = control(entry.generation, abi.CLOSED, 0, 0, 0)
            if entry.destination:
                self.nexthops.release(entry.destination, index, now)
            self._closing[index] = token
            closed.append(index)
        if closed:
            self._later(linger, lambda: self._clear(closed, token))

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
            mirrored = self.standing.get(entry.mirror)
            if mirrored is not None and mirrored.mirror == entry.index and self._forbidden(entry, mirrored):
                mirrored.told = None
                self._renew(mirrored, None)

    def _forbidden(self, entry: Standing, mirrored: Standing) -> bool:
        """Whether a rule sends to an address that was observed and is refused by now."""
        source = entry.rule.source.ip
        observed = (mirrored.folded, self._learned_target(entry))
        return any(found is not None and self.screen(found, source) is not None for found in observed)

    def packets(self, index: int) -> int:
        """Packets admitted at a port."""
        return self._hot[index * _RULE_QUADS + _PACKETS]

    def expected(self, index: int) -> int:
        """The word XDP keeps of the source a port accepts."""
        return self._hot[index * _RULE_QUADS + _EXPECTED]

    def learned(self, index: int) -> int:
        """The word XDP keeps of the address a rule's packets really go to."""
        return self._hot[index * _RULE_QUADS + _LEARNED]

    def octets(self) -> int:
        """UDP payload admitted since the start at all ports, those of ended calls included; reads the whole table."""
        return self._octets_ended + int(self.rules["bytes"].sum())

    def heard(self, ip: str) -> bytes:
        """Which ports of a local address took packets since this was last asked: relay.dataplane.Dataplane.heard."""
        address = self._address.get(ip)
        if address is None:
            return b""
        part = slice(address * abi.PORTS, (address + 1) * abi.PORTS)
        packets = self.rules["packets"][part].copy()
        moved = packets != self._marks[part]
        self._marks[part] = packets
        # The odd ports of an address stand behind its even ones.
        return np.packbits(moved.reshape(2, -1).T, bitorder="little").tobytes() if moved.any() else b""

    def inherited(self) -> list[Endpoint]:
        """Live ports that have no rule from this process."""
        live = np.flatnonzero(self.rules["control"] >> 16 & abi.LIVE).tolist()
        return [self.local(index) for index in live if index not in self.standing]

    def source(self, entry: Standing, expected: int) -> Endpoint | None:
        """The endpoint in the word XDP keeps of a port's source."""
        return self._endpoint(expected, self._ip6[entry.index >> 16])

    def observed(self, entry: Standing) -> tuple[Endpoint | None, bool]:
        """Where the party of a port really sends from, and whether its address is confirmed."""
        return self._observed(entry, self.expected(entry.index))

    def target(self, entry: Standing) -> Endpoint | None:
        """Where the next packet of a rule goes: the learned address of this generation, else the signalled one."""
        return self._learned_target(entry) or (None if entry.refused else entry.wanted)

    def _learned_target(self, entry: Standing) -> Endpoint | None:
        learned = self.learned(entry.index)
        if learned >> 48 != entry.target_generation:
            return None
        return self._endpoint(learned, self._ip6[entry.mirror >> 16])

    def leaves(self, entry: Standing) -> bool:
        """Whether packets to the target need no user space: its next hop is resolved, or the way back is known."""
        target = self.target(entry)
        if entry.destination is not None and target is not None and entry.destination.ip == target.ip:
            return self.nexthops.ready(entry.destination)
        return bool(self.cold[entry.index]["via_ifindex"])

    def path(self, entry: Standing, packets: int) -> Path:
        """Where the packets of a rule go, with the program on all interfaces they come in by."""
        if entry.rule.treatment is _BLOCK and entry.rule.carries is not _RTCP:
            return _BLOCKED
        target = self.target(entry)
        if target is None:
            return _REFUSED if entry.refused else _NO_DESTINATION
        if target.ip not in self._address and not self.leaves(entry):
            return _NO_NEXT_HOP
        return _FAST if packets else _NO_PACKET

    def state(self, entry: Standing) -> StreamState:
        """The counters of a rule, and its path if the program is there to take it."""
        state, expected = read_state(self._hot_bytes, self._cold_bytes, entry.index)
        state.observed_source, state.confirmed = self._observed(entry, expected)
        if not measures_jitter(entry.rule.clocks):
            state.jitter_ms = None
        state.path = self.path(entry, state.packets)
        return state

    def close(self) -> None:
        """Let go of the mapped memory; what is asked afterwards finds no rule."""
        self.standing.clear()
        self._closing.clear()
        self.rules, self.cold = self.rules[:0].copy(), self.cold[:0].copy()
        for view in (self._cold_words, self._cold_bytes, self._cold, self._hot_shorts, self._hot_bytes, self._hot):
            view.release()

    def _enter(self, index: int, mirror: int, rule: Rule) -> Standing:
        """The entry of a rule, with the generation its party is to have."""
        entry = self.standing.get(index)
        if entry is None:
            entry = Standing(index, mirror, rule, self._next_generation(index, mirror))
            self._closing.pop(index, None)
            self.standing[index] = entry
            self._reset(entry)
            return entry
        before, entry.rule = entry.rule, rule
        if rule.source_epoch != before.source_epoch or mirror != entry.mirror:
            entry.mirror = mirror
            self._begin(entry)
        elif rule.preferred_source != before.preferred_source or clocks_differ(rule, before):
            self._describe_source(entry)
        return entry

    def _joins_anew(self, index: int, rule: Rule) -> bool:
        """Whether the party a standing rule sends to has it on the port of RTP from here on, or has its own again.

        Then what was observed of it is the address of the other port, though the signalling may call it the same.
        """
        entry = self.standing.get(index)
        return entry is not None and entry.rule.joined is not rule.joined

    def _begin(self, entry: Standing) -> None:
        """Give the party facing a port a new generation, of which nothing is known but what was signalled."""
        entry.folded = entry.told = None
        entry.generation = self._next_generation(entry.index, entry.mirror)
        self._describe_source(entry)

    def _next_generation(self, index: int, mirror: int) -> int:
        """For the party facing `index`, whose address is the destination of `mirror`."""
        hot, base = self._hot, mirror * _RULE_QUADS
        expected = hot[index * _RULE_QUADS + _EXPECTED]
        return next_generation(hot[base + _SIGNALLED] >> 48, hot[base + _LEARNED], expected)

    def _reset(self, entry: Standing) -> None:
        """What a port begins a new life with; it is not live, so no packet counts meanwhile."""
        at, base = entry.index * _RULE, entry.index * _RULE_QUADS
        self._octets_ended += self._hot[base + _BYTES]
        self._mark[entry.index] = 0
        self._hot[base + _LEARNED] = self._hot[base + _EXPECTED] = 0  # who stood here was another call's party
        self._hot_bytes[at + _TICK : at + _RULE] = _COUNTED
        _FRESH.pack_into(self._cold_bytes, entry.index * _COLD, *self._source_words(entry))

    def _describe_source(self, entry: Standing) -> None:
        """The cold fields a learning window compares with, before the control word that opens it."""
        base = entry.index * _COLD_QUADS
        self._cold_words[entry.index * _COLD_WORDS + _PREFERRED], *words = self._source_words(entry)
        self._cold[base + _SOURCE], self._cold[base + _CLOCK], self._cold[base + _CLOCK + 1] = words

    def _send_to(self, entry: Standing) -> None:
        """Write where the packets of a rule go: next hop, then address and generation in one word."""
        rule = entry.rule
        mirrored = self.standing.get(entry.mirror)
        if mirrored is not None:
            wanted, generation = mirrored.folded or rule.destination, mirrored.generation
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
        self._hot[entry.index * _RULE_QUADS + _SIGNALLED] = self._peer(target, generation)
        entry.target_generation = generation

    def _lone_generation(self, entry: Standing) -> int:
        """The generation of a destination while the port facing it has no rule of its own."""
        if entry.target_generation >= 0 and entry.wanted == entry.rule.destination:
            return entry.target_generation
        signalled = self._hot[entry.index * _RULE_QUADS + _SIGNALLED]
        return next_generation(signalled >> 48, self.learned(entry.index), 0)

    def _refusal(self, rule: Rule, wanted: Endpoint) -> str | None:
        source = rule.source
        if wanted.ip in self._address and wanted in (rule.local, source):
            return "a port of the same call"
        return self.screen(wanted, source.ip)

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
        place = entry.index * _RULE_SHORTS + _NEXTHOP + (generation & 1)
        self._hot_shorts[place] = entry.destination.index if entry.destination else 0

    def _expect(self, entry: Standing) -> None:
        """Write the control word: what the port carries and expects, and where its packets leave from."""
        rule = entry.rule
        flags = flags_of(rule) | self._arriving[entry.index >> 16] | self._leaving[entry.mirror >> 16]
        if entry.folded is not None:
            flags |= abi.FIXED
        wanted = control(entry.generation, flags, rule.tos or 0, entry.mirror >> 16, rule.source.port)
        place = entry.index * _RULE_QUADS + _CONTROL
        if self._hot[place] != wanted:
            self._hot[place] = wanted

    def _clear(self, closed: list[int], token: object) -> None:
        for index in closed:
            if self._closing.get(index) is token:
                del self._closing[index]
                self._hot[index * _RULE_QUADS + _CONTROL] = 0

    def _observed(self, entry: Standing, expected: int) -> tuple[Endpoint | None, bool]:
        """What the word XDP keeps of a port's source says of its party."""
        generation, state = window(expected)
        if generation == entry.generation and state != abi.UNSEEN:
            return self.source(entry, expected), state == abi.CONFIRMED
        return entry.folded, entry.folded is not None

    def _source_words(self, entry: Standing) -> tuple[int, ...]:
        """Of a party as signalled: hp_cold.preferred, .source and .clock."""
        rule = entry.rule
        preferred, source = rule.preferred_source, rule.signalled_source
        # A party of the other address family is nobody whose packets could come in here.
        ip6 = self._ip6[entry.index >> 16]
        first = second = 0
        if preferred and (":" in preferred) == ip6:
            first = self._number(preferred)
        if source is not None and (":" in source.ip) == ip6:
            second = word(self._number(source.ip), source.port, 0)
        return (first, second | entry.generation << 48, *clocks_of(rule))

    def _number(self, ip: str) -> int:
        """An address as words have it."""
        return self._tokens.number(ip) if ":" in ip else be32(ip)

    def _peer(self, endpoint: Endpoint | None, generation: int) -> int:
        return word(self._number(endpoint.ip), endpoint.port, generation) if endpoint else generation << 48

    def _endpoint(self, found: int, ip6: bool) -> Endpoint | None:
        """The endpoint in a word of a port's source or destination."""
        address = word_address(found)
        if not address:
            return None
        return Endpoint(self._tokens.text(address) if ip6 else ip_text(address), word_port(found))

    def _remember(self, rule: Rule) -> None:
        """Have a token for every IPv6 address of a rule, before anything changes. Raises DataplaneError."""
        for endpoint in (rule.destination, rule.signalled_source, rule.known_source):
            if endpoint is not None and ":" in endpoint.ip:
                self._tokens.number(endpoint.ip)
        if rule.preferred_source is not None and ":" in rule.preferred_source:
            self._tokens.number(rule.preferred_source)
