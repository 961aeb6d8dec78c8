"""Where the XDP program looks for a local address: struct hp_host has two tiny hash tables of bounded probe length.

An address that is given up keeps its slot, so that those behind it are found, until another is placed there; its index
says that it is none of ours.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import numpy as np
import numpy.typing as npt

from relay.dataplane import abi
from relay.dataplane.adopting import addresses_in_use
from relay.errors import DataplaneError

__all__ = ["address_slot", "address_slot6", "fill_host", "place_address"]

_MULTIPLIER = 2654435761  # Knuth: 2^32 / golden ratio, the next prime
_SHIFT = 32 - abi.ADDRESS_SLOTS.bit_length() + 1
_WORDS = struct.Struct(">4I")
_GIVEN_UP = 0xFFFFFFFF  # -1 to the program


def address_slot(address: int) -> int:
    """The first slot looked at for an IPv4 address (as a number); ebpf/find.h does the same."""
    return (address * _MULTIPLIER & 0xFFFFFFFF) >> _SHIFT


def address_slot6(address: int) -> int:
    """The first slot looked at for an IPv6 address (as a number); ebpf/find.h does the same."""
    first, second, third, fourth = _WORDS.unpack(address.to_bytes(16, "big"))
    return address_slot(first ^ second ^ third ^ fourth)


def place_address(address: int, taken: Container[int], first_slot: Callable[[int], int] = address_slot) -> int:
    """The slot for an address of one family. Raises DataplaneError if too many meet in one place."""
    probes = ((first_slot(address) + step) % abi.ADDRESS_SLOTS for step in range(abi.ADDRESS_PROBES))
    slot = next((slot for slot in probes if slot not in taken), None)
    if slot is None:
        raise DataplaneError("the local addresses collide in the address table: use fewer or other addresses")
    return slot


def fill_host(table: npt.NDArray[np.void], media: Sequence[str], rules: npt.NDArray[np.void]) -> list[str]:
    """Write the media addresses and where the program finds each. Gives them by their index, "" where that is free.

    What a former process wrote keeps its index: also an address that is no media address any more, while live rules
    need it. Raises DataplaneError where there is no room in the table of rules.
    """
    families: dict[int, _Family4 | _Family6] = {4: _Family4(table[0]), 6: _Family6(table[0])}
    room = len(rules) // abi.PORTS
    served = _keep(list(families.values()), {str(ip_address(ip)): ip for ip in media}, rules)
    for ip in media:
        if ip not in served.values():
            index = next((index for index in range(room) if index not in served), None)
            if index is None:
                raise DataplaneError(_no_room(ip, room, [old for old in served.values() if old not in media]))
            address = ip_address(ip)
            families[address.version].enter(address, index)
            served[index] = ip
    return [served.get(index, "") for index in range(max(served, default=-1) + 1)]


def _keep(
    families: Sequence[_Family4 | _Family6], media: dict[str, str], rules: npt.NDArray[np.void]
) -> dict[int, str]:
    """What stands and is still needed, by its index; the rest is given up. `media` by canonical text."""
    in_use, served = addresses_in_use(rules), dict[int, str]()
    for family in families:
        for slot, ip, index in list(family.entries()):
            if ip in media or index in in_use:
                served[index] = media.get(ip, ip)
            else:
                family.give_up(slot)
    return served


def _no_room(ip: str, room: int, left: list[str]) -> str:
    reason = f"the tables were made for {room} media addresses (--max-addresses), there is no room for {ip}"
    return f"{reason} while calls stand at {', '.join(left)}" if left else reason


class _Family4:
    """The IPv4 half of struct hp_host."""

    def __init__(self, host: np.void) -> None:
        self._slots, self._addresses = host["slot"], host["address"]

    def entries(self) -> Iterator[tuple[int, str, int]]:
        """Slot, address and index of what is served."""
        for slot in range(abi.ADDRESS_SLOTS):
            address, index = int(self._slots[slot]["address"]), int(self._slots[slot]["index"])
            if address and index != _GIVEN_UP:
                yield slot, str(IPv4Address(address)), index

    def enter(self, address: IPv4Address | IPv6Address, index: int) -> None:
        """Let an address be found; the word it is recognised by is written last."""
        slot = place_address(int(address), {slot for slot, _, _ in self.entries()})
        self._addresses[index] = int(address)
        self._slots[slot]["index"] = index
        self._slots[slot]["address"] = int(address)

    def give_up(self, slot: int) -> None:
        self._slots[slot]["index"] = _GIVEN_UP


class _Family6:
    """The IPv6 half."""

    def __init__(self, host: np.void) -> None:
        self._slots, self._addresses = host["slot6"], host["address6"]

    def entries(self) -> Iterator[tuple[int, str, int]]:
        """Slot, address and index of what is served."""
        for slot in range(abi.ADDRESS_SLOTS):
            index = int(self._slots[slot]["index"])
            if self._slots[slot]["used"] and index != _GIVEN_UP:
                yield slot, str(IPv6Address(self._slots[slot]["address"]["octets"].tobytes())), index

    def enter(self, address: IPv4Address | IPv6Address, index: int) -> None:
        """Let an address be found; the word it is recognised by is written last."""
        slot = place_address(int(address), {slot for slot, _, _ in self.entries()}, address_slot6)
        octets = np.frombuffer(address.packed, np.uint8)
        self._addresses[index]["octets"] = octets
        self._slots[slot]["index"] = index
        self._slots[slot]["address"]["octets"] = octets
        self._slots[slot]["used"] = 1

    def give_up(self, slot: int) -> None:
        self._slots[slot]["index"] = _GIVEN_UP
