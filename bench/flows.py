"""Flows for the generator: who sends where, in random order, with their checksums worked out beforehand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from relay.types import Endpoint

__all__ = ["Flow", "ones_sum", "pack", "shuffled"]

Words = npt.NDArray[np.uint64]
_PROTOCOL_UDP = 17
_IP_HEADER, _UDP_HEADER, _RTP_HEADER = 20, 8, 12
_TTL = 64
_DO_NOT_FRAGMENT = 0x4000
_LOW = np.uint64(0xFFFF)
_RTP_FIRST_WORD = 0x8000
"""Version 2, payload type 0 (RFC 3550 section 5.1)."""


class Flow(NamedTuple):
    """One direction of one stream: the party's address and the relay's."""

    source: Endpoint
    destination: Endpoint


def shuffled(flows: Sequence[Flow], seed: int) -> list[Flow]:
    """The flows in random order: in the order of their ports a table's cost would not show."""
    mixed = list(flows)
    random.Random(seed).shuffle(mixed)
    return mixed


def ones_sum(*columns: Words) -> Words:
    """The folded ones' complement sum (RFC 1071) of columns of 16-bit words."""
    total: Words = np.asarray(sum(columns, np.uint64(0)), np.uint64)
    while np.any(total >> np.uint64(16)):
        total = (total & _LOW) + (total >> np.uint64(16))
    return total


def pack(flows: Sequence[Flow], payload: bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The generator's table of these flows; `payload` is the RTP payload all of them carry.

    `ip_check` and `udp_sum` are stored as the program adds them up: in memory order of the words on the wire.
    """
    table = np.zeros(len(flows), dtype)
    source, source_port = _columns([flow.source for flow in flows])
    destination, destination_port = _columns([flow.destination for flow in flows])
    table["source"], table["destination"] = source, destination
    table["source_port"], table["destination_port"] = source_port, destination_port
    addresses = ones_sum(*_halves(source), *_halves(destination))
    udp_length = _UDP_HEADER + _RTP_HEADER + len(payload)
    fixed = [0x4500, _IP_HEADER + udp_length, _DO_NOT_FRAGMENT, _TTL << 8 | _PROTOCOL_UDP]
    table["ip_check"] = _on_the_wire(_LOW - ones_sum(addresses, _total(fixed)))
    ssrc = np.arange(1, len(flows) + 1, dtype=np.uint64)
    same = [_PROTOCOL_UDP, udp_length, udp_length, _RTP_FIRST_WORD, *_words(payload)]
    table["udp_sum"] = _on_the_wire(ones_sum(addresses, source_port, destination_port, *_halves(ssrc), _total(same)))
    return table


def _columns(endpoints: Sequence[Endpoint]) -> tuple[Words, Words]:
    known: dict[str, int] = {}
    for endpoint in endpoints:
        if endpoint.ip not in known:
            known[endpoint.ip] = int(IPv4Address(endpoint.ip))
    addresses = np.array([known[endpoint.ip] for endpoint in endpoints], np.uint64)
    return addresses, np.array([endpoint.port for endpoint in endpoints], np.uint64)


def _halves(words: Words) -> tuple[Words, Words]:
    return words >> np.uint64(16), words & _LOW


def _total(words: Sequence[int]) -> Words:
    return np.array(sum(words), np.uint64)


def _words(payload: bytes) -> list[int]:
    padded = payload + b"\0" * (len(payload) % 2)
    return [int.from_bytes(padded[at : at + 2], "big") for at in range(0, len(padded), 2)]


def _on_the_wire(words: Words) -> npt.NDArray[np.uint16]:
    """Words in the order of their bytes on the wire, read as this machine's own."""
    return words.astype(">u2").view(np.uint16)
