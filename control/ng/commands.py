"""What the relay does at each ng command, and what it replies."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from control.ng.bencode import to_bytes
from control.ng.flags import Options, parse_options
from control.ng.report import call_report, statistics
from control.sdp.model import RewriteOptions, SdpError, SessionDescription
from control.sdp.parse import describe, parse
from control.sdp.rewrite import rewrite
from relay.errors import HairpinError
from relay.registry import LoadLimit, Outcome, Registry
from relay.types import Endpoint, LocalMedia, MediaDescription

__all__ = ["CommandError", "Commands"]

Reply = dict[str, Any]
Note = Callable[[Mapping[str, Any], Endpoint, Reply, str], None]

MAX_TEXT = 60_000
"""Bytes of SDP and warnings that fit a reply, which is one datagram."""
MAX_ESCAPE = 6
"""Bytes JSON makes of one character at most."""

NOT_FOUND = "Call-ID not found or tags didn't match"


class CommandError(HairpinError):
    """A request that lacks something; the text is the reply's error-reason."""


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
        rewrite: Callable[[SessionDescription, Sequence[LocalMedia], RewriteOptions], str] = rewrite,
    ) -> None:
        self.registry = registry
        self.started = started
        self.unix_offset = unix_offset
        self.ignored = 0
        """Keys and flags that meant nothing here, in all requests."""
        self.counts: dict[str, Counter[str]] = {}
        """Commands and errors, by the address they came from."""
        self._note = note
        self._rewrite = rewrite
        self._handlers: Mapping[str, Callable[[Options, float], Reply]] = {
            "ping": self._ping,
            "offer": self._offer,
            "answer": self._answer,
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

    def _offer(self, options: Options, now: float) -> Reply:
        call_id, from_tag = _call_id(options), _from_tag(options)
        if options.sdp == "":
            return {"result": "ok"}
        session, media = _media(options)
        outcome = self.registry.offer(call_id, from_tag, options.to_tag, media, options.signal(), now)
        try:
            return self._reply(session, media, outcome, options)
        except SdpError:
            self.registry.abandon(outcome, now)
            raise

    def _answer(self, options: Options, now: float) -> Reply:
        call_id, from_tag = _call_id(options), _from_tag(options)
        if options.to_tag is None:
            raise CommandError("No to-tag in message")
        if options.sdp == "":
            return {"result": "ok"}
        session, media = _media(options)
        outcome = self.registry.answer(call_id, from_tag, options.to_tag, media, options.signal(), now)
        return self._reply(session, media, outcome, options)

    def _reply(
        self, session: SessionDescription, media: Sequence[MediaDescription], outcome: Outcome, options: Options
    ) -> Reply:
        sdp = self._rewrite(session, outcome.media, options.rewriting())
        reply = {"sdp": sdp, "result": "ok"}
        warnings = outcome.warnings
        if options.transport is not None:
            warnings = [*warnings, *_unconverted(media, options.transport)]
        if warnings:
            reply["warning"] = "; ".join(warnings)
        if not _fits(reply):
            raise SdpError("Reply too large", f"more than {MAX_TEXT} bytes of SDP and warnings")
        return reply

    def _delete(self, options: Options, now: float) -> Reply:
        call_id = _call_id(options)
        call = self.registry.delete(
            call_id,
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
        call = self.registry.query(_call_id(options))
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


def _call_id(options: Options) -> str:
    if options.call_id is None:
        raise CommandError("No call-id in message")
    return options.call_id


def _from_tag(options: Options) -> str:
    if options.from_tag is None:
        raise CommandError("No from-tag in message")
    return options.from_tag


def _media(options: Options) -> tuple[SessionDescription, list[MediaDescription]]:
    if options.sdp is None:
        raise CommandError("No SDP body in message")
    session = parse(options.sdp)
    return session, describe(session)


def _fits(reply: Reply) -> bool:
    """Whether a reply goes into a datagram in either encoding; JSON is never the shorter one."""
    if sum(map(len, reply.values())) * MAX_ESCAPE <= MAX_TEXT:
        return True
    return len(to_bytes(json.dumps(reply, ensure_ascii=False))) <= MAX_TEXT


def _unconverted(media: Sequence[MediaDescription], wanted: str) -> list[str]:
    """What to say of a transport protocol that was asked for: media passes as it is."""
    kept = sorted({one.protocol for one in media if one.is_rtp and one.protocol.upper() != wanted.upper()})
    return [f"transport-protocol {wanted} is not made from {protocol}: media passes unchanged" for protocol in kept]
