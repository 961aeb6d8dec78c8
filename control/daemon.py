"""`hairpin run`: joins settings, data plane, calls, ng and the operators' socket, and lets go of all of it at the end.

What is taken is put on one stack as it is taken, so that a start that fails halfway, an orderly stop and an error all
let go in the same way, last taken first.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

from control import chronicle, host, planes, supervisor
from control import log as logs
from control.callback import Notifier
from control.config import DEFAULT_FILE, Config, ConfigError, Loaded, Network, examine
from control.config import Interface as Given
from control.load import Limits, Meters
from control.ng.commands import Commands
from control.ng.service import Service
from control.ng.templates import Templates, flawed
from control.ops import place
from control.ops.console import Console
from control.ops.operators import OperatorSocket
from control.planes import Chosen
from control.reload import Reloader
from control.transports import Transports
from control.version import build, version
from relay.call import Call
from relay.errors import HairpinError
from relay.registry import Registry, Settings
from relay.types import Learning

log = logging.getLogger("hairpin")

TICK = 1.0
"""Seconds between two looks at the calls' timers."""
BUSY_PORTS_EVERY = 10
"""Ticks between two looks at the ports other programs hold."""


def main(arguments: Sequence[str], default_file: Path = DEFAULT_FILE) -> int:
    """Be the relay until told to stop; returns the exit code."""
    read = partial(examine, arguments, default_file)
    try:
        loaded = read()
    except ConfigError as error:
        for problem in error.problems:
            print(f"hairpin: {problem}", file=sys.stderr)
        return 2
    config = loaded.config
    close_log = logs.setup(
        config.log_level,
        config.log_stderr,
        times=not config.no_log_timestamps,
        facility=config.log_facility,
    )
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run(loaded, read))
    except HairpinError as error:
        for problem in str(error).split("\n"):
            log.error("cannot start: %s", problem)
        if logs.syslog_wanted(config.log_stderr, sys.stderr, logs.SYSLOG_SOCKET):
            print(f"hairpin: cannot start: {error}", file=sys.stderr)
        return 1
    except Exception:
        log.exception("ended by a fault of its own")
        return 1
    finally:
        close_log()
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _calm_collector() -> None:
    """Keep Python's collector of cycles from walking all calls: 10,000 took it 0.2 s, in which no proxy is heard.

    Calls are no cycles, they go when they end; what makes cycles (a failed request's traceback) is found while young.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 1_000)


async def run(loaded: Loaded, read: Callable[[], Loaded]) -> None:
    """The relay from start to stop; `read` gives the options anew. Raises HairpinError where it cannot start."""
    async with AsyncExitStack() as stack:
        stop = _stop_on_signals()
        supervisor.raise_file_limit()
        log.log(logs.NOTICE, "options: from %s", loaded.source)
        for warning in loaded.warnings:
            log.warning(warning)
        relay = await Relay.start(loaded.config, stack)
        relay.reloader = Reloader(loaded, read, host.places, relay.ports.grows_to, relay.take_over, time.monotonic)
        stack.callback(relay.reloader.stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, relay.reloader.ask)
        relay.report()
        _calm_collector()
        supervisor.notify("READY=1", os.environ)
        ticking = asyncio.create_task(relay.tick_forever())
        stack.callback(ticking.cancel)
        asked = await stop
        log.log(logs.NOTICE, "stopping on %s with %d calls standing", asked, relay.registry.standing)
        supervisor.notify("STOPPING=1", os.environ)
        relay.registry.stop(time.monotonic())
    log.log(logs.NOTICE, "stopped, everything is let go")


def _stop_on_signals() -> asyncio.Future[str]:
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[str] = loop.create_future()

    def end(name: str) -> None:
        if not stop.done():
            stop.set_result(name)

    loop.add_signal_handler(signal.SIGTERM, end, "SIGTERM")
    loop.add_signal_handler(signal.SIGINT, end, "SIGINT")
    loop.add_signal_handler(signal.SIGHUP, log.info, "SIGHUP came before the relay was ready")
    return stop


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
    ) -> None:
        self.config = config
        self.chosen = chosen
        self.plane = chosen.plane
        self.registry = registry
        self.commands = commands
        self.transports = Transports(service)
        self.notifier = notifier
        self.meters = Meters(_limits(config), self.plane.octets)
        registry.refuse = self.meters.refuse
        self.socket_path = Path()
        self.ports = ports
        self.reserved = "not reserved from the host: nothing is forwarded"
        self.keep_ports: Callable[[], str] = lambda: self.reserved
        self.started = time.monotonic()
        self.own = own
        """This host's addresses that carry no media."""
        self.reloader: Reloader | None = None

    @classmethod
    async def start(cls, config: Config, stack: AsyncExitStack) -> Relay:
        """Take all that a relay needs, each with its release on the stack. Raises HairpinError."""
        claim, socket_path = _claim(config, stack)
        if config.pidfile:
            supervisor.write_pidfile(Path(config.pidfile))
            stack.callback(supervisor.remove_pidfile, Path(config.pidfile))
        surveyed = host.survey()
        ports = host.MediaPorts(host.media_addresses(config, surveyed))
        interfaces = ports.interfaces
        own = surveyed.others(interface.address for interface in interfaces)
        hearing = planes.Hearing()
        chosen = await planes.choose(config, tuple({interface.address: None for interface in interfaces}), hearing)
        plane = chosen.plane
        stack.push_async_callback(plane.close)
        notifier = Notifier(config.b2b_url, config.xmlrpc_format, lambda ip: service.allowed(ip))
        stack.push_async_callback(notifier.close)
        ends = _ends(chronicle.of_ends(plane, time.monotonic), notifier.ended)
        registry = Registry(plane, interfaces, _settings(config, own), time.monotonic, ends)
        hearing.listener = registry
        commands = Commands(registry, time.monotonic(), time.time() - time.monotonic(), chronicle.of_trouble)
        commands.templates = _templates(config)
        service = Service(commands.handle, config.ng_allow, time.monotonic)
        relay = cls(config, chosen, registry, commands, service, ports, own, notifier)
        if plane.name != "memory":
            stack.callback(ports.give_back)
            relay.reserved = ports.reserve(claim.left_behind, claim.note)
            relay.keep_ports = lambda: ports.reserve("", claim.note)
        relay.skip_busy_ports()
        await relay._listen(socket_path, stack)
        return relay

    async def _listen(self, path: Path, stack: AsyncExitStack) -> None:
        console = Console(self.registry, self.plane, self.status, time.monotonic, self.chosen.texts)
        answers = OperatorSocket(console.handlers())
        stack.push_async_callback(answers.close)
        await answers.start(path)
        self.socket_path = path
        await self.transports.start(self.config, stack, {one.advertised for one in self.registry.interfaces})

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
        logging.getLogger().setLevel(logs.python_level(config.log_level))
        self.config = config

    def skip_busy_ports(self) -> None:
        """Leave ports alone that other programs hold."""
        self.ports.skip_busy(self.chosen.sockets())

    async def tick_forever(self) -> None:
        """Run the timers."""
        count = 0
        while True:
            await asyncio.sleep(TICK)
            count += 1
            try:
                self.meters.sample(time.monotonic())
                self.registry.tick(time.monotonic())
                if count % BUSY_PORTS_EVERY == 0:
                    self.reserved = self.keep_ports()
                    self.skip_busy_ports()
            except Exception:
                log.exception("the timers failed; they go on")

    def report(self) -> None:
        """Say what was chosen, and how a proxy is pointed here."""
        say = log.log
        say(logs.NOTICE, "hairpin %s, %s, instance %d, pid %d", version(), build(), self.config.instance, os.getpid())
        for interface in self.registry.interfaces:
            pool = interface.pool
            shown = f", shown as {interface.advertised}" if interface.advertised != interface.address else ""
            place = f"{interface.name} {interface.address}{shown}"
            say(logs.NOTICE, "media: %s, ports %d-%d", place, pool.low, pool.high)
        say(logs.NOTICE, "ports: %s", self.reserved)
        for line in self.plane.describe():
            say(logs.NOTICE, "data plane: %s", line)
        for listener in self.listeners():
            if listener["kamailio"]:
                say(logs.NOTICE, 'Kamailio: modparam("rtpengine", "rtpengine_sock", "%s")', listener["kamailio"])
        say(logs.NOTICE, "operators: hairpin status, at %s", self.socket_path)

    def listeners(self) -> list[dict[str, str]]:
        """Where ng is spoken, to whom, and how Kamailio names it."""
        return self.transports.listeners(self.config, [one.address for one in self.registry.interfaces])

    def status(self) -> dict[str, Any]:
        """What `hairpin status` tells beside the calls."""
        return {
            "version": f"{version()}, {build()}",
            "instance": self.config.instance,
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - self.started, 3),
            "listeners": self.listeners(),
            "limits": self.meters.describe(),
            "ports": self.reserved,
            "reload": self.reloader.view() if self.reloader is not None else {"pending": []},
            "counters": self._ng_counters(),
        }

    def _ng_counters(self) -> dict[str, dict[str, int]]:
        per_source = {f"ng requests from {ip}": dict(counts) for ip, counts in self.commands.counts.items()}
        counters = self.transports.counters()
        counters["ng messages"]["ignored_keys"] = self.commands.ignored
        return {**per_source, **counters, "timeouts told": self.notifier.statistics()}


def _claim(config: Config, stack: AsyncExitStack) -> tuple[place.Claim, Path]:
    """Take this instance's place in this namespace; with it, where the operators' socket goes."""
    asked = Path(config.socket).absolute() if config.socket else None
    try:
        path = place.socket_path(place.directory(os.environ, os.geteuid()), config.instance, place.namespace())
        claim = place.Claim(path.with_suffix(".lock"), config.instance)
    except place.InstanceTaken:
        raise
    except place.PlaceError:
        if asked is None:
            raise
        path = place.socket_path(asked.parent, config.instance, place.namespace())
        claim = place.Claim(path.with_suffix(".lock"), config.instance)
    stack.callback(claim.release)
    return claim, asked or path


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
