"""The place of a local address in the program's table."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.dataplane import abi
from relay.dataplane.addresses import address_slot, address_slot6, fill_host, place_address
from relay.errors import DataplaneError

ADDRESSES = st.integers(1, 2**32 - 1)
NO_RULES = np.zeros(16 * abi.PORTS, abi.RULE)


def place_addresses(addresses: list[int], first_slot: Callable[[int], int] = address_slot) -> dict[int, int]:
    """Slots of addresses that come one after the other."""
    slots: dict[int, int] = {}
    for address in addresses:
        slots[address] = place_address(address, slots.values(), first_slot)
    return slots


@given(ADDRESSES)
def test_a_slot_is_in_the_table(address: int) -> None:
    assert 0 <= address_slot(address) < abi.ADDRESS_SLOTS


@given(st.lists(ADDRESSES, max_size=abi.ADDRESS_SLOTS // 4, unique=True))
def test_every_address_is_found_before_a_free_slot(addresses: list[int]) -> None:
    try:
        slots = place_addresses(addresses)
    except DataplaneError:
        return
    assert len(set(slots.values())) == len(addresses)
    for address, slot in slots.items():
        distance = (slot - address_slot(address)) % abi.ADDRESS_SLOTS
        between = {(address_slot(address) + step) % abi.ADDRESS_SLOTS for step in range(distance)}
        assert distance < abi.ADDRESS_PROBES
        assert between <= set(slots.values())


@pytest.mark.parametrize("first", ["10.0.0.1", "192.168.1.10", "203.0.113.240", "100.64.0.1"])
def test_sixteen_addresses_in_a_row_have_room(first: str) -> None:
    start = int(IPv4Address(first))
    assert len(place_addresses(list(range(start, start + 16)))) == 16


@pytest.mark.parametrize("step", [1, 1 << 64, 1 << 80])
def test_sixteen_ipv6_addresses_in_a_row_have_room(step: int) -> None:
    start = int(IPv6Address("2001:db8:1:2::10"))
    addresses = list(range(start, start + 16 * step, step))
    assert len(place_addresses(addresses, address_slot6)) == 16


def test_media_addresses_stand_where_the_program_looks() -> None:
    table = np.zeros(1, abi.HOST)
    media = [f"10.0.0.{number}" for number in range(1, 9)] + [f"2001:db8::{number}" for number in range(1, 9)]
    assert fill_host(table, media, NO_RULES) == media
    host = table[0]
    slots = {int(slot["address"]): int(slot["index"]) for slot in host["slot"] if slot["address"]}
    assert slots == {int(IPv4Address(ip)): index for index, ip in enumerate(media[:8])}
    slots6 = {number(slot["address"]): int(slot["index"]) for slot in host["slot6"] if slot["used"]}
    assert slots6 == {int(IPv6Address(ip)): index for index, ip in enumerate(media) if index >= 8}
    assert [int(address) for address in host["address"][:9]] == [int(IPv4Address(ip)) for ip in media[:8]] + [0]
    assert [number(address) for address in host["address6"][8:16]] == [int(IPv6Address(ip)) for ip in media[8:]]


def number(address: np.void) -> int:
    return int.from_bytes(address["octets"].tobytes(), "big")


def test_addresses_that_meet_in_one_place_are_refused() -> None:
    same = [address for address in range(1, 5000) if address_slot(address) == 0][: abi.ADDRESS_PROBES + 1]
    assert len(place_addresses(same[:-1])) == abi.ADDRESS_PROBES
    with pytest.raises(DataplaneError, match="collide"):
        place_addresses(same)
