"""What the ng protocol tells of a call (query, delete): its parties, their media and streams, SSRCs and totals.

A Call-ID may have several branches, each a call of two legs. The report has one entry for each tag, and shows the party
that is in all of them, the caller, with the media of the branch that was answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from control.ng import room as rooms
from control.ng.bencode import Layout, Written, entry, write
from relay.call import Call, Leg, Media, Stream
from relay.dataplane import Dataplane
from relay.media import ON
from relay.quality import Heard, Sample
from relay.types import Carries, Endpoint, Path, StreamState, Treatment

__all__ = ["blank_report", "call_report"]

Report = dict[str, Any]

CUTS: Final = ("", "SSRC is left out", "SSRC and streams are left out", "SSRC, streams and tags are left out")
"""What gives way, step by step, where a report does not fit."""
FRAME: Final = 600
"""Bytes of a report beside its SSRCs and tags."""
LEAST_STREAM: Final = 200
"""Bytes of one stream at least."""

_NOTHING: Final = StreamState()
# An Enum's members are found by a search, at each time of asking.
_RTCP: Final = Carries.RTCP
_FAST: Final = Path.FAST
_SOCKET: Final = Path.SOCKET
_ENDPOINT = Layout({"family": str, "address": str, "port": int})
_COUNTS = {"packets": int, "bytes": int, "errors": int}
_STREAM = Layout(
    {
        "local port": int,
        "local address": str,
        "family": str,
        "endpoint": dict,
        "advertised endpoint": dict,
        "last packet": int,
        "flags": list,
        "stats": _COUNTS,
    }
)
_MEDIA = Layout({"index": int, "type": str, "protocol": str, "flags": list, "streams": list})
_TIE = Layout({"tag": str, "type": str})
_LEG = Layout({"tag": str, "created": int, "subscriptions": list, "subscribers": list, "medias": list})
_TOTALS = Layout({"RTP": _COUNTS, "RTCP": _COUNTS})


def call_report(
    members: Sequence[Call], plane: Dataplane, now: float, unix_offset: float, room: int, first: str | None = None
) -> Report:
    """The calls of one Call-ID (at least one), oldest first, in one report of at most `room` bytes.

    The party of the tag `first` leads. Where detail has to give way, `warning` says which and how to get it.
    """
    return _CallReport(members, plane, now, unix_offset).make(room, first)


def blank_report(members: Sequence[Call], unix_offset: float) -> Report:
    """The report on a tag that no party has."""
    return {**_frame(members, (), (), unix_offset), "warning": "no party of the call has this tag"}


class _Party:
    """One entry of the report: a leg, in the call whose media is shown for it."""

    __slots__ = ("call", "leg", "name", "other", "subscribers")

    def __init__(self, name: str, call: Call, leg: Leg, other: Leg) -> None:
        self.name = name
        self.call = call
        self.leg = leg
        self.other = other
        self.subscribers = [other.tag]
        """Tags of all parties that get its media, of every branch."""


class _CallReport:
    """One report in the making. Its bulk is written in bencode at once: every call that ends has one."""

    def __init__(self, members: Sequence[Call], plane: Dataplane, now: float, unix_offset: float) -> None:
        self.members = members
        self.now = now
        self.unix_offset = unix_offset
        self.states: dict[Endpoint, StreamState] = {}
        """Of all ports in force, also those that a re-offer has replaced."""
        self.rtp: list[StreamState] = []
        self.rtcp: list[StreamState] = []
        for call in members:
            self.rtp.append(call.gone_rtp)
            self.rtcp.append(call.gone_rtcp)
            for local, rule in call.rules.items():
                state = self.states[local] = plane.state(local)
                (self.rtcp if rule.carries is _RTCP else self.rtp).append(state)

    def make(self, room: int, first: str | None) -> Report:
        report = _frame(self.members, self.rtp, self.rtcp, self.unix_offset)
        parties = self.parties(first)
        cut = self.least_cut(room)
        while True:
            sources = "de" if cut else self.sources()
            tags = self.tags(parties, cut < 2) if cut < 3 else "de"
            if cut == 3 or rooms.fits(f"l{sources}{tags}e", room - FRAME):
                break
            cut += 1
        report["SSRC"], report["tags"] = Written(sources), Written(tags)
        if cut:
            report["warning"] = f"cut to {room} bytes: {CUTS[cut]}; {rooms.hint(room)}"
        return report

    def least_cut(self, room: int) -> int:
        """What cannot fit for sure, so that nothing is written in vain for a call of very many streams or long tags."""
        if sum([len(tag) for call in self.members for tag in call.tags]) > room:
            return 3
        return 2 if len(self.states) * LEAST_STREAM > room else 0

    # -- parties

    def parties(self, first: str | None) -> list[_Party]:
        """One party for each tag; a party without one is named by its place."""
        found: dict[str, _Party] = {}
        number = 0
        for call in self.members:
            one, two = call.legs
            for leg, other in ((one, two), (two, one)):
                name = leg.tag or f"<untagged {number}>"
                number += 1
                known = found.get(name)
                if known is None:
                    found[name] = _Party(name, call, leg, other)
                    continue
                known.subscribers.append(other.tag)
                if _shown_before(call, known.call):
                    known.call, known.leg, known.other = call, leg, other
        parties = list(found.values())
        if first is not None:
            parties.sort(key=lambda party: first not in party.leg.tags)
        return parties

    def tags(self, parties: Sequence[_Party], with_streams: bool) -> str:
        return f"d{''.join([self.party(party, with_streams) for party in parties])}e"

    def party(self, party: _Party, with_streams: bool) -> str:
        """The entry of one party. It is subscribed to whom it hears; all it was offered to are subscribed to it."""
        leg, call = party.leg, party.call
        pairs = zip(leg.medias, party.other.medias, strict=True)
        medias = "".join([self.media(party, mine, theirs, with_streams) for mine, theirs in pairs])
        subscription = f"l{_TIE.fill(write(party.other.tag), _OFFER_ANSWER)}e"
        subscribers = subscription
        if len(party.subscribers) > 1:
            subscribers = f"l{''.join([_TIE.fill(write(tag), _OFFER_ANSWER) for tag in party.subscribers])}e"
        more = ""
        if call.branch is not None and leg is call.legs[1]:
            more += entry("via-branch", write(call.branch))
        if leg.label is not None:
            more += entry("label", write(leg.label))
        if len(leg.tags) > 1:
            more += entry("tag-aliases", write(leg.tags[1:]))
        created = int(leg.created + self.unix_offset)
        body = _LEG.fill(write(leg.tag), created, subscription, subscribers, f"l{medias}e", more=more)
        return write(party.name) + body

    # -- media and streams

    def media(self, party: _Party, mine: Media, theirs: Media, with_streams: bool) -> str:
        line, leg = mine.line, party.leg
        streams = "".join([self.stream(party.call, mine, stream) for stream in mine.streams]) if with_streams else ""
        flags = _media_flags(
            mine.port is not None,
            leg.asymmetric,
            theirs.sends_to(mine),
            mine.sends_to(theirs),
            mine.mux is ON,
            leg.treatment,
        )
        codec = _codec(mine, self.state(mine.rtp))
        more = entry("codec", write(codec)) if codec is not None else ""
        said = mine.description if mine.description is not None else theirs.description
        kind = line.kind or (said.kind if said is not None else "")
        protocol = mine.description.protocol if mine.description is not None else line.protocol
        return _MEDIA.fill(mine.index + 1, _word(kind), _word(protocol), flags, f"l{streams}e", more=more)

    def state(self, stream: Stream) -> StreamState:
        return self.states.get(stream.local, _NOTHING) if stream.local is not None else _NOTHING

    def stream(self, call: Call, media: Media, stream: Stream) -> str:
        state, local = self.state(stream), stream.local
        assert local is not None
        at = self.now if state.packets != stream.count else stream.seen
        flags = _stream_flags(
            stream is media.rtp,
            media.mux is ON,
            stream.signalled is not None and stream.refusal is None,
            state.confirmed,
            state.path is _FAST,
            state.path is _SOCKET,
            call.strict_source,
            call.media_handover,
        )
        advertised = _endpoint(stream.signalled)
        observed = state.observed_source
        return _STREAM.fill(
            local.port,
            _word(local.ip),
            _family(local.ip),
            advertised if observed is None or observed == stream.signalled else _endpoint(observed),
            advertised,
            int(at + self.unix_offset) if state.packets else 0,
            flags,
            state.packets,
            state.bytes,
            state.drops,
            more=entry("SSRC", write(state.ssrc)) if state.ssrc is not None else "",
        )

    # -- SSRCs

    def sources(self) -> str:
        """What is known of each SSRC, with what its receiver says in RTCP."""
        found: Report = {}
        for call in self.members:
            for mine, theirs in call.sides():
                state = self.state(mine.rtp)
                if state.ssrc is not None:
                    name = str(state.ssrc)
                    if name not in found or found[name]["packets"] < state.packets:
                        found[name] = self.source(state.ssrc, state, theirs.heard)
        return write(found) if found else "de"

    def source(self, ssrc: int, state: StreamState, heard: Heard | None) -> Report:
        report: Report = {"bytes": state.bytes, "packets": state.packets, "cumulative loss": max(state.lost, 0)}
        if state.highest_sequence is not None:
            report["last RTP seq"] = state.highest_sequence & 0xFFFF
        if heard is not None and heard.ssrc == ssrc:
            report.update(self.opinions(heard))
        return report

    def opinions(self, heard: Heard) -> Report:
        """What became of the reception reports on one SSRC."""
        average = {**_sample(heard.average), "samples": heard.samples}
        report: Report = {"average MOS": average}
        for name, sample in (("lowest MOS", heard.worst), ("highest MOS", heard.best)):
            report[name] = {**_sample(sample), "reported at": int(sample.at + self.unix_offset)}
        return report


def _shown_before(call: Call, known: Call) -> bool:
    """Whether a party that is in both calls is shown as it is in `call`: where it talks, or talked last."""
    return _currency(call) > _currency(known)


def _frame(
    members: Sequence[Call], rtp: Sequence[StreamState], rtcp: Sequence[StreamState], unix_offset: float
) -> Report:
    """What is told in any case."""
    created = int((members[0].created + unix_offset) * 1_000_000)
    return {
        "created": created // 1_000_000,
        "created_us": created % 1_000_000,
        "created_ts": created,
        "last signal": int(max([call.last_signal for call in members]) + unix_offset),
        "SSRC": {},
        "tags": {},
        "totals": Written(_TOTALS.fill(*_sum(rtp), *_sum(rtcp))),
    }


def _currency(call: Call) -> tuple[bool, bool, float]:
    return call.deleted is None, call.answered, call.last_signal


def _sum(states: Sequence[StreamState]) -> tuple[int, int, int]:
    """Packets, bytes and errors of several streams."""
    packets = octets = drops = 0
    for state in states:
        packets += state.packets
        octets += state.bytes
        drops += state.drops
    return packets, octets, drops


def _endpoint(endpoint: Endpoint | None) -> str:
    """Empty where it is not known."""
    return "de" if endpoint is None else _ENDPOINT.fill(_family(endpoint.ip), write(endpoint.ip), endpoint.port)


_OFFER_ANSWER = write("offer/answer")
_IPV4, _IPV6 = write("IPv4"), write("IPv6")
_word = lru_cache(maxsize=1024)(write)
"""For what all calls have in common: kinds of media, protocols, the relay's own addresses."""


