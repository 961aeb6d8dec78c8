"""A relay among its partners: calls shared over Redis, and service addresses announced. Joins both with the relay.

Without Redis there are no partners, and what is announced is decided by health and operators alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from control import announcing
from control.config import Config
from control.journal import Journal
from control.keeper import CallKeeper
from control.ops.moves import Moves
from control.ops.operators import Handler
from control.replication.replicator import Replicator, Terms
from relay.dataplane import Dataplane
from relay.errors import HairpinError
from relay.registry import SESSION_LIMIT, Registry

if TYPE_CHECKING:
    from control.replication.redis.store import RedisStore

__all__ = ["Pair", "handed_over"]

log = logging.getLogger("hairpin")

HAND_OVER = 5.0
"""Seconds an orderly stop waits for partners to take one more call."""
AT_MOST = 60.0
"""Seconds it takes altogether: systemd kills after 90."""
GLANCE = 0.05
"""Seconds between two looks at how many are left."""


class Pair:
    """Made before commands are answered, started behind the first answers.

    `keeper` is None where calls are neither journalled nor shared; `folder` keeps operators' orders over a restart;
    `standing` calls were found in the journal.
    """

    def __init__(
        self,
        config: Config,
        registry: Registry,
        plane: Dataplane,
        keeper: CallKeeper | None,
        journal: Journal | None,
        folder: Path | None,
        standing: int,
    ) -> None:
        self._registry = registry
        self._standing = standing
        self._keeper = keeper
        self._store = _store(config, standing)
        self._replicator: Replicator | None = None
        if self._store is not None and keeper is not None:
            self._replicator = keeper.partners = Replicator(
                registry,
                self._store,
                config.keyspace,
                config.subscribe_keyspace,
                _terms(config),
                keeper.read,
                name=config.node_name or socket.gethostname(),
                instance=token_hex(8),
                clock=time.monotonic,
                unix=time.time,
                later=asyncio.get_running_loop().call_soon,
                shelf=journal,
            )
        self._failover = announcing.announcer(config, registry, plane, folder, self._replicator)

    async def start(self) -> None:
        """Announce at once, and share calls when all that the journal holds stand: records are judged against those.

        Raises HairpinError where Redis is required and cannot be used, or nothing can be announced. A relay that found
        calls requires neither: they go on.
        """
        try:
            await self._failover.start()
        except HairpinError as error:
            if not self._standing:
                raise
            log.error("nothing is announced until the relay is started again: %s", error)
        self._registry.draining |= self._failover.draining
        if self._keeper is not None:
            await self._keeper.restored()
        if self._store is not None and self._replicator is not None:
            await self._store.start(self._replicator)

    def tick(self, now: float) -> None:
        """Do what is due; once a second or more often."""
        if self._replicator is not None:
            self._replicator.tick(now)

    def refuse(self, otherwise: Callable[[], str | None]) -> str | None:
        """Why no call may be added: first of all that partners may have calls on ports this relay has forgotten."""
        unasked = self._replicator is not None and not self._standing and not self._replicator.ready
        return SESSION_LIMIT if unasked else otherwise()

    async def leave(self, withdraw: bool) -> None:
        """Before calls end: with `withdraw` all routes go first, and partners are asked to take the calls.

        The proxy takes other relays for new calls meanwhile, which would end at once here.
        """
        self._registry.draining |= withdraw
        await self._failover.leave(withdraw)
        registry, replicator = self._registry, self._replicator
        if withdraw and replicator is not None and registry.own:
            await handed_over(lambda: registry.own, lambda: _released(registry, replicator))
            log.info("partners have taken all calls but %d, which end", registry.own)

    async def close(self) -> None:
        """Let go of the speaker, then of Redis, which is told what waits."""
        await self._failover.close()
        if self._store is not None:
            await self._store.close()

    def take_over(self, config: Config) -> None:
        """Put the live options in force."""
        self._failover.limits = announcing.limits(config)

    def handlers(self) -> Mapping[str, Handler]:
        """The operators' commands that move addresses and calls."""
        return Moves(self._failover, self._replicator, self._registry, time.time).handlers()

    def status(self) -> dict[str, Any]:
        """What `hairpin status` tells."""
        told: dict[str, Any] = {"failover": self._failover.status()}
        if self._replicator is not None:
            told["replication"] = self._replicator.status()
        if self._store is not None:
            told["redis"] = self._store.status()
        return told


def _store(config: Config, standing: int) -> RedisStore | None:
    """Where calls are shared. Its library is loaded where it is asked for: it takes a tenth of a start's time."""
    if config.writes is None:
        return None
    from control.sharing import store

    return store(config, os.environ, standing)


async def handed_over(left: Callable[[], int], ask: Callable[[], bool]) -> None:
    """Wait until no calls are `left` as partners take them, for as long as they go on taking.

    `ask` has partners take them, and tells whether there are any; what it asks holds for a while only.
    """
    least, begun = left(), time.monotonic()
    until = now = begun
    while least and now - begun < AT_MOST:
        if now >= until:
            if (now > begun and left() >= least) or not ask():
                return
            least, until = left(), now + HAND_OVER
        await asyncio.sleep(GLANCE)
        now = time.monotonic()
        if not left():
            return


def _released(registry: Registry, replicator: Replicator) -> bool:
    """Ask partners to take all calls; whether there are calls, and any partner who can."""
    asked = 0
    for ip in {one.address: None for one in registry.interfaces} if registry.own else ():
        try:
            replicator.release(ip)
            asked += 1
        except HairpinError as error:
            log.warning("own calls of %s end: %s", ip, error)
    return asked > 0


def _terms(config: Config) -> Terms:
    return Terms(
        lease=config.node_lease,
        sweep=config.sweep_interval,
        compare=config.compare_interval,
        owner_gone=config.owner_gone,
        expires=config.redis_expires,
        tombstone=config.tombstone_time,
    )
