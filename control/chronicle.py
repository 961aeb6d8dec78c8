"""The lines of the log about calls: what proxies were refused, and how each call ended."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from relay.call import Call
from relay.dataplane import Dataplane
from relay.types import Endpoint

log = logging.getLogger("hairpin")

Handle = Callable[[dict[str, Any], Endpoint, float], dict[str, Any]]

HINTS = {
    "Ran out of ports": "; widen --port-min and --port-max, or see `hairpin list` for calls that should not stand",
    "Parallel session limit reached": "; raise --max-sessions",
}
"""What to do about a refusal."""


def of_commands(handle: Handle) -> Handle:
    """The same handler of commands, with a line for what a proxy is refused or warned of."""

    def logged(request: dict[str, Any], source: Endpoint, now: float) -> dict[str, Any]:
        reply = handle(request, source, now)
        if "warning" in reply or reply["result"] in ("error", "load limit"):
            _log_trouble(request, source, reply)
        return reply

    return logged


def _log_trouble(request: dict[str, Any], source: Endpoint, reply: dict[str, Any]) -> None:
    """Each text is a kind of its own, so that repeats of one do not hide another."""
    command, call = request.get("command"), {"call_id": request.get("call-id")}
    if "warning" in reply:
        # Proxies delete a call twice as a matter of course.
        level = logging.DEBUG if command == "delete" else logging.INFO
        log.log(level, "%s from %s is done, but: %s", command, source, reply["warning"], extra=call)
        return
    text = reply.get("error-reason") or reply.get("message", "")
    kind = f"{text}{HINTS.get(text, '')}".replace("%", "%%")
    log.warning(f"%s refused: {kind} (from %s)", command, source, extra=call)


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
