"""Bencode as the ng protocol uses it, decoded in one pass.

Looser than BEP 3 in what proxies really send: keys in any order, the last of equal keys wins, and the outermost
dictionary may lack its closing `e`. Strings come out as `str`; bytes that are not UTF-8 survive as surrogate escapes
and go out again as the same bytes.
"""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["BencodeError", "decode", "encode", "to_bytes"]

MAX_SIZE = 65_535
"""Bytes of one document: what a UDP datagram can hold."""
MAX_DEPTH = 16
"""Nested lists and dictionaries; the deepest thing proxies send is three."""
MAX_DIGITS = 20
"""Characters of an integer: the sign and the digits of a signed 64-bit number."""

# The length prefix of a string, by the characters up to and including its colon. A slice and a look-up cost a third
# of find() and int(), and lengths below 100 are nearly all there are.
_ONE_DIGIT = {f"{n}:": n for n in range(10)}
_TWO_DIGITS = {f"{n}:": n for n in range(10, 100)}


class BencodeError(ValueError):
    """The bytes are not bencode, or beyond the bounds; the text says what is wrong and at which offset."""


def decode(data: bytes) -> Any:
    """The value `data` holds: dict (keys str), list, str or int. Raises BencodeError for anything else."""
    if len(data) > MAX_SIZE:
        raise BencodeError(f"{len(data)} bytes are more than {MAX_SIZE}")
    text = data.decode("latin-1")
    value, end = _value(text, 0, 0)
    if end < len(text) and text[end:].strip("\r\n \0"):
        raise BencodeError(f"unexpected data after the end at offset {end}")
    return value if data.isascii() else _utf8(value)


def _dict(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    """The dictionary whose first key starts at `at`, and the offset after its end."""
    result: dict[str, Any] = {}
    size = len(text)
    while True:
        # The key, which is nearly always a string of one-digit length; the code of _string, in line for speed.
        head = text[at : at + 2]
        if head in _ONE_DIGIT:
            start = at + 2
            at = start + _ONE_DIGIT[head]
            key = text[start:at]
            if at > size:
                _truncated(size)
        elif head[:1] == "e":
            return result, at + 1
        elif not head:
            if depth > 1:
                _truncated(size)
            return result, at
        else:
            key, at = _string(text, at)
        # The value, nearly always a string as well.
        head = text[at : at + 2]
        if head in _ONE_DIGIT:
            start = at + 2
            at = start + _ONE_DIGIT[head]
            result[key] = text[start:at]
            if at > size:
                _truncated(size)
            continue
        head = text[at : at + 3]
        if head in _TWO_DIGITS:
            start = at + 3
            at = start + _TWO_DIGITS[head]
            result[key] = text[start:at]
            if at > size:
                _truncated(size)
        else:
            result[key], at = _value(text, at, depth)


def _list(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    """The list whose first item starts at `at`, and the offset after its end."""
    result: list[Any] = []
    while text[at : at + 1] != "e":
        value, at = _value(text, at, depth)
        result.append(value)
    return result, at + 1


def _value(text: str, at: int, depth: int) -> tuple[Any, int]:
    """Whatever starts at `at`, within `depth` containers, and the offset after its end."""
    kind = text[at : at + 1]
    if "0" <= kind <= "9":
        return _string(text, at)
    if kind == "i":
        return _integer(text, at + 1)
    if depth >= MAX_DEPTH:
        raise BencodeError(f"nested deeper than {MAX_DEPTH} at offset {at}")
    if kind == "l":
        return _list(text, at + 1, depth + 1)
    if kind == "d":
        return _dict(text, at + 1, depth + 1)
    if not kind:
        _truncated(at)
    raise BencodeError(f"unexpected character at offset {at}")


def _string(text: str, at: int) -> tuple[str, int]:
    """The string whose length prefix starts at `at`, and the offset after its end."""
    colon = text.find(":", at, at + 6)
    digits = text[at:colon] if colon > at else ""
    if not digits.isdecimal() or not digits.isascii():
        raise BencodeError(f"expected a string at offset {at}")
    start = colon + 1
    end = start + int(digits)
    if end > len(text):
        _truncated(len(text))
    return text[start:end], end


def _integer(text: str, at: int) -> tuple[int, int]:
    """The integer whose sign or first digit is at `at`, and the offset after its closing `e`."""
    end = text.find("e", at, at + MAX_DIGITS + 1)
    literal = text[at:end] if end > at else ""
    digits = literal[1:] if literal[:1] == "-" else literal
    if not digits.isdecimal() or not digits.isascii():
        raise BencodeError(f"invalid integer at offset {at}")
    return int(literal), end + 1


def _truncated(at: int) -> NoReturn:
    raise BencodeError(f"data ends too early at offset {at}")


def _utf8(value: Any) -> Any:
    """The same value with every string read as UTF-8 instead of Latin-1 (which kept offsets equal to bytes)."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("latin-1").decode("utf-8", "surrogateescape")
    if isinstance(value, list):
        return [_utf8(item) for item in value]
    if isinstance(value, dict):
        return {_utf8(key): _utf8(item) for key, item in value.items()}
    return value


def encode(value: Any) -> bytes:
    """The bencode of a dict (keys str or bytes, in their own order), list, tuple, str, bytes, int or bool (0 or 1).

    Raises TypeError for any other type: what is put into a reply is the program's own doing.
    """
    parts: list[str] = []
    _append(parts, value)
    return to_bytes("".join(parts))


def _append(parts: list[str], value: Any) -> None:
    if isinstance(value, str):
        parts.append(f"{len(value) if value.isascii() else len(to_bytes(value))}:{value}")
    elif isinstance(value, int):
        parts.append(f"i{int(value)}e")
    elif isinstance(value, bytes):
        parts.append(f"{len(value)}:{value.decode('utf-8', 'surrogateescape')}")
    elif isinstance(value, dict):
        parts.append("d")
        for key, item in value.items():
            if not isinstance(key, str | bytes):
                raise TypeError(f"a bencode key must be a string, not {type(key).__name__}")
            _append(parts, key)
            _append(parts, item)
        parts.append("e")
    elif isinstance(value, list | tuple):
        parts.append("l")
        for item in value:
            _append(parts, item)
        parts.append("e")
    else:
        raise TypeError(f"bencode has no {type(value).__name__}")


def to_bytes(text: str) -> bytes:
    """UTF-8 with surrogate escapes back as their bytes; a surrogate that JSON smuggled in becomes a question mark."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "".join("?" if "\ud800" <= c <= "\udc7f" or "\udd00" <= c <= "\udfff" else c for c in text).encode(
            "utf-8", "surrogateescape"
        )
