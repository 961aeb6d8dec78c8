"""Nodes that hold each other's calls, over a Redis in memory that loses what it is told to; time stands still or runs.

Everything but Redis, sockets and the data plane is what a relay runs: registry, keeper, replicator.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from typing import Any, cast

from control.keeper import CallKeeper
from control.replication.replicator import Replicator, Terms
from control.replication.store import Reader
from relay.call import Call, Signal
from relay.dataplane.memory import MemoryDataplane
from relay.ports import Interface, PortPool, lent, slices
from relay.registry import Outcome, Registry, Settings
from relay.types import Endpoint
from tests.calls import audio

LOW, HIGH = 30000, 30255
TERMS = Terms(compare=20.0)
STEP = 0.25
"""Seconds between two looks of the world at what is due."""


def address(keyspace: int) -> str:
    """The service address whose home is a node."""
    return f"192.0.2.{keyspace}"


class Loop:
    """As much of an event loop as keepers and replicators use, in the time of the test."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._due: list[tuple[float, int, asyncio.Handle]] = []
        self._order = count()

    def call_later(self, delay: float, what: Callable[..., object], *given: Any) -> asyncio.Handle:
        handle = _Handle(what, given)
        heapq.heappush(self._due, (self._now() + delay, next(self._order), cast(asyncio.Handle, handle)))
        return cast(asyncio.Handle, handle)

    def call_soon(self, what: Callable[..., object], *given: Any) -> asyncio.Handle:
        return self.call_later(0.0, what, *given)

    def run(self) -> None:
        """Call what is due, and what that has called soon."""
        while self._due and self._due[0][0] <= self._now():
            cast(_Handle, heapq.heappop(self._due)[2]).run()


class _Handle:
    def __init__(self, what: Callable[..., object], given: tuple[Any, ...]) -> None:
        self._what: Callable[..., object] | None = what
        self._given = given

    def cancel(self) -> None:
        self._what = None

    def run(self) -> None:
        if self._what is not None:
            self._what(*self._given)


class Journal:
    """A journal that outlives its process, as a dictionary."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.anew = False

    def put(self, call_id: str, record: bytes) -> None:
        self.records[call_id] = record

    def drop(self, call_id: str) -> None:
        self.records.pop(call_id, None)

    def settle(self, call_id: str) -> None:
        return None

    def standing(self) -> list[str]:
        return list(self.records)

    def record(self, call_id: str) -> bytes | None:
        return self.records.get(call_id)


@dataclass
class Faults:
    """What becomes of notifications."""

    lose: float = 0.0
    twice: float = 0.0
    reorder: bool = False


class Redis:
    """Databases that tell of what is written, and forget it in time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.data: dict[int, dict[str, tuple[bytes, float]]] = {}
        self.sequences: dict[int, int] = {}
        self.stores: list[Store] = []
        self.faults = Faults()
        self.random = random.Random(5)

    def get(self, keyspace: int, key: str) -> bytes | None:
        found = self.data.get(keyspace, {}).get(key)
        return found[0] if found is not None and found[1] > self.now() else None

    def write(self, keyspace: int, values: dict[str, tuple[bytes, float]]) -> int:
        """One transaction."""
        self.sequences[keyspace] = self.sequences.get(keyspace, 0) + 1
        for key, (value, expires) in values.items():
            self.data.setdefault(keyspace, {})[key] = value, self.now() + expires
        for store in self.stores:
            store.notify(keyspace, ["sequence", *values])
        return self.sequences[keyspace]

    def empty(self, keyspace: int | None = None) -> None:
        """FLUSHDB, or with no keyspace a restart without what was there. Nobody is told."""
        for one in [keyspace] if keyspace is not None else list(self.data):
            self.data.pop(one, None)
            self.sequences.pop(one, None)

    def keys(self, keyspace: int) -> list[str]:
        return [key for key in self.data.get(keyspace, {}) if self.get(keyspace, key) is not None]


