"""The reading side: news of the partners' databases, best from a replica on this host, and from the master without it.

Notifications say only which key changed; its value is read a moment later, for many keys at once. Whether they arrive
at all is seen by each node's sequence number, which is counted by notifications and looked up every second, along with
the node's lease: a server whose settings were changed notifies of nothing, and a connection may be dead without a word.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from control.replication.redis.backlog import CALL, HEARD, NODE, SEQUENCE, call_id_of
from control.replication.redis.compare import Comparer, read_values
from control.replication.redis.link import Link, Place, RedisFault, data_set, ensure_events
from control.replication.redis.side import Settings, Side, find_master, together
from control.replication.store import Reader

__all__ = ["Subscriber"]

TICK = 0.002
"""Seconds in which changed keys are gathered for one reading."""
POLL = 1.0
"""Seconds between two looks at leases, sequence numbers and the server itself."""
HOMEWARDS = 3.0
"""Seconds between two looks whether what failed is back, while the master is read in its place."""
STEP = 100
"""Values read in one go."""
MAX_CHANGED = 100_000
"""Keys of one keyspace that wait to be read; with more of them all of it is compared instead."""
MAX_DIGITS = 20
"""Of a sequence number."""
MAX_IP = 45
"""Characters of an address."""


@dataclass(slots=True)
class Heard:
    """What is known of one partner's keyspace."""

    changed: dict[bytes, None] = field(default_factory=dict)
    """Keys to be read, in the order in which they first changed."""
    lease: bytes | None = None
    """Told last."""
    transactions: int = 0
    """Notified of, and not told yet."""
    counted: int = 0
    """The sequence number by the notifications, from where it stood at the start."""
    looked_up: int = 0
    """The sequence number when it was last looked up."""
    overrun: bool = False


