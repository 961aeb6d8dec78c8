"""A table that takes over what another has written, under the program: every packet goes where it went.

Random calls of both families are written by one table and learned from; then the same packets run once while that table
is in charge and once while another has taken all over, in any order. What both change afterwards comes to the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from relay.dataplane import abi
from relay.dataplane.addresses import fill_host
from relay.dataplane.learning import Learning
from relay.dataplane.nexthops import NextHops
from relay.dataplane.table import RuleTable
from relay.dataplane.tokens import Tokens
from relay.flows import Screen
from relay.nic.links import Link, Neighbour, Route
from relay.types import Carries, Endpoint, Rule, Treatment
from relay.types import Learning as Mode
from tests.bpf.switchboard import (
    ADDRESSES,
    RELAY,
    RELAY6,
    SECOND,
    SECOND6,
    XDP_REDIRECT,
    Switchboard,
    datagram,
    rtcp,
    rtp,
)

CALLS = 30
IP_KIND, IP_IDENTIFICATION, IP_CHECKSUM = slice(12, 14), slice(18, 20), slice(24, 26)
IPV4 = b"\x08\x00"
OWN_MAC = bytes([2, 0, 0, 0, 0, 0xEE])
PARTIES = [Endpoint(f"198.51.100.{host}", 4000 + 10 * host) for host in range(1, 9)]
PARTIES6 = [Endpoint(f"2001:db8:198::{host:x}", 4000 + 10 * host) for host in range(1, 9)]


class Kernel:
    """Every party is a neighbour, whose MAC address follows from its own."""

    def route(self, destination: str, source: str | None = None) -> Route | None:
        return Route(7, destination)

    def resolve(self, ifindex: int, ip: str) -> None:
        pass

    def release(self, neighbour: Neighbour) -> None:
        pass


class Ring:
    def read(self, limit: int) -> list[memoryview]:
        return []


class Tables:
    """The program's maps in place."""

    def __init__(self, board: Switchboard) -> None:
        found = board.object.map
        self.rules, self.cold = found("rules").array(abi.RULE), found("cold").array(abi.COLD)
        self.nexthops, self.host = found("nexthops").array(abi.NEXTHOP), found("host").array(abi.HOST)
        self.tokens = Tokens(found("peers").array(abi.IP6), found("tokens"), found("spare"))
        self.tokens.fill()


class Process:
    """A table over the program's maps, and who acts on what is learned."""

    def __init__(self, board: Switchboard) -> None:
        self.tables = tables = Tables(board)
        self.later: list[Callable[[], None]] = []
        assert fill_host(tables.host, ADDRESSES, tables.rules) == ADDRESSES
        self.table = RuleTable(tables.rules, tables.cold, ADDRESSES, Screen(), self._later, lambda: 0.0, tables.tokens)
        self.table.nexthops = NextHops(
            Kernel(), tables.nexthops, lambda _: 0, self.table.moved, self._later, self.table.nexthops_in_use()
        )
        neighbours = [Neighbour(7, party.ip, mac_of(number), fixed=True)
                      for number, party in enumerate(PARTIES + PARTIES6)]  # fmt: skip
        self.table.nexthops.load({7: Link(7, "eth0", "", OWN_MAC, 1500, True, True, False)}, neighbours)
        self.learning = Learning(self.table, Ring(), lambda *_: None)  # type: ignore[arg-type]

    def _later(self, seconds: float, run: Callable[[], None]) -> None:
        if not seconds:
            self.later.append(run)

    def act(self) -> None:
        """Do what was put off, and act on all that has been learned."""
        while self.later:
            self.later.pop(0)()
        self.learning.look(sorted(self.table.standing))

    def close(self) -> None:
        self.table.nexthops.close()
        self.table.close()
        self.tables.tokens.close()


def mac_of(number: int) -> bytes:
    return bytes([2, 1, 0, 0, 0, number])


@dataclass
class Call:
    """Two parties, each facing one local port, or two: RTCP above RTP."""

    ports: tuple[Endpoint, Endpoint]
    parties: list[Endpoint]
    epochs: list[int]
    two: bool
    split: bool
    options: dict[str, Any]

    def rules(self) -> list[Rule]:
        (a, b), (alice, bob) = self.ports, self.parties
        one, other = self.epochs
        carries = Carries.RTP if self.two and not self.split else Carries.RTP | Carries.RTCP
        found = [
            Rule(a, b, bob, other, alice, one, carries, split=self.split, **self.options),
            Rule(b, a, alice, one, bob, other, Carries.RTP if self.two else carries, **self.options),
        ]
        if self.two:
            above_alice = alice if self.split else above(alice)
            plain = self.options | {"treatment": Treatment.PASS}
            found += [
                Rule(above(a), above(b), above(bob), other, above_alice, one, Carries.RTCP, **plain),
                Rule(above(b), above(a), above_alice, one, above(bob), other, Carries.RTCP, joined=self.split, **plain),
            ]
        return found

    def packets(self) -> Iterator[bytes]:
        """From where each party says, from behind a NAT, from elsewhere: to each of its ports."""
        for local, party in zip(self.ports, self.parties, strict=True):
            elsewhere = (PARTIES6 if ":" in party.ip else PARTIES)[-1]
            for source in (party, Endpoint(party.ip, party.port + 7), elsewhere):
                yield bytes(datagram(source, local, rtp(1, 8)))
                yield bytes(datagram(source, local, rtcp()))
                yield bytes(datagram(source, above(local), rtcp()))


def above(endpoint: Endpoint) -> Endpoint:
    return Endpoint(endpoint.ip, endpoint.port + 1)


