"""A laboratory of network namespaces: hosts with their own addresses, cables and programs on one machine.

The tests of the tiers net and interop, `make demo` and bench/ all build their networks here. A laboratory goes with
everything in it when its `with` block ends, be it by ctrl-C, SIGTERM or an exception; what a run that was killed left
behind is removed by the next one.

Programs enter a namespace with nsenter, not with `ip netns exec` or `ip -n`, which change mounts and hide the BPF file
system. No offload is turned off anywhere and no neighbour warmed up: the relay meets veth as it is.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any, Self, TypeVar

from control.ops.place import ROOT_DIRECTORY

T = TypeVar("T")

NAMESPACES = Path("/run/netns")
FOLDERS = Path(tempfile.gettempdir())
PREFIX = "hp-lab"
CLONE_NEWNET = 0x40000000
DUMPCAP_READ_TIMEOUT = 0.25
"""Seconds for which the kernel may hold packets back from dumpcap."""
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)

_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count()


class LabError(Exception):
    """The laboratory cannot be built or a program in it failed; the text has the command and what it said."""


def command(*argv: str, check: bool = True, timeout: float = 30.0) -> str:
    """Run a program to its end and return what it printed. Raises LabError where it fails and `check` is on."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False)
    if check and done.returncode:
        raise LabError(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Host:
    """One host of a laboratory: a network namespace, a folder for its files, and the programs started in it."""

    def __init__(self, name: str, namespace: str, folder: Path) -> None:
        self.name = name
        self.namespace = namespace
        self.folder = folder
        self.processes: list[subprocess.Popen[str]] = []

    def raise_up(self) -> None:
        """Make the folder and the namespace."""
        self.folder.mkdir(parents=True)
        command("ip", "netns", "add", self.namespace)
        for left in ROOT_DIRECTORY.glob(f"hairpin-*-{self.path.stat().st_ino}.*"):  # numbers of namespaces come again
            left.unlink(missing_ok=True)
        self.ip("link", "set", "lo", "up")

    @property
    def path(self) -> Path:
        return NAMESPACES / self.namespace

    def ip(self, *argv: str) -> str:
        return self.run("ip", *argv)

    def run(self, *argv: str, check: bool = True, timeout: float = 30.0) -> str:
        """Run a program on this host to its end, and return its standard output."""
        return command("nsenter", f"--net={self.path}", *argv, check=check, timeout=timeout)

    def start(
        self,
        *argv: str,
        stdout: int | IO[Any] = subprocess.DEVNULL,
        stderr: int | IO[Any] = subprocess.DEVNULL,
        environment: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[str]:
        """Start a program on this host. It is ended with the laboratory, and by the kernel if this process dies."""
        process = subprocess.Popen(
            ("setpriv", "--pdeathsig", "TERM", "nsenter", f"--net={self.path}", *argv),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def call(self, function: Callable[[], T]) -> T:
        """Call a function inside the namespace, in a thread of its own; what it opens stays usable outside."""
        outcome: list[T] = []
        failure: list[BaseException] = []

        def enter() -> None:
            try:
                with self.path.open() as namespace:
                    if _libc.setns(namespace.fileno(), CLONE_NEWNET):
                        number = ctypes.get_errno()
                        raise OSError(number, os.strerror(number), str(self.path))
                outcome.append(function())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return outcome[0]

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_DGRAM, protocol: int = 0) -> socket.socket:
        """A socket that lives in this host's network."""
        return self.call(lambda: socket.socket(family, kind, protocol))

    def sysctl(self, name: str, value: str) -> None:
        """Set one of /proc/sys/net, named with slashes, e.g. ipv4/ip_forward."""
        self.call(lambda: Path("/proc/sys/net", name).write_text(value))

    def snmp(self, group: str) -> dict[str, int]:
        """The kernel's counters of this host: one group (Ip, Icmp, Udp) of /proc/net/snmp."""
        text = self.call(lambda: Path("/proc/thread-self/net/snmp").read_text())
        names, values = (line.split()[1:] for line in text.splitlines() if line.startswith(group + ":"))
        return dict(zip(names, map(int, values), strict=True))

    def mac(self, interface: str) -> str:
        found = re.search(r"link/ether (\S+)", self.ip("link", "show", interface))
        if not found:
            raise LabError(f"{self.name}: {interface} has no MAC address")
        return found[1]

    def capture(self, interface: str, file: Path, only: str = "", length: int = 262144) -> Capture:
        """Start to capture what passes an interface; `only` is a libpcap filter, `length` bytes kept per packet."""
        return Capture(self, interface, file, only, length)

    def end(self, process: subprocess.Popen[str], how: signal.Signals = signal.SIGTERM, patience: float = 15.0) -> int:
        """End one program, and kill it where it does not listen. Returns its exit code."""
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()
        if process in self.processes:
            self.processes.remove(process)
        return process.returncode

    def close(self) -> None:
        for process in self.processes[::-1]:
            self.end(process)
        remove_namespace(self.namespace)


class Capture:
    """Packets of one interface on their way into a file."""

    def __init__(self, host: Host, interface: str, file: Path, only: str, length: int) -> None:
        self.host = host
        self.file = file
        self._process = host.start(
            *("dumpcap", "-q", "-i", interface, "-s", str(length), "-B", "64", "-w", str(file)),
            *(("-f", only) if only else ()),
            stderr=subprocess.PIPE,
        )
        assert self._process.stderr
        said = ""
        while not said.startswith("File:"):
            said = self._process.stderr.readline()
            if not said:
                raise LabError(f"{host.name}: cannot capture on {interface}: is dumpcap (package tshark) installed?")

    def stop(self) -> Path:
        """End the capture and return its file. Raises LabError where packets were missed."""
        time.sleep(2 * DUMPCAP_READ_TIMEOUT)
        self._process.send_signal(signal.SIGINT)
        assert self._process.stderr
        summary = self._process.stderr.read()
        self.host.end(self._process)
        missed = re.search(r"received/dropped on interface .*: \d+/(\d+)", summary)
        if missed is None or int(missed[1]):
            raise LabError(f"{self.host.name}: the capture is not complete: {summary}")
        return self.file


class Lab:
    """A laboratory: hosts and the cables between them. Use it as a context manager."""

    def __init__(self) -> None:
        if os.geteuid():
            raise LabError("a laboratory makes network namespaces: it needs root")
        remove_stale()
        self.name = f"{PREFIX}-{os.getpid()}-{next(_serial)}"
        self.folder = FOLDERS / self.name
        """For files of any kind; it goes with the laboratory, as does the folder of each host in it."""
        self.hosts: list[Host] = []
        self._handlers: dict[int, Any] = {}
        atexit.register(self.close)

    def host(self, name: str) -> Host:
        host = Host(name, f"{self.name}-{name}", self.folder / name)
        self.hosts.append(host)
        host.raise_up()
        return host

    def cable(self, one: Host, its_name: str, other: Host, other_name: str, *, napi: bool = False) -> None:
        """Join two hosts by a veth pair. With `napi` the second end takes what XDP redirects out of the first.

        That is how an end of a veth behaves whose owner runs GRO or an XDP program; without it, it is plain veth as
        container hosts have it, and the relay must find that out.
        """
        one.ip(
            *("link", "add", its_name, "type", "veth"),
            *("peer", "name", other_name, "netns", other.namespace),
        )
        if napi:
            other.run("ethtool", "-K", other_name, "gro", "on")
        one.ip("link", "set", its_name, "up")
        other.ip("link", "set", other_name, "up")

    def close(self) -> None:
        """End all programs and remove all namespaces. A second ctrl-C does not stop it half way."""
        with holding_signals():
            for host in self.hosts[::-1]:
                host.close()
            self.hosts.clear()
            shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, _leave) for number in ENDING_SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: FrameType | None) -> None:
    """Turn a signal that ends the process into an exception, so that `with` blocks are left in order."""
    sys.exit(128 + number)


