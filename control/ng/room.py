"""How long a reply may be. A report that does not fit loses detail, never its totals, and says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from control.ng.bencode import Written, to_bytes

__all__ = ["DATAGRAM", "LARGEST", "STREAM", "fits", "head", "hint"]

DATAGRAM: Final = 8_192
"""Bytes of a report in a datagram: a call of audio and video with all it can tell fits. A longer one travels in so many
fragments that a proxy beyond a lossy or filtering network would not get it, and would ask in vain."""
LARGEST: Final = 60_000
"""Bytes of any reply in a datagram, which holds 65,507 with its cookie and the frame of the reply."""
STREAM: Final = 4 << 20
"""Bytes of a reply over a connection: what one client may make the relay hold for it."""
_MAX_ESCAPE: Final = 6
"""Bytes that JSON makes of one character at most."""
_FRAME: Final = 8
"""Bytes around a string in a list: its length and colon, or quotes and comma."""


def fits(text: str, room: int) -> bool:
    """Whether a value in bencode may be sent; what it takes in JSON stays below the size of a datagram as well."""
    size = len(text) if text.isascii() else len(to_bytes(text))
    if size > room:
        return False
    if room > LARGEST or len(text) * _MAX_ESCAPE <= LARGEST:
        return True
    return len(to_bytes(json.dumps(Written(text).value(), ensure_ascii=False))) <= LARGEST


def head(items: Sequence[str], room: int) -> list[str]:
    """As many strings, from the first on, as a list of them in that room holds in either encoding."""
    taken = []
    for item in items:
        plain = item.isascii() and item.isprintable() and '"' not in item and "\\" not in item
        room -= _FRAME + (len(item) if plain else len(item) * _MAX_ESCAPE)
        if room < 0:
            break
        taken.append(item)
    return taken


def hint(room: int) -> str:
    """How to get what did not fit."""
    if room < LARGEST:
        return "ask with the flag `full`, or over TCP or HTTP, for all"
    return "ask over TCP or HTTP for all" if room < STREAM else "no reply holds more"
