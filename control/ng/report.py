"""The counters of calls and of the relay, in the form the ng protocol gives them (query, delete, statistics)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from control.ng.bencode import Layout, Written, entry, write
from relay.call import Call, Leg, Media, Mux, Stream
from relay.dataplane import Dataplane
from relay.quality import Heard, Sample
from relay.registry import Registry
from relay.types import Endpoint, Path, StreamState

__all__ = ["call_report", "statistics"]

Report = dict[str, Any]

ROOM = 50_000
"""Bytes a report may take before detail is left out; a reply is one datagram."""
PER_STREAM = 700
"""More bytes than one stream takes in a report, its shares of its media and of the list of SSRCs included."""
COPIES = 6
"""Times a tag is written at most."""

_ENDPOINT = Layout({"family": str, "address": str, "port": int})
_COUNTS = {"packets": int, "bytes": int, "errors": int}
_STREAM = Layout(
    {
        "local port": int,
        "local address": str,
        "family": str,
        "last packet": int,
        "flags": list,
        "stats": _COUNTS,
    }
)
_MEDIA = Layout({"index": int, "type": str, "protocol": str, "flags": list, "streams": list})
_TIE = Layout({"tag": str, "type": str})
_LEG = Layout({"tag": str, "created": int, "subscriptions": list, "subscribers": list, "medias": list})
_TOTALS = Layout({"RTP": _COUNTS, "RTCP": _COUNTS})


def call_report(call: Call, plane: Dataplane, now: float, unix_offset: float) -> Report:
    """One call's tags, media, streams and totals. Where it would not fit a datagram, detail is left out."""
    return _CallReport(call, plane, now, unix_offset).make()


class _CallReport:
    """One report in the making. Its bulk is written in bencode at once: every call that ends has one."""

    def __init__(self, call: Call, plane: Dataplane, now: float, unix_offset: float) -> None:
        self.call = call
        self.now = now
        self.unix_offset = unix_offset
        self.states: dict[Stream, StreamState] = {}
        self.rtp, self.rtcp = [call.gone_rtp], [call.gone_rtcp]
        for media, stream in call.streams():
            assert stream.local is not None
            state = self.states[stream] = plane.state(stream.local)
            (self.rtp if stream is media.rtp else self.rtcp).append(state)
        first, second = call.legs
        names = (
            sum(map(len, call.tags)) + sum(map(len, call.branches)) + len(first.label or "") + len(second.label or "")
        )
        names *= COPIES
        self.with_tags = names < ROOM
        self.with_media = names + PER_STREAM * len(self.states) < ROOM

    def make(self) -> Report:
        created = int((self.call.created + self.unix_offset) * 1_000_000)
        return {
            "created": created // 1_000_000,
            "created_us": created % 1_000_000,
            "created_ts": created,
            "last signal": int(self.call.last_signal + self.unix_offset),
            "SSRC": self.sources() if self.with_media else {},
            "tags": self.tags() if self.with_tags else {},
            "totals": self.totals(),
        }

    def tags(self) -> Written:
        first, second = self.call.legs
        return Written(f"d{self.leg(first, second)}{self.leg(second, first)}e")

    def leg(self, leg: Leg, other: Leg) -> str:
        """The entry of one party."""
        tag, tied = write(leg.tag), f"l{_TIE.fill(write(other.tag), _OFFER_ANSWER)}e"
        pairs = zip(leg.medias, other.medias, strict=True) if self.with_media else ()
        medias = "".join([self.media(mine, theirs) for mine, theirs in pairs])
        more = ""
        if self.call.branches and leg is self.call.legs[1]:
            more += entry("via-branch", write(self.call.branches[-1]))
        if leg.label is not None:
            more += entry("label", write(leg.label))
        if len(leg.tags) > 1:
            more += entry("tag-aliases", write(leg.tags[1:]))
        return tag + _LEG.fill(tag, int(leg.created + self.unix_offset), tied, tied, f"l{medias}e", more=more)

    def media(self, mine: Media, theirs: Media) -> str:
        line = mine.line
        streams = "".join([self.stream(mine, stream) for stream in mine.streams])
        flags = _media_flags(mine.port is not None, theirs.sends_to(mine), mine.sends_to(theirs), line.mux is Mux.ON)
        codec = _codec(mine, self.states.get(mine.rtp))
        more = entry("codec", write(codec)) if codec is not None else ""
        return _MEDIA.fill(mine.index + 1, _word(line.kind), _word(line.protocol), flags, f"l{streams}e", more=more)

    def stream(self, media: Media, stream: Stream) -> str:
        state, local, signalled = self.states[stream], stream.local, stream.signalled
        assert local is not None
        at = self.now if state.packets != stream.count else stream.seen
        flags = _stream_flags(
            stream is media.rtp,
            media.line.mux is Mux.ON,
            signalled is not None and stream.refusal is None,
            state.confirmed,
            state.path is Path.FAST,
            self.call.strict_source,
            self.call.media_handover,
        )
        return _STREAM.fill(
            local.port,
            _word(local.ip),
            _family(local.ip),
            int(at + self.unix_offset) if state.packets else 0,
            flags,
            state.packets,
            state.bytes,
            state.drops,
            more=_of_party(signalled, state),
        )

    def sources(self) -> Report:
        """What is known of each SSRC, with what its receiver says in RTCP."""
        found: Report = {}
        for mine, theirs in self.call.sides():
            state = self.states.get(mine.rtp)
            if state is None or state.ssrc is None:
                continue
            report: Report = {"bytes": state.bytes, "packets": state.packets, "cumulative loss": max(state.lost, 0)}
            if state.highest_sequence is not None:
                report["last RTP seq"] = state.highest_sequence & 0xFFFF
            if theirs.heard is not None and theirs.heard.ssrc == state.ssrc:
                report.update(self.opinions(theirs.heard))
            found[str(state.ssrc)] = report
        return found

    def opinions(self, heard: Heard) -> Report:
        """What became of the reception reports on one SSRC."""
        average = {**_sample(heard.average), "samples": heard.samples}
        report: Report = {"average MOS": average}
        for name, sample in (("lowest MOS", heard.worst), ("highest MOS", heard.best)):
            report[name] = {**_sample(sample), "reported at": int(sample.at + self.unix_offset)}
        return report

    def totals(self) -> Written:
        """Packets that arrived, with those at ports the call has no more."""
        return Written(_TOTALS.fill(*_sum(self.rtp), *_sum(self.rtcp)))


