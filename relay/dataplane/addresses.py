"""Where the XDP program looks for a local address: struct hp_host is a tiny hash table with a bounded probe length."""

from __future__ import annotations

from relay.dataplane import abi
from relay.errors import DataplaneError

__all__ = ["address_slot", "place_addresses"]

_MULTIPLIER = 2654435761  # Knuth: 2^32 / golden ratio, the next prime
_SHIFT = 32 - abi.ADDRESS_SLOTS.bit_length() + 1


def address_slot(address: int) -> int:
    """The first slot looked at for an IPv4 address (as a number); ebpf/parse.h does the same."""
    return (address * _MULTIPLIER & 0xFFFFFFFF) >> _SHIFT


def place_addresses(addresses: list[int]) -> dict[int, int]:
    """Slot of each address. Raises DataplaneError if too many of them meet in one place."""
    slots: dict[int, int] = {}
    for address in addresses:
        probes = ((address_slot(address) + step) % abi.ADDRESS_SLOTS for step in range(abi.ADDRESS_PROBES))
        slot = next((slot for slot in probes if slot not in slots.values()), None)
        if slot is None:
            raise DataplaneError("the local addresses collide in the address table: use fewer or other addresses")
        slots[address] = slot
    return slots
