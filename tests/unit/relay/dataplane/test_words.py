from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.dataplane import abi
from relay.dataplane.words import (
    be16,
    control,
    endpoint_of,
    ip_text,
    next_generation,
    peer,
    rule_index,
    rule_port,
    window,
)
from relay.types import Endpoint

ports = st.integers(1, 65535)
generations = st.integers(0, abi.GENERATION_MASK)
addresses = st.ip_addresses(v=4).map(str)


def record(word: int, dtype: np.dtype[Any]) -> Any:
    """The word as the structure the program sees."""
    return np.frombuffer(word.to_bytes(8, "little"), dtype)[0]


@given(addresses, ports, generations)
def test_a_peer_word_is_struct_hp_peer(ip: str, port: int, generation: int) -> None:
    found = record(peer(Endpoint(ip, port), generation), abi.PEER)
    assert (ip_text(int.from_bytes(int(found["address"]).to_bytes(4, "big"), "little")), found["port"]) == (ip, port)
    assert found["generation"] == generation


@given(generations, st.integers(0, 0xFFFF), st.integers(0, 255), st.integers(0, 255), ports)
def test_a_control_word_is_struct_hp_control(generation: int, flags: int, tos: int, address: int, port: int) -> None:
    found = record(control(generation, flags, tos, address, port), abi.CONTROL)
    assert found.tolist() == (generation, flags, tos, address, port)


@given(st.ip_addresses(v=4).filter(lambda ip: int(ip) != 0).map(str), ports, generations)
def test_an_endpoint_comes_back_from_its_word(ip: str, port: int, generation: int) -> None:
    assert endpoint_of(peer(Endpoint(ip, port), generation)) == Endpoint(ip, port)


def test_a_word_without_an_address_holds_no_endpoint() -> None:
    assert endpoint_of(peer(None, 7)) is None
    assert record(peer(None, 7), abi.PEER)["generation"] == 7


def test_the_window_is_the_low_two_bits_of_the_tag() -> None:
    word = np.array((0x0A000001, 5004, 9 << 2 | abi.CONFIRMED), abi.EXPECTED).tobytes()
    assert window(int.from_bytes(word, "little")) == (9, abi.CONFIRMED)


@given(ports)
def test_swapping_twice_gives_the_port_back(port: int) -> None:
    assert be16(be16(port)) == port


@given(generations, generations, generations, st.integers(0, 3))
def test_a_new_generation_flips_parity_and_meets_no_stale_word(
    current: int, learned: int, expected: int, state: int
) -> None:
    following = next_generation(current, learned << 48, (expected << 2 | state) << 48)
    assert following & 1 != current & 1
    assert following not in (0, learned, expected)
    assert following <= abi.GENERATION_MASK


@pytest.mark.parametrize(
    ("current", "learned", "expected", "following"),
    [
        (1, 0, 0, 2),
        (1, 2, 0, 4),
        (1, 2, 4, 6),
        (abi.GENERATION_MASK, 0, 0, 2),
        (abi.GENERATION_MASK - 1, abi.GENERATION_MASK, 1, 3),
    ],
)
def test_generations_wrap_and_skip(current: int, learned: int, expected: int, following: int) -> None:
    assert next_generation(current, learned << 48, expected << 50) == following


def test_each_port_has_its_place_and_those_of_rtp_lie_side_by_side() -> None:
    places = [rule_index(3, port) for port in range(65536)]
    assert sorted(places) == list(range(3 << 16, 4 << 16))
    assert [rule_port(place) for place in places] == [(3, port) for port in range(65536)]
    assert rule_index(0, 30002) == rule_index(0, 30000) + 1
