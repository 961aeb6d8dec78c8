"""The place of a local address in the program's table."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.dataplane import abi
from relay.dataplane.addresses import address_slot, address_slot6, fill_host, place_address
from relay.dataplane.words import control, rule_index
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


def test_addresses_keep_their_index_and_new_ones_take_a_free_one() -> None:
    table, rules = np.zeros(1, abi.HOST), np.zeros(3 * abi.PORTS, abi.RULE)
    fill_host(table, ["10.0.0.1", "2001:db8::1"], rules)
    before = table.tobytes()
    assert fill_host(table, ["2001:db8::1", "10.0.0.1"], rules) == ["10.0.0.1", "2001:db8::1"]
    assert table.tobytes() == before
    assert fill_host(table, ["10.0.0.7", "2001:db8::1", "2001:db8::2"], rules) == [
        "10.0.0.7", "2001:db8::1", "2001:db8::2"]  # fmt: skip
    assert found(table, "10.0.0.1") == -1
    assert [found(table, ip) for ip in ("10.0.0.7", "2001:db8::1", "2001:db8::2")] == [0, 1, 2]
    assert fill_host(table, ["10.0.0.1", "10.0.0.7", "2001:db8::2"], rules) == ["10.0.0.7", "10.0.0.1", "2001:db8::2"]
    assert [found(table, ip) for ip in ("10.0.0.7", "10.0.0.1", "2001:db8::2", "2001:db8::1")] == [0, 1, 2, -1]


def test_an_address_that_live_rules_stand_at_or_leave_from_stays() -> None:
    table, rules = np.zeros(1, abi.HOST), np.zeros(3 * abi.PORTS, abi.RULE)
    fill_host(table, ["10.0.0.1", "10.0.0.2", "10.0.0.3"], rules)
    rules["control"][rule_index(0, 30000)] = control(1, abi.LIVE, 0, 1, 30002)
    assert fill_host(table, ["10.0.0.3"], rules) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    with pytest.raises(
        DataplaneError, match=r"made for 3 media addresses .--max-addresses.*no room for 10\.0\.0\.9 while"
    ):
        fill_host(table, ["10.0.0.3", "10.0.0.9"], rules)
    rules["control"] = control(1, abi.CLOSED, 0, 1, 30002)
    assert fill_host(table, ["10.0.0.3", "10.0.0.9"], rules) == ["10.0.0.9", "", "10.0.0.3"]


@settings(deadline=None)
@given(st.lists(st.sets(st.integers(1, 40), max_size=16), max_size=6))
def test_whatever_was_served_before_each_address_is_found_and_no_other(history: list[set[int]]) -> None:
    table = np.zeros(1, abi.HOST)
    for served in history:
        media = [f"10.0.0.{number}" if number % 2 else f"2001:db8::{number:x}" for number in sorted(served)]
        names = fill_host(table, media, NO_RULES)
        for number in range(1, 41):
            ip = f"10.0.0.{number}" if number % 2 else f"2001:db8::{number:x}"
            assert found(table, ip) == (names.index(ip) if ip in media else -1)


def found(table: npt.NDArray[np.void], ip: str) -> int:
    """What the program finds of an address (ebpf/find.h)."""
    host, address = table[0], ip_address(ip)
    ip6 = address.version == 6
    start = (address_slot6 if ip6 else address_slot)(int(address))
    for probe in range(abi.ADDRESS_PROBES):
        slot = host["slot6" if ip6 else "slot"][(start + probe) % abi.ADDRESS_SLOTS]
        if not slot["used" if ip6 else "address"]:
            return -1
        if (number(slot["address"]) if ip6 else int(slot["address"])) == int(address):
            return int(slot["index"].astype(np.int32))
    return -1
