"""Calls, rules and the relay itself as JSON values: what operators see, by name, in units that say themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from relay.call import Call, Leg, Media, Stream
from relay.dataplane import Dataplane
from relay.types import Endpoint, Path, Rule, StreamState

View = dict[str, Any]


def state_of(call: Call, now: float) -> str:
    """In one or two words."""
    if call.deleted is not None:
        return f"deleted, {max(call.deleted - now, 0):.0f}s left"
    return "answered" if call.answered else "offered"


def call_row(call: Call, plane: Dataplane, now: float) -> View:
    """One call, all its streams summed up."""
    states = [plane.state(stream.local) for _, stream in call.streams() if stream.local is not None]
    return {
        "call_id": call.call_id,
        "state": state_of(call, now),
        "age": round(now - call.created, 3),
        "streams": len(states),
        "packets": sum(state.packets for state in states),
        "lost": sum(max(state.lost, 0) for state in states),
        "drops": sum(state.drops for state in states),
        "paths": paths(state.path for state in states),
    }


def paths(found: Iterable[Path]) -> list[str]:
    """Where the streams are, the ones still silent only where there is nothing else to tell."""
    different = sorted({path.value for path in found})
    return [path for path in different if path != Path.NO_PACKET.value] or different


def call_detail(call: Call, plane: Dataplane, now: float, texts: Mapping[str, str]) -> View:
    """One call with its legs, media and streams; `texts` explains drop reasons."""
    return {
        "call_id": call.call_id,
        "state": state_of(call, now),
        "age": round(now - call.created, 3),
        "last_signal_age": round(now - call.last_signal, 3),
        "legs": [_leg(leg, call, plane, texts) for leg in call.legs],
    }


def _leg(leg: Leg, call: Call, plane: Dataplane, texts: Mapping[str, str]) -> View:
    return {
        "tag": leg.tag,
        "other_tags": leg.tags[1:],
        "label": leg.label,
        "interface": leg.interface.name,
        "media": [_media(media, call, plane, texts) for media in leg.medias],
    }


def _media(media: Media, call: Call, plane: Dataplane, texts: Mapping[str, str]) -> View:
    description = media.description
    return {
        "index": media.index + 1,
        "kind": media.line.kind,
        "protocol": media.line.protocol,
        "direction": description.direction.value if description is not None else "not signalled yet",
        "streams": [{**_stream(stream, call, plane, texts), "part": _part(media, stream)} for stream in media.streams],
    }


def _part(media: Media, stream: Stream) -> str:
    if not media.line.is_rtp:
        return "data"
    return "RTCP" if stream is media.rtcp else "RTP"


def _stream(stream: Stream, call: Call, plane: Dataplane, texts: Mapping[str, str]) -> View:
    state = plane.state(stream.local) if stream.local is not None else StreamState()
    return {
        "local": text(stream.local),
        "signalled": text(stream.signalled),
        "observed": text(state.observed_source),
        "confirmed": state.confirmed,
        "refusal": stream.refusal,
        "tos": call.tos,
        **counted(state),
        "last_drop_text": texts.get(state.last_drop or "", state.last_drop),
    }


def counted(state: StreamState) -> View:
    """What the data plane counted at one port."""
    return {
        "path": state.path.value,
        "packets": state.packets,
        "bytes": state.bytes,
        "expected": state.expected,
        "lost": state.lost,
        "duplicates": state.duplicates,
        "reordered": state.reordered,
        "jitter_ms": state.jitter_ms,
        "ssrc": state.ssrc,
        "payload_type": state.payload_type,
        "foreign": state.foreign,
        "drops": state.drops,
        "last_drop": state.last_drop,
    }


def rule_rows(call: Call, plane: Dataplane) -> Iterator[View]:
    """One line for each rule a call has in force."""
    for rule in list(call.rules.values()):
        yield rule_row(rule, call.call_id, plane)


def rule_row(rule: Rule, call_id: str | None, plane: Dataplane) -> View:
    """One port in force: where its packets leave, and for whom."""
    learned = plane.state(rule.source).observed_source
    return {
        "local": text(rule.local),
        "leaves_from": text(rule.source),
        "destination": text(learned or rule.destination),
        "tos": rule.tos,
        "call_id": call_id,
        **counted(plane.state(rule.local)),
    }


def text(endpoint: Endpoint | None) -> str | None:
    return None if endpoint is None else str(endpoint)
