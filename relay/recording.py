"""How a call is written down: all that lets it go on after a restart, or at another relay that has its addresses.

    [format, revision, call_id, [branch, ...]]

The branches stand oldest first. What is in one is told by place, here as it is written, in relay.snapshot as it is
read. A relay reads its own format alone. Within a format a later revision adds fields at the end of lists, which
earlier relays pass over. Times are Unix milliseconds of the node that writes, enumerations are numbers of a table
below, whose order is part of the format. What a reader finds out by itself is left out: rules, refusals, the ports as
the SDP shows them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from relay.call import Call
from relay.dataplane import Dataplane
from relay.forwarding import add
from relay.leg import Leg
from relay.media import Held, Media, Mux, Stream
from relay.ports import Interface
from relay.quality import Heard, Sample
from relay.types import Carries, Direction, Learning, MediaDescription, Rule, StreamState, Treatment

__all__ = ["FORMAT", "Memory", "encode"]

Memory = Callable[[object], object]
"""What the control plane remembers of a party, to what JSON can hold or back. Raises ValueError for what it is not."""

FORMAT: Final = 1
REVISION: Final = 0
LEARNING: Final = (Learning.DELAYED, Learning.IMMEDIATE, Learning.HEURISTIC, Learning.OFF)
DIRECTIONS: Final = (Direction.SENDRECV, Direction.SENDONLY, Direction.RECVONLY, Direction.INACTIVE)
TREATMENTS: Final = (Treatment.BLOCK, Treatment.SILENCE, Treatment.BLOCK_EVENTS)
MUX: Final = (Mux.OFF, Mux.OFFERED, Mux.ON)
CARRIES: Final = (Carries.OPAQUE, Carries.RTP, Carries.RTCP, Carries.RTP | Carries.RTCP)
DIGITS: Final = 6
"""Behind the point, of what parties reported."""

_RTCP: Final = Carries.RTCP
_Row = list[object]


def encode(members: Sequence[Call], plane: Dataplane, unix_offset: float, memory: Memory) -> bytes:
    """The branches of one Call-ID (at least one), oldest first. `unix_offset` makes Unix seconds of this relay's times.

    Raises TypeError where `memory` makes something that JSON cannot hold.
    """
    branches = [_call(call, plane, unix_offset, memory) for call in members]
    snapshot = [FORMAT, REVISION, members[0].call_id, branches]
    try:
        return orjson.dumps(snapshot, default=tuple)
    except TypeError:  # names that came as no UTF-8 stand as surrogates, which only the slower one writes
        return json.dumps(snapshot).encode()


def _call(call: Call, plane: Dataplane, offset: float, memory: Memory) -> _Row:
    places: list[Interface] = []
    first, second = call.legs
    lines = [_line(one, other, places, offset) for one, other in zip(first.medias, second.medias, strict=True)]
    legs = [_leg(leg, places, offset, memory) for leg in call.legs]
    told_rtp, told_rtcp = _told(call, plane)
    return [
        [(one.name, one.address) for one in places],
        lines,
        legs,
        call.branch,
        _ms(call.created + offset),
        _ms(call.last_signal + offset),
        _ms(call.deleted + offset) if call.deleted is not None else None,
        call.answered + 2 * call.strict_source + 4 * call.media_handover,
        call.tos,
        LEARNING.index(call.learning),
        _treatments(call.treatments),
        call.controller,
        call.callback,
        [_counts(one) for one in (call.gone_rtp, call.gone_rtcp, told_rtp, told_rtcp)],
    ]


def _ms(seconds: float) -> int:
    return int(seconds * 1000 + 0.5)


def _place(places: list[Interface], interface: Interface) -> int:
    """The number of an interface in the table of its branch."""
    for number, one in enumerate(places):
        if one is interface:
            return number
    places.append(interface)
    return len(places) - 1


def _leg(leg: Leg, places: list[Interface], offset: float, memory: Memory) -> _Row:
    return [
        _place(places, leg.places[0]),
        leg.tags,
        _ms(leg.created + offset),
        leg.label,
        leg.received_from,
        int(leg.asymmetric),
        _treatments(leg.treatments),
        memory(leg.memory) if leg.memory is not None else None,
    ]


def _treatments(treatments: frozenset[Treatment]) -> list[int]:
    return [number for number, one in enumerate(TREATMENTS) if one in treatments] if treatments else []


def _line(first: Media, second: Media, places: list[Interface], offset: float) -> _Row:
    line = first.line
    return [
        _media(first, places, offset),
        _media(second, places, offset),
        _held(line.held, places) if line.held is not None else None,
        line.kind,
        line.protocol,
        line.is_rtp + 2 * line.answered + 4 * line.one_port,
    ]


def _media(media: Media, places: list[Interface], offset: float) -> _Row:
    return [
        _place(places, media.interface) if media.interface is not None else 0,
        media.port,
        MUX.index(media.mux),
        int(media.mux_follows),
        _description(media.description) if media.description is not None else None,
        _stream(media.rtp),
        _stream(media.rtcp),
        _heard(media.heard, offset) if media.heard is not None else None,
    ]


def _description(said: MediaDescription) -> _Row:
    flags = said.rtcp_mux + 2 * said.rejected + 4 * said.held + 8 * said.ice
    return [
        said.kind, said.protocol, said.rtp, said.rtcp, flags, DIRECTIONS.index(said.direction), said.payload_types,
    ]  # fmt: skip


def _stream(stream: Stream) -> _Row | None:
    if stream.signalled is None and not stream.epoch:
        return None
    return [
        stream.signalled,
        stream.preferred,
        LEARNING.index(stream.learning),
        stream.epoch,
        stream.observed,
        int(stream.confirmed),
        None if stream.confirmed else stream.known,
    ]


def _heard(heard: Heard, offset: float) -> _Row:
    sums = [round(one, DIGITS) for one in (heard.mos, heard.jitter_ms, heard.loss_percent, heard.trip)]
    samples = [_sample(one, offset) for one in (heard.last, heard.best, heard.worst)]
    return [heard.ssrc, heard.samples, heard.lost, heard.trips, sums, samples]


def _sample(sample: Sample, offset: float) -> _Row:
    trip = round(sample.round_trip, DIGITS) if sample.round_trip is not None else None
    figures = [round(one, DIGITS) for one in (sample.mos, sample.jitter_ms, sample.loss_percent)]
    return [*figures, trip, _ms(sample.at + offset)]


def _held(held: Held, places: list[Interface]) -> _Row:
    return [
        [(_place(places, interface), port) for interface, port in held.pairs],
        [[_rule(rule) for rule in kept] for kept in held.rules],
    ]


def _rule(rule: Rule) -> _Row:
    """A rule without its treatment, which follows from the party's."""
    flags = rule.strict_source + 2 * rule.media_handover + 4 * rule.split + 8 * rule.joined
    return [
        rule.local, rule.source, rule.destination, rule.destination_epoch, rule.signalled_source, rule.source_epoch,
        CARRIES.index(rule.carries), LEARNING.index(rule.learning), rule.preferred_source, flags, rule.tos,
        rule.clocks, rule.known_source,
    ]  # fmt: skip


def _told(call: Call, plane: Dataplane) -> tuple[StreamState, StreamState]:
    """What the call's ports have counted up to here."""
    rtp, rtcp = StreamState(), StreamState()
    for local, rule in call.rules.items():
        if plane.packets(local):
            add(rtcp if rule.carries is _RTCP else rtp, plane.state(local))
    return rtp, rtcp


def _counts(counts: StreamState) -> _Row:
    return [counts.packets, counts.bytes, counts.expected, counts.drops, counts.received]
