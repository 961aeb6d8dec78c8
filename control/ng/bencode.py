"""Bencode as the ng protocol uses it, decoded in one pass.

Looser than BEP 3 in what proxies really send: keys in any order, the last of equal keys wins, the outermost dictionary
may lack its closing `e`, and what follows it is ignored. Strings come out as `str`; bytes that are not UTF-8 survive as
surrogate escapes and go out again as the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn

from relay.errors import HairpinError

__all__ = ["BencodeError", "Layout", "Written", "decode", "encode", "entry", "to_bytes", "write"]

MAX_SIZE = 65_535
"""Bytes of one document: what a UDP datagram can hold."""
MAX_DEPTH = 16
"""Nested lists and dictionaries; the deepest thing proxies send is three."""
MAX_PREFIX = 6
"""Characters of a string's length and colon."""
MAX_INTEGER = 20
"""Characters of an integer: the sign and the digits of a signed 64-bit number."""

# Length prefix of a string, colon included -> what to add to its offset to get behind the string. A slice and a look-up
# cost a third of find() and int(), and lengths below 100 are nearly all there are.
_ONE_DIGIT = {f"{n}:": n + 2 for n in range(10)}
_TWO_DIGITS = {f"{n}:": n + 3 for n in range(10, 100)}


class BencodeError(HairpinError):
    """The bytes are not bencode, or beyond the bounds; the text says what is wrong and at which offset."""


def decode(data: bytes) -> Any:
    """The value `data` holds: dict (keys str), list, str or int. Raises BencodeError for anything else."""
    if len(data) > MAX_SIZE:
        raise BencodeError(f"{len(data)} bytes are more than {MAX_SIZE}")
    return _read(data)


def _read(data: bytes) -> Any:
    text = data.decode("latin-1")  # one character per byte, whatever the bytes are: offsets stay those of the data
    value, _ = _value(text, 0, 0)
    return value if data.isascii() else _utf8(value)


# In the next two functions the common case stands in line: a string whose length has one digit, or two. A string that
# reaches beyond the end of the data leaves `at` behind it, where the next slice is empty: that is where it is noticed.