@contextlib.contextmanager
def holding_signals() -> Any:
    """Hold back the signals that would end the process, until the block is done."""
    held = {signal.SIGINT, *ENDING_SIGNALS}
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)


def remove_namespace(name: str) -> None:
    """Kill what still runs in a namespace (children of programs that were ended) and remove it."""
    for pid in command("ip", "netns", "pids", name, check=False).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    command("ip", "netns", "delete", name, check=False)


def remove_stale() -> None:
    """Remove the laboratories of processes that are gone."""
    for namespace in NAMESPACES.glob(f"{PREFIX}-*"):
        if not _stands(namespace.name):
            remove_namespace(namespace.name)
    for folder in FOLDERS.glob(f"{PREFIX}-*"):
        if not _stands(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def _stands(name: str) -> bool:
    """Whether the process that made a namespace or folder of this name still runs."""
    return Path("/proc", name.removeprefix(PREFIX + "-").split("-")[0]).exists()


@dataclass(frozen=True)
class Network:
    """The standard network: telephones on both sides of an operator's network with a proxy and a relay in it.

        caller ---- core (router) ==== bridge ==== proxy, relay, callee
        10.99.1.2   10.99.1.1          10.99.0.1   .2     .3     .4

    So the relay reaches the callee directly and the caller through a router: two next hops. All that enters and leaves
    the relay passes `core`'s port RELAY_PORT.
    """

    core: Host
    caller: Host
    proxy: Host
    relay: Host
    callee: Host

    RELAY_PORT = "to-relay"
    CORE_ADDRESS = "10.99.0.1"
    PROXY_ADDRESS = "10.99.0.2"
    RELAY_ADDRESS = "10.99.0.3"
    CALLEE_ADDRESS = "10.99.0.4"
    CALLER_ADDRESS = "10.99.1.2"


def standard_network(lab: Lab, *, napi: bool = True) -> Network:
    """Build the standard network; `napi` as in Lab.cable, for the relay's cable."""
    network = Network(*(lab.host(name) for name in ("core", "caller", "proxy", "relay", "callee")))
    core = network.core
    core.ip("link", "add", "bridge", "type", "bridge")
    core.ip("link", "set", "bridge", "up")
    core.ip("address", "add", f"{network.CORE_ADDRESS}/24", "dev", "bridge")
    join_core(lab, network, network.proxy, network.PROXY_ADDRESS, napi=False)
    join_core(lab, network, network.relay, network.RELAY_ADDRESS, napi=napi)
    join_core(lab, network, network.callee, network.CALLEE_ADDRESS, napi=False)
    lab.cable(network.caller, "eth0", core, "to-caller")
    core.ip("address", "add", "10.99.1.1/24", "dev", "to-caller")
    give_address(network.caller, network.CALLER_ADDRESS, "10.99.1.1")
    core.sysctl("ipv4/ip_forward", "1")
    return network


def join_core(lab: Lab, network: Network, host: Host, address: str, *, napi: bool = True) -> None:
    """Put a host on the operator's network, as eth0 with an address in 10.99.0.0/24; core's port is `to-` its name."""
    lab.cable(host, "eth0", network.core, f"to-{host.name}", napi=napi)
    network.core.ip("link", "set", f"to-{host.name}", "master", "bridge")
    give_address(host, address, network.CORE_ADDRESS)


def give_address(host: Host, address: str, gateway: str, interface: str = "eth0") -> None:
    """Give a host its address in a /24 network and its default route."""
    host.ip("address", "add", f"{address}/24", "dev", interface)
    host.ip("route", "add", "default", "via", gateway)


def capture_fields(file: Path, only: str, names: Sequence[str], options: Sequence[str] = ()) -> list[list[str]]:
    """Fields of the packets in a capture, as tshark dissects them; `only` is a display filter."""
    argv = ["tshark", "-n", "-r", str(file), *options, "-Y", only, "-T", "fields"]
    for name in names:
        argv += ["-e", name]
    return [line.split("\t") for line in command(*argv, timeout=120.0).splitlines()]
