"""Where the XDP program looks for a local address: struct hp_host has two tiny hash tables of bounded probe length."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from ipaddress import ip_address

import numpy as np
import numpy.typing as npt

from relay.dataplane import abi
from relay.errors import DataplaneError

__all__ = ["address_slot", "address_slot6", "fill_host", "place_addresses"]

_MULTIPLIER = 2654435761  # Knuth: 2^32 / golden ratio, the next prime
_SHIFT = 32 - abi.ADDRESS_SLOTS.bit_length() + 1
_WORDS = struct.Struct(">4I")


def address_slot(address: int) -> int:
    """The first slot looked at for an IPv4 address (as a number); ebpf/find.h does the same."""
    return (address * _MULTIPLIER & 0xFFFFFFFF) >> _SHIFT


def address_slot6(address: int) -> int:
    """The first slot looked at for an IPv6 address (as a number); ebpf/find.h does the same."""
    first, second, third, fourth = _WORDS.unpack(address.to_bytes(16, "big"))
    return address_slot(first ^ second ^ third ^ fourth)


def place_addresses(addresses: list[int], first_slot: Callable[[int], int] = address_slot) -> dict[int, int]:
    """Slot of each address of one family. Raises DataplaneError if too many of them meet in one place."""
    slots: dict[int, int] = {}
    for address in addresses:
        probes = ((first_slot(address) + step) % abi.ADDRESS_SLOTS for step in range(abi.ADDRESS_PROBES))
        slot = next((slot for slot in probes if slot not in slots.values()), None)
        if slot is None:
            raise DataplaneError("the local addresses collide in the address table: use fewer or other addresses")
        slots[address] = slot
    return slots


def fill_host(table: npt.NDArray[np.void], media: Sequence[str]) -> None:
    """Write the media addresses, by their index, and where the program finds each. Raises DataplaneError."""
    host = table[0]
    addresses = [ip_address(ip) for ip in media]
    slots = place_addresses([int(address) for address in addresses if address.version == 4])
    slots6 = place_addresses([int(address) for address in addresses if address.version == 6], address_slot6)
    for index, address in enumerate(addresses):
        if address.version == 4:
            host["slot"][slots[int(address)]] = (int(address), index)
            host["address"][index] = int(address)
        else:
            octets = np.frombuffer(address.packed, np.uint8)
            host["slot6"][slots6[int(address)]] = ((octets,), index, 1)
            host["address6"][index] = (octets,)