class Store:
    """control.replication.store.Store over that Redis."""

    def __init__(self, redis: Redis, keyspace: int, partners: list[int]) -> None:
        self.redis, self.keyspace, self.partners = redis, keyspace, partners
        self.reader: Reader | None = None
        self.waiting: dict[str, tuple[bytes, float]] = {}
        self.writes = 0
        self.connected = False
        self.sequence = 0
        self._news: list[tuple[int, str]] = []
        self._compare: list[int] = []
        redis.stores.append(self)

    def put(self, call_id: str, record: bytes, expires: float) -> None:
        self.waiting[f"call:{call_id}"] = record, expires
        self.writes += 1

    def lease(self, lease: bytes, expires: float) -> None:
        self.waiting["node"] = lease, expires

    def hear(self, ip: str, bitmap: bytes, expires: float) -> None:
        self.waiting[f"heard:{ip}"] = bitmap, expires

    def compare(self, keyspace: int) -> None:
        if keyspace not in self._compare:
            self._compare.append(keyspace)

    def notify(self, keyspace: int, keys: list[str]) -> None:
        """Redis tells of keys, as far as it does."""
        faults, chance = self.redis.faults, self.redis.random.random
        if self.connected and keyspace in self.partners:
            for key in keys:
                times = 0 if chance() < faults.lose else 2 if chance() < faults.twice else 1
                self._news += [(keyspace, key)] * times

    def connect(self, yes: bool) -> None:
        """Reach Redis, or lose it."""
        if yes == self.connected:
            return
        self.connected = yes
        self._news.clear()
        self._compare.clear()
        assert self.reader is not None
        for keyspace in (self.keyspace, *self.partners):
            self.reader.reachable(keyspace, yes)

    def pump(self) -> None:
        """Write what waits, and tell what is new."""
        if not self.connected:
            return
        if self.waiting:
            values, self.waiting = self.waiting, {}
            self.sequence = self.redis.write(self.keyspace, values)
        news, self._news = self._news, []
        if self.redis.faults.reorder:
            self.redis.random.shuffle(news)
        for keyspace in self.partners:
            if counted := sum(one == (keyspace, "sequence") for one in news):
                assert self.reader is not None
                self.reader.transacted(keyspace, counted)
        for keyspace, key in news:
            self._tell(keyspace, key)
        compare, self._compare = self._compare, []
        for keyspace in compare:
            keys = self.redis.keys(keyspace)
            for key in keys:
                self._tell(keyspace, key)
            assert self.reader is not None
            self.reader.compared(keyspace, frozenset(key[5:] for key in keys if key.startswith("call:")))

    def _tell(self, keyspace: int, key: str) -> None:
        assert self.reader is not None
        kind, _, name = key.partition(":")
        value = self.redis.get(keyspace, key)
        if kind == "call":
            self.reader.read(keyspace, name, value)
        elif kind == "node":
            self.reader.read_lease(keyspace, value)
        elif kind == "heard" and value is not None:
            self.reader.read_heard(keyspace, name, value)


class Node:
    """One relay of a world."""

    def __init__(self, world: World, keyspace: int, journal: Journal, shift: float) -> None:
        self.world, self.keyspace, self.journal, self.shift = world, keyspace, journal, shift
        others = [one for one in world.keyspaces if one != keyspace]
        self.plane = MemoryDataplane()
        self.loop = Loop(self.clock)
        self.ended: list[tuple[str, str]] = []
        self.registry = Registry(
            self.plane,
            [self._interface(keyspace), *map(self._interface, others)],
            world.settings,
            self.clock,
            self._end,
        )
        asyncio.run(self.plane.start(self.registry))
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        noise = random.Random(world.births).getrandbits
        self.keeper = CallKeeper(
            self.registry,
            cast(Any, journal),
            loop,
            keyspace=keyspace,
            refresh=60.0,
            clock=self.clock,
            unix=self.unix,
            noise=lambda: noise(32),
        )
        self.registry.keeper = self.keeper
        self.store = Store(world.redis, keyspace, others)
        self.replicator = Replicator(
            self.registry,
            self.store,
            keyspace,
            others,
            world.terms,
            self.keeper.read,
            name=f"node{keyspace}",
            instance=str(world.births),
            clock=self.clock,
            unix=self.unix,
            later=self.loop.call_soon,
            shelf=journal,
        )
        self.keeper.partners = self.replicator
        self.store.reader = self.replicator
        self.keeper.hold()
        self.keeper.start()
        self.loop.run()

    def clock(self) -> float:
        return self.world.now

    def unix(self) -> float:
        return 1_700_000_000.0 + self.world.now + self.shift

    def _end(self, call: Call, reason: str) -> None:
        self.ended.append((call.call_id, reason))

    def _interface(self, home: int) -> Interface:
        cut = slices(LOW, HIGH, [(one, float(Fraction(1, 8))) for one in self.world.keyspaces])
        spans = lent(LOW, HIGH, cut, home, self.keyspace)
        pool = PortPool(LOW, HIGH, random.Random(f"{self.world.births} {home}").random, spans)
        ip = address(home)
        return Interface(f"at{home}", ip, ip, pool, -1 if home == self.keyspace else home)

    def step(self) -> None:
        self.loop.run()
        self.store.pump()
        self.loop.run()
        if self.world.now % 1 == 0:
            self.registry.tick(self.world.now)
            self.replicator.tick(self.world.now)
            self.loop.run()

    # -- commands

    def find(self, call_id: str) -> Call | None:
        return self.registry.find(call_id)

    def set_up(self, call_id: str, caller: Endpoint, callee: Endpoint) -> Outcome:
        """An offer and its answer: the outcome of the answer."""
        now = self.world.now
        self.registry.passed_on(self.registry.offer(call_id, "alice", None, [audio(caller)], Signal(), now))
        outcome = self.registry.answer(call_id, "alice", "bob", [audio(callee)], Signal(), now)
        self.registry.passed_on(outcome)
        return outcome

    def delete(self, call_id: str, delay: float = 0.0) -> bool:
        """Whether there was such a call."""
        call = self.registry.delete(call_id, self.world.now, delay=delay)
        if call is not None:
            self.registry.finish(call, self.world.now)
        return call is not None


