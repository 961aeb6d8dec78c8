"""Two nodes over real Redis servers: registry, keeper and replicator as a relay has them, with rules in memory."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import pytest

from control.keeper import CallKeeper
from control.replication.redis.link import Patience, Place
from control.replication.redis.store import RedisStore, Settings
from control.replication.replicator import Replicator, Terms
from relay import registry as registries
from relay.call import Signal
from relay.dataplane.memory import MemoryDataplane
from relay.ports import Interface, PortPool, lent, slices
from relay.registry import Registry
from relay.types import Endpoint
from tests.calls import audio
from tests.lab import Host, Lab
from tests.nodes import Journal
from tests.stores import RedisServer

LOW, HIGH = 30000, 30127
NODES = (1, 2)
SHARES = [(one, 1 / 8) for one in NODES]
TERMS = Terms(compare=2.0, lease=3.0)
SOON = 20.0
CALLER, CALLEE = Endpoint("198.51.100.1", 4000), Endpoint("198.51.100.2", 5000)


class Node:
    """One relay of the pair."""

    def __init__(self, keyspace: int, writes: Place, reads: Place) -> None:
        self.keyspace = keyspace
        self.store = RedisStore(
            Settings(writes, reads, keyspace, (3 - keyspace,), required=False, patience=Patience(0.5, 0.5))
        )
        self.plane = MemoryDataplane()
        places = [self._interface(home) for home in (keyspace, 3 - keyspace)]
        self.registry = Registry(self.plane, places, registries.Settings(), time.monotonic, lambda call, reason: None)

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        await self.plane.start(self.registry)
        keeper = CallKeeper(self.registry, cast(Any, Journal()), loop, keyspace=self.keyspace)
        self.replicator = Replicator(
            *(self.registry, self.store, self.keyspace, (3 - self.keyspace,), TERMS, keeper.read),
            name=f"node{self.keyspace}",
            instance=str(time.monotonic_ns()),
            clock=time.monotonic,
            unix=time.time,
            later=loop.call_soon,
        )
        self.registry.keeper = keeper
        keeper.partners = self.replicator
        keeper.start()
        await self.store.start(self.replicator)
        self._ticking = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        self._ticking.cancel()
        await self.store.close()

    def call(self, call_id: str) -> None:
        """An offer and its answer."""
        now = time.monotonic()
        self.registry.passed_on(self.registry.offer(call_id, "alice", None, [audio(CALLER)], Signal(), now))
        self.registry.passed_on(self.registry.answer(call_id, "alice", "bob", [audio(CALLEE)], Signal(), now))

    def hang_up(self, call_id: str) -> None:
        call = self.registry.delete(call_id, time.monotonic(), delay=0.0)
        assert call is not None
        self.registry.finish(call, time.monotonic())

    def owner(self, call_id: str) -> int | None:
        """Who owns a call that stands here."""
        call = self.registry.find(call_id)
        return call.deed.owner if call is not None else None

    def rules(self) -> dict[Endpoint, Endpoint | None]:
        """The ports in force, and where each sends to."""
        stated = {rule.local: rule.destination for call in self.registry for rule in call.rules.values()}
        assert stated.keys() == set(self.plane.rules())
        return stated

    def _interface(self, home: int) -> Interface:
        spans = lent(LOW, HIGH, slices(LOW, HIGH, SHARES), home, self.keyspace)
        pool = PortPool(LOW, HIGH, random.Random(home).random, spans)
        ip = f"192.0.2.{home}"
        return Interface(f"at{home}", ip, ip, pool, -1 if home == self.keyspace else home)

    async def _tick(self) -> None:
        while True:
            self.registry.tick(time.monotonic())
            self.replicator.tick(time.monotonic())
            await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Lab() as lab:
        yield lab.host("store")


@pytest.fixture
def servers(host: Host) -> Iterator[tuple[RedisServer, RedisServer]]:
    master = RedisServer(host)
    replica = RedisServer(host, port=6380, replica_of=master)
    yield master, replica
    for server in (replica, master):
        server.remove()


async def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, f"not within {SOON:.0f} s: {what}"
        await asyncio.sleep(0.01)


def play(
    servers: tuple[RedisServer, RedisServer], scene: Callable[[Node, Node], Awaitable[None]], late: bool = False
) -> None:
    """Play a scene with two nodes; the second is started by the scene if it comes `late`."""
    master, replica = (Place(server.address, server.port) for server in servers)

    async def whole() -> None:
        one, two = Node(1, master, replica), Node(2, master, replica)
        async with contextlib.AsyncExitStack() as stack:
            for node in (one,) if late else (one, two):
                await node.start()
                stack.push_async_callback(node.stop)
            await scene(one, two)

    servers[0].host.call(lambda: asyncio.run(whole()))


def test_a_call_stands_at_the_partner_with_the_same_rules_and_ends_there(
    servers: tuple[RedisServer, RedisServer],
) -> None:
    async def scene(one: Node, two: Node) -> None:
        one.call("a")
        await until(lambda: two.owner("a") == 1, "the call at the partner")
        await until(lambda: two.rules() == one.rules(), "the same rules")
        assert len(one.rules()) == 4
        one.hang_up("a")
        await until(lambda: two.owner("a") is None, "its end at the partner")
        assert not two.plane.rules()

    play(servers, scene)


def test_a_command_at_the_partner_makes_the_call_its_own(servers: tuple[RedisServer, RedisServer]) -> None:
    async def scene(one: Node, two: Node) -> None:
        one.call("a")
        await until(lambda: two.owner("a") == 1, "the call at the partner")
        two.call("a")
        await until(lambda: one.owner("a") == two.owner("a") == 2, "its owner is the partner")
        await until(lambda: two.rules() == one.rules(), "the same rules")
        two.hang_up("a")
        await until(lambda: one.owner("a") is None, "its end at the former owner")

    play(servers, scene)


def test_what_redis_lost_is_written_again(servers: tuple[RedisServer, RedisServer]) -> None:
    async def scene(one: Node, two: Node) -> None:
        for number in range(20):
            one.call(f"call {number}")
        await until(lambda: two.registry.foreign == 20, "all calls at the partner")
        await asyncio.to_thread(servers[0].flush)
        one.call("after")
        await until(lambda: two.owner("after") == 1, "a call after the loss")
        stored = await _stored(servers[0], 21)
        assert stored == {f"call {number}" for number in range(20)} | {"after"}
        assert two.registry.foreign == 21

    play(servers, scene)


def test_calls_of_a_time_without_redis_are_told_afterwards(servers: tuple[RedisServer, RedisServer]) -> None:
    async def scene(one: Node, two: Node) -> None:
        for name in ("ends", "stays"):
            one.call(name)
        await until(lambda: two.registry.foreign == 2, "both calls at the partner")
        await asyncio.to_thread(servers[0].kill)
        one.hang_up("ends")
        one.call("begins")
        await asyncio.to_thread(servers[0].start)
        await until(lambda: two.owner("begins") == 1, "the call that began meanwhile")
        await until(lambda: two.owner("ends") is None, "the end of the one that ended meanwhile")
        assert two.owner("stays") == 1

    play(servers, scene)


def test_a_partner_that_comes_late_has_all_calls_at_once(servers: tuple[RedisServer, RedisServer]) -> None:
    async def scene(one: Node, two: Node) -> None:
        for number in range(20):
            one.call(f"call {number}")
        await _stored(servers[0], 20)
        await two.start()
        try:
            await until(lambda: two.replicator.in_sync(1) and two.registry.foreign == 20, "all calls")
            assert two.rules() == one.rules()
        finally:
            await two.stop()

    play(servers, scene, late=True)


async def _stored(master: RedisServer, number: int) -> set[str]:
    """The calls of node 1 in Redis, as soon as there are so many."""
    found: set[str] = set()
    deadline = time.monotonic() + SOON
    while len(found) != number:
        assert time.monotonic() < deadline, f"{len(found)} and not {number} calls are stored"
        await asyncio.sleep(0.05)
        keys = (await asyncio.to_thread(master.ask, "-n", "1", "KEYS", "call:*")).split("\n")
        found = {key.removeprefix("call:") for key in keys if key}
    return found
