"""The 8-byte words of a rule as integers, and the generations that join them (ebpf/abi.h has the theory).

A word is stored whole, by one store, so all of it is computed here first. Layouts are little-endian, like every machine
the relay runs on; the fields inside that the wire sees are in network order.
"""

from __future__ import annotations

import socket
import struct
from functools import lru_cache

import numpy as np

from relay.dataplane import abi
from relay.types import Endpoint

_GENERATION_MASK = abi.GENERATION_MASK
_ADDRESS_MASK = 0xFFFFFFFF


@lru_cache(maxsize=1 << 17)
def be32(ip: str) -> int:
    """An IPv4 address as the integer whose bytes in memory are in network order. Raises OSError for other text."""
    return int.from_bytes(socket.inet_aton(ip), "little")


@lru_cache(maxsize=1 << 17)
def ip_text(value: int) -> str:
    """The address that `be32` made the integer of."""
    return socket.inet_ntoa(value.to_bytes(4, "little"))


def rule_index(address: int, port: int) -> int:
    """The place of a port's rule in the table; `address` is the index of its local address."""
    return address << 16 | (port & 1) << 15 | port >> 1


def rule_port(index: int) -> tuple[int, int]:
    """The index of the local address and the port that stand at a place: the inverse of `rule_index`."""
    return index >> 16, (index & 0x7FFF) << 1 | index >> 15 & 1


def be16(port: int) -> int:
    """A port with its bytes swapped; its own inverse."""
    return port >> 8 | (port & 0xFF) << 8


def word(address: int, port: int, generation: int) -> int:
    """struct hp_peer of an address as words have it: `be32`, or the token of an IPv6 address."""
    return address | (port >> 8) << 32 | (port & 0xFF) << 40 | generation << 48


def peer(endpoint: Endpoint | None, generation: int) -> int:
    """struct hp_peer of an IPv4 endpoint; no endpoint gives a word whose address is 0."""
    return word(be32(endpoint.ip), endpoint.port, generation) if endpoint is not None else generation << 48


def word_address(word: int) -> int:
    """The address in a hp_peer or hp_expected word: what `be32` made, or a token; 0 where it holds none."""
    return word & _ADDRESS_MASK


def word_port(word: int) -> int:
    """The port in such a word."""
    return be16(word >> 32 & 0xFFFF)


def endpoint_of(word: int) -> Endpoint | None:
    """The IPv4 endpoint in a hp_peer or hp_expected word, None where it holds none."""
    address = word_address(word)
    return Endpoint(ip_text(address), word_port(word)) if address else None


def control(generation: int, flags: int, tos: int, address: int, port: int) -> int:
    """struct hp_control; `address` is the index of the local address to send from, `port` in host order."""
    return generation | flags << 16 | tos << 32 | address << 40 | (port >> 8) << 48 | (port & 0xFF) << 56


def window(expected: int) -> tuple[int, int]:
    """Generation and state (UNSEEN to CONFIRMED) in a hp_expected word."""
    tag = expected >> 48
    return tag >> 2, tag & 3


def next_generation(current: int, learned: int, expected: int) -> int:
    """The generation after `current` for a party whose learned and expected words hold these.

    Its parity differs from that of `current`, so that the new address's next hop has a slot of its own, and no stale
    word carries it: such a word would count again. It is never 0, which is what words never written hold.
    """
    generation = (current + 1) & _GENERATION_MASK
    while not generation or generation == learned >> 48 or generation == expected >> 50:
        generation = (generation + 2) & _GENERATION_MASK
    return generation


def reader(dtype: np.dtype[np.void], *fields: str) -> struct.Struct:
    """What unpacks these integer fields of a record, named in the order they lie there, each by one load.

    Tens of times cheaper than copying the record out of a NumPy array. An array of clocks comes as two words. What it
    packs has zeros between the fields.
    """
    layout, at = "@", 0
    assert dtype.fields is not None
    for name in fields:
        kind, offset = dtype.fields[name][:2]
        layout += f"{offset - at}x{_UNPACKED[kind.itemsize]}"
        at = offset + kind.itemsize
    return struct.Struct(layout)


_UNPACKED = {1: "B", 2: "H", 4: "I", 8: "Q", 16: "2Q"}
