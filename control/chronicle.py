"""The lines of the log about calls: what proxies were refused, and how each call ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from relay.call import Call, Leg, Media
from relay.dataplane import Dataplane
from relay.types import Endpoint, StreamState

log = logging.getLogger("hairpin")

HINTS = {
    "Ran out of ports": "; widen --port-min and --port-max, or see `hairpin list` for calls that should not stand",
    "Parallel session limit reached": "; raise --max-sessions, or `hairpin resume` if it drains",
}
"""What to do about a refusal."""


def of_trouble(request: Mapping[str, Any], source: Endpoint, reply: Mapping[str, Any], detail: str) -> None:
    """Write one line for a request that was refused, with its `detail`, or done with a warning.

    Each text is a kind of its own, so that repeats of one do not hide another.
    """
    command, call = request.get("command"), {"call_id": request.get("call-id")}
    if "warning" in reply:
        # Proxies delete a call twice as a matter of course.
        level = logging.DEBUG if command == "delete" else logging.INFO
        kind = reply["warning"].replace("%", "%%")
        log.log(level, f"%s from %s is done, but: {kind}", command, source, extra={**call, "repeats": True})
        return
    text = reply.get("error-reason") or reply.get("message", "")
    kind = f"{text}{HINTS.get(text, '')}".replace("%", "%%")
    log.warning(f"%s refused: {kind}%s (from %s)", command, f", {detail}" if detail else "", source, extra=call)


def of_ends(plane: Dataplane, clock: Callable[[], float]) -> Callable[[Call, str], None]:
    """What writes one line for each call that ends: how long it stood, who ended it and why, what each party sent."""

    def write(call: Call, reason: str) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        members = call.members()
        states = {local: plane.state(local) for member in members for local in member.rules}
        every = [*states.values(), *(gone for member in members for gone in (member.gone_rtp, member.gone_rtcp))]
        log.info(
            "ended after %.0f s, %s: %d packets, %d lost, %d dropped%s",
            clock() - call.created,
            _by_whom(call, reason),
            sum([state.packets for state in every]),
            sum([max(state.lost, 0) for state in every]),
            sum([state.drops for state in every]),
            "".join([_parties(member, states) for member in members[:MAX_BRANCHES]]),
            extra={"call_id": call.call_id},
        )

    return write


MAX_BRANCHES = 4
"""Branches of a call that a line tells of."""
MAX_MEDIA = 8
"""Media of a party that a line tells of."""
MAX_TAG = 64
"""Characters of a tag."""


def _by_whom(call: Call, reason: str) -> str:
    """Who ended a call, and why."""
    proxy = f" {call.controller}" if call.controller else ""
    return {"deleted": f"deleted by the proxy{proxy}"}.get(reason, reason)


def _parties(call: Call, states: Mapping[Endpoint, StreamState]) -> str:
    first, second = call.legs
    return _party("caller", first, states) + _party("callee", second, states)


def _party(role: str, leg: Leg, states: Mapping[Endpoint, StreamState]) -> str:
    """What a party sent, medium by medium."""
    sent = [text for media in leg.medias[:MAX_MEDIA] if (text := _media(media, states))]
    more = len(leg.medias) - MAX_MEDIA
    sent += [f"and {more} media more"] if more > 0 else []
    return f"; {role} {leg.tag[:MAX_TAG] or '-'}: {', '.join(sent) or 'nothing'}"


def _media(media: Media, states: Mapping[Endpoint, StreamState]) -> str:
    """One medium: packets and bytes, loss and jitter on their way here, RTCP, and where it came from last."""
    of = states.get(media.rtp.local) if media.rtp.local is not None else None
    if of is None or media.rtp.local is None:
        return ""
    text = f"{media.line.kind} {of.packets} packets {of.bytes} bytes"
    if of.expected:
        text += f" {100 * max(of.lost, 0) / of.expected:.1f}% lost"
    if of.jitter_ms is not None:
        text += f" jitter {of.jitter_ms:.1f} ms"
    reports = states.get(media.rtcp.local) if media.rtcp.local is not None else None
    if reports is not None and reports.packets:
        text += f" RTCP {reports.packets}"
    return f"{text} from {of.observed_source}" if of.observed_source is not None else text
