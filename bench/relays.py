"""The two relays as the benches run them, each in a network namespace of its own."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.calls import Proxy
from bench.processes import Memory, cpu_ns, memory, pin
from bench.report import ROOT
from tests.lab import Host, LabError

__all__ = ["PORTS", "Relay", "hairpin", "raise_file_limit", "rtpengine"]

PORTS = (10_000, 65_535)
"""Media ports, the same for both relays."""
_NG_PORT = 2223
_PATIENCE = 20.0


@dataclass(slots=True)
class Relay:
    """A running relay and a client that commands it over loopback."""

    name: str
    host: Host
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[str] = field(init=False)
    proxy: Proxy = field(init=False)

    def start(self) -> None:
        """Start it and wait until it answers. Raises LabError with its last words if it does not."""
        with self.log.open("w") as output:
            self.process = self.host.start(*self.command, stdout=output, stderr=output, cwd=ROOT)
        self.proxy = Proxy(self.host.socket(), ("127.0.0.1", _NG_PORT))
        try:
            self.proxy.wait(_PATIENCE, alive=lambda: self.process.poll() is None)
        except TimeoutError as error:
            raise LabError(f"{self.name} does not answer: {self.log.read_text(errors='replace')[-2000:]}") from error

    def stop(self) -> None:
        """End it in an orderly way."""
        self.host.end(self.process, signal.SIGTERM, patience=_PATIENCE)
        self.proxy.socket.close()

    def pin(self, core: int) -> None:
        """Keep all its threads on one core."""
        pin(self.process.pid, core)

    def cpu_ns(self) -> int:
        """Nanoseconds all its threads have run."""
        return cpu_ns(self.process.pid)

    def memory(self) -> Memory:
        """What it keeps resident now."""
        return memory(self.process.pid)


def hairpin(addresses: Sequence[str], *more: str, profile: Path | None = None) -> list[str]:
    """The command of a hairpin with these media addresses, named a0, a1, ...; under cProfile if a file is named."""
    python = [sys.executable, *(("-m", "cProfile", "-o", str(profile)) if profile else ())]
    interfaces = [f"--interface=a{place}/{address}" for place, address in enumerate(addresses)]
    return [*python, "-m", "control", "run", "--dataplane=xdp", *interfaces, *_common(), *more]


def rtpengine(address: str, *more: str) -> list[str]:
    """The command of Debian's rtpengine in user space."""
    return ["rtpengine", "--foreground", "--table=-1", f"--interface={address}", *_common(), *more]


def raise_file_limit() -> None:
    """Let programs started from here open as many files as the system allows: rtpengine needs four per call."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _common() -> list[str]:
    low, high = PORTS
    ports = [f"--port-min={low}", f"--port-max={high}"]
    return ["--config-file=none", f"--listen-ng=127.0.0.1:{_NG_PORT}", *ports, "--log-stderr", "--log-level=4"]
