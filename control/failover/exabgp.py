"""ExaBGP as the speaker, reached through the bridge that it runs (control.failover.bridge).

ExaBGP is a service of its own, so its sessions outlive the relay. The connection to its bridge may be lost at any time:
it is made again with growing pauses, and the bridge told all there is to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from control.failover.speaker import Attributes, Role, Route, SpeakerLost, Styles, prefix

__all__ = ["DEFAULT_SOCKET", "ExaBgp", "attributes_text"]

log = logging.getLogger(__name__)

DEFAULT_SOCKET = Path("/run/hairpin-bgp/bridge.sock")
MAX_LINE = 1 << 18
BEAT = 1.0
"""Seconds between two words to the bridge, which counts its grace from the last one."""
PATIENCE = 2.0
"""Seconds for ExaBGP to confirm what it was told."""
FIRST_LOOK = 5.0
"""Seconds of the start for a bridge that is there to say what stands announced. Without its word all that stands would
be withdrawn at a restart of the relay, so this is worth waiting for; a bridge that is not there announces nothing."""
MAX_TOLD = 200
"""Characters of a bridge's words that are told on."""
PAUSES = (0.1, 0.2, 0.5, 1.0)
"""Seconds between tries to reach the bridge."""


class ExaBgp:
    """Speaks to the bridge at `path`."""

    name = "exabgp"

    def __init__(self, path: Path, styles: Styles, grace: float) -> None:
        self._path = path
        self._styles = styles
        self._grace = grace
        self._routes: Mapping[str, Route] | None = None
        """None until there is something to say: what the bridge holds stands until then."""
        self._writer: asyncio.StreamWriter | None = None
        self._reached = False
        """The bridge has said how things stand since it was connected to."""
        self._said: dict[str, Any] = {}
        self._looked = asyncio.Event()
        """The bridge has said what stands, or is not there."""
        self._news = asyncio.Event()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._problem = "not tried yet"

    async def start(self) -> Mapping[str, Role]:
        """Begin to reach the bridge; what it holds from a relay before this one."""
        self._task = asyncio.create_task(self._keep_reaching())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._looked.wait(), FIRST_LOOK)
        return _roles(self._said.get("held"))

    async def close(self) -> None:
        """Leave the bridge alone with what it was told last; safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def announce(self, routes: Mapping[str, Route]) -> None:
        """Have exactly these announced. Raises SpeakerLost where it is not confirmed in time."""
        self._routes = routes
        self._said = {**self._said, "done": False}
        self._changed.set()
        try:
            await asyncio.wait_for(self._confirmed(), PATIENCE)
        except TimeoutError:
            raise SpeakerLost(self._unconfirmed()) from None

    def describe(self) -> list[str]:
        """Whether the bridge is reached, which sessions stand, and what ExaBGP refuses."""
        if self._writer is None:
            return [f"ExaBGP's bridge is not reached at {self._path}: {self._problem}"]
        peers = ", ".join(f"{peer} {state}" for peer, state in self._said.get("peers", {}).items())
        refused = [f"ExaBGP refuses {one}: {text}" for one, text in self._said.get("refused", {}).items()]
        return [f"ExaBGP is reached at {self._path}; sessions: {peers or 'none seen yet'}", *refused]

    async def _confirmed(self) -> None:
        while not (self._said.get("done") and _roles(self._said.get("held")) == self._wanted_roles()):
            self._news.clear()
            await self._news.wait()

    def _wanted_roles(self) -> dict[str, Role]:
        return {ip: route.role for ip, route in (self._routes or {}).items() if route.role is not Role.NONE}

    def _unconfirmed(self) -> str:
        if self._writer is None:
            return f"ExaBGP's bridge is not reached at {self._path}: {self._problem}"
        if refused := self._said.get("refused"):
            return f"ExaBGP refuses what it was told: {refused}"
        return f"ExaBGP has not confirmed within {PATIENCE:.0f} s what it was told"

    async def _keep_reaching(self) -> None:
        tries = 0
        while True:
            try:
                reader, self._writer = await asyncio.open_unix_connection(str(self._path), limit=MAX_LINE)
                await self._converse(reader, self._writer)
                self._problem = "it has closed the connection"
            except (OSError, ValueError, RecursionError) as error:
                self._problem = str(getattr(error, "strerror", None) or error)
            finally:
                tries = 0 if self._reached else tries
                self._leave()
                self._looked.set()
            if tries == len(PAUSES):
                log.warning("ExaBGP's bridge is not reached at %s (%s): does ExaBGP run?", self._path, self._problem)
            await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
            tries += 1

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        speaking = asyncio.create_task(self._speak(writer))
        try:
            while line := await reader.readline():
                said = json.loads(line)
                if isinstance(said, dict) and "error" in said:
                    raise ValueError(str(said["error"])[:MAX_TOLD])
                if not isinstance(said, dict) or not all(isinstance(said.get(key), dict) for key in _TABLES):
                    raise ValueError("it answers what is no report of a bridge")
                if not self._reached:
                    log.info("ExaBGP's bridge is reached at %s", self._path)
                self._said, self._reached = said, True
                self._looked.set()
                self._news.set()
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    async def _speak(self, writer: asyncio.StreamWriter) -> None:
        """Say all each second, which is the relay's sign of life, and at once when it changes."""
        while True:
            self._changed.clear()
            if self._routes is not None:
                writer.write(self._line(self._routes))
                await writer.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), BEAT)

    def _line(self, routes: Mapping[str, Route]) -> bytes:
        said = {
            prefix(ip): {
                "role": route.role.value,
                "attributes": attributes_text(ip, route.role, self._styles),
                "lone": route.lone,
            }
            for ip, route in routes.items()
            if route.role is not Role.NONE
        }
        return json.dumps({"grace": self._grace, "routes": said}).encode() + b"\n"

    def _leave(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._said = {}
            if self._reached and self._task is not None and not self._task.cancelling():
                log.warning("ExaBGP's bridge at %s is lost: %s", self._path, self._problem)
            self._reached = False


_TABLES = ("held", "refused", "peers")


def _roles(held: object) -> dict[str, Role]:
    """Addresses by their role, of what a bridge says it holds."""
    found: dict[str, Role] = {}
    for one, role in held.items() if isinstance(held, dict) else ():
        with contextlib.suppress(ValueError):
            found[str(ip_network(one).network_address)] = Role(role)
    return found


def attributes_text(ip: str, role: Role, styles: Styles) -> str:
    """A route's attributes in the language of ExaBGP's API."""
    style: Attributes = styles.of(role)
    words = [f"next-hop {styles.next_hop(ip) or 'self'}"]
    if style.med is not None:
        words.append(f"med {style.med}")
    if style.local_preference is not None:
        words.append(f"local-preference {style.local_preference}")
    if style.prepend and styles.asn:
        words.append(f"as-path [ {' '.join([str(styles.asn)] * (style.prepend + 1))} ]")
    for name, parts in (("community", 2), ("large-community", 3)):
        if ours := [one for one in style.communities if len(one.split(":")) == parts]:
            words.append(f"{name} [ {' '.join(ours)} ]")
    return " ".join(words)
