"""Messages of the ng protocol out of a stream: `<cookie> SP <dictionary>`, one after the other, no length before them.

Where a message ends only its dictionary tells, so it is walked as it comes in, a token at a time, and no byte of it is
looked at twice. Bencode is what the peer takes on streams; JSON ends as plainly, at the brace that closes the first
one. Line ends between messages are skipped, for those who type them.
"""

from __future__ import annotations

import re

from control.ng.bencode import MAX_DEPTH, MAX_SIZE
from control.ng.message import MAX_COOKIE
from relay.errors import HairpinError

__all__ = ["MAX_MESSAGE", "Frames", "FramingError"]

MAX_MESSAGE = MAX_COOKIE + 1 + MAX_SIZE
"""Bytes of one message: what can be decoded."""

_TOKEN = re.compile(rb"(\d{1,5}):|([dl])|(e)|i-?\d{1,19}e")
_BEGUN = re.compile(rb"\d{1,5}|i-?\d{0,19}")
_OUTSIDE = re.compile(rb'["{}\[\]]')
_INSIDE = re.compile(rb'["\\]')


class FramingError(HairpinError):
    """What came is no message, so nobody knows where the next one would begin: the stream is to be closed.

    The text says what was wrong; `cookie` is the message's where it had one, so that its sender can be told.
    """

    def __init__(self, text: str, cookie: bytes = b"") -> None:
        super().__init__(text)
        self.cookie = cookie


class Frames:
    """One stream's bytes on their way in."""

    __slots__ = ("_at", "_body", "_buffer", "_depth", "_quoted")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._body = 0
        """Offset of the message's dictionary, 0 until it has begun."""
        self._at = 0
        """Where the next token is: behind the end while a string is on its way."""
        self._depth = 0
        self._quoted = False

    def __len__(self) -> int:
        """Bytes that have not been taken."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """More of the stream."""
        self._buffer += data

    def take(self) -> bytes | None:
        """The next message, None while it is not complete. Raises FramingError, after which nothing comes any more."""
        if not self._body and not self._begin():
            return None
        complete = self._json() if self._buffer[self._body] == 0x7B else self._bencode()
        if not complete and max(self._at, len(self._buffer)) > MAX_MESSAGE:
            raise self._error(f"more than {MAX_MESSAGE} bytes")
        if not complete:
            return None
        taken = bytes(self._buffer[: self._at])
        del self._buffer[: self._at]
        self._body = self._at = 0
        return taken

    def _begin(self) -> bool:
        """Find the dictionary behind the cookie."""
        buffer = self._buffer
        if buffer.startswith((b"\r", b"\n")):
            del buffer[: len(buffer) - len(buffer.lstrip(b"\r\n"))]
        space = buffer.find(b" ", 0, MAX_COOKIE + 1)
        if space == 0 or (space < 0 and len(buffer) > MAX_COOKIE):
            raise FramingError("No cookie in message")
        if space < 0 or len(buffer) == space + 1:
            return False
        self._body = self._at = space + 1
        if buffer[self._body] not in b"d{":
            raise self._error("Invalid NG data format")
        return True

    def _bencode(self) -> bool:
        """Walk on; whether the dictionary has come to its end."""
        buffer = self._buffer
        end = min(len(buffer), MAX_MESSAGE)
        while self._at < end:
            token = _TOKEN.match(buffer, self._at)
            if token is None:
                if _BEGUN.fullmatch(buffer, self._at):
                    return False
                raise self._error(f"unexpected data at offset {self._at - self._body}")
            self._at = token.end()
            length, opened, closed = token.groups()
            if length is not None:
                self._at += int(length)
            elif opened is not None:
                self._depth += 1
                if self._depth > MAX_DEPTH:
                    raise self._error(f"nested deeper than {MAX_DEPTH}")
            elif closed is not None:
                self._depth -= 1
                if not self._depth:
                    return True
        return False

    def _json(self) -> bool:
        """The same for an object in JSON, of which only strings and brackets matter."""
        buffer = self._buffer
        end = min(len(buffer), MAX_MESSAGE)
        while self._at < end:
            found = (_INSIDE if self._quoted else _OUTSIDE).search(buffer, self._at, end)
            if found is None:
                self._at = end
                return False
            self._at = found.end()
            mark = found[0]
            if mark == b'"':
                self._quoted = not self._quoted
            elif mark == b"\\":
                self._at += 1  # whatever is escaped, if it has come already or not
            elif mark in b"{[":
                self._depth += 1
            else:
                self._depth -= 1
                if not self._depth:
                    return True
        return False

    def _error(self, text: str) -> FramingError:
        return FramingError(text, bytes(self._buffer[: self._body - 1]))
