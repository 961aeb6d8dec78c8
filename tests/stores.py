"""Redis servers and Sentinels on hosts of a laboratory, with the settings of deploy/redis, and what may befall them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tests.lab import Host, LabError

__all__ = ["RedisServer", "Sentinel", "eventually"]

T = TypeVar("T")

SAMPLES = Path(__file__).parents[1] / "deploy" / "redis"
PATIENCE = 20.0
"""Seconds for a server to do what it was told, on a machine that is busy with other things."""
_OURS = ("bind", "port", "dir", "sentinel monitor")
"""Settings of the samples that name places."""


def eventually(condition: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Wait until a condition gives something true, and return that. Raises LabError where it never does."""
    until = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > until:
            raise LabError(f"not within {patience:.0f} s: {what}")
        time.sleep(0.02)
    return found


def _sample(name: str) -> str:
    lines = (SAMPLES / name).read_text().splitlines()
    return "".join(f"{line}\n" for line in lines if line and not line.startswith(("#", *_OURS)))


class _Server:
    """A program of Redis' on a host, which can be killed and frozen and started again."""

    program: str

    def __init__(self, host: Host, address: str, port: int) -> None:
        self.host = host
        self.address = address
        self.port = port
        self.password = ""
        self.folder = host.folder / f"redis-{port}"
        self.folder.mkdir(parents=True)
        self._process: subprocess.Popen[str] | None = None

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"

    def launch(self, *options: str) -> None:
        self._process = self.host.start(self.program, str(self.folder / "conf"), *options, cwd=self.folder)
        eventually(lambda: self.ask("PING", check=False) or self._ended(), f"{self.program} answers at {self}")

    def ask(self, *words: str, check: bool = True) -> str:
        """A command's reply as redis-cli prints it; an error of Redis' is a LabError."""
        secret = ("-a", self.password, "--no-auth-warning") if self.password else ()
        name = ("redis-cli", "-e", "-h", self.address, "-p", str(self.port), *secret)
        return self.host.run(*name, *words, check=check).strip()

    def kill(self) -> None:
        """What kill -9 does."""
        assert self._process is not None
        self.host.end(self._process, signal.SIGKILL)

    def remove(self) -> None:
        """Kill it, and leave nothing of it."""
        self.kill()
        shutil.rmtree(self.folder)

    def freeze(self) -> None:
        """Let it hang: connections stand, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _ended(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise LabError(f"{self.program} at {self} ended with {self._process.returncode}")
        return False


class RedisServer(_Server):
    """A Redis server without any file of data, master or replica."""

    program = "redis-server"

    def __init__(
        self,
        host: Host,
        address: str = "127.0.0.1",
        port: int = 6379,
        replica_of: RedisServer | None = None,
        options: Sequence[str] = (),
    ) -> None:
        super().__init__(host, address, port)
        self.replica_of = replica_of
        self.start(*options)

    def start(self, *options: str) -> None:
        """Start it, empty unless options say otherwise; a replica begins to copy its master."""
        (self.folder / "conf").write_text(f"{_sample('redis.conf')}bind {self.address}\nport {self.port}\n")
        of = self.replica_of
        self.launch(*(("--replicaof", of.address, str(of.port)) if of else ()), *options)
        self.settle()

    def settle(self) -> None:
        """Wait until a replica has copied its master."""
        if self.replica_of:
            up = "master_link_status:up"
            eventually(lambda: up in self.ask("INFO", "replication"), f"{self} copies {self.replica_of}")

    def restart(self, *options: str) -> None:
        """Kill it and start it again with nothing in it."""
        self.kill()
        self.start(*options)

    def set(self, name: str, value: str) -> None:
        """Change one of its settings."""
        self.ask("CONFIG", "SET", name, value)
        if name == "requirepass":
            self.password = value

    def promote(self) -> None:
        """Make a master of a replica."""
        self.ask("REPLICAOF", "NO", "ONE")

    def follow(self, master: RedisServer) -> None:
        """Make a replica of it."""
        self.ask("REPLICAOF", master.address, str(master.port))

    def flush(self) -> None:
        self.ask("FLUSHALL")

    def cut_subscribers(self) -> None:
        """End the connections of all who listen to notifications."""
        self.ask("CLIENT", "KILL", "TYPE", "pubsub")

    def subscribers(self) -> list[int]:
        """The ports from which others listen to notifications."""
        clients = self.ask("CLIENT", "LIST", "TYPE", "pubsub")
        return [int(port) for port in re.findall(r" addr=\S+:(\d+) ", clients)]

    def role(self) -> str:
        return self.ask("ROLE").split()[0]


class Sentinel(_Server):
    """A Sentinel that watches a master, alone."""

    program = "redis-sentinel"

    def __init__(self, host: Host, master: RedisServer, address: str = "127.0.0.1", port: int = 26379) -> None:
        super().__init__(host, address, port)
        (self.folder / "conf").write_text(
            f"bind {address}\nport {port}\ndir {self.folder}\n"
            f"sentinel monitor hairpin {master.address} {master.port} 1\n{_sample('sentinel.conf')}"
        )
        self.launch()
        eventually(lambda: "num-slaves" in self._known(), f"{self} watches {master}")

    def watch(self, master: RedisServer) -> None:
        """Name another master from here on."""
        self.ask("SENTINEL", "REMOVE", "hairpin")
        self.ask("SENTINEL", "MONITOR", "hairpin", master.address, str(master.port), "1")

    def knows_replicas(self, number: int = 1) -> None:
        """Wait until it has found so many replicas."""
        eventually(lambda: f"num-slaves\n{number}\n" in self._known(), f"{self} finds {number} replicas")

    def master(self) -> str:
        """Where it says that the master is."""
        return ":".join(self.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "hairpin").split())

    def _known(self) -> str:
        return self.ask("SENTINEL", "MASTER", "hairpin")
