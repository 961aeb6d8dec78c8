"""What the relay does at each ng command, and what it replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from control.ng import room as rooms
from control.ng.flags import Options, parse_options
from control.ng.needed import CommandError, call_id
from control.ng.offeranswer import OfferAnswer, Rewrite
from control.ng.participants import known_tag, members_with, selected
from control.ng.report import blank_report, call_report
from control.ng.statistics import statistics
from control.ng.templates import Templates
from control.sdp.model import SdpError
from control.sdp.rewrite import rewrite
from relay.call import Call
from relay.errors import HairpinError
from relay.registry import LoadLimit, Registry
from relay.types import Endpoint, Treatment

__all__ = ["CommandError", "Commands"]

Reply = dict[str, Any]
Note = Callable[[Mapping[str, Any], Endpoint, Reply, str], None]

Handler = Callable[[Options, float, int], Reply]
"""Options, time, and the bytes that a report may take."""

MAX_SOURCES = 256
"""Controllers whose commands are counted apart."""
NOT_FOUND = "Call-ID not found or tags didn't match"
NOT_RECORDED = "nothing is recorded: this relay does not record"
NOT_DONE = {
    **dict.fromkeys(("start forwarding", "stop forwarding"), "This relay sends no copies of media to a recorder"),
    **dict.fromkeys(("play media", "stop media"), "This relay plays no media"),
    "play dtmf": "This relay makes no DTMF",
    **dict.fromkeys(
        ("publish", "subscribe request", "subscribe answer", "unsubscribe"),
        "This relay knows no subscriptions: media goes between the two parties of an offer and its answer",
    ),
    **dict.fromkeys(
        ("connect", "create", "create answer", "mesh"),
        "This relay joins no calls: media goes between the two parties of an offer and its answer",
    ),
    **dict.fromkeys(("inject start", "inject stop", "transform"), "This relay neither makes nor transcodes media"),
    "cli": "This relay has no command line over ng: use `hairpin` on its host",
}
"""Commands that controllers know and this relay does not do, and what it says to them."""
TREATMENTS = {
    "block media": (Treatment.BLOCK, True),
    "unblock media": (Treatment.BLOCK, False),
    "silence media": (Treatment.SILENCE, True),
    "unsilence media": (Treatment.SILENCE, False),
    "block dtmf": (Treatment.BLOCK_EVENTS, True),
    "unblock dtmf": (Treatment.BLOCK_EVENTS, False),
}
"""Commands that change what becomes of a party's media."""


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
        self.forgotten: Counter[str] = Counter()
        """Those of addresses that had to make room for others."""
        self.templates = Templates({})
        """Flags of the configuration."""
        self._note = note
        offers = OfferAnswer(registry, unix_offset, rewrite)
        self._handlers: dict[str, Handler] = {
            "ping": self._ping,
            "offer": offers.offer,
            "answer": offers.answer,
            "delete": self._delete,
            "query": self._query,
            "list": self._list,
            "statistics": self._statistics,
            "start recording": self._record,
            "stop recording": self._record,
            "pause recording": self._record,
            **{name: self._treating(treatment, on) for name, (treatment, on) in TREATMENTS.items()},
        }

    def handle(
        self, request: Mapping[str, Any], source: Endpoint, now: float, room: int | None = rooms.DATAGRAM
    ) -> Reply:
        """The reply to one request. Raises nothing that a request can cause.

        A report is cut to `room` bytes, to the size of a datagram with the flag `full`; None: it goes over a stream.
        """
        counts = self.counts.get(source.ip)
        if counts is None:
            counts = self._new_source(source.ip)
        try:
            handler = self._find(request, counts)
            options = self.templates.options(request, source.ip)
            self.ignored += options.ignored
            if room is None:
                room = rooms.STREAM
            elif options.full and room < rooms.LARGEST:
                room = rooms.LARGEST
            reply = handler(options, now, room)
        except HairpinError as error:
            counts["error"] += 1
            reply = _refusal(request, error)
            self._note(request, source, reply, error.detail if isinstance(error, SdpError) else "")
        else:
            if "warning" in reply:
                self._note(request, source, reply, "")
        return reply

    def _find(self, request: Mapping[str, Any], counts: Counter[str]) -> Handler:
        """What carries out the command, in whatever spelling: `block DTMF`, `block-dtmf`, `block_DTMF`."""
        command = request.get("command")
        if command is None:
            raise CommandError('Dictionary contains no key "command"')
        if not isinstance(command, str):
            raise CommandError("Unrecognized command")
        handler = self._handlers.get(command)
        if handler is None:
            command = command.lower().replace("-", " ").replace("_", " ")
            handler = self._handlers.get(command)
        if handler is None and command not in NOT_DONE:
            raise CommandError("Unrecognized command")
        counts[command] += 1
        if handler is None:
            raise CommandError(NOT_DONE[command])
        return handler

    def _new_source(self, ip: str) -> Counter[str]:
        """Room for one more controller; when there are too many, the oldest is no longer told apart."""
        while len(self.counts) >= MAX_SOURCES:
            self.forgotten.update(self.counts.pop(next(iter(self.counts))))
        return self.counts.setdefault(ip, Counter())

    # -- one method per command

    def _ping(self, options: Options, now: float, room: int) -> Reply:
        return {"result": "pong"}

    def _delete(self, options: Options, now: float, room: int) -> Reply:
        call = self.registry.delete(
            call_id(options),
            now,
            options.from_tag,
            options.to_tag,
            options.via_branch,
            options.match_to_tag,
            options.delete_delay,
            options.controller,
        )
        if call is None:
            if options.fatal:
                raise CommandError(NOT_FOUND)
            return {"result": "ok", "warning": NOT_FOUND}
        reply = {} if options.fast else self._ended(call, options, now, room)
        self.registry.finish(call, now)
        reply["result"] = "ok"
        return reply

    def _ended(self, call: Call, options: Options, now: float, room: int) -> Reply:
        """The report on a deleted call: of all branches that the party of the tag is in."""
        members = call.members()
        if len(members) > 1 and (tag := known_tag(options, members)) is not None:
            members = members_with(members, tag)
        return call_report(members, self.registry.plane, now, self.unix_offset, room)

    def _query(self, options: Options, now: float, room: int) -> Reply:
        members = self.registry.query(call_id(options)).members()
        if options.from_tag is None and options.to_tag is None:
            reply = call_report(members, self.registry.plane, now, self.unix_offset, room)
        elif (tag := known_tag(options, members)) is not None:
            members = members_with(members, tag)
            reply = call_report(members, self.registry.plane, now, self.unix_offset, room, tag)
        else:
            reply = blank_report(members, self.unix_offset)
        reply["result"] = "ok"
        return reply

    def _list(self, options: Options, now: float, room: int) -> Reply:
        found = self.registry.call_ids(options.limit)
        told = rooms.head(found, room)
        reply: Reply = {"calls": told, "result": "ok"}
        if len(told) < len(found):
            reply["warning"] = f"cut to {room} bytes: {len(told)} of {len(found)} calls are told; {rooms.hint(room)}"
        return reply

    def _statistics(self, options: Options, now: float, room: int) -> Reply:
        room = max(room, rooms.LARGEST)
        reply = statistics(self.registry, self.counts, self.forgotten, now - self.started, room)
        reply["result"] = "ok"
        return reply

    def _treating(self, treatment: Treatment, on: bool) -> Handler:
        """The command that begins or ends a treatment of one party's media, or of the whole call's."""

        def treat(options: Options, now: float, room: int) -> Reply:
            name = call_id(options)
            who = selected(options, self.registry.query(name).members())
            self.registry.treat(name, who, treatment, on, now)
            return {"result": "ok"}

        return treat

    def _record(self, options: Options, now: float, room: int) -> Reply:
        self.registry.query(call_id(options))
        return {"result": "ok", "warning": NOT_RECORDED}


def _refusal(request: Mapping[str, Any], error: HairpinError) -> Reply:
    """The reply to a request that failed; a limit is told in the controller's way."""
    if isinstance(error, LoadLimit) and parse_options(request).load_limit:
        return {"result": "load limit", "message": str(error)}
    return {"result": "error", "error-reason": str(error)}