class Exchange:
    """Random calls. Of those that lead to another call's port, the packets take the rules of both in one run."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.calls: list[Call] = []
        for number in range(CALLS):
            self.calls.append(self._call(number))

    def _call(self, number: int) -> Call:
        chance = self.chance
        facing = chance.choice([RELAY, SECOND, RELAY6, SECOND6]), chance.choice([RELAY, SECOND, RELAY6, SECOND6])
        ports = Endpoint(facing[0], 20000 + 8 * number), Endpoint(facing[1], 20004 + 8 * number)
        options = {
            "learning": chance.choice(list(Mode)),
            "strict_source": chance.random() < 0.3,
            "media_handover": chance.random() < 0.2,
            "tos": chance.choice([None, 184]),
            "clocks": ((8, 8000),),
            "fills": ((8, 0xD5),),
            "treatment": chance.choice([Treatment.PASS, Treatment.PASS, Treatment.SILENCE, Treatment.BLOCK]),
        }
        two = chance.random() < 0.6
        parties = [self.party(ip) for ip in facing]
        return Call(ports, parties, [1, 1], two, two and chance.random() < 0.4, options)

    def party(self, facing: str) -> Endpoint:
        """A telephone that a local address can reach; or the port of another call at an address of ours."""
        family = [call.ports[0] for call in self.calls if (":" in call.ports[0].ip) == (":" in facing)]
        if family and self.chance.random() < 0.2:
            return self.chance.choice(family)
        return self.chance.choice((PARTIES6 if ":" in facing else PARTIES)[:-1])

    def change(self) -> Iterator[Callable[[RuleTable], None]]:
        """What a proxy might ask for next, a step at a time."""
        for call in self.chance.sample(self.calls, CALLS // 2):
            deed = self.chance.choice(["move", "move", "treat", "end"])
            if deed == "end":
                gone = [rule.local for rule in call.rules()]
                yield lambda table, gone=gone: table.remove(gone, 30)  # type: ignore[misc]
                continue
            if deed == "move":
                side = self.chance.randrange(2)
                call.parties[side] = self.party(call.ports[side].ip)
                call.epochs[side] += 1
            else:
                call.options["treatment"] = self.chance.choice(list(Treatment))
            rules = call.rules()
            yield lambda table, rules=rules: table.install(rules)  # type: ignore[misc]


class Memory:
    """The maps as they stand, to be put back; a window that is open begins again."""

    def __init__(self, board: Switchboard) -> None:
        self._board = board
        self._tables = tables = Tables(board)
        self._kept = [(table, table.copy()) for table in (tables.rules, tables.cold, tables.nexthops)]

    def restore(self) -> None:
        opened = self._kept[1][1]["window_tick"]
        opened[opened != 0] = self._board.jiffies() & 0xFFFFFFFF
        for table, kept in self._kept:
            np.copyto(table, kept)
        self._board.beat()

    def changed(self) -> list[tuple[int, int]]:
        """Record and byte of all that was stored to since it was restored."""
        found = [np.argwhere(octets(table) != octets(kept)) for table, kept in self._kept]
        return [(int(record), int(byte)) for each in found for record, byte in each]


def octets(table: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]:
    return table.view(np.uint8).reshape(len(table), -1)


def results(board: Switchboard, packets: list[bytes]) -> list[tuple[int, bytes]]:
    """Verdicts and frames, but for the identification that a packet is given on its way from IPv6 to IPv4."""
    found = []
    for packet in packets:
        run = board.run(packet)
        data = bytearray(run.data)
        if data[IP_KIND] == IPV4:
            data[IP_IDENTIFICATION] = data[IP_CHECKSUM] = bytes(2)
        found.append((run.verdict, bytes(data)))
    board.events()
    board.copies()
    return found


@pytest.fixture
def board(built_object: Path) -> Iterator[Switchboard]:
    """Tables of its own: the rules of a whole exchange are in it."""
    made = Switchboard(built_object)
    made.clear()
    yield made
    made.close()


@pytest.mark.parametrize("seed", range(4))
def test_every_packet_goes_where_it_went(board: Switchboard, seed: int) -> None:
    exchange = Exchange(seed)
    chance = exchange.chance
    former = Process(board)
    for call in exchange.calls:
        former.table.install(call.rules())
    packets = [packet for call in exchange.calls for packet in call.packets()]
    results(board, chance.sample(packets, len(packets) // 2))
    former.act()
    results(board, chance.sample(packets, len(packets) // 4))

    memory = Memory(board)
    memory.restore()
    went = results(board, packets)
    assert sum(verdict == XDP_REDIRECT for verdict, _ in went) > len(packets) / 4
    memory.restore()
    heir = take_over(board, exchange)
    assert memory.changed() == []
    assert results(board, packets) == went

    changes = list(exchange.change())
    packets = [packet for call in exchange.calls for packet in call.packets()]
    after = []
    for process in (former, heir):
        memory.restore()
        for change in changes:
            change(process.table)
        first = results(board, packets)
        process.act()
        after.append((first, results(board, packets)))
    assert after[0] == after[1]
    former.close()
    heir.close()


def take_over(board: Switchboard, exchange: Exchange) -> Process:
    """The next process: it is told of the calls one rule at a time, in any order."""
    heir = Process(board)
    rules = [rule for call in exchange.calls for rule in call.rules()]
    assert set(heir.table.inherited()) == {rule.local for rule in rules}
    exchange.chance.shuffle(rules)
    for rule in rules:
        heir.table.install([rule])
    assert heir.table.inherited() == []
    heir.later.clear()
    return heir
