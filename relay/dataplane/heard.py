"""Ports as a bitmap, as the contract's `heard` tells of them (relay.dataplane.Dataplane)."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["port_bitmap"]

_BYTES = 65536 // 8


def port_bitmap(ports: Iterable[int]) -> bytes:
    """65,536 bits, port p bit p & 7 of byte p >> 3; nothing where no port is given."""
    found = bytearray(_BYTES)
    empty = True
    for port in ports:
        found[port >> 3] |= 1 << (port & 7)
        empty = False
    return b"" if empty else bytes(found)
