"""One ng datagram: `<cookie> SP <dictionary>`, in bencode or JSON, and the memory of replies already given.

A proxy that hears nothing for a second sends the same datagram again. It must get the same reply, and nothing may be
done twice: CookieCache knows what was answered. Unlike the peer's, its key holds the sender's address, since two
proxies of equal process ids use equal cookies; and a changed request under an old cookie is a new request, since a
restarted proxy counts from zero again.
"""

from __future__ import annotations

import enum
import json
from typing import Any, NamedTuple
from zlib import crc32

from control.ng import bencode
from relay.errors import HairpinError
from relay.types import Endpoint

__all__ = ["CookieCache", "Encoding", "Exchange", "MessageError", "Remembered", "Request", "decode", "encode"]

MAX_COOKIE = 256
"""Bytes of a cookie; proxies use about 20."""


class Encoding(enum.Enum):
    """How a dictionary is written; a reply uses its request's."""

    BENCODE = "bencode"
    JSON = "json"


class Request(NamedTuple):
    """A decoded datagram: the cookie that its reply carries, the encoding its reply uses, and the dictionary."""

    cookie: bytes
    encoding: Encoding
    body: dict[str, Any]


class MessageError(HairpinError):
    """The datagram is no request.

    The text is the reply's error-reason, `detail` what the log says beside it. Without a cookie nobody can be told.
    """

    def __init__(
        self, text: str, cookie: bytes | None = None, encoding: Encoding = Encoding.BENCODE, detail: str = ""
    ) -> None:
        super().__init__(text)
        self.cookie = cookie
        self.encoding = encoding
        self.detail = detail


def decode(datagram: bytes) -> Request:
    """Take a datagram apart. Raises MessageError, with the cookie where there is one."""
    space = datagram.find(b" ", 0, MAX_COOKIE + 1)
    if space <= 0:
        raise MessageError("No cookie in message")
    cookie, payload = datagram[:space], datagram[space + 1 :]
    kind = payload[:1]
    if kind == b"d":
        return Request(cookie, Encoding.BENCODE, _bencode(cookie, payload))
    if kind == b"{":
        return Request(cookie, Encoding.JSON, _json(cookie, payload))
    raise MessageError("Invalid NG data format" if kind else "Invalid data (no payload)", cookie)


def _bencode(cookie: bytes, payload: bytes) -> dict[str, Any]:
    try:
        body: dict[str, Any] = bencode.decode(payload)
    except bencode.BencodeError as error:
        raise MessageError("Could not decode bencode dictionary", cookie, detail=str(error)) from error
    return body


def _json(cookie: bytes, payload: bytes) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(payload.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise MessageError("Failed to parse JSON document", cookie, Encoding.JSON, str(error)) from error
    return body


def encode(cookie: bytes, encoding: Encoding, reply: dict[str, Any]) -> bytes:
    """The datagram of a reply. Raises TypeError or ValueError for what the encoding cannot express."""
    if encoding is Encoding.BENCODE:
        return cookie + b" " + bencode.encode(reply)
    text = json.dumps(reply, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_unwritten)
    return cookie + b" " + bencode.to_bytes(text)


def _unwritten(value: object) -> Any:
    """What JSON has no word for: only parts that were written in bencode at once."""
    if isinstance(value, bencode.Written):
        return value.value()
    raise TypeError(f"JSON has no {type(value).__name__}")


class Exchange:
    """One request and, once there is one, its reply. `waiting` counts repeats that came before the reply."""

    __slots__ = ("digest", "reply", "waiting")

    def __init__(self, digest: int) -> None:
        self.digest = digest
        self.reply: bytes | None = None
        self.waiting = 0


class Remembered(NamedTuple):
    """A reply that was given, as it outlives the process."""

    source: Endpoint
    cookie: bytes
    digest: int
    """Of the datagram it was given to."""
    reply: bytes


def digest(datagram: bytes) -> int:
    """What tells a repeat from another request under the same cookie, also in another process."""
    return len(datagram) << 32 | crc32(datagram)


class CookieCache:
    """Replies by sender and cookie, each kept 30 to 60 seconds.

    Two generations: every `lifetime` seconds the older is forgotten and the younger takes its place. A generation that
    reaches its share of `max_entries` or `max_bytes` ends early (`crowded` counts that), so that memory stays bounded
    whatever comes in.
    """

    ENTRY_COST = 400
    """Bytes of memory per entry beside the reply itself: two tuples, cookie, Exchange, slot in the dictionary."""

    def __init__(self, lifetime: float = 30.0, max_entries: int = 131_072, max_bytes: int = 256 << 20) -> None:
        self._lifetime = lifetime
        self._entries = max_entries // 2
        self._limit = max_bytes // 2
        self._young: dict[tuple[bytes, str, int], Exchange] = {}
        self._old: dict[tuple[bytes, str, int], Exchange] = {}
        self._bytes = 0
        self._since = float("-inf")
        self.crowded = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def begin(self, source: Endpoint, cookie: bytes, datagram: bytes, now: float) -> tuple[Exchange, bool]:
        """The exchange this datagram belongs to, and whether it is a repeat.

        For a repeat: send `reply`, or nothing where it is None yet, `finish` will count it. Otherwise do the work and
        call `finish`.
        """
        if now - self._since >= self._lifetime:
            self._turn(now)
        key = (cookie, source.ip, source.port)  # of nothing that the collector of cycles has to walk
        told = digest(datagram)
        known = self._young.get(key) or self._old.get(key)
        if known is not None and known.digest == told:
            known.waiting += known.reply is None
            return known, True
        return self._enter(key, told, now), False

    def finish(self, exchange: Exchange, reply: bytes) -> int:
        """Keep the reply, and say how often to send it: once, and once for every repeat that came meanwhile."""
        exchange.reply = reply
        self._bytes += len(reply)
        return 1 + exchange.waiting

    def recall(self, one: Remembered, now: float) -> None:
        """Remember a reply that was given before this process began."""
        if now - self._since >= self._lifetime:
            self._turn(now)
        key = (one.cookie, one.source.ip, one.source.port)
        self.finish(self._enter(key, one.digest, now), one.reply)

    def _enter(self, key: tuple[bytes, str, int], told: int, now: float) -> Exchange:
        if len(self._young) >= self._entries or self._bytes >= self._limit:
            self.crowded += 1
            self._turn(now)
        exchange = self._young[key] = Exchange(told)
        self._bytes += self.ENTRY_COST + len(key[0])
        return exchange

    def _turn(self, now: float) -> None:
        idle = now - self._since >= 2 * self._lifetime
        self._old = {} if idle else self._young
        self._young = {}
        self._bytes = 0
        self._since = now
