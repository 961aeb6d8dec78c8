"""`hairpin supervise`: holds the listening sockets, and starts `hairpin run` with them as often as it ends.

Commands that come while no relay runs wait in the sockets, and the next relay answers them. It knows nothing of calls
and reads its options once, for the listeners: all else is the relay's own, which reads them at each start.

    SIGTERM, SIGINT   end the relay in order, then this
    SIGHUP            the relay reads its options again
    SIGUSR2           end the relay with all calls kept, and start it again: an upgrade
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from control import log as logs
from control import supervisor
from control.config import DEFAULT_FILE, Config, ConfigError, examine
from control.handover import FIRST, KINDS, asked
from control.ng.sockets import open_datagrams, open_stream
from relay.errors import HairpinError

__all__ = ["Supervisor", "main", "pause"]

log = logging.getLogger("hairpin")

QUICK = 10.0
"""Seconds: a relay that gives up sooner has not got far."""
SUDDEN = 2.0
"""Seconds: nor has one that dies of a signal sooner. Later deaths, however often, are made good for at once."""
PATIENCE = 3
"""Quick ends in a row before pauses are made."""
LONGEST_PAUSE = 30.0
"""Seconds."""

ENDING = (signal.SIGTERM, signal.SIGINT)
HEARD = (*ENDING, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)


def main(arguments: Sequence[str], default_file: Path = DEFAULT_FILE) -> int:
    """Supervise until told to stop; returns the exit code, which is the relay's last one."""
    try:
        config = examine(arguments, default_file, "hairpin supervise").config
    except ConfigError as error:
        for problem in error.problems:
            print(f"hairpin: {problem}", file=sys.stderr)
        return 2
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)  # before there is any thread that might take them
    close_log = logs.setup(
        config.log_level, config.log_stderr, times=not config.no_log_timestamps, facility=config.log_facility
    )
    try:
        return _supervise(config, arguments)
    except HairpinError as error:
        log.error("cannot start: %s", error)
        return 1
    finally:
        close_log()


def _supervise(config: Config, arguments: Sequence[str]) -> int:
    sockets = _listen(config)
    if config.pidfile:
        supervisor.write_pidfile(Path(config.pidfile))
    try:
        command = (sys.executable, "-P", "-m", "control", "run", *arguments, "--pidfile=")
        return Supervisor(command, sockets).run()
    finally:
        if config.pidfile:
            supervisor.remove_pidfile(Path(config.pidfile))


def _listen(config: Config) -> list[tuple[str, socket.socket]]:
    """Open all listeners. Raises HairpinError."""
    sockets = []
    for option, endpoint in asked(config):
        opener = open_datagrams if KINDS[option] is socket.SOCK_DGRAM else open_stream
        try:
            sockets.append((option, opener(endpoint)))
        except OSError as error:
            raise HairpinError(f"{error.strerror}; choose another with --{option}=[IP:]PORT") from error
    return sockets


def pause(quick_ends: int) -> float:
    """Seconds to wait before the next start after so many quick ends in a row."""
    return min(2.0 ** (quick_ends - PATIENCE - 1), LONGEST_PAUSE) if quick_ends > PATIENCE else 0.0


class Supervisor:
    """Runs one command again and again, with sockets handed over to it under names. HEARD must be blocked."""

    def __init__(self, command: Sequence[str], sockets: Sequence[tuple[str, socket.socket]]) -> None:
        self._command = tuple(command)
        self._names = ":".join(name for name, _ in sockets)
        above = FIRST + len(sockets)  # out of the way of the numbers they get in the relay
        self._descriptors = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, above) for _, one in sockets]
        for _, one in sockets:
            one.close()
        self._pid = 0
        self._since = 0.0
        self._ending = False
        self._upgrading = False
        self._quick_ends = 0

    def run(self) -> int:
        """Until a signal ends it; returns the exit code of the last relay."""
        while True:
            self._start()
            code = self._watch()
            if not self._ending:
                self._rest(pause(self._quick_ends))
            if self._ending:
                return code if code >= 0 else 128 - code

    def _start(self) -> None:
        self._since, self._upgrading = time.monotonic(), False
        self._pid = os.fork()
        if not self._pid:
            self._become_the_relay()
        log.info("supervisor: started hairpin run, pid %d", self._pid)

    def _become_the_relay(self) -> NoReturn:
        """In the new process: nothing but system calls, for the other threads are gone and what they held is not."""
        try:
            os.setpgid(0, 0)  # a terminal's ctrl-C is for the supervisor alone
            for number, descriptor in enumerate(self._descriptors, FIRST):
                os.dup2(descriptor, number)
            handed = {"LISTEN_FDS": str(len(self._descriptors)), "LISTEN_FDNAMES": self._names}
            environ = {**os.environ, **handed, "LISTEN_PID": str(os.getpid()), supervisor.SUPERVISED: str(os.getppid())}
            signal.pthread_sigmask(
                signal.SIG_UNBLOCK, (*ENDING, signal.SIGCHLD)
            )  # the relay hears the rest when it can
            os.execve(self._command[0], self._command, environ)
        except OSError as error:
            os.write(2, f"hairpin: cannot start {self._command[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(127)

    def _watch(self) -> int:
        """Pass signals on until the relay has ended; returns its exit code, negative for a signal."""
        while True:
            self._heed(signal.sigwait(HEARD))
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self._judge(code)
                return code

    def _heed(self, number: int) -> None:
        if number in ENDING:
            self._ending = True
            os.kill(self._pid, signal.SIGTERM)
        elif number != signal.SIGCHLD:
            self._upgrading |= number == signal.SIGUSR2
            os.kill(self._pid, number)

    def _judge(self, code: int) -> None:
        lived = time.monotonic() - self._since
        if self._ending or (self._upgrading and code == 0):
            log.log(logs.NOTICE, "supervisor: the relay has ended in order%s", "" if self._ending else ", next one")
            return
        self._quick_ends = self._quick_ends + 1 if lived < (QUICK if code >= 0 else SUDDEN) else 0
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        again = f"in {wait:g} s, or at once on SIGHUP" if (wait := pause(self._quick_ends)) else "at once"
        log.error("supervisor: the relay (pid %d) ended by %s after %.1f s; again %s", self._pid, how, lived, again)

    def _rest(self, seconds: float) -> None:
        """Wait, but not longer than until somebody wants something."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            heard = signal.sigtimedwait(HEARD, left)
            if heard is not None and heard.si_signo != signal.SIGCHLD:
                self._ending = heard.si_signo in ENDING
                return
