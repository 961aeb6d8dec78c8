"""BIRD as the speaker, for hosts that run it anyway.

A file that BIRD's configuration includes has three static protocols for each address, one for each role it may be
announced in, of which at most one is enabled. A change of role is written into the file first, so that an operator's
`birdc configure` says the same, and then put in force by `enable` and `disable`, which touch nothing else of BIRD.

Each route leads through a gateway behind a sign of life (control.failover.pulse): the relay renews it each second, and
without it for the grace the route goes, unless no partner would serve the address.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from control.failover.birdsocket import BirdError, BirdSocket, Line
from control.failover.pulse import FOREVER, Pulse
from control.failover.speaker import Role, Route, SpeakerLost, Styles, prefix
from relay.errors import HairpinError

__all__ = ["DEFAULT_SOCKET", "Bird", "protocol_name", "roles_in", "written"]

log = logging.getLogger(__name__)

DEFAULT_SOCKET = Path("/run/bird/bird.ctl")
ROLES = (Role.PRIMARY, Role.BACKUP, Role.DRAINING)
BEAT = 1.0
"""Seconds between two signs of life, and between two looks at BIRD."""
MAX_FILE = 1 << 18
_HEAD = "# hairpin announces: "
_SESSION = re.compile(r"(\S+)\s+BGP\s+\S+\s+(\S+)\s+\S+\s*(.*)")
_STATE = re.compile(r"(hairpin_\w+)\s+Static\s+\S+\s+(\S+)")


class Bird:
    """Speaks to the BIRD whose control socket is at `path`, for these addresses; `include` is the file it reads."""

    name = "bird"

    def __init__(
        self,
        path: Path,
        include: Path,
        addresses: Sequence[str],
        styles: Styles,
        grace: int,
        pulse: Pulse,
    ) -> None:
        self._path = path
        self._include = include
        self._addresses = tuple(addresses)
        self._styles = styles
        self._grace = grace
        self._pulse = pulse
        self._routes: Mapping[str, Route] | None = None
        self._bird: BirdSocket | None = None
        self._turn = asyncio.Lock()
        """One conversation at a time."""
        self._task: asyncio.Task[None] | None = None
        self._sessions: list[str] = []
        self._problem = ""
        self._states: dict[str, bool] = {}
        """Which protocols are enabled, as far as BIRD has said."""
        self._unread = False
        """More than roles has changed in the file since BIRD has read it."""

    async def start(self) -> Mapping[str, Role]:
        """What the file and the signs of life of a relay before this one say. Raises HairpinError where none can be."""
        try:
            self._include.parent.mkdir(parents=True, exist_ok=True)
            before = self._read()[:MAX_FILE]
        except (OSError, ValueError) as error:
            raise HairpinError(f"cannot read {self._include}, which BIRD is to include: {error}") from error
        self._task = asyncio.create_task(self._keep())
        return {ip: role for ip, role in roles_in(before).items() if ip in self._addresses and self._beats(ip)}

    async def close(self) -> None:
        """Let go; the routes stand for the grace. Safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            self._hang_up()
            if not any(route.role is not Role.NONE for route in (self._routes or {}).values()):
                self._pulse.stop()

    async def announce(self, routes: Mapping[str, Route]) -> None:
        """Have exactly these announced. Raises SpeakerLost where BIRD does not confirm it."""
        self._routes = routes
        try:
            async with self._turn:
                await self._put(routes)
        except (OSError, TimeoutError, HairpinError) as error:
            self._fail(error)
            raise SpeakerLost(self._problem) from error
        self._problem = ""

    def describe(self) -> list[str]:
        """Whether BIRD answers, and its sessions."""
        if self._problem:
            return [self._problem]
        return [f"BIRD is reached at {self._path}; sessions: {', '.join(self._sessions) or 'none'}"]

    async def _keep(self) -> None:
        """Renew the signs of life and look at BIRD; what it does not announce as it was told, it is told again."""
        while True:
            await asyncio.sleep(BEAT)
            if self._routes is None:
                continue
            try:
                self._beat(self._routes)
                async with self._turn:
                    if not await self._as_told(self._routes):
                        log.warning("BIRD did not announce what it was told: it is told again")
                        await self._put(self._routes)
                if self._problem:
                    log.warning("BIRD is reached again at %s", self._path)
                self._problem = ""
            except (OSError, TimeoutError, HairpinError) as error:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._hang_up()
        reason = str(error) or type(error).__name__
        told = reason if isinstance(error, HairpinError) else f"BIRD is not reached at {self._path}: {reason}"
        if not self._problem:
            log.error("%s", told)
        self._problem = told

    async def _put(self, routes: Mapping[str, Route]) -> None:
        """The file first, then the signs of life, then BIRD."""
        self._write(routes)
        self._beat(routes)
        bird = await self._reached()
        if not self._unread:
            try:
                await self._switch(bird, routes)
                return
            except BirdError as error:
                log.info("BIRD reads its configuration anew: %s", error)
        self._states.clear()
        await bird.ask("configure")
        self._unread = False
        await self._switch(bird, routes)

    async def _switch(self, bird: BirdSocket, routes: Mapping[str, Route]) -> None:
        """What comes before what goes: an address that changes its role has a route at all times."""
        wanted = dict(self._enabled(routes))
        for name, on in sorted(wanted.items(), key=lambda item: not item[1]):
            if self._states.get(name) is not on:
                await bird.ask(f"{'enable' if on else 'disable'} {name}")
                self._states[name] = on

    async def _as_told(self, routes: Mapping[str, Route]) -> bool:
        lines = await (await self._reached()).ask("show protocols")
        self._sessions = list(_sessions(lines))
        self._states = {found[1]: found[2] != "down" for line in lines if (found := _STATE.match(line.text))}
        return all(self._states.get(name, False) is on for name, on in self._enabled(routes))

    async def _reached(self) -> BirdSocket:
        if self._bird is None:
            self._bird = await BirdSocket.reach(self._path)
        return self._bird

    def _hang_up(self) -> None:
        if self._bird is not None:
            self._bird.close()
            self._bird = None
            self._states.clear()

    def _enabled(self, routes: Mapping[str, Route]) -> Iterator[tuple[str, bool]]:
        for ip in self._addresses:
            for role in ROLES:
                yield protocol_name(ip, role), routes.get(ip, Route(Role.NONE)).role is role

    def _read(self) -> str:
        return self._include.read_text(errors="replace") if self._include.exists() else ""

    def _write(self, routes: Mapping[str, Route]) -> None:
        """Write the file in one step."""
        roles = {ip: route.role for ip, route in routes.items() if route.role is not Role.NONE}
        text = written(self._addresses, roles, self._styles, self._gateway)
        before = self._read()
        if text != before:
            fresh = self._include.with_suffix(".fresh")
            fresh.write_text(text)
            os.replace(fresh, self._include)
        self._unread |= _bare(text) != _bare(before)

    def _beat(self, routes: Mapping[str, Route]) -> None:
        for number, ip in enumerate(self._addresses):
            route = routes.get(ip, Route(Role.NONE))
            if route.role is not Role.NONE:
                self._pulse.beat(number, ":" in ip, FOREVER if route.lone else self._grace)

    def _beats(self, ip: str) -> bool:
        return self._pulse.beats(self._addresses.index(ip), ":" in ip)

    def _gateway(self, ip: str) -> str:
        return self._pulse.gateway(self._addresses.index(ip), ":" in ip)


