"""Calls, rules and the relay itself as JSON values: what operators see, by name, in units that say themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from relay.call import Call, Leg, Media, Stream
from relay.dataplane import Dataplane
from relay.types import Carries, Endpoint, Path, Rule, StreamState

View = dict[str, Any]


def state_of(members: Sequence[Call], now: float) -> str:
    """Of a call, all its branches together, in one or two words."""
    standing = [call for call in members if call.deleted is None]
    if not standing:
        left = max(call.deleted - now for call in members if call.deleted is not None)
        return f"deleted, {max(left, 0):.0f}s left"
    return "answered" if any(call.answered for call in standing) else "offered"


def call_row(call: Call, plane: Dataplane, now: float) -> View:
    """One call, all its streams summed up; packets include those at ports that it has no more."""
    members = call.members()
    states = [plane.state(local) for member in members for local in member.rules]
    gone = [total for member in members for total in (member.gone_rtp, member.gone_rtcp)]
    return {
        "call_id": call.call_id,
        "state": state_of(members, now),
        "owner": _owner(call),
        "age": round(now - _begun(members), 3),
        "branches": len(members),
        "streams": len(states),
        "packets": sum(state.packets for state in (*states, *gone)),
        "lost": sum(max(state.lost, 0) for state in (*states, *gone)),
        "drops": sum(state.drops for state in (*states, *gone)),
        "paths": paths(state.path for state in states),
    }


def _owner(call: Call) -> int | None:
    """Keyspace of the partner whose call it is; None for one of this relay's own."""
    return call.deed.owner if call.deed.foreign else None


def _begun(members: Sequence[Call]) -> float:
    return min(call.created for call in members)


def paths(found: Iterable[Path]) -> list[str]:
    """Where the streams are, the ones still silent only where there is nothing else to tell."""
    different = sorted({path.value for path in found})
    return [path for path in different if path != Path.NO_PACKET.value] or different


def call_detail(call: Call, plane: Dataplane, now: float, texts: Mapping[str, str]) -> View:
    """One call with its branches' legs, media and streams; `texts` explains drop reasons."""
    members = call.members()
    return {
        "call_id": call.call_id,
        "state": state_of(members, now),
        "owner": _owner(call),
        "age": round(now - _begun(members), 3),
        "last_signal_age": round(now - max(one.last_signal for one in members), 3),
        "branches": len(members),
        "legs": [
            {**_leg(leg, one, plane, texts), "branch": one.branch, "branch_state": state_of([one], now)}
            for one in members
            for leg in one.legs
        ],
    }


def _leg(leg: Leg, call: Call, plane: Dataplane, texts: Mapping[str, str]) -> View:
    return {
        "tag": leg.tag,
        "other_tags": leg.tags[1:],
        "label": leg.label,
        "interface": leg.interface.name,
        "treatment": leg.treatment.value,
        "media": [_media(media, call, plane, texts) for media in leg.medias],
    }


def _media(media: Media, call: Call, plane: Dataplane, texts: Mapping[str, str]) -> View:
    description = media.description
    return {
        "index": media.index + 1,
        "kind": media.line.kind,
        "protocol": description.protocol if description is not None else media.line.protocol,
        "rtcp_mux": media.mux.value,
        "direction": description.direction.value if description is not None else "not signalled yet",
        "streams": [{**_stream(stream, call, plane, texts), "part": _part(stream, call)} for stream in media.streams],
    }


_PARTS = {Carries.RTP: "RTP", Carries.RTCP: "RTCP", Carries.RTP | Carries.RTCP: "RTP+RTCP", Carries.OPAQUE: "data"}


def _part(stream: Stream, call: Call) -> str:
    """What a port carries, by its rule."""
    rule = call.rules.get(stream.local) if stream.local is not None else None
    return _PARTS[rule.carries] if rule is not None else "-"


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
    for rule in [rule for member in call.members() for rule in member.rules.values()]:
        yield rule_row(rule, call.call_id, plane)


def rule_row(rule: Rule, call_id: str | None, plane: Dataplane) -> View:
    """One port in force: where its packets leave, and for whom; with `split`, its RTCP goes by the rule above it."""
    leaves = Endpoint(rule.source.ip, rule.source.port - 1) if rule.joined else rule.source
    learned = plane.state(leaves).observed_source
    return {
        "local": text(rule.local),
        "leaves_from": text(leaves),
        "destination": text(learned or rule.destination),
        "split": rule.split,
        "treatment": rule.treatment.value,
        "tos": rule.tos,
        "call_id": call_id,
        **counted(plane.state(rule.local)),
    }


def text(endpoint: Endpoint | None) -> str | None:
    return None if endpoint is None else str(endpoint)
