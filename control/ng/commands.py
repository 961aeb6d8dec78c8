"""What the relay does at each ng command, and what it replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from control.ng.flags import Options, parse_options
from control.ng.needed import CommandError, call_id
from control.ng.offeranswer import OfferAnswer, Rewrite
from control.ng.report import call_report, statistics
from control.sdp.model import SdpError
from control.sdp.rewrite import rewrite
from relay.errors import HairpinError
from relay.registry import LoadLimit, Registry
from relay.types import Endpoint

__all__ = ["CommandError", "Commands"]

Reply = dict[str, Any]
Note = Callable[[Mapping[str, Any], Endpoint, Reply, str], None]

NOT_FOUND = "Call-ID not found or tags didn't match"


class Commands:
    """Runs requests against the registry.

    `unix_offset`: seconds from the registry's time to Unix time. `note` hears of each request that was refused or
    warned of, its source, the reply, and what the reply does not tell. `rewrite` writes the other party's body.
    """

    def __init__(
        self,
        registry: Registry,
        started: float,
        unix_offset: float,
        note: Note = lambda request, source, reply, detail: None,
        rewrite: Rewrite = rewrite,
    ) -> None:
        self.registry = registry
        self.started = started
        self.unix_offset = unix_offset
        self.ignored = 0
        """Keys and flags that meant nothing here, in all requests."""
        self.counts: dict[str, Counter[str]] = {}
        """Commands and errors, by the address they came from."""
        self._note = note
        offers = OfferAnswer(registry, rewrite)
        self._handlers: Mapping[str, Callable[[Options, float], Reply]] = {
            "ping": self._ping,
            "offer": offers.offer,
            "answer": offers.answer,
            "delete": self._delete,
            "query": self._query,
            "list": self._list,
            "statistics": self._statistics,
        }

    def handle(self, request: Mapping[str, Any], source: Endpoint, now: float) -> Reply:
        """The reply to one request. Raises nothing that a request can cause."""
        counts = self.counts.get(source.ip)
        if counts is None:
            counts = self._new_source(source.ip)
        try:
            handler = self._find(request, counts)
            options = parse_options(request)
            self.ignored += options.ignored
            reply = handler(options, now)
        except HairpinError as error:
            counts["error"] += 1
            reply = _refusal(request, error)
            self._note(request, source, reply, error.detail if isinstance(error, SdpError) else "")
        else:
            if "warning" in reply:
                self._note(request, source, reply, "")
        return reply

    def _find(self, request: Mapping[str, Any], counts: Counter[str]) -> Callable[[Options, float], Reply]:
        command = request.get("command")
        if command is None:
            raise CommandError('Dictionary contains no key "command"')
        handler = self._handlers.get(command) if isinstance(command, str) else None
        if handler is None:
            raise CommandError("Unrecognized command")
        counts[command] += 1
        return handler

    def _new_source(self, ip: str) -> Counter[str]:
        """Room for one more controller; when there are too many, the counts of the oldest are forgotten."""
        while len(self.counts) >= 256:
            del self.counts[next(iter(self.counts))]
        return self.counts.setdefault(ip, Counter())

    # -- one method per command

    def _ping(self, options: Options, now: float) -> Reply:
        return {"result": "pong"}

    def _delete(self, options: Options, now: float) -> Reply:
        call = self.registry.delete(
            call_id(options),
            now,
            options.from_tag,
            options.to_tag,
            options.via_branch,
            options.match_to_tag,
            options.delete_delay,
        )
        if call is None:
            return {"result": "ok", "warning": NOT_FOUND}
        reply = {} if options.fast else call_report(call, self.registry.plane, now, self.unix_offset)
        self.registry.finish(call, now)
        reply["result"] = "ok"
        return reply

    def _query(self, options: Options, now: float) -> Reply:
        call = self.registry.query(call_id(options))
        reply = call_report(call, self.registry.plane, now, self.unix_offset)
        reply["result"] = "ok"
        return reply

    def _list(self, options: Options, now: float) -> Reply:
        return {"calls": self.registry.call_ids(options.limit), "result": "ok"}

    def _statistics(self, options: Options, now: float) -> Reply:
        return {"statistics": statistics(self.registry, self.counts, now - self.started), "result": "ok"}


def _refusal(request: Mapping[str, Any], error: HairpinError) -> Reply:
    """The reply to a request that failed; a limit is told in the controller's way."""
    if isinstance(error, LoadLimit) and parse_options(request).load_limit:
        return {"result": "load limit", "message": str(error)}
    return {"result": "error", "error-reason": str(error)}