def protocol_name(ip: str, role: Role) -> str:
    """The name of a static protocol."""
    return f"hairpin_{role.value}_{ip_address(ip).packed.hex()}"


def written(addresses: Sequence[str], roles: Mapping[str, Role], styles: Styles, gateway: Callable[[str], str]) -> str:
    """The file for BIRD to include."""
    said = json.dumps({ip: role.value for ip, role in sorted(roles.items())})
    parts = [f"{_HEAD}{said}", "# Written by the relay whenever that changes: edit hairpin's options instead."]
    for ip in addresses:
        for role in ROLES:
            statements = " ".join(_statements(ip, role, styles))
            parts += [
                f"\nprotocol static {protocol_name(ip, role)} {{",
                f"\tdisabled {'no' if roles.get(ip) is role else 'yes'};",
                f"\t{'ipv6' if ':' in ip else 'ipv4'};",
                f"\troute {prefix(ip)} via {gateway(ip)} {{ {statements} }};",
                "}",
            ]
    return "\n".join(parts) + "\n"


def _statements(ip: str, role: Role, styles: Styles) -> Iterator[str]:
    """A route's attributes in BIRD's language of filters."""
    style = styles.of(role)
    if style.med is not None:
        yield f"bgp_med = {style.med};"
    if style.local_preference is not None:
        yield f"bgp_local_pref = {style.local_preference};"
    if styles.asn:
        yield from [f"bgp_path.prepend({styles.asn});"] * style.prepend
    for community in style.communities:
        numbers = community.split(":")
        kind = "bgp_community" if len(numbers) == 2 else "bgp_large_community"
        yield f"{kind}.add(({', '.join(numbers)}));"
    if hop := styles.next_hop(ip):
        yield f"bgp_next_hop = {hop};"


def roles_in(text: str) -> dict[str, Role]:
    """What a file of this kind says is announced; nothing where it says nothing that can be read."""
    head = text.partition("\n")[0]
    try:
        return {ip: Role(role) for ip, role in json.loads(head.removeprefix(_HEAD)).items()}
    except (ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _bare(text: str) -> str:
    """The file without what changes with roles."""
    return re.sub(rf"^{_HEAD}.*$|^\tdisabled (no|yes);$", "", text, flags=re.MULTILINE)


def _sessions(lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        if found := _SESSION.match(line.text):
            yield f"{found[1]} {found[3].strip() or found[2]}".strip()