def _dict(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    """The dictionary whose first key starts at `at`, and the offset after its end."""
    result: dict[str, Any] = {}
    one_digit, two_digits = _ONE_DIGIT.get, _TWO_DIGITS.get
    while True:
        if size := one_digit(text[at : at + 2]):
            key = text[at + 2 : at + size]
            at += size
        elif size := two_digits(text[at : at + 3]):
            key = text[at + 3 : at + size]
            at += size
        elif text[at : at + 1] == "e":
            return result, at + 1
        elif depth == 1 and at == len(text):
            return result, at
        else:
            key, at = _string(text, at)
        if size := one_digit(text[at : at + 2]):
            result[key] = text[at + 2 : at + size]
            at += size
        elif size := two_digits(text[at : at + 3]):
            result[key] = text[at + 3 : at + size]
            at += size
        else:
            result[key], at = _value(text, at, depth)


def _list(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    """The list whose first item starts at `at`, and the offset after its end."""
    if depth > MAX_DEPTH:
        _too_deep(at)
    result: list[Any] = []
    while True:
        if size := _ONE_DIGIT.get(text[at : at + 2]):
            result.append(text[at + 2 : at + size])
            at += size
        elif size := _TWO_DIGITS.get(text[at : at + 3]):
            result.append(text[at + 3 : at + size])
            at += size
        elif text[at : at + 1] == "e":
            return result, at + 1
        else:
            value, at = _value(text, at, depth)
            result.append(value)


def _value(text: str, at: int, depth: int) -> tuple[Any, int]:
    """Whatever starts at `at`, inside of `depth` containers, and the offset after its end."""
    kind = text[at : at + 1]
    if kind == "d":
        if depth >= MAX_DEPTH:
            _too_deep(at)
        return _dict(text, at + 1, depth + 1)
    if kind == "l":
        return _list(text, at + 1, depth + 1)
    if kind == "i":
        return _integer(text, at + 1)
    return _string(text, at)


def _string(text: str, at: int) -> tuple[str, int]:
    """The string whose length prefix starts at `at`, and the offset after its end."""
    colon = text.find(":", at, at + MAX_PREFIX)
    length = text[at:colon] if colon > at else ""
    start = colon + 1
    if length.isdecimal() and length.isascii() and (length[0] != "0" or length == "0"):
        end = start + int(length)
        if end <= len(text):
            return text[start:end], end
        at = len(text)
    if at >= len(text):
        raise BencodeError(f"data ends too early, at offset {len(text)}")
    raise BencodeError(f"unexpected data at offset {at}")


def _integer(text: str, at: int) -> tuple[int, int]:
    """The integer whose sign or first digit is at `at`, and the offset after its closing `e`."""
    end = text.find("e", at, at + MAX_INTEGER + 1)
    literal = text[at:end] if end > at else ""
    digits = literal.removeprefix("-")
    if not digits.isdecimal() or not digits.isascii():
        raise BencodeError(f"invalid integer at offset {at}")
    return int(literal), end + 1


def _too_deep(at: int) -> NoReturn:
    raise BencodeError(f"nested deeper than {MAX_DEPTH} at offset {at}")


def _utf8(value: Any) -> Any:
    """The same value with its strings read as UTF-8 instead of Latin-1."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("latin-1").decode("utf-8", "surrogateescape")
    if isinstance(value, list):
        return [_utf8(item) for item in value]
    if isinstance(value, dict):
        return {_utf8(key): _utf8(item) for key, item in value.items()}
    return value


class Written:
    """A value that is bencode already, to be put into another one as it is."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def value(self) -> Any:
        """What it says, for a reply in another encoding."""
        return _read(to_bytes(self.text))


class Layout:
    """A dictionary that is written often: its keys never change and are written once.

    `shape` says for each key what stands there: `int`, or another such shape, or anything else for what the caller
    brings in bencode.
    """

    __slots__ = ("_head",)

    def __init__(self, shape: Mapping[str, Any]) -> None:
        self._head = _outline(shape)

    def fill(self, *values: int | str, more: str = "") -> str:
        """The dictionary with these values in the order of the shape; `more` is entries that are not always there."""
        return f"{self._head % values}{more}e"


def _outline(shape: Mapping[str, Any]) -> str:
    """A dictionary without its end, as a format."""
    parts = ["d"]
    for key, kind in shape.items():
        parts.append(_key(key).replace("%", "%%"))
        parts.append(f"{_outline(kind)}e" if isinstance(kind, Mapping) else "i%de" if kind is int else "%s")
    return "".join(parts)


def entry(key: str, value: str) -> str:
    """One entry of a dictionary; its value is bencode already."""
    return f"{_key(key)}{value}"


def encode(value: Any) -> bytes:
    """The bencode of a dict (keys str or bytes, in their own order), list, tuple, str, bytes, int or bool (0 or 1).

    Raises TypeError for any other type: what is put into a reply is the program's own doing.
    """
    return to_bytes(write(value))


def write(value: Any) -> str:
    """What `encode` makes bytes of: the lengths of its strings are those of their UTF-8."""
    if type(value) is str and value.isascii():
        return f"{len(value)}:{value}"
    parts: list[str] = []
    _append(parts, value)
    return "".join(parts)


def _append(parts: list[str], value: Any) -> None:
    """Write one value. Plain ints and ASCII strings in a dictionary are written in its own loop."""
    if isinstance(value, dict):
        add = parts.append
        add("d")
        for key, item in value.items():
            add(_key(key))
            kind = type(item)
            if kind is int:
                add(f"i{item}e")
            elif kind is str and item.isascii():
                add(f"{len(item)}:{item}")
            else:
                _append(parts, item)
        add("e")
    elif isinstance(value, str):
        parts.append(_text(value))
    elif isinstance(value, list | tuple):
        parts.append("l")
        for item in value:
            _append(parts, item)
        parts.append("e")
    elif isinstance(value, int):
        parts.append(f"i{int(value)}e")
    elif isinstance(value, bytes):
        parts.append(_blob(value))
    elif isinstance(value, Written):
        parts.append(value.text)
    else:
        raise TypeError(f"bencode has no {type(value).__name__}")


@lru_cache(maxsize=1024)
def _key(key: object) -> str:
    """A dictionary's key; nearly all are the same few words."""
    if isinstance(key, str):
        return _text(key)
    if isinstance(key, bytes):
        return _blob(key)
    raise TypeError(f"a bencode key must be a string, not {type(key).__name__}")


def _text(value: str) -> str:
    return f"{len(value) if value.isascii() else len(to_bytes(value))}:{value}"


def _blob(value: bytes) -> str:
    return f"{len(value)}:{value.decode('utf-8', 'surrogateescape')}"


def to_bytes(text: str) -> bytes:
    """UTF-8, with surrogate escapes back as their bytes; other surrogates (JSON can hold them) become `?`."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "".join("?" if _is_foreign_surrogate(c) else c for c in text).encode("utf-8", "surrogateescape")


def _is_foreign_surrogate(character: str) -> bool:
    code = ord(character)
    return 0xD800 <= code <= 0xDFFF and not 0xDC80 <= code <= 0xDCFF
