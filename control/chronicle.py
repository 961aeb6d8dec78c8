"""The lines of the log about calls: what proxies were refused, and how each call ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from relay.call import Call
from relay.dataplane import Dataplane
from relay.types import Endpoint

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
        log.log(level, "%s from %s is done, but: %s", command, source, reply["warning"], extra=call)
        return
    text = reply.get("error-reason") or reply.get("message", "")
    kind = f"{text}{HINTS.get(text, '')}".replace("%", "%%")
    log.warning(f"%s refused: {kind}%s (from %s)", command, f", {detail}" if detail else "", source, extra=call)


def of_ends(plane: Dataplane, clock: Callable[[], float]) -> Callable[[Call, str], None]:
    """What writes one line for each call that ends: how long it stood, what passed, who ended it and why."""

    def write(call: Call, reason: str) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        states = [call.gone_rtp, call.gone_rtcp, *map(plane.state, call.rules)]
        log.info(
            "ended after %.0f s, %s: %d packets, %d lost, %d dropped",
            clock() - call.created,
            "deleted by the proxy" if reason == "deleted" else reason,
            sum(state.packets for state in states),
            sum(max(state.lost, 0) for state in states),
            sum(state.drops for state in states),
            extra={"call_id": call.call_id},
        )

    return write
