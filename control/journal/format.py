"""The journal's format: frames that tell of themselves whether they are whole. Pure.

A file begins with one line that names the format, so that a person and any later version can read it. Frames follow:

    mark 4 | CRC-32 4 | kind 1 | none 1 | length of the key 2 | length of the body 4 | key | body

The CRC is over all behind it. The mark is no UTF-8, so that it stands in no text, and reading goes on at the next mark
behind anything that is no frame. Later frames count: a call's record takes the place of the one before it.
"""

from __future__ import annotations

import json
import struct
from enum import IntEnum
from typing import NamedTuple
from zlib import crc32

from control.ng.message import Remembered
from relay.errors import HairpinError
from relay.types import Endpoint

__all__ = [
    "FORMAT",
    "MAX_BODY",
    "Frame",
    "Header",
    "JournalError",
    "Kind",
    "Scanner",
    "body",
    "frame",
    "key",
    "name",
    "opening",
    "other_format",
    "read_header",
    "read_reply",
    "reply_frame",
]

FORMAT = 1
MAX_KEY = 4096
"""Bytes of a Call-ID that is journalled."""
MAX_BODY = 1 << 20
"""Bytes of a record or reply that is journalled."""

_LINE = "hairpin journal, format "
_MARK = b"\xffHJ\xfe"
_HEAD = struct.Struct("<4sIBBHI")
_CHECKED = 8
"""Where what the CRC covers begins."""
_REPLY = struct.Struct("<dQHH")
"""Until when it counts, digest of the request, port of its sender, length of the sender's address."""
_EFFORT = 256 << 20
"""Bytes of seeming frames that are checked in vain before the rest of a file is given up."""


class Kind(IntEnum):
    """What a frame says."""

    HEADER = 1
    """Who writes this file."""
    CALL = 2
    """A call's record; the key is its Call-ID."""
    GONE = 3
    """The call of that Call-ID has ended."""
    REPLY = 4
    """What was replied to a command; the key is its cookie."""


_KINDS = frozenset(int(kind) for kind in Kind)
_CALL = int(Kind.CALL)


class JournalError(HairpinError):
    """Bytes that are no frame, or what does not fit into one; the text says which."""


class Header(NamedTuple):
    """Who wrote a file."""

    boot: str = ""
    """Of the host. Another one: what stood in memory, pinned tables included, is gone."""
    keyspace: int = 0
    version: str = ""
    """Of Hairpin."""


class Frame(NamedTuple):
    """One frame that was found whole."""

    kind: int
    key: bytes
    offset: int
    """Where it begins in the file."""
    size: int
    body: bytes
    """Left out of a call's record, which is read when it is needed."""


def key(call_id: str) -> bytes:
    """A Call-ID's bytes, whatever stands in it."""
    return call_id.encode("utf-8", "surrogatepass")


def name(key: bytes) -> str:
    """The Call-ID of a key. Raises UnicodeDecodeError."""
    return key.decode("utf-8", "surrogatepass")


def frame(kind: int, key: bytes, body: bytes = b"") -> bytes:
    """The bytes of a frame. Raises JournalError where it would be too large to be read again."""
    if len(key) > MAX_KEY or len(body) > MAX_BODY:
        raise JournalError(f"a name of {len(key)} bytes with {len(body)} is too large for the journal")
    rest = b"".join((_HEAD.pack(_MARK, 0, kind, 0, len(key), len(body))[_CHECKED:], key, body))
    return b"".join((_MARK, crc32(rest).to_bytes(4, "little"), rest))


def body(data: bytes) -> bytes:
    """The body of one frame, which was found whole before. Raises JournalError if it is not any more."""
    found = Scanner(b"").feed(data, True, bodies=True)
    if len(found) != 1 or found[0].size != len(data):
        raise JournalError("its record in the journal was damaged after it was read")
    return found[0].body


def opening(header: Header) -> bytes:
    """What a file begins with."""
    text = json.dumps({"boot": header.boot, "keyspace": header.keyspace, "version": header.version})
    return f"{_LINE}{FORMAT}\n".encode() + frame(Kind.HEADER, b"", text.encode())


