"""What the two sides of the store, the writing and the reading one, have in common: they connect for ever.

A side is used for as long as nothing fails, and then begins anew after a pause. It keeps in words how it stands, and
logs a change of that once: a Redis that comes and goes does not fill the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from control.replication.redis.link import Link, Patience, Place, RedisFault

__all__ = ["Settings", "Side", "find_master", "together"]

log = logging.getLogger("hairpin")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two attempts; each pause is twice the one before."""
STEADY = 5.0
"""Seconds after which a connection counts as good, and the next pause is the first one again."""
QUIET, MAX_TOLD = 10.0, 10
"""Seconds in which one fault is logged at most, and how many before all is well again."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where calls are written and read."""

    writes: Place
    reads: Place
    keyspace: int
    partners: tuple[int, ...] = ()
    sentinels: tuple[Place, ...] = ()
    sentinel_master: str = "hairpin"
    check_role: bool = True
    """Whether to refuse to write to a replica that takes writes."""
    required: bool = True
    """Whether a start without Redis is none."""
    patience: Patience = field(default_factory=Patience)
    allowed_errors: int = -1
    """Faults in a row after which `disable_time` seconds pass before the next attempt; -1 for none."""
    disable_time: float = 10.0


class Side:
    """One side of the store; a subclass says what it does while connected."""

    def __init__(self, purpose: str, settings: Settings) -> None:
        self.settings = settings
        self.purpose = purpose
        self.place: Place = settings.writes
        self.state = "not connected yet"
        self.good = False
        self.since = time.monotonic()
        self.faults = 0
        self.first: asyncio.Future[RedisFault | None] = asyncio.get_running_loop().create_future()
        """What became of the first attempts: as many as there are servers to try."""
        self.tries = 1
        self.caution: str | None = None
        self._warned: set[str] = set()
        self._in_a_row = 0
        self._told: set[str] = set()
        """Faults that stand in the log since it last said that all is well."""
        self._told_at = float("-inf")

    async def run(self) -> None:
        """Connect and be used, again and again, until cancelled."""
        while True:
            try:
                await self.session()
            except RedisFault as fault:
                self._lose(fault)
            except Exception as error:
                self._lose(RedisFault(f"was left after a fault of the relay's own, {type(error).__name__}"), error)
            await asyncio.sleep(self._pause())

    async def session(self) -> None:
        """Connect, call `stand`, and do the work. Raises RedisFault when that ends."""
        raise NotImplementedError

    def lost(self) -> None:
        """The connection that stood has gone."""

    def stand(self) -> None:
        """The connection stands."""
        if not self.good:
            self._change(True, "in use")
            if self._told or not self.first.done():
                log.info("%s: Redis at %s is in use", self.purpose, self.place)
                self._told.clear()
        if not self.first.done():
            self.first.set_result(None)

    def status(self) -> dict[str, Any]:
        told = {
            "server": str(self.place),
            "state": "in use" if self.good else f"Redis at {self.place} {self.state}",
            "seconds": round(time.monotonic() - self.since, 1),
            "faults": self.faults,
        }
        return told | ({"caution": f"Redis at {self.place} {self.caution}"} if self.caution else {})

    def warn(self, words: str | None) -> None:
        """Say what is not as it should be while the connection is used all the same; None for nothing."""
        if words is not None and words not in self._warned:
            self._warned.add(words)
            log.warning("%s: Redis at %s %s", self.purpose, self.place, words)
        self.caution = words

    def _lose(self, fault: RedisFault, cause: Exception | None = None) -> None:
        steady = self.good and time.monotonic() - self.since > STEADY
        self._in_a_row = 1 if steady else self._in_a_row + 1
        self.faults += 1
        was_good, words = self.good, str(fault)
        if was_good or words != self.state:
            self._change(False, words)
        self._tell(words, cause)
        if was_good:
            self.lost()
        if not self.first.done() and self.faults >= self.tries:
            self.first.set_result(fault)

    def _change(self, good: bool, words: str) -> None:
        self.good, self.state, self.since = good, words, time.monotonic()

    def _tell(self, words: str, cause: Exception | None) -> None:
        now = time.monotonic()
        if words not in self._told and len(self._told) < MAX_TOLD and now - self._told_at > QUIET:
            text = "%s: Redis at %s %s; calls go on, it is tried again"
            log.warning(text, self.purpose, self.place, words, exc_info=cause)
            self._told.add(words)
            self._told_at = now

    def _pause(self) -> float:
        allowed = self.settings.allowed_errors
        if 0 <= allowed < self._in_a_row:
            return self.settings.disable_time
        return min(FIRST_PAUSE * 2.0 ** min(self._in_a_row - 1, 10), LONGEST_PAUSE)


async def together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run parts of a session until the first of them ends, end the others and raise what it raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def find_master(settings: Settings) -> Place:
    """Where Sentinel says that the master is; without Sentinel what the options say. Raises RedisFault."""
    said = []
    for sentinel in settings.sentinels:
        link = Link(sentinel, 0, settings.patience)
        try:
            await link.open()
            found = await link.ask_one("SENTINEL", "GET-MASTER-ADDR-BY-NAME", settings.sentinel_master)
            if found:
                return Place(found[0].decode(), int(found[1]), settings.writes.password)
            said.append(f"{sentinel} knows no master {settings.sentinel_master}")
        except RedisFault as fault:
            said.append(f"{sentinel} {fault}")
        finally:
            await link.close()
    if not settings.sentinels:
        return settings.writes
    raise RedisFault(f"may be the master or not, no Sentinel tells: {'; '.join(said)}")
