"""A call to bytes and back (relay.recording says what is written).

What is read may come from anyone: every field has a type and bounds, names that a call of commands could not have are
refused, and a rule that a re-offer has left in force must be one of the call's own ports. Nothing is claimed or put in
force by reading.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypeVar

import orjson

from relay.call import MAX_DELETE_DELAY, MAX_NAMES, Call
from relay.errors import SnapshotError
from relay.fields import Fields
from relay.interfaces import Interfaces, Places
from relay.leg import Leg
from relay.media import Held, Line, Media, Stream
from relay.ports import Interface
from relay.quality import Heard, Sample
from relay.recording import CARRIES, DIRECTIONS, FORMAT, LEARNING, MUX, TREATMENTS, Memory, encode
from relay.types import Endpoint, Learning, MediaDescription, PayloadType, Rule, StreamState, Treatment

__all__ = ["Memory", "Screen", "SnapshotError", "decode", "encode", "ports"]

Screen = Callable[[Endpoint, str], "str | None"]
"""Why nothing is sent to an endpoint from a local address, or None (relay.flows.Screen)."""

MAX_SIZE = 1 << 20
"""Bytes that are read; what follows is more than any call has that was made by commands."""
MAX_BRANCHES, MAX_LINES, MAX_PLACES, MAX_PAIRS, MAX_TYPES = 64, 64, 512, 1024, 256
MAX_RULES = 2048
MAX_SHOWN = 120
"""Characters of a fault that an error quotes."""

T = TypeVar("T")


def decode(
    data: bytes, interfaces: Interfaces, screen: Screen, unix_offset: float, memory: Memory, now: float
) -> list[Call]:
    """The branches of a call, oldest first, with no rule in force and no port claimed. Raises SnapshotError.

    `unix_offset` is that of this relay's times, less what the writer's clock is ahead. `now`: when silence begins to
    count against the call.
    """
    top = _open(data)
    call_id = top.text("Call-ID")
    if not call_id:
        top.refuse("is empty", "Call-ID")
    reader = _Reader(call_id, interfaces, screen, unix_offset, memory, now)
    members = [reader.call(row) for row in top.each("branch", MAX_BRANCHES)]
    if not members:
        top.refuse("has no branch")
    for member in members:
        member.deed = members[0].deed
        member.fork = members if len(members) > 1 else None
    return members


def ports(data: bytes) -> list[Endpoint]:
    """The RTP ports a call has, read without the call: what must be left alone for it. Raises SnapshotError."""
    top = _open(data)
    top.text("Call-ID")
    found = []
    for branch in top.each("branch", MAX_BRANCHES):
        addresses = [address for _, address in _table(branch)]
        for line in branch.each("m-line", MAX_LINES):
            pairs = [_pair(line.fields("media")) for _ in range(2)]
            held = line.maybe_fields("held")
            pairs += [_pair(pair) for pair in held.each("pair", MAX_PAIRS)] if held is not None else []
            found += [Endpoint(_of(addresses, number, line), port) for number, port in pairs if port is not None]
    return found


def _open(data: bytes) -> Fields:
    """The snapshot behind its format."""
    if len(data) > MAX_SIZE:
        raise SnapshotError(f"a call of {len(data)} bytes: at most {MAX_SIZE} are read")
    try:
        value = orjson.loads(data)
    except ValueError:
        value = _with_surrogates(data)
    top = Fields(value, "call")
    form, revision = top.whole("format"), top.whole("revision")
    if form != FORMAT:
        raise SnapshotError(f"a call in format {form}.{revision}: this relay reads format {FORMAT}")
    return top


def _with_surrogates(data: bytes) -> object:
    """What the writer had to leave to the slower module."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SnapshotError(f"a call that is no JSON: {str(error)[:MAX_SHOWN]}") from None


def _table(branch: Fields) -> list[tuple[str, str]]:
    """The interfaces of a branch by name and address."""
    return [(one.text("name"), one.address("address")) for one in branch.each("interface", MAX_PLACES)]


def _pair(row: Fields) -> tuple[int, int | None]:
    """(number of the interface, even port or None), as a media or a replaced pair begins."""
    number, port = row.whole("interface", 0, MAX_PLACES), row.maybe_whole("port", 2, 65534)
    if port is not None and port & 1:
        row.refuse("is odd", "port")
    return number, port


def _of(values: Sequence[T], number: int, where: Fields) -> T:
    """One entry of a table."""
    if number >= len(values):
        where.refuse(f"names entry {number} of {len(values)}")
    return values[number]


