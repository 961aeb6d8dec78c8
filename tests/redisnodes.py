"""Two nodes' Redis stores over a real master and its replica: a stage for what may befall them.

Node 1 writes on the master, node 2 reads that on the replica, and the reverse. A witness stands in for the replicator.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from control.replication.redis.link import Patience, Place
from control.replication.redis.store import RedisStore, Settings
from tests.lab import Host
from tests.stores import RedisServer

__all__ = ["EXPIRES", "PORTS", "WAITS", "Node", "Servers", "Witness", "apart", "knows", "scene", "until"]

SOON = 60.0
"""Seconds in which all that is awaited has happened, also on a machine that is busy with other things."""
WAITS = Patience(connect=0.5, command=0.5)
EXPIRES = 3600.0
PORTS = itertools.count(7000)


class Witness:
    """A reader that remembers what it was told, in order, and compares what can be reached, as the replicator does."""

    def __init__(self) -> None:
        self.compare: Callable[[int], None] = lambda keyspace: None
        self.told: list[tuple[Any, ...]] = []
        self.calls: dict[tuple[int, str], bytes | None] = {}
        self.leases: dict[int, bytes | None] = {}
        self.heard: dict[str, bytes] = {}
        self.found: dict[int, frozenset[str]] = {}
        self.transactions = 0
        self.reach: dict[int, list[bool]] = {1: [], 2: []}

    def read(self, keyspace: int, call_id: str, record: bytes | None) -> None:
        self.told.append(("read", call_id, record))
        self.calls[keyspace, call_id] = record

    def transacted(self, keyspace: int, count: int) -> None:
        self.told.append(("transacted", count))
        self.transactions += count

    def read_lease(self, keyspace: int, lease: bytes | None) -> None:
        self.leases[keyspace] = lease

    def read_heard(self, keyspace: int, ip: str, bitmap: bytes) -> None:
        self.heard[ip] = bitmap

    def compared(self, keyspace: int, call_ids: frozenset[str]) -> None:
        self.found[keyspace] = call_ids

    def reachable(self, keyspace: int, yes: bool) -> None:
        self.reach[keyspace].append(yes)
        if yes:
            self.compare(keyspace)


@dataclass
class Node:
    """A store with its witness, which says every 0.1 s that it lives."""

    number: int
    settings: Settings
    witness: Witness = field(default_factory=Witness)

    def __post_init__(self) -> None:
        self.store = RedisStore(self.settings)
        self.witness.compare = self.store.compare

    async def start(self) -> None:
        await self.store.start(self.witness)
        self._beat = asyncio.create_task(self._live())

    async def _live(self) -> None:
        for count in itertools.count():
            self.store.lease(f"lease {count}".encode(), 2.0)
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        self._beat.cancel()
        await self.store.close()

    def writing(self) -> dict[str, Any]:
        found: dict[str, Any] = self.store.status()["writing"]
        return found

    def reading(self) -> dict[str, Any]:
        found: dict[str, Any] = self.store.status()["reading"]
        return found


class Servers:
    """A master and its replica, on ports of their own."""

    def __init__(self, host: Host, *options: str) -> None:
        self.host = host
        self.master = RedisServer(host, port=next(PORTS), options=options)
        self.replica = RedisServer(host, port=next(PORTS), replica_of=self.master)

    def node(self, number: int, **more: Any) -> Node:
        given: dict[str, Any] = {
            "writes": Place("127.0.0.1", self.master.port),
            "reads": Place("127.0.0.1", self.replica.port),
            "keyspace": number,
            "partners": (3 - number,),
            "patience": WAITS,
        }
        return Node(number, Settings(**(given | more)))

    def run(self, scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Play a scene in the servers' network."""
        self.host.call(lambda: asyncio.run(scene()))


async def until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, f"not within {SOON:.0f} s: {what}"
        await asyncio.sleep(0.01)


async def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Do something to a server without stopping the loop."""
    return await asyncio.to_thread(function, *arguments)


def scene(servers: Servers, play: Callable[[Node, Node], Awaitable[None]], **more: Any) -> None:
    """Two nodes, started, a play, and their end; `more` are settings of both."""

    async def whole() -> None:
        nodes = servers.node(1, **more), servers.node(2, **more)
        for node in nodes:
            await node.start()
        try:
            await play(*nodes)
        finally:
            for node in nodes:
                await node.close()

    servers.run(whole)


def knows(node: Node, call_id: str, record: bytes) -> Callable[[], bool]:
    return lambda: node.witness.calls.get((3 - node.number, call_id)) == record
