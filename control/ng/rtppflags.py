"""The string of flags that a proxy passes on as its administrator wrote it (`rtpp-flags`).

    trust-address replace=origin direction=in direction=out ICE=remove codec=[strip=[G729 AMR] offer=[PCMA]] RTP AVP

Words are parted by blanks. `key=word` is an entry of the request's dictionary, a word alone a flag; `key=[...]` holds a
list of words, or where these are pairs again a dictionary. In brackets `--` stands for `=` and `..` for a blank.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

__all__ = ["entries"]

MAX_TOKENS = 1024
MAX_DEPTH = 8

TOKEN = re.compile(r"[\[\]]|[^\s\[\]]+")
IMPLIED = {"to-tag": "to-tag", "from-tag": "directional"}
"""Flags that a tag in the string raises: who writes it there means that party."""


def entries(text: str) -> list[tuple[str, Any]]:
    """Keys and values in their order, flags under the key `flags`. Raises nothing; what is beyond the bounds is cut."""
    found: list[tuple[str, Any]] = []
    for key, value in _Reader(text).pairs(0):
        found.append((key or "flags", value))
        implied = IMPLIED.get(key.lower().replace("_", "-"))
        if implied is not None:
            found.append(("flags", implied))
    return found


class _Reader:
    """One run over the tokens of a string."""

    def __init__(self, text: str) -> None:
        self._tokens = [match.group() for match in islice(TOKEN.finditer(text), MAX_TOKENS)]
        self._tokens.reverse()

    def pairs(self, depth: int) -> Iterator[tuple[str, Any]]:
        """(key, value), and ("", word), up to the bracket that closes this group."""
        tokens = self._tokens
        while tokens:
            token = tokens.pop()
            if token == "]":
                if depth:
                    return
            elif token == "[":
                self._group(depth + 1)  # it belongs to no key
            else:
                key, sign, value = token.partition("=")
                if not sign:
                    yield "", token
                elif key and value:
                    yield key, value
                elif key and tokens and tokens[-1] == "[":
                    tokens.pop()
                    yield key, self._group(depth + 1)

    def _group(self, depth: int) -> dict[str, Any] | list[str]:
        """What stands in brackets: a dictionary if there is any pair, else a list."""
        if depth > MAX_DEPTH:
            self._tokens.clear()
        words: list[str] = []
        dictionary: dict[str, Any] = {}
        for key, value in self.pairs(depth):
            if not key:
                words.append(_unescaped(value))
            else:
                dictionary[_unescaped(key)] = _unescaped(value) if isinstance(value, str) else value
        return dictionary or words


def _unescaped(text: str) -> str:
    return text.replace("--", "=").replace("..", " ")
