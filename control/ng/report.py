"""The counters of calls and of the relay, in the form the ng protocol gives them (query, delete, statistics)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

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


def call_report(call: Call, plane: Dataplane, now: float, unix_offset: float) -> Report:
    """One call's tags, media, streams and totals. Where it would not fit a datagram, detail is left out."""
    return _CallReport(call, plane, now, unix_offset).make()


class _CallReport:
    """One report in the making."""

    def __init__(self, call: Call, plane: Dataplane, now: float, unix_offset: float) -> None:
        self.call = call
        self.now = now
        self.unix_offset = unix_offset
        self.states = {stream: plane.state(stream.local) for _, stream in call.streams() if stream.local is not None}
        self.common_flags = ["strict source address"] if call.strict_source else []
        if call.media_handover:
            self.common_flags.append("media handover")
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
            "tags": {leg.tag: self.leg(leg, other) for leg, other in self.legs()} if self.with_tags else {},
            "totals": self.totals(),
        }

    def legs(self) -> tuple[tuple[Leg, Leg], tuple[Leg, Leg]]:
        first, second = self.call.legs
        return (first, second), (second, first)

    def leg(self, leg: Leg, other: Leg) -> Report:
        tied = [{"tag": other.tag, "type": "offer/answer"}]
        report: Report = {"tag": leg.tag, "created": int(leg.created + self.unix_offset)}
        if self.call.branches and leg is self.call.legs[1]:
            report["via-branch"] = self.call.branches[-1]
        if leg.label is not None:
            report["label"] = leg.label
        if len(leg.tags) > 1:
            report["tag-aliases"] = leg.tags[1:]
        report["subscriptions"] = report["subscribers"] = tied
        pairs = zip(leg.medias, other.medias, strict=True) if self.with_media else ()
        report["medias"] = [self.media(mine, theirs) for mine, theirs in pairs]
        return report

    def media(self, mine: Media, theirs: Media) -> Report:
        line = mine.line
        report: Report = {"index": mine.index + 1, "type": line.kind, "protocol": line.protocol}
        codec = _codec(mine, self.states.get(mine.rtp))
        if codec is not None:
            report["codec"] = codec
        flags = report["flags"] = ["initialized"] if mine.port is not None else []
        if theirs.sends_to(mine):
            flags.append("send")
        if mine.sends_to(theirs):
            flags.append("recv")
        if line.mux is Mux.ON:
            flags.append("rtcp-mux")
        report["streams"] = [self.stream(mine, stream) for stream in mine.streams]
        return report

    def stream(self, media: Media, stream: Stream) -> Report:
        state, local = self.states[stream], stream.local
        assert local is not None
        at = self.now if state.packets != stream.count else stream.seen
        report: Report = {
            "local port": local.port,
            "local address": local.ip,
            "family": _family(local.ip),
            "last packet": int(at + self.unix_offset) if state.packets else 0,
            "flags": self.stream_flags(media, stream, state),
            "stats": {"packets": state.packets, "bytes": state.bytes, "errors": state.drops},
        }
        signalled, observed = stream.signalled, state.observed_source
        if signalled is not None:
            report["endpoint"] = report["advertised endpoint"] = _endpoint(signalled)
        if observed is not None and observed != signalled:
            report["endpoint"] = _endpoint(observed)
        if state.ssrc is not None:
            report["SSRC"] = state.ssrc
        return report

    def stream_flags(self, media: Media, stream: Stream, state: StreamState) -> list[str]:
        flags = ["RTP"] if stream is media.rtp else ["RTCP"]
        if media.line.mux is Mux.ON:
            flags.append("RTCP")
        if stream.signalled is not None and stream.refusal is None:
            flags.append("filled")
        if state.confirmed:
            flags.append("confirmed")
        if state.path is Path.FAST:
            flags.append("kernelized")
        return flags + self.common_flags

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

    def totals(self) -> Report:
        """Packets that arrived, with those at ports the call has no more."""
        sums = {True: _Sum(self.call.gone_rtp), False: _Sum(self.call.gone_rtcp)}
        for media, stream in self.call.streams():
            sums[stream is media.rtp].add(self.states[stream])
        return {"RTP": sums[True].report(), "RTCP": sums[False].report()}


class _Sum:
    """Counters of several streams."""

    __slots__ = ("bytes", "errors", "packets")

    def __init__(self, begin: StreamState) -> None:
        self.packets, self.bytes, self.errors = begin.packets, begin.bytes, begin.drops

    def add(self, state: StreamState) -> None:
        self.packets += state.packets
        self.bytes += state.bytes
        self.errors += state.drops

    def report(self) -> dict[str, int]:
        return {"packets": self.packets, "bytes": self.bytes, "errors": self.errors}


def _family(ip: str) -> str:
    return "IPv6" if ":" in ip else "IPv4"


def _endpoint(endpoint: Endpoint) -> Report:
    return {"family": _family(endpoint.ip), "address": endpoint.ip, "port": endpoint.port}


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