class _Reader:
    """Reads the branches of one call."""

    def __init__(
        self,
        call_id: str,
        interfaces: Interfaces,
        screen: Screen,
        offset: float,
        memory: Memory,
        now: float,
    ) -> None:
        self.call_id = call_id
        self.interfaces = interfaces
        self.screen = screen
        self.offset = offset
        self.memory = memory
        self.now = now
        self.table: list[tuple[str, str]] = []

    def call(self, row: Fields) -> Call:
        self.table = _table(row)
        lines = row.each("m-line", MAX_LINES)
        parties = row.each("leg", 2)
        if len(parties) != 2:
            row.refuse("has not two legs")
        near, far = self.places(parties[0]), self.places(parties[1])
        call = Call(self.call_id, (near, far), self.interfaces.own, self.screen, self.now)
        for number, party in enumerate(parties):
            self.leg(party, call, number)
        call.branch = row.maybe_text("via-branch")
        call.created, call.last_signal = self.time(row, "created"), self.time(row, "last signal")
        deleted = row.maybe_whole("deleted")
        if deleted is not None:
            call.deleted = min(deleted / 1000 - self.offset, self.now + MAX_DELETE_DELAY)
        flags = row.whole("flags")
        call.answered, call.strict_source, call.media_handover = bool(flags & 1), bool(flags & 2), bool(flags & 4)
        call.tos = _tos(row)
        call.learning = _learning(row)
        call.treatments = _treatments(row)
        call.controller, call.callback = row.text("controller"), row.maybe_text("callback")
        counts = row.fields("counts")
        call.gone_rtp, call.gone_rtcp = _counts(counts), _counts(counts)
        call.told = _counts(counts), _counts(counts)
        for index, line in enumerate(lines):
            self.line(line, call, index)
        call.restored()
        self.own_rules(row, call)
        return call

    def time(self, row: Fields, name: str) -> float:
        """When something was; not after now, whatever the writer's clock said, or no timer would ever run out."""
        return min(row.whole(name) / 1000 - self.offset, self.now)

    def places(self, row: Fields) -> Places:
        name, address = _of(self.table, row.whole("interface", 0, MAX_PLACES), row)
        places = self.interfaces.placed(name, address)
        if not places:
            raise SnapshotError(f"no interface here has the address {address}")
        return places

    def interface(self, number: int, port: int, row: Fields) -> Interface:
        """Where a pair of ports is."""
        name, address = _of(self.table, number, row)
        found = self.interfaces.at(name, address, port)
        if found is None:
            raise SnapshotError(f"no interface here has the port {port} of {address}")
        return found

    def leg(self, row: Fields, call: Call, number: int) -> None:
        leg = call.legs[number]
        tags = row.items("tags", MAX_NAMES + 1)
        for tag in tags:
            if not isinstance(tag, str) or tag in call.tags:
                row.refuse("is no text, or names a party twice", "tags")
            call.name(number, tag)
        leg.created = self.time(row, "created")
        leg.label = row.maybe_text("label")
        leg.received_from = row.maybe_address("received-from")
        leg.asymmetric = bool(row.whole("asymmetric", 0, 1))
        leg.treatments = _treatments(row)
        self.remember(row, leg)

    def remember(self, row: Fields, leg: Leg) -> None:
        """What the control plane wrote of the party, for it to judge."""
        kept = row.anything("memory")
        try:
            leg.memory = self.memory(kept) if kept is not None else None
        except ValueError as error:
            row.refuse(f"cannot be read: {str(error)[:MAX_SHOWN]}", "memory")

    def line(self, row: Fields, call: Call, index: int) -> None:
        line = Line()
        for leg in call.legs:
            media = Media(index, line)
            self.media(row.fields("media"), media)
            leg.medias.append(media)
        if (call.legs[0].medias[index].port is None) is not (call.legs[1].medias[index].port is None):
            row.refuse("has ports on one side alone")
        held = row.maybe_fields("held")
        line.kind, line.protocol = row.text("kind"), row.text("protocol")
        flags = row.whole("flags")
        line.is_rtp, line.answered, line.one_port = bool(flags & 1), bool(flags & 2), bool(flags & 4)
        if held is not None:
            line.held = self.held(held)

    def media(self, row: Fields, media: Media) -> None:
        number, port = _pair(row)
        if port is not None:
            media.take(port, self.interface(number, port, row))
        media.mux = MUX[row.whole("mux", 0, len(MUX) - 1)]
        media.mux_follows = bool(row.whole("mux follows", 0, 1))
        said = row.maybe_fields("description")
        media.description = _description(said) if said is not None else None
        for name, stream in (("rtp", media.rtp), ("rtcp", media.rtcp)):
            told = row.maybe_fields(name)
            if told is not None:
                _stream(told, stream)
        heard = row.maybe_fields("heard")
        media.heard = self.heard(heard) if heard is not None else None

    def heard(self, row: Fields) -> Heard:
        heard = Heard(row.whole("ssrc", 0, 0xFFFFFFFF))
        heard.samples, heard.lost = row.whole("samples"), row.whole("lost", -(1 << 31), 1 << 31)
        heard.trips = row.whole("trips")
        sums = row.fields("sums")
        heard.mos, heard.jitter_ms, heard.loss_percent, heard.trip = [sums.number("sum") for _ in range(4)]
        samples = row.fields("samples")
        heard.last, heard.best, heard.worst = [self.sample(samples.fields("sample")) for _ in range(3)]
        return heard

    def sample(self, row: Fields) -> Sample:
        mos, jitter, loss = [row.number(name) for name in ("mos", "jitter", "loss")]
        return Sample(mos, jitter, loss, row.maybe_number("round trip"), self.time_or_never(row))

    def time_or_never(self, row: Fields) -> float:
        """When a sample was taken; that of a party that has sent none lies before all times."""
        return row.whole("at", -(1 << 53)) / 1000 - self.offset

    def held(self, row: Fields) -> Held:
        pairs = []
        for pair in row.each("pair", MAX_PAIRS):
            number, port = _pair(pair)
            if port is None:
                pair.refuse("is missing", "port")
            pairs.append((self.interface(number, port, pair), port))
        rules = row.fields("rules")
        kept = [[_rule(rule) for rule in rules.each("rule", MAX_RULES)] for _ in range(2)]
        held = Held(kept[0], kept[1])
        held.pairs = pairs
        return held

    def own_rules(self, row: Fields, call: Call) -> None:
        """What a re-offer left in force is on ports of the call, and sends where media may be sent."""
        own = {(interface.address, port) for interface, port in call.pairs()}
        for media in call.legs[0].medias:
            held = media.line.held
            if held is None:
                continue
            for rule in chain(*held.rules):
                if not {(end.ip, end.port & ~1) for end in (rule.local, rule.source)} <= own:
                    row.refuse(f"has a rule at {rule.local} or {rule.source}, which is no port of it")
            first, second = held.rules
            held.rules = _screened(first, call), _screened(second, call)


