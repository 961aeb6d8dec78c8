"""What all transports of the ng protocol share: who may command the relay, and a request's way to its reply."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from control.ng import message
from control.ng.room import DATAGRAM
from relay.types import Endpoint

__all__ = ["MAX_REPLY", "Counters", "Gate", "Handler", "Network", "Service", "refusal"]

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_REPLY = 65_507
"""UDP payload that fits into an IPv4 packet."""
MAX_LONG_REPLY = 8 << 20
"""Bytes of a reply over a stream."""
MAX_KNOWN_SOURCES = 4096
"""Sources whose verdict of the allow list is remembered."""
COMPLAINT_INTERVAL = 1.0
"""Seconds between two log lines of one kind that strangers or broken requests could cause at will."""
NOBODYS = b"-"
"""The cookie of requests that have none, where the transport itself tells which reply is whose."""


class Handler(Protocol):
    """Turns a request's dictionary, its sender and the time into the reply's dictionary.

    `room` is given on streams only: None, for there is no datagram that the reply has to fit.
    """

    def __call__(
        self, request: dict[str, Any], source: Endpoint, now: float, room: int | None = DATAGRAM, /
    ) -> dict[str, Any]: ...


class Gate(Protocol):
    """Holds replies back until what their commands changed would outlive this process."""

    @property
    def kept(self) -> int:
        """How much was handed in so far to be kept: it grows with each command that changes a call."""

    def reply(self, remembered: message.Remembered) -> None:
        """Keep what was replied to a command, together with what the command changed."""

    def after(self, send: Callable[[], None]) -> None:
        """Call `send` when all that was handed in so far is kept, or took too long; at once if nothing waits.

        What is given earlier is called earlier.
        """


class Open:
    """Replies pass at once, and nothing is kept."""

    kept = 0

    def reply(self, remembered: message.Remembered) -> None:
        return None

    def after(self, send: Callable[[], None]) -> None:
        send()


@dataclass(slots=True)
class Counters:
    """What became of the messages."""

    requests: int = 0
    """Handed to the handler."""
    repeats: int = 0
    """Answered from memory, or waiting for the first one's reply."""
    replies: int = 0
    """Sent."""
    malformed: int = 0
    """No ng message; answered with an error where there was a cookie."""
    strangers: int = 0
    """From an address that may not command the relay; not answered."""
    failures: int = 0
    """The handler raised: a fault of the relay's, with a traceback in the log."""
    oversize: int = 0
    """The reply did not fit; an error went out instead."""
    unsent_full: int = 0
    """The socket's send buffer was full; the proxy's repeat gets the reply."""
    unsent_error: int = 0
    """The kernel refused to send."""


