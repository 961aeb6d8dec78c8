"""All parts of a relay, put together and taken apart.

The order of a start is the order in which commands can be answered soonest without harm: this instance's place is
claimed, the journal's index read, the plane takes over the tables that stand, ports in force are kept from being drawn,
and then commands are answered. Calls of the relay before are restored behind the first answers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from control import chronicle, host, journal, planes, supervisor, telling
from control import log as logs
from control.callback import Notifier
from control.config import Config, Network
from control.config import Interface as Given
from control.handover import Handed
from control.journal import Journal
from control.keeper import CallKeeper
from control.load import Limits, Meters
from control.ng.commands import Commands
from control.ng.service import Service
from control.ng.templates import Templates, flawed
from control.ops import place
from control.ops.console import Console
from control.ops.operators import OperatorSocket
from control.pairing import Pair
from control.planes import Chosen
from control.reload import Reloader
from control.state import Leaving, Remains, claim, remains
from control.transports import Transports
from control.version import version
from relay.call import Call
from relay.registry import Registry, Settings
from relay.types import Learning

log = logging.getLogger("hairpin")

TICK = 0.5
"""Seconds between two looks at what is due for partners."""
TICKS = 2
"""Of these between two looks at the calls' timers."""
BUSY_PORTS_EVERY = 20
"""And between two looks at the ports other programs hold."""


