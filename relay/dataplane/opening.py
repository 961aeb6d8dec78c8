"""Which tables and programs the plane runs on: loaded anew, or those that stand pinned from a relay before.

What stands is taken as it is and nothing is loaded: that is a matter of milliseconds, and its packets are forwarded all
the while. Where this version has another program, or other constants for it, the standing one goes on until the other
is loaded on the same tables, in a thread (`Renewal`).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from relay.dataplane import abi
from relay.dataplane.pins import IDENTITY, Identity, Pins, flush, namespace_number
from relay.dataplane.program import Sizes, Tables, constants, load, measure_hz, silence
from relay.dataplane.settings import XdpSettings
from relay.errors import DataplaneError

__all__ = ["Opened", "Renewal", "open_tables"]

_log = logging.getLogger(__name__)

_ABANDONED_SECONDS = 60
_STALE_SECONDS = 5  # after which packets that wait for user space are of no use to anybody


class Opened:
    """The tables in use, the pins they stand in if they do, and whether a former relay left them."""

    def __init__(self, tables: Tables, pins: Pins | None = None, *, adopted: bool = False) -> None:
        self.tables = tables
        self.pins = pins
        self.adopted = adopted

    def describe(self) -> list[str]:
        """For the operator: what stands where."""
        if self.pins is None:
            return []
        origin = "taken over from the relay before this one" if self.adopted else "made by this relay"
        room = len(self.tables.rules) // abi.PORTS
        return [f"pinned in {self.pins.folder}, {origin}; room for {room} media addresses"]

    def close(self, *, keep: bool = False) -> None:
        """Let go of all; with `keep` what is pinned stands on. Safe to call twice."""
        self.tables.close()
        if self.pins and not keep:
            flush(self.pins.folder)


async def open_tables(settings: XdpSettings) -> Opened:
    """Take over what stands pinned, or load the object and pin it where that is wanted.

    Raises PinsForeign, DataplaneError, with what stands untouched.
    """
    sizes = settings.sizes()
    if settings.pins:
        _clear_away(settings.pins)
    pins = _standing(settings.pins) if settings.pins else None
    return _adopt(pins, len(settings.addresses)) if pins else await _make(settings, sizes)


def _adopt(pins: Pins, addresses: int) -> Opened:
    """Take over the tables if they have room for so many addresses."""
    try:
        _check_room(pins, addresses)
        tables = Tables(pins)
    except BaseException:
        pins.close()
        raise
    if silence(pins) > _STALE_SECONDS * pins.said.hertz:
        tables.copies.skip()
    return Opened(tables, pins, adopted=True)


async def _make(settings: XdpSettings, sizes: Sizes) -> Opened:
    path, folder = settings.object_path, settings.pins
    hertz = await measure_hz(path)
    told = constants(sizes, hertz)
    loaded = load(path, sizes, told)
    if folder is None:
        return Opened(Tables(loaded))
    try:
        made = Pins.make(folder, loaded, Identity(abi.DIGEST, _hash(path), told.hex(), hertz, namespace_number()))
    finally:
        loaded.close()
    return Opened(Tables(made), made)


def _standing(folder: Path) -> Pins | None:
    """What stands in a folder and can be taken over; what is left of a network namespace that has gone is removed."""
    pins = Pins.find(folder)
    if pins is None or pins.said.namespace == namespace_number():
        return pins
    links = pins.links()
    for _, link in links.values():
        link.close()
    pins.close()
    if links:
        raise DataplaneError(
            f"{folder} belongs to a relay in another network namespace, which still has its interfaces: "
            "give this one a folder of its own with --pin-dir, or end the calls of that one with `hairpin flush`"
        )
    _log.warning("the network namespace whose tables stand in %s has gone: they are made anew", folder)
    flush(folder)
    return None


def _clear_away(folder: Path) -> None:
    """Remove what stands beside a folder and is of no use: nobody has kept it for a minute, and it has no interface.

    So it is with each network namespace that has gone; 12 MB of memory for each media address would stay behind.
    """
    others = [entry for entry in folder.parent.glob("*/") if entry != folder]
    for other in others:
        try:
            if _is_abandoned(other):
                flush(other)
                _log.info("removed %s: the network namespace that it belonged to has gone", other)
        except (DataplaneError, OSError) as error:  # of another version, or another user's
            _log.debug("left %s alone: %s", other, error)


def _is_abandoned(folder: Path) -> bool:
    if not (folder / IDENTITY).exists():
        return False  # it may be in the making
    pins = Pins.find(folder)
    if pins is None:
        return False
    with pins:
        links = pins.links()
        for _, link in links.values():
            link.close()
        return not links and silence(pins) > _ABANDONED_SECONDS * pins.said.hertz


def _check_room(pins: Pins, addresses: int) -> None:
    room = pins.map("rules").max_entries // abi.PORTS
    if addresses > room:
        raise DataplaneError(
            f"{addresses} media addresses are more than the {room} that the tables in {pins.folder} were made for "
            "(--max-addresses): end the calls that stand in them with `hairpin flush`, or name fewer addresses"
        )


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Renewal:
    """Another program on the standing tables. `take_over` lets everybody run the programs that are pinned by then."""

    def __init__(self, pins: Pins, settings: XdpSettings, take_over: Callable[[], Awaitable[None]]) -> None:
        self._pins = pins
        self._path = settings.object_path
        self._sizes = settings.sizes()
        self._take_over = take_over
        self._task: asyncio.Task[None] | None = None
        self.reason = ""
        """Why the program of the former relay is still the one that forwards, "" where it is this one's."""

    def start(self) -> None:
        """Look whether there is another program, and if so load it and put it in force, in the background."""
        try:
            wanted = self._wanted()
        except OSError as error:
            self._fail(f"{self._path} cannot be read: {error.strerror}")
            return
        if wanted != self._pins.said:
            self.reason = "this version's is being loaded"
            self._task = asyncio.get_running_loop().create_task(self._renew(wanted))

    async def close(self) -> None:
        """Let what has begun come to its end, a second at most; safe to call twice."""
        if self._task:
            await asyncio.wait([self._task])

    def describe(self) -> list[str]:
        """For the operator, where the program in force is not this version's."""
        return [f"the program of the relay before this one forwards: {self.reason}"] if self.reason else []

    def _wanted(self) -> Identity:
        said = self._pins.said
        return replace(said, program=_hash(self._path), settings=constants(self._sizes, said.hertz).hex())

    async def _renew(self, wanted: Identity) -> None:
        try:
            settings = bytes.fromhex(wanted.settings)
            loaded = await asyncio.to_thread(load, self._path, self._sizes, settings, self._pins)
            try:
                before = self._pins.replace_programs(loaded)
            finally:
                loaded.close()
            await self._take_over()
            for program in before:
                program.close()
            self._pins.say(replace(wanted, refused=self._pins.said.refused))
        except (DataplaneError, OSError) as error:
            self._fail(str(error))
            return
        self.reason = ""
        _log.info("the program of this version has taken the place of the former one's")

    def _fail(self, reason: str) -> None:
        self.reason = reason
        _log.error("the program of the relay before this one goes on forwarding: %s", reason)
