"""The writing side: what this node says of its calls and of itself goes to its own database on the master.

What waits leaves every few milliseconds, in one transaction with the next sequence number. A transaction that failed,
or of which nobody knows whether it did, is written again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from control.replication.redis.backlog import SEQUENCE, Backlog, Waiting
from control.replication.redis.compare import Comparer
from control.replication.redis.link import Command, Link, Place, RedisFault, check_role, ensure_events, explain
from control.replication.redis.side import Settings, Side, find_master, together
from control.replication.store import Reader

__all__ = ["Writer"]

TICK = 0.002
"""Seconds in which values are gathered for one transaction."""
SHARED = "has somebody else writing to this node's database: each node needs one of its own, its number in `redis`"
"""What a sequence number that went on by itself means."""
ASK_SENTINEL = 1.0
"""Seconds between two questions to Sentinel: a master that comes back takes writes before it learns it is none."""


class Writer(Side):
    """Writes this node's keyspace, and reads all of it when that is asked for."""

    def __init__(self, settings: Settings, backlog: Backlog, reader: Reader) -> None:
        super().__init__("writing calls", settings)
        self.backlog = backlog
        self.comparer = Comparer(reader)
        self.sequence = 0
        self.written = 0
        """Values that Redis has confirmed."""
        self._reader = reader
        self._idle = asyncio.Event()

    def status(self) -> dict[str, Any]:
        return super().status() | {"sequence": self.sequence, "written": self.written}

    async def finish(self) -> None:
        """Return when nothing waits any more."""
        self._idle.clear()
        self.backlog.wake.set()
        await self._idle.wait()

    async def session(self) -> None:
        self.place = await find_master(self.settings)
        links = [Link(self.place, self.settings.keyspace, self.settings.patience) for _ in range(2)]
        try:
            for link in links:
                await link.open()
            await self._prepare(links[0])
            self.stand()
            self._reader.reachable(self.settings.keyspace, True)
            self.backlog.wake.set()
            await together(self._write(links[0]), self.comparer.run(links[1]), self._follow(self.place))
        finally:
            for link in links:
                await link.close()

    def lost(self) -> None:
        self._reader.reachable(self.settings.keyspace, False)

    async def _prepare(self, link: Link) -> None:
        """See that this is a master that takes writes, and that it notifies whoever reads it."""
        if self.settings.check_role or self.settings.sentinels:
            await check_role(link)
        try:
            self.warn(await ensure_events(link))
        except RedisFault as fault:
            self.warn(str(fault))
        await self._transact(link, ())

    async def _write(self, link: Link) -> None:
        while True:
            await self.backlog.wake.wait()
            await asyncio.sleep(TICK)
            batch = self.backlog.take()
            if batch:
                try:
                    await self._transact(link, batch)
                except BaseException:
                    self.backlog.give_back(batch)
                    raise
                continue
            self._idle.set()
            if self.backlog.drained():
                self._reader.reachable(self.settings.keyspace, True)

    async def _transact(self, link: Link, values: Sequence[tuple[bytes, Waiting]]) -> None:
        now = time.monotonic()
        sets: list[Command] = [
            ("SET", key, one.value, "PX", max(1, int((one.until - now) * 1000))) for key, one in values
        ]
        replies = await link.ask(("MULTI",), ("INCR", SEQUENCE), *sets, ("EXEC",))
        for reply in replies:
            if isinstance(reply, RedisError):
                raise RedisFault(explain(reply))
        for reply in replies[-1]:
            if isinstance(reply, RedisError):
                raise RedisFault(explain(reply))
        self.written += len(values)
        self._count(int(replies[-1][0]))

    def _count(self, sequence: int) -> None:
        """Take the number of a transaction, which tells whether the keyspace is as it was left."""
        before, self.sequence = self.sequence, sequence
        if not self.good or sequence == before + 1:
            return
        if sequence <= before:
            self._reader.reachable(self.settings.keyspace, True)
        else:
            self.warn(SHARED)

    async def _follow(self, place: Place) -> None:
        """End the session when Sentinel names another master; without Sentinel never."""
        while True:
            await asyncio.sleep(ASK_SENTINEL)
            try:
                master = await find_master(self.settings)
            except RedisFault:
                continue
            if master != place:
                raise RedisFault(f"is no longer the master: Sentinel names {master}")
