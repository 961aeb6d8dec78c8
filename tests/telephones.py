"""Many calls at once: sipp speaks SIP through the proxy, the media agent speaks RTP and RTCP on the ports it signalled.

sipp takes each call's media port from an injection file and logs where the other side wants its media (the scenarios in
tests/scenarios); the agent follows these logs and starts to talk as soon as a line appears.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from relay.types import Endpoint
from tests.lab import Host, LabError, Network
from tests.media import PERIOD, Agent, Party, Schedule, open_party, steady
from tests.pair import PairNetwork
from tests.peers import kamailio_log

SCENARIOS = Path(__file__).parent / "scenarios"
FIRST_PORT = 20000
PORT_STEP = 2
WORDS = 5
"""In a line that a scenario logs."""
RATE = 25
"""New calls per second."""
GRACE = 1.0
"""Seconds between the last packet of a call and its BYE, so that nothing is still on the wire."""


@dataclass
class Side:
    """The telephones of one side: their parties by media port, and by Call-ID once their calls stand."""

    name: str
    host: Host
    address: str
    parties: dict[int, Party]
    calls: dict[str, Party] = field(default_factory=dict)
    answers: dict[str, list[Endpoint]] = field(default_factory=dict)
    """Where each offer or answer that reached this side wanted its media, in order, by Call-ID."""
    read: int = 0
    """Bytes of the log that were read."""


class Telephones:
    """Places calls through a proxy. Use it as a context manager, in which `agent` lives."""

    def __init__(
        self,
        network: Network | PairNetwork,
        *,
        calls: int,
        seconds: float,
        seed: int = 1,
        schedule: Callable[[int, random.Random], Schedule] = lambda packets, _: steady(packets),
        tos: int = 0,
    ) -> None:
        """`schedule` makes what each caller sends of a number of packets; callees send all of theirs in time.

        `seconds` is how long both sides of each call talk; telephones mark their own packets with `tos`.
        """
        self.calls = calls
        self.seconds = seconds
        self._network = network
        self._random = random.Random(seed)
        self._schedule = schedule
        self.agent = Agent()
        self.caller = self._side("caller", network.caller, network.CALLER_ADDRESS, tos)
        self.callee = self._side("callee", network.callee, network.CALLEE_ADDRESS, tos)
        self._sipp: list[tuple[Side, subprocess.Popen[str]]] = []

    def _side(self, name: str, host: Host, address: str, tos: int) -> Side:
        ports = range(FIRST_PORT, FIRST_PORT + self.calls * PORT_STEP, PORT_STEP)
        (host.folder / f"{name}.csv").write_text("SEQUENTIAL\n" + "".join(f"{port};\n" for port in ports))
        return Side(name, host, address, {port: open_party(host, address, port, self._random, tos) for port in ports})

    def __enter__(self) -> Telephones:
        self.agent.__enter__()
        self.agent.add([*self.caller.parties.values(), *self.callee.parties.values()])
        return self

    def __exit__(self, *error: object) -> None:
        for side, process in self._sipp:
            side.host.end(process)
        self.agent.__exit__(*error)

    def dial(self, caller: str = "caller", callee: str = "callee", *, pauses: int = 1) -> None:
        """Start sipp on both sides; the calls begin at RATE a second.

        `caller` and `callee` name scenarios. The caller's has `pauses` of equal length while it talks.
        """
        self._start(self.callee, callee, self._network.CALLEE_ADDRESS, "-m", str(self.calls))
        pause = int((self.seconds + GRACE) / pauses * 1000)
        self._start(
            *(self.caller, caller, f"{self._network.PROXY_ADDRESS}:5060", "-d", str(pause)),
            *("-key", "callee", self._network.CALLEE_ADDRESS),
            *("-m", str(self.calls), "-l", str(self.calls), "-r", str(RATE)),
        )

    def _start(self, side: Side, scenario: str, *argv: str) -> None:
        name = side.host.folder / side.name
        name.with_suffix(".log").unlink(missing_ok=True)
        process = side.host.start(
            *("sipp", *argv, "-sf", str(SCENARIOS / f"{scenario}.xml"), "-inf", f"{name}.csv", "-nostdin"),
            *("-i", side.address, "-p", "5060", "-timeout", f"{self.patience:.0f}", "-timeout_error"),
            *("-trace_logs", "-log_file", f"{name}.log", "-trace_err", "-error_file", f"{name}.errors"),
            cwd=side.host.folder,
        )
        self._sipp.append((side, process))

    @property
    def patience(self) -> float:
        """Seconds after which the calls must be over: twice their time, and some to set them up."""
        return 2 * (self.calls / RATE + self.seconds + GRACE) + 20

    def follow(self) -> bool:
        """Let calls talk that have been set up since; True as long as a sipp runs. Call it a few times a second."""
        for side in (self.caller, self.callee):
            self._follow(side)
        return any(process.poll() is None for _, process in self._sipp)

    def _follow(self, side: Side) -> None:
        log = side.host.folder / f"{side.name}.log"
        if not log.exists():
            return
        with log.open("rb") as opened:
            opened.seek(side.read)
            whole, newline, _ = opened.read().rpartition(b"\n")
        side.read += len(whole) + len(newline)
        for line in whole.decode().splitlines():
            if len(words := line.split()) != WORDS:
                raise LabError(f"the {side.name} reads no relay's SDP: {line}\n{self._proxy_said()}")
            call, own, address, port, rtcp = words
            side.answers.setdefault(call, []).append(Endpoint(address, int(port)))
            if call in side.calls:
                continue
            party = side.calls[call] = side.parties[int(own)]
            packets = round(self.seconds / PERIOD)
            schedule = self._schedule(packets, self._random) if side is self.caller else steady(packets)
            self.agent.talk(party, Endpoint(address, int(port)), Endpoint(address, int(rtcp)), schedule)

    def wait(self, watch: Callable[[], None] = lambda: None) -> None:
        """Wait for the end of all calls, calling `watch` meanwhile. Raises LabError where a call failed."""
        until = time.monotonic() + self.patience
        while self.follow() and time.monotonic() < until:
            watch()
            time.sleep(0.05)
        ended = [(side, side.host.end(process)) for side, process in self._sipp]
        failed = [f"sipp of the {side.name}s: exit code {code}\n{self._errors(side)}" for side, code in ended if code]
        if failed:
            raise LabError("\n".join((*failed, self._proxy_said())))

    def _proxy_said(self) -> str:
        log = kamailio_log(self._network.proxy)
        return log.read_text(errors="replace")[-4000:] if log.exists() else "no Kamailio was started"

    def _errors(self, side: Side) -> str:
        errors = side.host.folder / f"{side.name}.errors"
        return errors.read_text()[:2000] if errors.exists() else "it wrote no errors"

    def talking(self) -> bool:
        """Whether all calls stand; to be asked between two looks of `follow`."""
        return len(self.caller.calls) == len(self.callee.calls) == self.calls

    def pairs(self) -> list[tuple[Party, Party]]:
        """The caller and the callee of each call that was set up on both sides."""
        both = self.caller.calls.keys() & self.callee.calls.keys()
        return [(self.caller.calls[call], self.callee.calls[call]) for call in sorted(both)]
