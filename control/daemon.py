"""`hairpin run`: the process from its start to its end, and the signals that steer it.

    SIGTERM, SIGINT   end; calls end with the relay, or are kept with --on-exit=keep
    SIGHUP            read the options again
    SIGUSR2           end with all calls kept, for the next relay (an upgrade); refused without --state-dir

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

from control import host, supervisor, telling
from control import log as logs
from control.assembly import Relay
from control.config import DEFAULT_FILE, ConfigError, Loaded, examine
from control.handover import inherited
from control.reload import Reloader
from control.state import Leaving
from relay.errors import HairpinError

log = logging.getLogger("hairpin")

HELD_BACK = (signal.SIGHUP, signal.SIGUSR2)
"""Signals that whoever starts a relay may have blocked until it can hear them."""
YOUTH = 0.02
"""Seconds until a new object is looked at by the collector of cycles."""
COLLECTIONS = 5
"""Of these until it is looked at once more, and then no more."""
SWITCH = 0.0005
"""Seconds that the journal's thread may have to wait for the interpreter while commands come without a pause."""


def main(arguments: Sequence[str], default_file: Path = DEFAULT_FILE) -> int:
    """Be the relay until told to stop; returns the exit code."""
    gc.disable()
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


def _collect(loop: asyncio.AbstractEventLoop, turn: int = 0) -> None:
    """Find cycles among young objects, a few thousand at a time, again and again.

    Left to itself Python's collector walks at once all calls that were made since it last ran, which it counts less
    those that ended: 30 ms and more, in which no proxy is heard, and 0.2 s for all of 10,000. Calls are no cycles, they
    go when they end; what makes cycles (a failed request's traceback) is found while young, all else is left alone.
    """
    gc.collect(turn % COLLECTIONS == 0)
    loop.call_later(YOUTH, _collect, loop, turn + 1)


async def run(loaded: Loaded, read: Callable[[], Loaded]) -> None:
    """The relay from start to stop; `read` gives the options anew. Raises HairpinError where it cannot start."""
    leaving = Leaving()
    async with AsyncExitStack() as stack:
        orders = _Orders(can_keep=bool(loaded.config.state_dir))
        supervisor.raise_file_limit()
        log.log(logs.NOTICE, "options: from %s", loaded.source)
        for warning in loaded.warnings:
            log.warning(warning)
        handed = inherited(os.environ, os.getpid())
        relay = await Relay.start(loaded.config, stack, leaving, handed)
        relay.reloader = _reloader(relay, loaded, read)
        stack.callback(relay.reloader.stop)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, relay.reloader.ask)
        telling.report(relay)
        gc.freeze()
        _collect(asyncio.get_running_loop())
        sys.setswitchinterval(SWITCH)
        await relay.begin(stack)
        _ready(relay)
        leaving.keep = relay.remains is not None  # whatever ends it from here on but an order to end the calls
        asked = await orders.stop
        leaving.keep = relay.remains is not None and (asked == "SIGUSR2" or relay.config.on_exit == "keep")
        fate = "are kept" if leaving.keep else "end"
        log.log(logs.NOTICE, "stopping on %s with %d calls standing, which %s", asked, relay.registry.standing, fate)
        if asked != "SIGUSR2":
            supervisor.notify("STOPPING=1", os.environ)
        await relay.leave()
    log.log(logs.NOTICE, "stopped, %s", "all calls are kept for the next relay" if leaving.keep else "all is let go")


def _ready(relay: Relay) -> None:
    """Say that commands are answered; where calls are kept, have the sockets held over a restart."""
    if relay.remains is not None:
        supervisor.keep_sockets(relay.transports.sockets, relay.transports.stale, os.environ)
    supervisor.notify("READY=1", os.environ)


def _reloader(relay: Relay, loaded: Loaded, read: Callable[[], Loaded]) -> Reloader:
    restart = "a restart, of `hairpin supervise` for listeners" if supervisor.SUPERVISED in os.environ else "a restart"
    grows = relay.ports.grows_to
    return Reloader(loaded, read, host.places, grows, relay.take_over, time.monotonic, restart)


class _Orders:
    """What signals ask for."""

    def __init__(self, can_keep: bool) -> None:
        loop = asyncio.get_running_loop()
        self.stop: asyncio.Future[str] = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, self._end, "SIGTERM")
        loop.add_signal_handler(signal.SIGINT, self._end, "SIGINT")
        loop.add_signal_handler(signal.SIGHUP, log.info, "SIGHUP came before the relay was ready")
        loop.add_signal_handler(signal.SIGUSR2, self._end if can_keep else self._refuse, "SIGUSR2")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)

    def _end(self, name: str) -> None:
        if not self.stop.done():
            self.stop.set_result(name)

    def _refuse(self, name: str) -> None:
        log.error("%s is not followed: without --state-dir all calls would end; SIGTERM ends them and the relay", name)
