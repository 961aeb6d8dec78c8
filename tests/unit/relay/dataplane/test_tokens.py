"""Tokens of IPv6 addresses, over maps in ordinary memory; the test plays the XDP program's part."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address

import numpy as np
import pytest

from relay.dataplane import abi
from relay.dataplane.tokens import NO_TOKENS, TokenCollector, Tokens
from relay.errors import DataplaneError

A, B, C = "2001:db8::a", "2001:db8::b", "fd00:1:2:3:4:5:6:7"


class FakeMap:
    """A hash or a queue."""

    def __init__(self) -> None:
        self.held: dict[bytes, bytes] = {}
        self.queue: deque[bytes] = deque()

    def lookup(self, key: bytes) -> bytes | None:
        return self.held.get(key)

    def add(self, key: bytes, value: bytes) -> bool:
        return self.held.setdefault(key, value) == value

    def delete(self, key: bytes) -> bool:
        return self.held.pop(key, None) is not None

    def push(self, values: Iterable[bytes]) -> None:
        self.queue.extend(values)

    def pop(self) -> bytes | None:
        return self.queue.popleft() if self.queue else None


class Bench:
    """Tokens and their collector; `words` are what rules hold."""

    def __init__(self, size: int = 8) -> None:
        self.peers = np.zeros(size, abi.IP6)
        self.table, self.spare = FakeMap(), FakeMap()
        self.tokens = Tokens(self.peers, self.table, self.spare)  # type: ignore[arg-type]
        self.tokens.fill()
        self.words: list[set[int]] = [set(), set()]
        self.timers: deque[Callable[[], None]] = deque()
        self.collector = TokenCollector(self.tokens, self.held, 2, lambda _, run: self.timers.append(run))
        self.collector.start()

    def held(self, part: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        found = np.zeros(self.tokens.size, np.bool_)
        found[list(self.words[part])] = True
        return found

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            self.timers.popleft()()

    def first_phase(self) -> None:
        """A look at both parts, then the withdrawal."""
        self.step(2)

    def second_phase(self) -> None:
        self.step(2)

    def found(self, ip: str) -> int | None:
        """The token the program finds of an address."""
        value = self.table.lookup(IPv6Address(ip).packed)
        return None if value is None else int.from_bytes(value, "little")

    def learn(self, ip: str) -> int:
        """What the program does when it meets an address."""
        octets = IPv6Address(ip).packed
        drawn = self.spare.pop()
        assert drawn is not None
        token = int.from_bytes(drawn, "little")
        self.peers[token]["octets"] = np.frombuffer(octets, np.uint8)
        if not self.table.add(octets, drawn):
            self.spare.push([drawn])
        return token


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_address_has_one_token(bench: Bench) -> None:
    first = bench.tokens.number(A)
    assert first == bench.tokens.number(A) == bench.found(A)
    assert first != bench.tokens.number(B)
    assert bench.tokens.text(first) == A
    assert len(bench.spare.queue) == bench.tokens.size - 1 - 2


def test_a_token_the_program_drew_is_found(bench: Bench) -> None:
    assert bench.learn(C) == bench.tokens.number(C)
    assert bench.tokens.text(bench.tokens.number(C)) == C


def test_who_comes_second_puts_his_token_back(bench: Bench) -> None:
    class Late(FakeMap):
        """The program enters the address between a look and the entry."""

        def add(self, key: bytes, value: bytes) -> bool:
            self.held[key] = (7).to_bytes(4, "little")
            return False

    bench.tokens = Tokens(bench.peers, late := Late(), bench.spare)  # type: ignore[arg-type]
    before = set(bench.spare.queue)
    assert bench.tokens.number(A) == 7
    assert set(bench.spare.queue) == before
    assert late.lookup(IPv6Address(A).packed) == (7).to_bytes(4, "little")
    assert bench.tokens.entered().tolist() == []


def test_when_all_are_taken_it_is_an_error() -> None:
    bench = Bench(size=3)
    bench.tokens.number(A)
    bench.tokens.number(B)
    with pytest.raises(DataplaneError, match="no more than 2 IPv6 addresses"):
        bench.tokens.number(C)


def test_tables_that_a_former_process_filled_go_on(bench: Bench) -> None:
    first, second = bench.tokens.number(A), bench.learn(B)
    spare = sorted(bench.spare.queue)
    bench.tokens = Tokens(bench.peers, bench.table, bench.spare)  # type: ignore[arg-type]
    bench.tokens.fill()
    assert (bench.tokens.text(first), bench.tokens.text(second)) == (A, B)
    assert (bench.tokens.number(A), bench.tokens.number(B)) == (first, second)
    assert sorted(bench.spare.queue) == spare


def test_tables_whose_tokens_are_all_taken_are_not_filled_again() -> None:
    bench = Bench(size=3)
    bench.tokens.number(A)
    bench.tokens.number(B)
    bench.tokens.fill()
    assert not bench.spare.queue


@pytest.mark.parametrize("size", [8, 1000])
def test_a_token_that_a_former_process_had_withdrawn_is_given_back(size: int) -> None:
    bench = Bench(size)
    first, held = bench.tokens.number(A), bench.tokens.number(C)
    bench.words[0] = {held}
    bench.first_phase()
    assert bench.found(A) is None
    bench.timers.clear()  # the process is killed
    second = bench.learn(B)
    bench.words[1] = {second}
    bench.collector = TokenCollector(bench.tokens, bench.held, 2, lambda _, run: bench.timers.append(run))
    bench.collector.start()
    bench.step(20)
    spare = list(bench.spare.queue)
    assert sorted(spare) == sorted(
        token.to_bytes(4, "little") for token in range(1, size) if token not in (held, second)
    )
    assert bench.tokens.text(first) == "::"
    assert bench.collector.returned == 1


def test_a_token_nobody_holds_is_given_back_after_a_second_look(bench: Bench) -> None:
    kept, gone = bench.tokens.number(A), bench.tokens.number(B)
    bench.words[1] = {kept}
    bench.first_phase()
    assert (bench.found(A), bench.found(B)) == (kept, None)
    assert gone.to_bytes(4, "little") not in bench.spare.queue
    bench.second_phase()
    assert gone.to_bytes(4, "little") in bench.spare.queue
    assert bench.tokens.text(gone) == "::"
    assert bench.collector.returned == 1
    assert bench.tokens.number(B) != gone, "it stands last in the queue"


def test_a_token_found_just_before_it_was_withdrawn_stays(bench: Bench) -> None:
    token = bench.tokens.number(A)
    bench.first_phase()
    bench.words[0] = {token}
    bench.second_phase()
    assert bench.found(A) == token
    assert bench.collector.returned == 0


def test_a_token_asked_for_since_the_look_began_stays(bench: Bench) -> None:
    token = bench.tokens.number(A)
    bench.step()
    assert bench.tokens.number(A) == token  # an offer, whose rule stands in the part that was looked at
    bench.words[0] = {token}
    bench.step()
    assert bench.found(A) == token


def test_another_spelling_of_an_address_is_not_remembered_for_longer(bench: Bench) -> None:
    token = bench.tokens.number("2001:DB8::A")
    assert token == bench.tokens.number(A)
    bench.first_phase()
    bench.second_phase()
    while bench.spare.queue[0] != token.to_bytes(4, "little"):
        bench.spare.queue.rotate()
    assert bench.tokens.number(B) == token
    assert bench.tokens.number("2001:DB8::A") != token


def test_an_address_may_get_another_token_while_the_first_is_still_held(bench: Bench) -> None:
    first = bench.tokens.number(A)
    bench.first_phase()
    bench.words[0] = {first}
    second = bench.tokens.number(A)
    assert second != first
    bench.words[1] = {second}
    bench.second_phase()
    assert bench.found(A) == second
    bench.words[0].clear()
    bench.step()
    bench.first_phase()
    bench.second_phase()
    assert first.to_bytes(4, "little") in bench.spare.queue
    assert bench.found(A) == second


def test_a_spare_token_an_address_was_once_written_for_is_not_given_back_again(bench: Bench) -> None:
    first = bench.tokens.number(A)
    bench.words[0] = {first}
    late = bench.learn(A)
    spare = list(bench.spare.queue)
    for _ in range(3):
        bench.step()
        bench.first_phase()
    assert sorted(bench.spare.queue) == sorted(spare)
    assert spare.count(late.to_bytes(4, "little")) == 1


def test_many_are_looked_at_in_turns() -> None:
    bench = Bench(size=1000)
    for number in range(1, 1000):
        bench.tokens.number(f"2001:db8::{number:x}")
    for _ in range(20):
        bench.step()
        if bench.collector.returned == 999:
            break
    assert bench.collector.returned == 999
    assert len(bench.spare.queue) == 999
    assert bench.table.held == {}


def test_a_relay_without_ipv6_has_none() -> None:
    with pytest.raises(DataplaneError, match=f"no media address of this relay is IPv6: {A}"):
        NO_TOKENS.number(A)