class Subscriber(Side):
    """Follows the partners' keyspaces, and reads all of one when that is asked for."""

    def __init__(self, settings: Settings, reader: Reader) -> None:
        super().__init__("reading the partners' calls", settings)
        self.place = settings.reads
        self.tries = 1 if settings.reads == settings.writes and not settings.sentinels else 2
        self.comparer = Comparer(reader)
        self.notifications = 0
        self.read = 0
        """Values read after notifications."""
        self._reader = reader
        self._heard: dict[int, Heard] = {}
        self._wake = asyncio.Event()
        self._elsewhere = False
        """Whether to try the master next in the place of what is to be read, which failed."""
        self._data = ""
        """Which history of data the server had when it was last looked at, empty before the first look of a session."""

    def status(self) -> dict[str, Any]:
        return super().status() | {
            "notifications": self.notifications,
            "read": self.read,
            "compared": self.comparer.read,
            "sequences": {keyspace: one.looked_up for keyspace, one in self._heard.items()},
        }

    async def session(self) -> None:
        home = self.settings.reads
        self.place = await find_master(self.settings) if self._elsewhere else home
        self._elsewhere = not self._elsewhere
        news, values, all_of_it = links = [Link(self.place, 0, self.settings.patience) for _ in range(3)]
        try:
            for link in links:
                await link.open()
            self._heard, self._data = {keyspace: Heard() for keyspace in self.settings.partners}, ""
            self.warn(await ensure_events(values))
            await self._subscribe(news)
            await self._look(values)
            self.stand()
            self._elsewhere = False
            for keyspace in self.settings.partners:
                self._reader.reachable(keyspace, True)
            parts = [self._listen(news), self._follow(values), self.comparer.run(all_of_it)]
            await together(*parts, *([self._leave_for(home)] if self.place != home else []))
        finally:
            for link in links:
                await link.close()

    def lost(self) -> None:
        for keyspace in self.settings.partners:
            self._reader.reachable(keyspace, False)

    async def _subscribe(self, news: Link) -> None:
        """In one command, so that no news come between its replies; all but the first of them go by as news."""
        await news.ask_one("PSUBSCRIBE", *(f"__keyspace@{keyspace}__:*" for keyspace in self.settings.partners))

    async def _listen(self, news: Link) -> None:
        """Note down what changed."""
        while True:
            for _ in range(STEP):
                message = await news.hear()
                if message[0] == b"pmessage":
                    self._note(message[2], message[3])
            await asyncio.sleep(0)

    def _note(self, channel: bytes, event: bytes) -> None:
        keyspace, _, key = channel.removeprefix(b"__keyspace@").partition(b"__:")
        heard = self._heard.get(int(keyspace))
        self.notifications += 1
        if heard is None or event == b"expire":  # SET with an expiry is told twice
            return
        if key == SEQUENCE:
            heard.transactions += 1
        elif key == NODE or key.startswith((CALL, HEARD)):
            heard.overrun = heard.overrun or len(heard.changed) >= MAX_CHANGED
            if not heard.overrun:
                heard.changed[key] = None
            self._wake.set()

    async def _follow(self, values: Link) -> None:
        """Read what changed soon after, and look at all nodes and the server every second."""
        due = time.monotonic() + POLL
        while True:
            if await self._woken(due - time.monotonic()):
                await asyncio.sleep(TICK)
                await self._read_changed(values)
            if time.monotonic() >= due:
                due = time.monotonic() + POLL
                await self._look(values)

    async def _woken(self, patience: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, patience)):
                return await self._wake.wait()
        except TimeoutError:
            return False

    async def _read_changed(self, values: Link) -> None:
        self._wake.clear()
        for keyspace, heard in self._heard.items():
            if heard.transactions:
                heard.counted += heard.transactions
                self._reader.transacted(keyspace, heard.transactions)
                heard.transactions = 0
            if heard.overrun:
                heard.overrun = False
                heard.changed.clear()
                self._reader.reachable(keyspace, True)
            if keys := list(islice(heard.changed, STEP)):
                await self._read(values, keyspace, heard, keys)
            if heard.changed:
                self._wake.set()

    async def _read(self, values: Link, keyspace: int, heard: Heard, keys: Sequence[bytes]) -> None:
        for key in keys:
            del heard.changed[key]
        for key, value in zip(keys, await read_values(values, keyspace, keys), strict=True):
            self.read += 1
            if key == NODE:
                self._tell_lease(keyspace, heard, value)
            elif key.startswith(HEARD):
                if value is not None and len(key) <= len(HEARD) + MAX_IP:
                    self._reader.read_heard(keyspace, key[len(HEARD) :].decode(errors="replace"), value)
            elif (call_id := call_id_of(key)) is not None:
                self._reader.read(keyspace, call_id, value)

    def _tell_lease(self, keyspace: int, heard: Heard, lease: bytes | None) -> None:
        if lease != heard.lease:
            heard.lease = lease
            self._reader.read_lease(keyspace, lease)

    async def _look(self, values: Link) -> None:
        """Look at the server and at each partner's lease and sequence number. Raises RedisFault."""
        data = await data_set(values)
        for keyspace, heard in self._heard.items():
            lease, sequence = await read_values(values, keyspace, (NODE, SEQUENCE))
            self._tell_lease(keyspace, heard, lease)
            number = int(sequence) if sequence and sequence.isdigit() and len(sequence) < MAX_DIGITS else 0
            if number < heard.looked_up or data != self._data:
                heard.counted, heard.transactions = number, 0
                self._changed_unseen(keyspace)
            elif heard.counted + heard.transactions < heard.looked_up:  # what was on its way then has come
                raise RedisFault(f"has changed keyspace {keyspace} and not notified us of it")
            heard.looked_up = number
        self._data = data

    def _changed_unseen(self, keyspace: int) -> None:
        """The keyspace may be another one than before, though news of it arrive."""
        if self.good:
            self._reader.reachable(keyspace, True)

    async def _leave_for(self, home: Place) -> None:
        """End the session on the master when what is to be read can be read again."""
        while True:
            await asyncio.sleep(HOMEWARDS)
            link = Link(home, 0, self.settings.patience)
            try:
                await link.open()
                await data_set(link)
            except RedisFault:
                continue
            finally:
                await link.close()
            raise RedisFault(f"is left for {home}, which can be read again")