def other_format(start: bytes) -> str | None:
    """The format that a file's first line names, if it is not the one that is read here."""
    line = start[:64].partition(b"\n")[0].decode("ascii", "replace")
    said = line.removeprefix(_LINE)
    return said if said != line and said != str(FORMAT) and said.isdigit() else None


def read_header(body: bytes) -> Header:
    """Who wrote a file, as far as it can be told."""
    try:
        said = json.loads(body)
        return Header(str(said["boot"]), int(said["keyspace"]), str(said["version"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        return Header()


def reply_frame(reply: Remembered, until: float) -> bytes:
    """The frame of a reply that counts until then, in Unix seconds. Raises JournalError where it is too large."""
    address = reply.source.ip.encode()
    fixed = _REPLY.pack(until, reply.digest, reply.source.port, len(address))
    return frame(Kind.REPLY, reply.cookie, b"".join((fixed, address, reply.reply)))


def read_reply(found: Frame) -> tuple[Remembered, float]:
    """The reply in a frame, and until when it counts. Raises JournalError."""
    try:
        until, digest, port, length = _REPLY.unpack_from(found.body)
        address = found.body[_REPLY.size : _REPLY.size + length].decode("ascii")
    except (struct.error, UnicodeDecodeError):
        raise JournalError("no reply") from None
    return Remembered(Endpoint(address, port), found.key, digest, found.body[_REPLY.size + length :]), until


class Scanner:
    """Finds the frames of a file that it is fed block by block."""

    def __init__(self, start: bytes = f"{_LINE}{FORMAT}\n".encode()) -> None:
        """`start`: what the file begins with before its first frame."""
        self.gaps = 0
        """Places between frames that hold none."""
        self.lost = 0
        """Bytes of these."""
        self.torn = 0
        """Bytes behind the last frame."""
        self.given_up = False
        """The rest was not looked through: too much of it looks like frames and is none."""
        self._rest = b""
        self._at = 0
        """Where in the file the rest begins."""
        self._sound = 0
        """Where in the file the last frame ended."""
        self._start = start
        self._effort = _EFFORT

    def feed(self, block: bytes, last: bool, bodies: bool = False) -> list[Frame]:
        """The frames that are complete with one more block; `bodies`: with those of calls' records."""
        data = self._rest + block
        view = memoryview(data)
        found: list[Frame] = []
        at = self._begin(data)
        while len(data) - at >= _HEAD.size and not self.given_up:
            mark, crc, kind, _, keys, length = _HEAD.unpack_from(data, at)
            begin = at + _HEAD.size
            end = begin + keys + length
            if mark == _MARK and kind in _KINDS and keys <= MAX_KEY and length <= MAX_BODY:
                if end > len(data) and not last:
                    break
                if end <= len(data) and crc32(view[at + _CHECKED : end]) == crc:
                    self._note(self._at + at, self._at + end)
                    wanted = bodies or kind != _CALL
                    rest = data[begin + keys : end] if wanted else b""
                    found.append(Frame(kind, data[begin : begin + keys], self._at + at, end - at, rest))
                    at = end
                    continue
                self._effort -= end - at
                self.given_up = self._effort < 0
            at = _next_mark(data, at + 1)
        self._rest = data[at:]
        self._at += at
        if last:
            self.torn = self._at + len(self._rest) - self._sound
        return found

    def _begin(self, data: bytes) -> int:
        """Skip the first line where it is as it should be."""
        if self._at == 0 and data.startswith(self._start):
            self._sound = len(self._start)
        return self._sound if self._at == 0 else 0

    def _note(self, begin: int, end: int) -> None:
        if begin > self._sound:
            self.gaps += 1
            self.lost += begin - self._sound
        self._sound = end


def _next_mark(data: bytes, at: int) -> int:
    """Where the next frame may begin; what may be the beginning of a mark is left for the next block."""
    found = data.find(_MARK, at)
    return found if found >= 0 else max(at, len(data) - len(_MARK) + 1)
