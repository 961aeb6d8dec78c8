"""Rules of IPv6 addresses, and between families: their words hold tokens."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import numpy as np
import pytest

from relay.dataplane import abi
from relay.dataplane.nexthops import NextHops
from relay.dataplane.table import RuleTable
from relay.dataplane.tokens import Tokens, held_tokens
from relay.dataplane.words import be32, word, word_address
from relay.errors import DataplaneError
from relay.flows import Screen
from relay.nic.links import Link
from relay.types import Carries, Endpoint, Rule
from tests.unit.relay.dataplane.test_table import MAC, Kernel
from tests.unit.relay.dataplane.test_tokens import FakeMap

V4, V6 = "10.0.0.1", "2001:db8::1"
FACING_A, FACING_B = Endpoint(V6, 30000), Endpoint(V4, 30002)
A, B, NAT = Endpoint("2001:db8:a::10", 4000), Endpoint("192.0.2.20", 6000), Endpoint("2001:db8:b::7", 61000)


class Bench:
    def __init__(self, peers: int = 16) -> None:
        rules, cold = np.zeros(2 * abi.PORTS, abi.RULE), np.zeros(2 * abi.PORTS, abi.COLD)
        self.tokens = Tokens(np.zeros(peers, abi.IP6), FakeMap(), FakeMap())  # type: ignore[arg-type]
        self.tokens.fill()
        self.table = RuleTable(rules, cold, (V4, V6), Screen(), lambda *_: None, lambda: 0.0, self.tokens)
        self.table.nexthops = NextHops(
            Kernel(), np.zeros(64, abi.NEXTHOP), lambda _: 0, self.table.moved, lambda *_: None
        )
        self.table.nexthops.load({7: Link(7, "eth0", "", MAC, 1500, True, True, False)}, [])

    def hot(self, local: Endpoint, name: str) -> int:
        return int(self.table.rules[self.table.index(local)][name])

    def held(self) -> set[str]:
        """The addresses whose tokens some word holds."""
        parts = [
            held_tokens(self.table.rules[part], self.table.cold[part], facing_ip6, self.tokens.size)
            for part, facing_ip6 in ((slice(0, abi.PORTS), False), (slice(abi.PORTS, None), True))
        ]
        found = {int(token) for part in parts for token in np.flatnonzero(part)}
        return {self.tokens.text(token) for token in found if token}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def pair(a: Endpoint | None = A, b: Endpoint | None = B, epochs: tuple[int, int] = (1, 1), **rest: Any) -> list[Rule]:
    return [
        Rule(FACING_A, FACING_B, b, epochs[1], a, epochs[0], Carries.RTP, **rest),
        Rule(FACING_B, FACING_A, a, epochs[0], b, epochs[1], Carries.RTP, **rest),
    ]


def test_words_of_an_ipv6_party_hold_its_token(bench: Bench) -> None:
    bench.table.install(pair())
    token = bench.tokens.number(A.ip)
    signalled = bench.hot(FACING_B, "signalled")
    assert (signalled & 0xFFFFFFFFFFFF) == word(token, A.port, 0)
    assert int(bench.table.cold[bench.table.index(FACING_A)]["source"]) == signalled
    assert word_address(bench.hot(FACING_A, "signalled")) == be32(B.ip)
    assert bench.hot(FACING_B, "control") >> 16 & abi.TO_IP6
    assert not bench.hot(FACING_A, "control") >> 16 & abi.TO_IP6
    assert bench.held() == {A.ip}


def test_a_preferred_source_is_of_the_ports_own_family(bench: Bench) -> None:
    bench.table.install(pair(preferred_source=NAT.ip))
    here, there = (bench.table.cold[bench.table.index(local)] for local in (FACING_A, FACING_B))
    assert int(here["preferred"].byteswap()) == bench.tokens.number(NAT.ip)
    assert int(there["preferred"]) == 0
    assert bench.held() == {A.ip, NAT.ip}


def test_what_the_program_learned_is_read_by_its_token(bench: Bench) -> None:
    bench.table.install(pair())
    entry, sends_to_a = bench.table.get(FACING_A), bench.table.get(FACING_B)
    assert entry
    assert sends_to_a
    token = bench.tokens.number(NAT.ip)
    bench.table.rules[entry.index]["expected"] = word(token, NAT.port, entry.generation << 2 | abi.OPEN)
    bench.table.rules[entry.mirror]["learned"] = word(token, NAT.port, entry.generation)
    assert bench.table.observed(entry) == (NAT, False)
    assert bench.table.target(sends_to_a) == NAT
    assert bench.held() == {A.ip, NAT.ip}
    bench.table.fold(entry, NAT)
    assert word_address(bench.hot(FACING_B, "signalled")) == token
    bench.table.screen_again(Screen((ip_network("2001:db8:b::/48"),)))
    assert bench.table.target(sends_to_a) == A


def test_what_is_removed_holds_no_token(bench: Bench) -> None:
    bench.table.install(pair())
    bench.table.remove([FACING_A, FACING_B], 30.0)
    assert bench.held() == set()


def test_without_a_token_nothing_is_installed() -> None:
    bench = Bench(peers=2)
    bench.tokens.number("2001:db8::99")
    with pytest.raises(DataplaneError, match="no more than 1 IPv6 addresses of parties can be remembered"):
        bench.table.install(pair())
    assert not bench.table.standing
    assert not bench.table.rules.view("u1").any()


def test_a_known_source_of_ipv6_starts_folded(bench: Bench) -> None:
    first, second = pair()
    bench.table.install([first._replace(known_source=NAT), second])
    assert word_address(bench.hot(FACING_B, "signalled")) == bench.tokens.number(NAT.ip)
    assert bench.hot(FACING_A, "control") >> 16 & abi.FIXED
