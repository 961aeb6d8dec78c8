"""Redis as the store of calls (control.replication.store): one side writes this node's database, one reads the others'.

Keys of a node's database: `call:` and a Call-ID, a record or a tombstone; `node`, its lease; `sequence`, the number of
its last transaction; `heard:` and an address, which of its ports took packets there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from control.replication.redis.backlog import Backlog
from control.replication.redis.link import RedisFault
from control.replication.redis.reader import Subscriber
from control.replication.redis.side import Settings, Side
from control.replication.redis.writer import Writer
from control.replication.store import Reader

__all__ = ["RedisStore", "Settings"]

FAREWELL = 0.5
"""Seconds in which what waits is written at the end."""


class RedisStore:
    """The store of one node. What is said before its start waits for it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._backlog = Backlog(time.monotonic)
        self._writer: Writer | None = None
        self._subscriber: Subscriber | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, reader: Reader) -> None:
        """Connect, and tell `reader` of what is found from here on.

        Raises RedisFault where Redis cannot be used and the settings say it is required; else it goes on trying.
        """
        self._writer = Writer(self.settings, self._backlog, reader)
        self._subscriber = Subscriber(self.settings, reader) if self.settings.partners else None
        sides = [side for side in (self._writer, self._subscriber) if side is not None]
        self._tasks = [asyncio.create_task(side.run()) for side in sides]
        if not self.settings.required:
            return
        try:
            for side in sides:
                self._require(side, await side.first)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Write what waits, as far as Redis takes it at once, and disconnect."""
        if self._writer is not None and self._writer.good:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    await self._writer.finish()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def put(self, call_id: str, record: bytes, expires: float) -> None:
        self._backlog.put(call_id, record, expires)

    def lease(self, lease: bytes, expires: float) -> None:
        self._backlog.lease(lease, expires)

    def hear(self, ip: str, bitmap: bytes, expires: float) -> None:
        self._backlog.hear(ip, bitmap, expires)

    def compare(self, keyspace: int) -> None:
        side = self._writer if keyspace == self.settings.keyspace else self._subscriber
        if side is not None:
            side.comparer.want(keyspace)

    @property
    def sequence(self) -> int:
        return self._writer.sequence if self._writer is not None else 0

    def status(self) -> dict[str, Any]:
        """How both sides stand, in words and figures."""
        told: dict[str, Any] = {"waiting": len(self._backlog), "waiting bytes": self._backlog.bytes}
        if self._backlog.left_out:
            told["left out for want of room"] = self._backlog.left_out
        if self._writer is not None:
            told["writing"] = self._writer.status()
        if self._subscriber is not None:
            told["reading"] = self._subscriber.status()
        return told

    @staticmethod
    def _require(side: Side, fault: RedisFault | None) -> None:
        if fault is not None:
            raise RedisFault(
                f"{side.purpose}: Redis at {side.place} {fault}; with no-redis-required the relay starts without it"
            )