class Service:
    """Answers ng requests, whatever they come in by.

    Only sources in `allow` are heard on listeners that are not on loopback. `clock` gives monotonic seconds. Whoever
    brings requests sends each reply, repeats of it included, by `gate.after`.
    """

    def __init__(self, handle: Handler, allow: Sequence[Network], clock: Callable[[], float]) -> None:
        self.counters = Counters()
        self.clock = clock
        self.gate: Gate = Open()
        self._handle = handle
        self._allow = tuple(allow)
        self._cookies = message.CookieCache()
        self._known: dict[str, bool] = {}
        self._complained: dict[str, float] = {}

    def statistics(self) -> dict[str, int]:
        """The counters and the memory of replies."""
        return {
            **asdict(self.counters),
            "remembered": len(self._cookies),
            "remembered_too_many": self._cookies.crowded,
        }

    # -- who may command

    def allow(self, networks: Sequence[Network]) -> None:
        """Hear sources in these networks, and no others, from here on."""
        self._allow = tuple(networks)
        self._known.clear()

    def allowed(self, ip: str) -> bool:
        """Whether a source may command the relay. The verdict is kept: working it out costs as much as a request."""
        verdict = self._known.get(ip)
        if verdict is None:
            if len(self._known) >= MAX_KNOWN_SOURCES:
                self._known.clear()
            address = ipaddress.ip_address(ip.partition("%")[0])
            verdict = self._known[ip] = any(address in network for network in self._allow)
        return verdict

    def stranger(self, source: Endpoint) -> None:
        """Note that somebody was not heard."""
        self.counters.strangers += 1
        self.complain("stranger", "ng: %s is not in the networks of --ng-allow, not answered", source)

    def open_to(self, listener: Endpoint) -> str:
        """Who is heard at a listener, in words for the log."""
        if ipaddress.ip_address(listener.ip).is_loopback:
            return "from this host"
        return "from " + (", ".join(map(str, self._allow)) or "nobody (no network is allowed)")

    # -- a request's way

    def answer(self, request: bytes, source: Endpoint, now: float, *, stream: bool = False) -> list[bytes]:
        """What to send back for one message: nothing, one reply, or several where repeats had been waiting.

        It came as a datagram, or by a `stream` that takes long replies.
        """
        cookie = request[: request.find(b" ", 0, message.MAX_COOKIE + 1) + 1]
        if not cookie.strip():
            self.malformed(source, "No cookie in message")
            return []
        exchange, repeated = self._cookies.begin(source, cookie, request, now)
        if repeated:
            self.counters.repeats += 1
            return [exchange.reply] if exchange.reply is not None else []
        kept = self.gate.kept
        reply = self._reply(request, source, now, stream)
        if self.gate.kept != kept:
            self.gate.reply(message.Remembered(source, cookie, exchange.digest, reply))
        return [reply] * self._cookies.finish(exchange, reply)

    def recall(self, replies: Iterable[message.Remembered]) -> None:
        """Remember replies that were given before this process began."""
        now = self.clock()
        for one in replies:
            self._cookies.recall(one, now)

    def answer_plain(self, payload: bytes, source: Endpoint, now: float) -> bytes:
        """The reply to a request without cookie, which came by a transport that never repeats. It has none either."""
        return self._reply(NOBODYS + b" " + payload, source, now, True)[len(NOBODYS) + 1 :]

    def _reply(self, request: bytes, source: Endpoint, now: float, stream: bool) -> bytes:
        try:
            cookie, encoding, body = message.decode(request)
        except message.MessageError as error:
            self.malformed(source, f"{error} ({error.detail})" if error.detail else str(error))
            return refusal(error.cookie or b"", str(error), error.encoding)
        self.counters.requests += 1
        try:
            done = self._handle(body, source, now, None) if stream else self._handle(body, source, now)
            reply = message.encode(cookie, encoding, done)
        except Exception:
            self.counters.failures += 1
            self.complain("failure", "ng: request from %s failed", source, exc_info=True)
            return refusal(cookie, "Internal error", encoding)
        if len(reply) > (MAX_LONG_REPLY if stream else MAX_REPLY):
            self.counters.oversize += 1
            self.complain("oversize", "ng: a reply of %d bytes to %s is too large to send", len(reply), source)
            return refusal(cookie, "Reply too large", encoding)
        return reply

    # -- what others can cause at will

    def malformed(self, source: Endpoint, reason: str) -> None:
        """Note that something came which is no ng message."""
        self.counters.malformed += 1
        self.complain("malformed", "ng: no ng message from %s: %s", source, reason)

    def complain(self, kind: str, text: str, *arguments: object, exc_info: bool = False) -> None:
        """Log what others can cause at will, at most one line of a kind per interval."""
        now = self.clock()
        if now - self._complained.get(kind, float("-inf")) < COMPLAINT_INTERVAL:
            return
        self._complained[kind] = now
        log.error(text, *arguments, exc_info=True) if exc_info else log.warning(text, *arguments)


def refusal(cookie: bytes, reason: str, encoding: message.Encoding = message.Encoding.BENCODE) -> bytes:
    """An error for a request that never got as far as to a command."""
    return message.encode(cookie, encoding, {"result": "error", "error-reason": reason})
