"""Maps of the kernel: queues, entries that must be new, and the tokens of IPv6 addresses that need both."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.dataplane import abi
from relay.dataplane.libbpf import BpfError, MapFull, Object
from relay.dataplane.tokens import Tokens
from relay.errors import DataplaneError

ROOM = 8


@pytest.fixture
def loaded(built_object: Path) -> Iterator[Object]:
    """The object with room for few tokens, and no program but the smallest."""
    with Object.open(built_object) as opened:
        for name in ("peers", "tokens", "spare"):
            opened.map(name).resize(ROOM)
        opened.load(only="clocks")
        yield opened


def token(number: int) -> bytes:
    return struct.pack("=I", number)


def test_a_program_that_was_left_out_is_not_there(loaded: Object) -> None:
    assert loaded.program("clocks").verified_instructions() > 0
    with pytest.raises(BpfError, match="program hairpin is not loaded"):
        loaded.program("hairpin")


def test_a_queue_gives_back_what_went_in_first(loaded: Object) -> None:
    queue = loaded.map("spare")
    assert queue.pop() is None
    queue.push(map(token, range(1, 4)))
    assert [queue.pop() for _ in range(4)] == [token(1), token(2), token(3), None]


def test_a_full_queue_takes_no_more(loaded: Object) -> None:
    queue = loaded.map("spare")
    with pytest.raises(BpfError, match="append to map spare"):
        queue.push(map(token, range(ROOM + 1)))
    assert queue.pop() == token(0)


def test_an_entry_is_added_once(loaded: Object) -> None:
    table = loaded.map("tokens")
    assert table.add(bytes(16), token(1))
    assert not table.add(bytes(16), token(2))
    assert table.lookup(bytes(16)) == token(1)


def test_a_full_table_says_so(loaded: Object) -> None:
    table = loaded.map("tokens")
    for number in range(ROOM):
        assert table.add(struct.pack("=QQ", number, 0), token(number))
    with pytest.raises(MapFull, match="map tokens is full"):
        table.add(struct.pack("=QQ", ROOM, 0), token(ROOM))


def test_tokens_over_the_maps_of_the_kernel(loaded: Object) -> None:
    tokens = Tokens(loaded.map("peers").array(abi.IP6), loaded.map("tokens"), loaded.map("spare"))
    tokens.fill()
    numbers = [tokens.number(f"2001:db8::{place}") for place in range(1, ROOM)]
    assert sorted(numbers) == list(range(1, ROOM))
    assert [tokens.text(number) for number in numbers] == [f"2001:db8::{place}" for place in range(1, ROOM)]
    with pytest.raises(DataplaneError, match="no more than 7 IPv6 addresses"):
        tokens.number("2001:db8::99")
    assert not tokens.withdraw(numbers[0])  # it was asked for a moment ago
    tokens.begin_look()
    assert tokens.withdraw(numbers[0])
    assert not tokens.withdraw(numbers[0])
    tokens.give_back(numbers[0])
    assert tokens.number("2001:db8::99") == numbers[0]
    tokens.close()
