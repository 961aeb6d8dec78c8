"""Live calls through a whole installation, and what befalls it meanwhile.

A Scene has a cluster with a Kamailio before it. `play` has telephones talk, does things at their times, and tells what
was heard. `Offers` are calls that come and go beside them, of which nobody hears anything: signalling alone.
"""

from __future__ import annotations

import csv
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from tests.cluster import QUICK, Cluster
from tests.gaps import Heard
from tests.lab import Host, Lab, LabError
from tests.media import PERIOD
from tests.peers import kamailio_log, start_kamailio
from tests.telephones import FIRST_PORT, RATE, SCENARIOS, Telephones

__all__ = ["TALK", "Act", "Offers", "Scene", "complaints"]

TALK: tuple[str, ...] = (*QUICK, "--delete-delay=2")
"""Options of relays whose calls come and go in a test."""
LAST_WORDS = 2.0
"""Seconds that calls go on after the last act, at least."""

ENOUGH = 0.99
"""Of the packets that telephones had to send, the part without which what was heard says nothing of relays."""

Act = tuple[float, Callable[[], object]]
"""What befalls the installation, and how many seconds after all calls stand."""


class Scene:
    """A cluster behind a proxy. Use it as a context manager."""

    def __init__(
        self, lab: Lab, relays: int = 2, *, speaker: str = "exabgp", bfd: bool = True, options: Sequence[str] = TALK
    ) -> None:
        self._stack = ExitStack()
        self.cluster = Cluster(lab, relays, speaker=speaker, bfd=bfd, options=options)

    def __enter__(self) -> Self:
        with ExitStack() as building:
            cluster = building.enter_context(self.cluster)
            network = cluster.network
            start_kamailio(network.proxy, network.PROXY_ADDRESS, relays=[node.ng for node in cluster.nodes])
            self._stack = building.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def play(
        self,
        calls: int,
        *acts: Act,
        seconds: float = 0.0,
        watch: Callable[[], None] = lambda: None,
    ) -> Heard:
        """Place calls, have all this happen while they talk, and tell what was heard when all have ended.

        They talk for `seconds` after the last was answered, and 2 s longer than the last act at least. `watch` is
        called some times a second. Raises LabError where a call fails, or telephones could not keep up.
        """
        after = max((at for at, _ in acts), default=0.0) + LAST_WORDS
        length = calls / RATE + max(seconds, after)
        with Telephones(self.cluster.network, calls=calls, seconds=length) as telephones:
            stage = _Acts(telephones, acts)
            telephones.dial()

            def look() -> None:
                stage.look()
                watch()

            telephones.wait(look)
            if stage.left:
                raise LabError(f"{len(stage.left)} acts of the scene were not played: not all calls came to stand")
            found = Heard.of(calls, telephones.pairs())
            due = len(found.hearings) * round(length / PERIOD)
            if (sent := sum(one.sent for one in found.hearings)) < due * ENOUGH:
                raise LabError(
                    f"the telephones sent {sent} of {due} packets: this machine is too busy to tell anything"
                )
            return found


class _Acts:
    """What is to be done, in the order of time."""

    def __init__(self, telephones: Telephones, acts: Sequence[Act]) -> None:
        self._telephones = telephones
        self.left = sorted(acts, key=lambda act: act[0])
        self._began: float | None = None

    def look(self) -> None:
        """Do what is due."""
        if self._began is None:
            if not self._telephones.talking():
                return
            self._began = time.monotonic()
        while self.left and time.monotonic() >= self._began + self.left[0][0]:
            self.left.pop(0)[1]()


@dataclass(frozen=True)
class Offered:
    """What became of calls without media."""

    placed: int
    failed: int
    """Calls that were refused, or not answered, or answered without a relay."""
    slowest: float
    """Seconds of the slowest set-up."""


class Offers:
    """Calls without media, placed at a steady rate by telephones of their own. Use it as a context manager.

    The block's end waits for the last call and then tells in `outcome`.
    """

    CALLER, CALLEE = "10.98.1.3", "10.98.0.5"
    STAY = 1000
    """Milliseconds that each call stands."""

    def __init__(self, scene: Scene, rate: int, calls: int) -> None:
        self._network = scene.cluster.network
        self._rate, self._calls = rate, calls
        self._processes: list[tuple[Host, subprocess.Popen[str]]] = []
        self.outcome: Offered

    def __enter__(self) -> Self:
        network = self._network
        for host, address in ((network.caller, self.CALLER), (network.callee, self.CALLEE)):
            host.run("ip", "address", "replace", f"{address}/24", "dev", "eth0")
        self._start(network.callee, "callee", self.CALLEE)
        self._start(
            *(network.caller, "caller", self.CALLER, f"{network.PROXY_ADDRESS}:5060", "-key", "callee", self.CALLEE),
            *("-r", str(self._rate), "-l", str(20 * self._rate), "-d", str(self.STAY), "-trace_rtt", "-rtt_freq", "1"),
        )
        return self

    def _start(self, host: Host, name: str, address: str, *argv: str) -> None:
        folder = host.folder / f"offers-{time.monotonic_ns()}"
        folder.mkdir()
        (folder / "ports.csv").write_text(f"SEQUENTIAL\n{FIRST_PORT};\n")
        process = host.start(
            *(
                "sipp",
                *argv,
                "-sf",
                str(SCENARIOS / f"{name}.xml"),
                "-inf",
                "ports.csv",
                "-nostdin",
                "-m",
                str(self._calls),
            ),
            *("-i", address, "-p", "5060", "-trace_stat", "-fd", "1", "-stf", "statistics.csv"),
            *("-trace_err", "-error_file", "errors"),
            *("-timeout", f"{2 * self._calls / self._rate + 30:.0f}", "-recv_timeout", "20000"),
            cwd=folder,
        )
        self._processes.append((host, process))

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if not error:
            _, caller = self._processes[-1]
            caller.wait(3 * self._calls / self._rate + 60)
            self.outcome = self._told()
        for host, process in self._processes[::-1]:
            host.end(process)

    def _told(self) -> Offered:
        folder = max(self._network.caller.folder.glob("offers-*"), key=lambda one: one.stat().st_mtime)
        with (folder / "statistics.csv").open() as opened:
            last = list(csv.DictReader(opened, delimiter=";"))[-1]
        times = [line.split(";") for file in folder.glob("*rtt.csv") for line in file.read_text().splitlines()[1:]]
        slowest = max((float(words[1]) / 1000 for words in times if len(words) > 2), default=0.0)
        return Offered(int(last["TotalCallCreated"]), int(last["FailedCall(C)"]), slowest)


def complaints(scene: Scene) -> list[str]:
    """What Kamailio has said of relays that do not answer, or that it takes for dead."""
    log = kamailio_log(scene.cluster.network.proxy)
    text = log.read_text(errors="replace") if log.exists() else ""
    return re.findall(r"^.*rtpengine.*(?:disabled|timeout|no available|failed).*$", text, re.MULTILINE)
