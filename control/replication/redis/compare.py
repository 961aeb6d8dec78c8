"""All of a keyspace read in small steps, so that neither Redis nor this process stands still meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redis.exceptions import RedisError

from control.replication.record import MAX_RECORD
from control.replication.redis.backlog import CALL, call_id_of
from control.replication.redis.link import Link, RedisFault
from control.replication.store import Reader

__all__ = ["Comparer", "read_values"]

MAX_CALLS = 1 << 20
"""Calls and tombstones of one keyspace."""
USUAL = 16384
"""Bytes that a record hardly ever has."""
SCAN_COUNT = 500
STEP = 100
"""Values read in one go."""
PAUSE = 0.001
"""Seconds between two steps."""


async def read_values(link: Link, keyspace: int, keys: Sequence[bytes]) -> list[bytes | None]:
    """What stands under some keys: None for nothing, and of what is too large for a record a byte more than that.

    GETRANGE rather than MGET, since it has a bound; what is larger than records are is read one by one, so that no
    exchange takes long. What is no string is given as Redis names it, for a reader that takes only records to refuse.
    Raises RedisFault.
    """
    values = await _ranges(link, keyspace, keys, USUAL)
    for number, value in enumerate(values):
        if value is not None and len(value) > USUAL:
            (values[number],) = await _ranges(link, keyspace, keys[number : number + 1], MAX_RECORD)
    return values


async def _ranges(link: Link, keyspace: int, keys: Sequence[bytes], last: int) -> list[bytes | None]:
    """The first `last` bytes of each value, and one more."""
    selected, *values = await link.ask(("SELECT", keyspace), *(("GETRANGE", key, 0, last) for key in keys))
    if isinstance(selected, RedisError):
        raise RedisFault("has too few databases for this keyspace: raise `databases` in its redis.conf")
    return [str(one).encode() if isinstance(one, RedisError) else one or None for one in values]


class Comparer:
    """Reads keyspaces that it is asked for, one after the other, over a link of its own."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._wanted: dict[int, None] = {}
        self._asked = asyncio.Event()
        self.read = 0
        """Records read."""

    def want(self, keyspace: int) -> None:
        """Read all of a keyspace soon, also if that is just being done."""
        self._wanted[keyspace] = None
        self._asked.set()

    async def run(self, link: Link) -> None:
        """Compare until the link fails, which raises RedisFault; what was not finished then is begun again."""
        while True:
            await self._asked.wait()
            if not self._wanted:
                self._asked.clear()
                continue
            keyspace = next(iter(self._wanted))
            del self._wanted[keyspace]
            try:
                found = await self._walk(link, keyspace)
            except BaseException:
                self.want(keyspace)
                raise
            self._reader.compared(keyspace, frozenset(found))

    async def _walk(self, link: Link, keyspace: int) -> set[str]:
        found: set[str] = set()
        cursor = b"0"
        while True:
            cursor, keys = await self._scan(link, keyspace, cursor)
            for start in range(0, len(keys), STEP):
                await self._tell(link, keyspace, keys[start : start + STEP], found)
                await asyncio.sleep(PAUSE)
            if cursor == b"0":
                return found
            if len(found) > MAX_CALLS:
                raise RedisFault(f"holds more than {MAX_CALLS} calls in keyspace {keyspace}: are they all of a relay?")

    async def _scan(self, link: Link, keyspace: int, cursor: bytes) -> tuple[bytes, list[bytes]]:
        selected, page = await link.ask(
            ("SELECT", keyspace), ("SCAN", cursor, "MATCH", CALL + b"*", "COUNT", SCAN_COUNT)
        )
        if isinstance(selected, RedisError):
            raise RedisFault("has too few databases for this keyspace: raise `databases` in its redis.conf")
        if isinstance(page, RedisError):
            raise RedisFault(f"does not list its keys: {page}")
        return page[0], page[1]

    async def _tell(self, link: Link, keyspace: int, keys: Sequence[bytes], found: set[str]) -> None:
        named = [(key, call_id) for key in keys if (call_id := call_id_of(key)) is not None]
        values = await read_values(link, keyspace, [key for key, _ in named])
        for (_, call_id), value in zip(named, values, strict=True):
            if value is not None:
                found.add(call_id)
                self.read += 1
                self._reader.read(keyspace, call_id, value)