def _family(ip: str) -> str:
    return _IPV6 if ":" in ip else _IPV4


@lru_cache(maxsize=128)
def _media_flags(
    initialized: bool, asymmetric: bool, sends: bool, receives: bool, muxed: bool, treatment: Treatment
) -> str:
    found = {
        "initialized": initialized,
        "asymmetric": asymmetric,
        "send": sends,
        "recv": receives,
        "rtcp-mux": muxed,
        "block media": treatment is Treatment.BLOCK,
        "silence media": treatment is Treatment.SILENCE,
        "block DTMF": treatment is Treatment.BLOCK_EVENTS,
    }
    return write([flag for flag, holds in found.items() if holds])


@lru_cache(maxsize=256)
def _stream_flags(
    rtp: bool,
    muxed: bool,
    filled: bool,
    confirmed: bool,
    fast: bool,
    socket: bool,
    strict_source: bool,
    media_handover: bool,
) -> str:
    found = {
        "RTP": rtp,
        "RTCP": muxed or not rtp,
        "filled": filled,
        "confirmed": confirmed,
        "kernelized": fast,
        "no kernel support": socket,
        "strict source address": strict_source,
        "media handover": media_handover,
    }
    return write([flag for flag, holds in found.items() if holds])


def _codec(media: Media, state: StreamState) -> str | None:
    """The payload type last seen, by the name the SDP gives it."""
    if state.payload_type is None or media.description is None:
        return None
    for number, encoding, clock in media.description.payload_types:
        if number == state.payload_type:
            return f"{encoding}/{clock}"
    return None


def _sample(sample: Sample) -> Report:
    """In the units of the peer: MOS in tenths, milliseconds, per cent, microseconds."""
    report = {
        "MOS": round(sample.mos * 10),
        "jitter": round(sample.jitter_ms),
        "packet loss": round(sample.loss_percent),
    }
    if sample.round_trip is not None:
        report["round-trip time"] = report["round-trip time leg"] = round(sample.round_trip * 1_000_000)
    return report