class Relay:
    """All parts of a running relay."""

    def __init__(
        self,
        config: Config,
        chosen: Chosen,
        registry: Registry,
        commands: Commands,
        service: Service,
        ports: host.MediaPorts,
        own: tuple[Network, ...],
        notifier: Notifier,
        leaving: Leaving,
    ) -> None:
        self.config = config
        self.chosen = chosen
        self.plane = chosen.plane
        self.registry = registry
        self.commands = commands
        self.transports = Transports(service)
        self.notifier = notifier
        self.leaving = leaving
        self.meters = Meters(_limits(config), self.plane.octets)
        self.socket_path = Path()
        self.ports = ports
        self.reserved = "not reserved from the host: nothing is forwarded"
        self.keep_ports: Callable[[], str] = lambda: self.reserved
        self.begun = time.time()
        self.started = time.monotonic()
        self.own = own
        """This host's addresses that carry no media."""
        self.reloader: Reloader | None = None
        self.remains: Remains | None = None
        self.journal: Journal | None = None
        self.keeper: CallKeeper | None = None
        self.pair: Pair
        self.found_calls = 0
        """In the journal at the start."""
        self.found_ports = 0
        """In force in the plane at the start."""

    @classmethod
    async def start(
        cls, config: Config, stack: AsyncExitStack, leaving: Leaving, handed: Sequence[Handed] = ()
    ) -> Relay:
        """Take all that a relay needs, each with its release on the stack. Raises HairpinError.

        `handed`: sockets for listeners that stood before.
        """
        held, socket_path = claim(config)
        stack.callback(lambda: held.release(leaving.keep))
        if config.pidfile:
            supervisor.write_pidfile(Path(config.pidfile))
            stack.callback(supervisor.remove_pidfile, Path(config.pidfile))
        left = remains(config, place.namespace())
        kept = _open_journal(config, left, stack, leaving) if left is not None else None
        surveyed = host.survey()
        ports = host.MediaPorts(host.media_addresses(config, surveyed), config.keyspace, config.slices)
        interfaces = ports.interfaces
        own = surveyed.others(interface.address for interface in interfaces)
        hearing = planes.Hearing()
        addresses = tuple({interface.address: None for interface in interfaces})
        chosen = await planes.choose(config, addresses, hearing, left.pins if left is not None else None)
        stack.push_async_callback(_close_plane, chosen, leaving)
        notifier = Notifier(config.b2b_url, config.xmlrpc_format, lambda ip: service.allowed(ip))
        stack.push_async_callback(notifier.close)
        ends = _ends(chronicle.of_ends(chosen.plane, time.monotonic), notifier.ended)
        registry = Registry(chosen.plane, interfaces, _settings(config, own), time.monotonic, ends)
        hearing.listener = registry
        commands = Commands(registry, time.monotonic(), time.time() - time.monotonic(), chronicle.of_trouble)
        commands.templates = _templates(config)
        service = Service(commands.handle, config.ng_allow, time.monotonic)
        relay = cls(config, chosen, registry, commands, service, ports, own, notifier, leaving)
        relay._keep(left, kept)
        if chosen.plane.name != "memory":
            stack.callback(_give_back, ports, leaving)
            relay.reserved = ports.reserve(held.left_behind, held.note)
            relay.keep_ports = lambda: ports.reserve("", held.note)
        relay.skip_busy_ports()
        await relay._listen(socket_path, stack, handed)
        if kept is not None:
            stack.callback(kept.close)  # before listeners close: it lets the last replies go
        return relay

    def _keep(self, left: Remains | None, kept: Journal | None) -> None:
        """Journal and share all calls, as far as the options say, and know those that the relay before left."""
        self.remains, self.journal = left, kept
        config, loop = self.config, asyncio.get_running_loop()
        if kept is not None:
            self.found_calls = sum(1 for _ in kept.standing())
            self.transports.service.gate = kept
            self.transports.service.recall(kept.replies)
        if kept is not None or config.writes is not None:
            refresh = float(config.refresh_interval)
            self.keeper = CallKeeper(self.registry, kept, loop, keyspace=config.keyspace, refresh=refresh)
            self.registry.keeper = self.keeper
            self.found_ports = self.keeper.hold()
        folder = left.folder if left is not None else None
        self.pair = Pair(config, self.registry, self.plane, self.keeper, kept, folder, self.found_calls)
        self.registry.refuse = lambda: self.pair.refuse(self.meters.refuse)

    async def _listen(self, path: Path, stack: AsyncExitStack, handed: Sequence[Handed]) -> None:
        console = Console(self.registry, self.plane, lambda: telling.status(self), time.monotonic, self.chosen.texts)
        answers = OperatorSocket({**console.handlers(), **self.pair.handlers()})
        stack.push_async_callback(answers.close)
        await answers.start(path)
        self.socket_path = path
        reached = {one.advertised for one in self.registry.interfaces}
        await self.transports.start(self.config, stack, reached, handed)

    async def begin(self, stack: AsyncExitStack) -> None:
        """Bring the calls of the relay before back, behind what is answered meanwhile, and begin all that takes time.

        Raises HairpinError where Redis is required by a relay that found no calls, and cannot be used.
        """
        if self.keeper is not None:
            self.keeper.start()
        stack.push_async_callback(self.pair.close)
        pairing = asyncio.create_task(self.pair.start())
        stack.callback(pairing.cancel)
        stack.callback(asyncio.create_task(self._tick_forever()).cancel)
        if not self.found_calls:
            await pairing
        else:
            pairing.add_done_callback(_say_what_failed)

    async def leave(self) -> None:
        """Begin the end: calls are left as they are for the next relay, or traffic goes and then all end."""
        if self.leaving.keep:
            self.transports.datagrams.pause()
        await self.pair.leave(withdraw=not self.leaving.keep)
        if self.keeper is not None:
            self.keeper.close()
        if not self.leaving.keep:
            self.registry.stop(time.monotonic())

    def take_over(self, config: Config, grown: Sequence[Given]) -> None:
        """Put the live options of a configuration in force, and more ports of the media addresses if any are given.

        Raises HairpinError, with no option changed.
        """
        self.transports.renew(config)
        self.plane.deny(config.deny_peer)
        if grown:
            self.ports.grow(grown)
            self.reserved = self.keep_ports()
            self.skip_busy_ports()
        self.registry.reload(_settings(config, self.own))
        self.meters.limits = _limits(config)
        self.notifier.url, self.notifier.form = config.b2b_url, config.xmlrpc_format
        self.commands.templates = _templates(config)
        self.transports.service.allow(config.ng_allow)
        self.pair.take_over(config)
        if self.keeper is not None:
            self.keeper.refresh = config.refresh_interval
        if self.journal is not None:
            self.journal.patience = config.journal_patience / 1000
        logging.getLogger().setLevel(logs.python_level(config.log_level))
        self.config = config

    def skip_busy_ports(self) -> None:
        """Leave ports alone that other programs hold."""
        self.ports.skip_busy(self.chosen.sockets())

    async def _tick_forever(self) -> None:
        """Run the timers."""
        count = 0
        while True:
            await asyncio.sleep(TICK)
            count += 1
            try:
                self.pair.tick(time.monotonic())
                if count % TICKS:
                    continue
                self.meters.sample(time.monotonic())
                self.registry.tick(time.monotonic())
                if count % BUSY_PORTS_EVERY == 0:
                    self.reserved = self.keep_ports()
                    self.skip_busy_ports()
            except Exception:
                log.exception("the timers failed; they go on")

    def listeners(self) -> list[dict[str, str]]:
        """Where ng is spoken, to whom, and how Kamailio names it."""
        return self.transports.listeners(self.config, [one.address for one in self.registry.interfaces])


