"""BGP in the laboratory: BIRD and ExaBGP on its hosts, with the configurations that deploy/ shows to operators.

A router is a BIRD with a session to each relay, and its routes in its host's kernel. A relay's speaker is BIRD, or
ExaBGP with a BIRD beside it that speaks BFD alone.
"""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from control.failover.speaker import Role, Route, Speaker
from tests.lab import Host, LabError

__all__ = ["Bird", "ExaBgpd", "Speaking", "filled", "relay_bfd", "relay_bird", "relay_exabgp", "router_bird", "until"]

T = TypeVar("T")
ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
BRIDGE = ROOT / "control/failover/bridge.py"
EXABGP = Path(sys.executable).with_name("exabgp")
PATIENCE = 15.0
FIRST = ("chrt", "--rr", "10")
"""Runs a program before all others: BFD takes a host for dead that is not given a processor for 150 ms."""


def until(what: str, seen: Callable[[], bool], patience: float = PATIENCE, pause: float = 0.02) -> float:
    """Wait until `seen()` is true and return the seconds that took. Raises LabError naming `what` did not come."""
    began = time.monotonic()
    while not seen():
        if time.monotonic() - began > patience:
            raise LabError(f"{what}: not within {patience:.0f} s")
        time.sleep(pause)
    return time.monotonic() - began


def filled(sample: str, values: Mapping[str, object]) -> str:
    """A sample of deploy/ with an operator's own values in place of those it shows, each of which must be in it."""
    text = (DEPLOY / sample).read_text()
    missing = [shown for shown in values if shown not in text]
    if missing:
        raise LabError(f"deploy/{sample} does not show {', '.join(missing)}")
    pattern = "|".join(rf"(?<![\w.]){re.escape(shown)}(?![\w])" for shown in values)
    return re.sub(pattern, lambda found: str(values[found[0]]), text)


class Program:
    """A program on a host that reads one configuration file."""

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.config = host.folder / f"{name}.conf"
        self.log = host.folder / f"{name}.log"
        self.process: subprocess.Popen[str] | None = None

    def run(self, *argv: str, environment: dict[str, str] | None = None) -> None:
        """Start it, behind what it logged before."""
        with self.log.open("a") as log:
            self.process = self.host.start(*argv, stdout=log, stderr=log, environment=environment)

    def kill(self) -> None:
        """As a crash would."""
        self.end(signal.SIGKILL)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ended in order, or as `how` says."""
        if self.process is not None:
            self.host.end(self.process, how)
            self.process = None


class Bird(Program):
    """A BIRD with its control socket in the host's folder."""

    def __init__(self, host: Host, config: str, name: str = "bird") -> None:
        super().__init__(host, name)
        self.config.write_text(config)
        self.socket = host.folder / f"{name}.ctl"
        self.start()

    def start(self) -> None:
        """Run it until it answers."""
        self.run(*FIRST, "bird", "-f", "-c", str(self.config), "-s", str(self.socket))
        try:
            until(f"BIRD on {self.host.name}", self._answers)
        except LabError as error:
            raise LabError(f"{error}\n{self.log.read_text()}") from None

    def ask(self, command: str) -> str:
        """What `birdc` answers."""
        return self.host.run("birdc", "-s", str(self.socket), *command.split(), check=False)

    def _answers(self) -> bool:
        return "Daemon is up and running" in self.ask("show status")

    def established(self, session: str) -> bool:
        """Whether a BGP session stands."""
        return "Established" in self.ask(f"show protocols {session}")

    def watched(self, address: str) -> bool:
        """Whether BFD with a neighbour is up."""
        return any(address in line and " Up " in line for line in self.ask("show bfd sessions").splitlines())


class ExaBgpd(Program):
    """An ExaBGP that runs the bridge."""

    def __init__(self, host: Host, config: str, name: str = "exabgp") -> None:
        super().__init__(host, name)
        self.config.write_text(config)
        self.bridge = host.folder / "bridge.sock"
        self.start()

    def start(self) -> None:
        """Run it until its bridge listens; sessions come up by themselves."""
        unit = (DEPLOY / "exabgp/hairpin-exabgp.service").read_text()
        settings = dict(re.findall(r"^Environment=(\w+)=(.*)$", unit, re.MULTILINE)) | {"exabgp_daemon_user": "root"}
        self.run(str(EXABGP), "server", str(self.config), environment=settings)
        until("the bridge of ExaBGP", self._listens)

    def _listens(self) -> bool:
        """Asked of the kernel: who connects is taken for the relay."""
        sockets = self.host.call(lambda: Path("/proc/thread-self/net/unix").read_text())
        return any(line.endswith(f" {self.bridge}") and " 00010000 " in line for line in sockets.splitlines())

    def bridges(self) -> list[int]:
        """Process numbers of the bridges it runs."""
        if self.process is None:
            return []
        return [child.pid for child in psutil.Process(self.process.pid).children() if str(BRIDGE) in child.cmdline()]


class Speaking:
    """A speaker of the relay's (control.failover) at work in a host's network, as the daemon would have it."""

    def __init__(self, host: Host, make: Callable[[], Speaker]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: host.call(self._serve))
        self._thread.start()
        self.speaker = self._do(_made(make))
        self.found = self._do(self.speaker.start())

    def announce(self, routes: Mapping[str, Role | Route]) -> None:
        """Have these announced and confirmed. Raises SpeakerLost."""
        told = {ip: Route(one) if isinstance(one, Role) else one for ip, one in routes.items()}
        self._do(self.speaker.announce(told))

    def vanish(self) -> None:
        """As if the daemon had been killed: nothing more is said, and the connection is closed."""
        if self._thread.is_alive():
            self._do(self.speaker.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)


async def _made(make: Callable[[], Speaker]) -> Speaker:
    return make()


def router_bird(host: Host, address: str, relays: Sequence[str], services: str, *, bfd: bool = True) -> Bird:
    """The router of deploy/bird/router.conf, with its two relays and more, and the network of their addresses."""
    one, other, *more = relays
    values = {"192.0.2.1": address, "192.0.2.11": one, "192.0.2.12": other, "198.51.100.0/24": services}
    text = filled("bird/router.conf", values)
    for number, relay in enumerate(more, 3):
        text += f"\nprotocol bgp relay{number} from relay {{\n\tneighbor {relay} as 65010;\n}}\n"
    return Bird(host, text if bfd else text.replace("bfd on;", "bfd off;"), "router")


def relay_exabgp(host: Host, address: str, router: str) -> ExaBgpd:
    """ExaBGP on a relay, as in deploy/exabgp/exabgp.conf."""
    bridge = host.folder / "bridge.sock"
    values = {
        "192.0.2.11": address,
        "192.0.2.1": router,
        "/usr/lib/hairpin/bridge.py": BRIDGE,
        "/run/hairpin-bgp/bridge.sock": bridge,
    }
    return ExaBgpd(host, filled("exabgp/exabgp.conf", values))


def relay_bfd(host: Host, address: str, router: str) -> Bird:
    """BIRD beside ExaBGP, for BFD alone, as in deploy/bird/bfd.conf."""
    return Bird(host, filled("bird/bfd.conf", {"192.0.2.11": address, "192.0.2.1": router}), "bfd")


def relay_bird(host: Host, address: str, router: str) -> Bird:
    """BIRD on a relay, as in deploy/bird/relay.conf; it includes what stands in the folder `bgp` of the host's."""
    values = {"192.0.2.11": address, "192.0.2.1": router, "/run/hairpin*/bgp": f"{host.folder}*/bgp"}
    return Bird(host, filled("bird/relay.conf", values), "bird")
