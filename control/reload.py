"""SIGHUP: the options are read again, and what can change without hurting a call is taken over.

Options of the table that are `live` always can. Ranges of ports can grow. All else waits for a restart, which is said
in the log at once and shown by `hairpin status` until then. A configuration with an error changes nothing at all.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from control.config import Config, Interface, Loaded, options
from control.log import NOTICE
from relay.errors import HairpinError

log = logging.getLogger("hairpin")

PLACES = frozenset({"interface", "port-min", "port-max", "attach", "max-addresses"})
"""Options that say where media is relayed, which are one question to the host."""
PORTS = frozenset({"interface", "port-min", "port-max"})


class Changes(NamedTuple):
    """What a new configuration changes of the one in force."""

    config: Config
    """What is in force once `live` is taken over."""
    live: tuple[str, ...]
    pending: tuple[str, ...]
    """Options that need a restart."""


def compare(old: Config, new: Config, ports_grow: bool) -> Changes:
    """Sort what changed; `ports_grow`: what changed of places is more ports of the same addresses."""
    live: list[str] = []
    pending: list[str] = []
    for name, given, _ in options():
        field = name.replace("-", "_")
        same = getattr(old, field) == getattr(new, field)
        if not same or (name == "templates" and old.flag_templates != new.flag_templates):
            (live if given.live or (ports_grow and name in PORTS) else pending).append(name)
    taken: dict[str, Any] = {name.replace("-", "_"): getattr(new, name.replace("-", "_")) for name in live}
    if "templates" in live:
        taken["flag_templates"] = new.flag_templates
    return Changes(dataclasses.replace(old, **taken), tuple(live), tuple(pending))


@dataclass(slots=True)
class Record:
    """The last reload: when (seconds, the reloader's clock), and what was wrong with it."""

    at: float
    problems: tuple[str, ...] = ()


class Reloader:
    """Reads options again whenever it is asked to, one time after the other.

    `read` gives the options as they are written by now, `places` the media addresses and ports of a configuration; both
    may block and raise ConfigError. `grows` says whether these are the addresses of today with as many ports or more.
    `apply` puts a configuration in force, and such places where they changed; what it raises of HairpinError it raises
    before it changes anything.
    """

    def __init__(
        self,
        loaded: Loaded,
        read: Callable[[], Loaded],
        places: Callable[[Config], Sequence[Interface]],
        grows: Callable[[Sequence[Interface]], bool],
        apply: Callable[[Config, Sequence[Interface]], None],
        clock: Callable[[], float],
        restart: str = "a restart",
    ) -> None:
        """`restart`: what puts all other options in force, in words."""
        self.config = loaded.config
        """What is in force."""
        self.pending: tuple[str, ...] = ()
        self.last: Record | None = None
        self._warned = set(loaded.warnings)
        self._read, self._places, self._grows, self._apply, self._clock = read, places, grows, apply, clock
        self._restart = restart
        self._running: asyncio.Task[None] | None = None
        self._again = False

    def ask(self) -> asyncio.Task[None]:
        """Reload soon; asked in the middle of a reload, one more follows. The task ends when all is done."""
        self._again = True
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._reload())
        return self._running

    def stop(self) -> None:
        """Leave off."""
        if self._running is not None:
            self._running.cancel()

    async def _reload(self) -> None:
        while self._again:
            self._again = False
            try:
                loaded = await asyncio.to_thread(self._read)
                self._take(loaded, await self._grown(loaded.config))
                self.last = Record(self._clock())
            except HairpinError as error:
                self.last = Record(self._clock(), tuple(str(error).split("\n")))
                for problem in self.last.problems:
                    log.error("not reloaded, nothing changes: " + problem)
            except Exception:
                self.last = Record(self._clock(), ("a fault of its own, see the log",))
                log.exception("the reload failed")

    async def _grown(self, config: Config) -> Sequence[Interface]:
        """The places of a configuration if they are those of today with more ports."""
        if PLACES.isdisjoint(compare(self.config, config, False).pending):
            return ()
        places = await asyncio.to_thread(self._places, config)
        return places if self._grows(places) else ()

    def _take(self, loaded: Loaded, grown: Sequence[Interface]) -> None:
        found = compare(self.config, loaded.config, bool(grown))
        for warning in loaded.warnings:
            if warning not in self._warned:
                log.warning(warning)
        self._warned = set(loaded.warnings)
        self._apply(found.config, grown)
        self.config, self.pending = found.config, found.pending
        changed = ", ".join(found.live) or "nothing that was not before"
        log.log(NOTICE, "reloaded from %s, in force: %s", loaded.source, changed)
        if found.pending:
            log.warning("needs %s: %s", self._restart, ", ".join(found.pending))

    def view(self) -> dict[str, Any]:
        """What `hairpin status` tells."""
        view: dict[str, Any] = {"pending": list(self.pending)}
        if self.last is not None:
            view |= {"seconds_ago": round(self._clock() - self.last.at, 3), "problems": list(self.last.problems)}
        return view
