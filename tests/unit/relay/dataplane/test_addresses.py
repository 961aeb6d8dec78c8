"""The place of a local address in the program's table."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.dataplane import abi
from relay.dataplane.addresses import address_slot, place_addresses
from relay.errors import DataplaneError

ADDRESSES = st.integers(1, 2**32 - 1)


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


def test_addresses_that_meet_in_one_place_are_refused() -> None:
    same = [address for address in range(1, 5000) if address_slot(address) == 0][: abi.ADDRESS_PROBES + 1]
    assert len(place_addresses(same[:-1])) == abi.ADDRESS_PROBES
    with pytest.raises(DataplaneError, match="collide"):
        place_addresses(same)
