"""Brings what is decided to the speaker: on change, in order, and again for as long as it is not confirmed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

from control.failover.speaker import Role, Route, Speaker, SpeakerLost

__all__ = ["Herald"]

log = logging.getLogger(__name__)

RETRY = 1.0
"""Seconds until the speaker is asked again for what it has not confirmed."""
LEAVING = 2.5
"""Seconds an orderly stop waits for the speaker."""


class Herald:
    """Tells `speaker` of routes; `happened` hears of each address whose route was told or confirmed."""

    def __init__(self, speaker: Speaker, happened: Callable[[str, str], None]) -> None:
        self.confirmed: Mapping[str, Role] = {}
        self.problem = ""
        """Why the speaker has not confirmed what it was told last; empty where it has."""
        self._speaker = speaker
        self._happened = happened
        self._wanted: Mapping[str, Route] = {}
        self._told: Mapping[str, Route] = {}
        self._changed = asyncio.Event()
        self._left = False

    def want(self, routes: Mapping[str, Route]) -> None:
        """Have these told; nothing happens where they are what was wanted before."""
        if routes != self._wanted and not self._left:
            self._wanted = dict(routes)
            self._changed.set()

    async def run(self) -> None:
        """Tell, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), RETRY if self.problem else None)
            self._changed.clear()
            if not self._left:
                try:
                    await self._tell(self._wanted)
                except Exception as error:  # a fault of its own must not leave all that is decided later untold
                    if repr(error) != self.problem:
                        log.exception("what is announced could not be told; it is tried again")
                    self.problem = repr(error)

    async def leave(self) -> None:
        """Have everything withdrawn, and nothing announced after that; a speaker that is away is not waited for."""
        self._left = True
        try:
            await asyncio.wait_for(self._speaker.announce({}), LEAVING)
        except (SpeakerLost, TimeoutError) as error:
            log.warning("the routes may stand for a while: %s", error or "the speaker takes too long")

    async def _tell(self, wanted: Mapping[str, Route]) -> None:
        for ip, route in wanted.items():
            if route.role is not _role(self._told, ip):
                self._happened(ip, f"{self._speaker.name} is told: {route.role.value}")
        self._told = wanted
        try:
            await self._speaker.announce(wanted)
        except SpeakerLost as error:
            if str(error) != self.problem:
                log.error("what is announced is not confirmed: %s", error)
                for ip in wanted:
                    self._happened(ip, f"not confirmed: {error}")
            self.problem = str(error)
            return
        if self.problem:
            log.warning("%s has confirmed what is announced", self._speaker.name)
        self.problem = ""
        for ip, route in wanted.items():
            if route.role is not self.confirmed.get(ip, Role.NONE):
                self._happened(ip, f"{self._speaker.name} has confirmed: {route.role.value}")
        self.confirmed = {ip: route.role for ip, route in wanted.items()}


def _role(routes: Mapping[str, Route], ip: str) -> Role:
    return routes[ip].role if ip in routes else Role.NONE
