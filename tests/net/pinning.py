"""What tests of pinned tables share: a stream under which planes end and begin again, and such planes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

from relay.dataplane import abi
from relay.dataplane.pins import Pins
from relay.dataplane.xdp import XdpDataplane
from relay.types import Endpoint, Rule
from tests.net.conftest import (
    MEDIA_A,
    Phone,
    Table,
    ready,
    rtp,
)

BATCH, PACE = 10, 0.002
"""5,000 packets a second."""
FAST = 20_000
"""Packets a second that a port takes here."""


class Stream:
    """One party sends to a media port all the while, numbered packets, from a thread: the event loop may be busy."""

    def __init__(self, sender: Phone, receiver: Phone, to: Endpoint = MEDIA_A) -> None:
        self._sender, self._receiver, self._to = sender, receiver, to
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sent = 0
        self.heard = 0
        self.other = 0

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            for _ in range(BATCH):
                self._sender.send(self._to, rtp(self.sent))
                self.sent += 1
            self._listen()
            due += PACE
            time.sleep(max(due - time.monotonic(), 0))

    def _listen(self) -> None:
        for payload, _ in self._receiver.received():
            self.other += payload != rtp(self.heard)
            self.heard += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Send no more, and hear what is on its way."""
        self._over.set()
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0.2)
        self._listen()

    def lost(self) -> int:
        """Packets that did not arrive, or not in order."""
        return self.sent - self.heard + self.other


@contextlib.asynccontextmanager
async def started(table: Table, folder: Path, *, keep: bool = True, **settings: object) -> AsyncIterator[XdpDataplane]:
    """A running plane that pins in a folder, and in the end leaves it or not."""
    plane = XdpDataplane(table.settings(pins=folder, max_addresses=4, port_rate=FAST, **settings))
    await plane.start(table.heard)
    try:
        yield plane
    finally:
        await plane.close(keep=keep)


async def in_force(plane: XdpDataplane, rules: tuple[Rule, Rule]) -> None:
    plane.install(rules)
    await ready(plane, *(rule.local for rule in rules))


def age(folder: Path, seconds: int) -> None:
    """Let the last beat be so much longer ago."""
    with Pins.find(folder) or contextlib.nullcontext() as standing:
        assert standing
        host = standing.map("host").array(abi.HOST)
        host["beat"] -= seconds * standing.said.hertz


async def renewed(plane: XdpDataplane) -> None:
    """Wait until the program of this version is in force, or is said not to be."""
    assert plane._renewal
    async with asyncio.timeout(60):
        await plane._renewal.close()