@dataclass
class World:
    """Nodes with keyspaces 1, 2, ..., and who serves each of their addresses."""

    number: int = 2
    terms: Terms = TERMS
    settings: Settings = field(default_factory=lambda: Settings(delete_delay=5))
    shifts: tuple[float, ...] = (0.0, 0.0, 0.0)
    now: float = 1000.0
    births: int = 0

    def __post_init__(self) -> None:
        self.keyspaces = list(range(1, self.number + 1))
        self.redis = Redis(lambda: self.now)
        self.nodes: dict[int, Node] = {}
        self.journals = {one: Journal() for one in self.keyspaces}
        self.routes = {one: {one} for one in self.keyspaces}
        """Nodes that an address's packets come to, by its home."""
        self.talking: dict[str, tuple[tuple[Endpoint, Endpoint], ...]] = {}
        """Calls with media: (port of ours, who sends to it)."""
        for keyspace in self.keyspaces:
            self.start(keyspace)
        self.run(3)

    def __getitem__(self, keyspace: int) -> Node:
        return self.nodes[keyspace]

    def start(self, keyspace: int, connect: bool = True) -> Node:
        """Start a node, with what its journal holds."""
        self.births += 1
        node = self.nodes[keyspace] = Node(self, keyspace, self.journals[keyspace], self.shifts[keyspace - 1])
        node.store.connect(connect)
        return node

    def crash(self, keyspace: int) -> None:
        """A process is gone, with what Redis had not taken while it was away."""
        node = self.nodes.pop(keyspace)
        node.store.pump()
        self.redis.stores.remove(node.store)

    def run(self, seconds: float, packets: bool = True) -> None:
        """Let time pass, with packets of all calls that talk."""
        end = self.now + seconds
        while self.now < end:
            self.now += STEP
            if packets and self.now % 1 == 0.5:
                self.speak()
            for node in list(self.nodes.values()):
                node.step()

    def settle(self) -> None:
        """Have all that was written read, with no time passing."""
        for _ in range(2):
            for node in self.nodes.values():
                node.store.pump()
                node.loop.run()

    def speak(self) -> None:
        """A packet from each party of each call that talks."""
        for pairs in self.talking.values():
            for local, party in pairs:
                home = int(local.ip.rpartition(".")[2])
                for keyspace in self.routes[home]:
                    if keyspace in self.nodes:
                        self.nodes[keyspace].plane.arrive(local, party)

    def set_up(self, keyspace: int, call_id: str, caller: Endpoint, callee: Endpoint) -> Call:
        """A call, or a re-INVITE of one, at a node; its parties talk from here on."""
        call = self.nodes[keyspace].set_up(call_id, caller, callee).call
        first, second = (leg.medias[0].rtp.local for leg in call.legs)
        assert first is not None
        assert second is not None
        self.talking[call_id] = (first, caller), (second, callee)
        return call

    def hang_up(self, keyspace: int, call_id: str, delay: float = 0.0) -> bool:
        """A call ends by command, where the node knows it."""
        known = self.nodes[keyspace].delete(call_id, delay)
        if known:
            self.talking.pop(call_id, None)
        return known