def _sum(states: Sequence[StreamState]) -> tuple[int, int, int]:
    """Packets, bytes and errors of several streams."""
    packets = octets = drops = 0
    for state in states:
        packets += state.packets
        octets += state.bytes
        drops += state.drops
    return packets, octets, drops


def _of_party(signalled: Endpoint | None, state: StreamState) -> str:
    """What a stream's entry has only where it is known: the party's address, as seen and as signalled, and its SSRC."""
    more, observed = "", state.observed_source
    if signalled is not None:
        advertised = _endpoint(signalled)
        seen = _endpoint(observed) if observed is not None and observed != signalled else advertised
        more = f"{_SEEN}{seen}{_ADVERTISED}{advertised}"
    elif observed is not None:
        more = f"{_SEEN}{_endpoint(observed)}"
    return more if state.ssrc is None else more + entry("SSRC", write(state.ssrc))


def _endpoint(endpoint: Endpoint) -> str:
    return _ENDPOINT.fill(_family(endpoint.ip), write(endpoint.ip), endpoint.port)


_SEEN, _ADVERTISED = entry("endpoint", ""), entry("advertised endpoint", "")
_OFFER_ANSWER = write("offer/answer")
_IPV4, _IPV6 = write("IPv4"), write("IPv6")
_word = lru_cache(maxsize=1024)(write)
"""For what all calls have in common: kinds of media, protocols, the relay's own addresses."""


def _family(ip: str) -> str:
    return _IPV6 if ":" in ip else _IPV4


@lru_cache(maxsize=16)
def _media_flags(initialized: bool, sends: bool, receives: bool, muxed: bool) -> str:
    found = {"initialized": initialized, "send": sends, "recv": receives, "rtcp-mux": muxed}
    return write([flag for flag, holds in found.items() if holds])


@lru_cache(maxsize=128)
def _stream_flags(
    rtp: bool, muxed: bool, filled: bool, confirmed: bool, fast: bool, strict_source: bool, media_handover: bool
) -> str:
    found = {
        "RTP": rtp,
        "RTCP": muxed or not rtp,
        "filled": filled,
        "confirmed": confirmed,
        "kernelized": fast,
        "strict source address": strict_source,
        "media handover": media_handover,
    }
    return write([flag for flag, holds in found.items() if holds])


def _codec(media: Media, state: StreamState | None) -> str | None:
    """The payload type last seen, by the name the SDP gives it."""
    if state is None or state.payload_type is None or media.description is None:
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


# -- the relay as a whole

COMMANDS = ("ping", "offer", "answer", "delete", "query", "list", "statistics", "error")
REASONS = {
    "timeout": "timeoutsessions",
    "silent timeout": "silenttimeoutsessions",
    "offer timeout": "offertimeoutsessions",
    "final timeout": "finaltimeoutsessions",
    "deleted": "regularterminatedsessions",
    "terminated by the operator": "forcedterminatedsessions",
}


def statistics(registry: Registry, commands: Mapping[str, Counter[str]], uptime: float) -> Report:
    """The groups of `list jsonstats` that mean something here."""
    return {
        "currentstatistics": {
            "sessionsown": registry.standing,
            "sessionsforeign": 0,
            "sessionstotal": len(registry),
            "transcodedmedia": 0,
        },
        "totalstatistics": _total(registry, uptime),
        "controlstatistics": _control(commands),
        "interfaces": [_interface(registry, number) for number in range(len(registry.interfaces))],
        "dataplane": {"name": registry.plane.name, **registry.plane.counters()},
    }


def _total(registry: Registry, uptime: float) -> Report:
    """Since the start; packets and durations are those of ended calls."""
    tally = registry.tally
    return {
        "uptime": int(uptime),
        "managedsessions": tally.managed,
        "rejectedsessions": tally.rejected,
        **{name: registry.closed.get(reason, 0) for reason, name in REASONS.items()},
        "relayedpackets": tally.packets,
        "avgcallduration": int(tally.seconds / tally.ended) if tally.ended else 0,
    }


def _control(commands: Mapping[str, Counter[str]]) -> Report:
    total: Counter[str] = Counter()
    proxies = []
    for ip, counts in commands.items():
        total.update(counts)
        proxies.append({"proxy": ip, **{f"{name}count": counts[name] for name in COMMANDS}})
    return {"proxies": proxies, **{f"total{name}count": total[name] for name in COMMANDS}}


def _interface(registry: Registry, number: int) -> Report:
    interface = registry.interfaces[number]
    pool = interface.pool
    ports = {"min": pool.low, "max": pool.high, "used": 2 * pool.drawn, "free": 2 * pool.available}
    return {"name": interface.name, "address": interface.address, "ports": ports}