def _screened(rules: Sequence[Rule], call: Call) -> tuple[Rule, ...]:
    return tuple(
        [
            rule._replace(
                destination=call.screened(rule.destination, rule.source.ip),
                signalled_source=call.screened(rule.signalled_source, rule.local.ip),
            )
            for rule in rules
        ]
    )


def _stream(row: Fields, stream: Stream) -> None:
    stream.signalled = row.maybe_endpoint("signalled")
    stream.preferred = row.maybe_address("preferred")
    stream.learning = _learning(row)
    stream.epoch = row.whole("epoch", 0, 1 << 31)
    stream.observed = row.maybe_endpoint("observed")
    stream.confirmed = bool(row.whole("confirmed", 0, 1))
    known = row.maybe_endpoint("known")
    stream.known = stream.observed if stream.confirmed else known


def _description(row: Fields) -> MediaDescription:
    kind, protocol = row.text("kind"), row.text("protocol")
    rtp, rtcp = row.maybe_endpoint("rtp"), row.maybe_endpoint("rtcp")
    flags = row.whole("flags")
    direction = DIRECTIONS[row.whole("direction", 0, len(DIRECTIONS) - 1)]
    types = tuple([_payload_type(one) for one in row.each("payload type", MAX_TYPES)])
    return MediaDescription(
        kind, protocol, rtp, rtcp, bool(flags & 1), direction, bool(flags & 2), bool(flags & 4), types, bool(flags & 8)
    )


def _payload_type(row: Fields) -> PayloadType:
    return PayloadType(row.whole("number", 0, 127), row.text("encoding"), row.whole("clock", 0, 1 << 31))


def _rule(row: Fields) -> Rule:
    local, source, destination = row.endpoint("local"), row.endpoint("source"), row.maybe_endpoint("destination")
    destination_epoch = row.whole("destination epoch", 0, 1 << 31)
    signalled, source_epoch = row.maybe_endpoint("signalled"), row.whole("source epoch", 0, 1 << 31)
    carries = CARRIES[row.whole("carries", 0, len(CARRIES) - 1)]
    learning, preferred = _learning(row), row.maybe_address("preferred")
    flags, tos = row.whole("flags"), _tos(row)
    clocks = tuple([(one.whole("number", 0, 127), one.whole("clock", 1, 1 << 31)) for one in row.each("clock", 4)])
    return Rule(
        local, source, destination, destination_epoch, signalled, source_epoch, carries, learning, preferred,
        bool(flags & 1), bool(flags & 2), tos, clocks, row.maybe_endpoint("known"), bool(flags & 4), bool(flags & 8),
    )  # fmt: skip


def _learning(row: Fields) -> Learning:
    return LEARNING[row.whole("learning", 0, len(LEARNING) - 1)]


def _tos(row: Fields) -> int | None:
    tos = row.maybe_whole("tos", 0, 252)
    if tos is not None and tos & 3:
        row.refuse("has its low bits set", "tos")
    return tos


def _treatments(row: Fields) -> frozenset[Treatment]:
    numbers = Fields(row.items("treatments", len(TREATMENTS)), "treatments", row)
    return frozenset([TREATMENTS[one] for one in numbers.wholes(len(TREATMENTS) - 1)])


def _counts(row: Fields) -> StreamState:
    one = row.fields("count")
    packets, octets, expected = one.whole("packets"), one.whole("bytes"), one.whole("expected")
    return StreamState(packets, octets, one.whole("drops"), expected=expected, received=one.whole("received"))