def _say_what_failed(pairing: asyncio.Task[None]) -> None:
    """Calls of the relay before go on, whatever becomes of its partners."""
    if not pairing.cancelled() and (error := pairing.exception()) is not None:
        log.error("calls are not shared until the relay is started again: %s", error, exc_info=error)


def _open_journal(config: Config, left: Remains, stack: AsyncExitStack, leaving: Leaving) -> Journal:
    """What the relay before left; it is closed, and gone where nothing is kept. Raises JournalTaken."""
    loop = asyncio.get_running_loop()
    kept = Journal.open(
        left.journal, loop, keyspace=config.keyspace, version=version(), patience=config.journal_patience / 1000
    )
    stack.callback(_close_journal, kept, left, leaving)
    leaving.keep = left.pins.is_dir() or any(True for _ in kept.standing())  # a start that fails ends no calls
    for problem in kept.problems:
        log.warning("journal: %s", problem)
    return kept


def _close_journal(kept: Journal, left: Remains, leaving: Leaving) -> None:
    kept.close()
    if not leaving.keep:
        try:
            journal.flush(left.journal)
        except OSError as error:
            log.warning("journal: %s cannot be removed: %s", left.journal, error.strerror)


async def _close_plane(chosen: Chosen, leaving: Leaving) -> None:
    await chosen.close(leaving.keep)


def _give_back(ports: host.MediaPorts, leaving: Leaving) -> None:
    if not leaving.keep:
        ports.give_back()


def _ends(*hear: Callable[[Call, str], None]) -> Callable[[Call, str], None]:
    """Who hears of each call that ends, one after the other."""

    def tell(call: Call, reason: str) -> None:
        for one in hear:
            one(call, reason)

    return tell


def _limits(config: Config) -> Limits:
    return Limits(config.max_load, config.max_cpu, config.max_bandwidth)


def _templates(config: Config) -> Templates:
    for flaw in flawed(config.flag_templates):
        log.warning(flaw)
    return Templates(config.flag_templates)


def _settings(config: Config, own: tuple[Network, ...]) -> Settings:
    return Settings(
        timeout=config.timeout,
        silent_timeout=config.silent_timeout,
        offer_timeout=config.offer_timeout,
        final_timeout=config.final_timeout,
        delete_delay=config.delete_delay,
        max_sessions=config.max_sessions,
        tos=config.tos,
        learning=Learning(config.endpoint_learning),
        sip_source=config.sip_source,
        denied=(*config.deny_peer, *own),
    )
