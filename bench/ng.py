"""Server CPU of the control plane per call (offer, answer, delete), against Debian's rtpengine.

    python -m bench.ng [--replicated] [--quick] [--rounds N] [--calls N]
    python -m bench.ng [--replicated] --profile

Both relays delete at once and run on one core, the client on another; rounds alternate. With --replicated both write
their calls to a Redis of their own, hairpin to its journal as well, and hairpin takes part once more without either. A
run with default settings is stored in bench/results/. The second form runs hairpin alone under cProfile and prints
where its time goes.
"""

from __future__ import annotations

import argparse
import os
import pstats
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any, Self

from bench.calls import FLAGS, Call, CommandFailed, make_calls
from bench.processes import Memory, pin
from bench.relays import Relay, hairpin, raise_file_limit, rtpengine
from bench.report import ROOT, Report, progress, table
from bench.stats import Summary, ratios, summarize
from tests.lab import Host, Lab, LabError, give_address
from tests.stores import RedisServer
from tests.supervised import bpf_folder

CLIENT_CORE, SERVER_CORE = 0, 1
COMMANDS = ("offer", "answer", "delete")
HELD_CALLS = 2000
SETTLE = 0.05
"""Seconds for a server to finish what it does after its last reply."""
CPU_TARGET, MEMORY_TARGET = 2 / 3, 1 / 2
"""Of what rtpengine takes."""
_ROUTER, _RELAY = "10.98.0.1", "10.98.0.2"
_REDIS = "--redis=127.0.0.1:6379/1"
ALONE = "hairpin alone"
"""The relay without journal and Redis, beside the one that has both."""
MEMORY = "/dev/shm"
"""Where state directories and logs are: no disk is measured."""


class Network:
    """A laboratory with one host per relay, each with a router of its own."""

    def __init__(self) -> None:
        self.lab = Lab()

    def host(self, name: str) -> Host:
        """A host with an address and a default route."""
        host, router = self.lab.host(name), self.lab.host(f"{name}-router")
        self.lab.cable(host, "eth0", router, "eth0", napi=True)
        router.ip("address", "add", f"{_ROUTER}/24", "dev", "eth0")
        give_address(host, _RELAY, _ROUTER)
        return host

    def redis(self, host: Host) -> None:
        """A Redis of the host's own, on the client's core: what it costs is not the relay's."""
        host.sysctl("ipv4/ip_local_port_range", "2224 9999")  # all above is reserved for media
        server = RedisServer(host)
        pin(int(server.ask("INFO", "server").partition("process_id:")[2].split()[0]), CLIENT_CORE)

    def __enter__(self) -> Self:
        self.lab.__enter__()
        return self

    def __exit__(self, *how: Any) -> None:
        self.lab.__exit__(*how)


def measure(relays: Sequence[Relay], rounds: int, calls: int, report: Report) -> None:
    """Fill the report: memory per held call, then CPU per call in alternating rounds."""
    numbers = count()
    for relay in relays:
        relay.pin(SERVER_CORE)
        report.figures.append(held_memory(relay, fresh(numbers, HELD_CALLS)))
    costs: list[dict[str, Any]] = [{"relay": relay.name, "cpu_us": [], "calls_per_second": []} for relay in relays]
    report.figures += costs
    for turn in range(rounds):
        order = list(zip(relays, costs, strict=True))
        for relay, cost in order if turn % 2 else order[::-1]:
            cpu, wall = one_round(relay, fresh(numbers, calls))
            cost["cpu_us"].append(cpu / calls / 1e3)
            cost["calls_per_second"].append(calls / wall)
        progress(f"round {turn + 1} of {rounds}: " + ", ".join(f"{c['relay']} {c['cpu_us'][-1]:.0f} us" for c in costs))
    for relay, cost in zip(relays, costs, strict=True):
        cost["repeats"] = relay.proxy.repeats
        cost["by_command"] = by_command(relay, fresh(numbers, calls))


def fresh(numbers: Iterator[int], calls: int) -> list[Call]:
    """Calls that no relay has seen."""
    return make_calls(islice(numbers, calls))


def by_command(relay: Relay, calls: Sequence[Call]) -> dict[str, float]:
    """Microseconds of CPU of each command, the calls taken through one after the other."""
    return {name: one_round(relay, calls, [name])[0] / len(calls) / 1e3 for name in COMMANDS}


def one_round(relay: Relay, calls: Sequence[Call], commands: Sequence[str] = COMMANDS) -> tuple[int, float]:
    """Nanoseconds of the server's CPU and seconds of the clock that these calls took."""
    cpu, clock = relay.cpu_ns(), time.monotonic()
    relay.proxy.run(calls, commands)
    wall = time.monotonic() - clock
    time.sleep(SETTLE)
    return relay.cpu_ns() - cpu, wall


def held_memory(relay: Relay, calls: Sequence[Call]) -> dict[str, Any]:
    """What a relay keeps for calls that stand; it is fresh, and they are deleted afterwards."""
    before = relay.memory()
    relay.proxy.run(calls, COMMANDS[:2])
    after = relay.memory()
    relay.proxy.run(calls, COMMANDS[2:])
    progress(f"{relay.name}: {per_call(before, after, len(calls)) / 1024:.1f} kB per held call")
    sizes = {"before": before._asdict(), "after": after._asdict()}
    each = per_call(before, after, len(calls))
    return {"relay": relay.name, "held_calls": len(calls), **sizes, "bytes_per_call": each}


def per_call(before: Memory, after: Memory, calls: int) -> float:
    """Resident bytes of one call."""
    return (after.resident - before.resident) / calls


def show(report: Report) -> str:
    """The table for people, as far as the run came."""
    costs = {figure["relay"]: figure for figure in report.figures if figure.get("cpu_us")}
    sizes = {figure["relay"]: figure for figure in report.figures if "held_calls" in figure}
    rows = [_row(name, costs.get(name), size) for name, size in sizes.items()]
    text = [report.heading(), LEGEND.format(**report.settings), *([REPLICATED] if ALONE in sizes else [])]
    text += ["", table(HEAD, rows)]
    if {"hairpin", "rtpengine"} <= costs.keys():
        ours, theirs = costs["hairpin"]["cpu_us"], costs["rtpengine"]["cpu_us"]
        text.append(_verdict("CPU per call", summarize(ratios(ours, theirs)), CPU_TARGET))
    if {"hairpin", "rtpengine"} <= sizes.keys():
        held = [sizes[name]["bytes_per_call"] for name in ("hairpin", "rtpengine")]
        text.append(_verdict("memory per held call", summarize(ratios(held[:1], held[1:])), MEMORY_TARGET))
    if not report.complete:
        text.append("The run was cut short.")
    return "\n".join(text)


HEAD = ["relay", "CPU us/call", *(f"{name} us" for name in COMMANDS), "calls/s", "kB/held call", "MB at start"]
LEGEND = """Server CPU of one call (offer, answer, delete), {in_flight} in flight; flags: {flags}.
Medians and quartiles of {rounds} rounds of {calls} calls; each command's own cost is of one round more.
Both relays delete at once; hairpin installs its rules in the kernel."""
REPLICATED = "Both write their calls to Redis, and hairpin to its journal; hairpin alone does neither."


def _row(name: str, cost: dict[str, Any] | None, size: dict[str, Any]) -> list[str]:
    cells = [name, "-", *("-" for _ in COMMANDS), "-"]
    if cost:
        each = cost.get("by_command", {})
        commands = [f"{each[name]:.0f}" if name in each else "-" for name in COMMANDS]
        cells = [name, summarize(cost["cpu_us"]).show(0), *commands, summarize(cost["calls_per_second"]).show(0)]
    return [*cells, f"{size['bytes_per_call'] / 1024:.1f}", f"{size['before']['resident'] / 2**20:.0f}"]


def _verdict(of: str, ratio: Summary, target: float) -> str:
    hit = "reached" if ratio.median <= target else "missed"
    told = ratio.show() if ratio.count > 1 else f"{ratio.median:.2f}"
    return f"hairpin / rtpengine, {of}: {told}; target at most {target:.2f}: {hit}"


def compare(options: argparse.Namespace) -> int:
    """Run the relays and print what they cost."""
    settings = {"rounds": options.rounds, "calls": options.calls, "in_flight": 32, "commands": COMMANDS, "flags": FLAGS}
    report = Report("ng-replicated" if options.replicated else "ng", settings)
    try:
        with Stage(options.replicated) as stage:
            names = ["hairpin", "rtpengine", *([ALONE] if options.replicated else [])]
            relays = [stage.start(name) for name in names]
            report.settings |= {relay.name: " ".join(relay.command[1:]) for relay in relays}
            measure(relays, options.rounds, options.calls, report)
            report.complete = True
    except KeyboardInterrupt:
        progress("cut short")
    print(show(report))
    if report.complete and options.store:
        progress(f"written to {report.save()}")
    return 0 if report.complete else 130


class Stage:
    """The network, and relays on hosts of their own, with Redis and journal where calls are `replicated`."""

    def __init__(self, replicated: bool) -> None:
        self._replicated = replicated
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._network = stack.enter_context(Network())
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *how: Any) -> None:
        self._stack.close()

    def start(self, name: str, profile: Path | None = None) -> Relay:
        """A relay, ready."""
        host = self._network.host(name.replace(" ", "-"))
        more = ["--delete-delay=0"]
        if self._replicated and name != ALONE:
            self._network.redis(host)
            more.append(_REDIS)
            if name == "hairpin":
                pins = self._stack.enter_context(bpf_folder(self.folder / "bpf"))
                more += [f"--state-dir={self.folder}/state", f"--pin-dir={pins}"]
        command = rtpengine(_RELAY, *more) if name == "rtpengine" else hairpin([_RELAY], *more, profile=profile)
        relay = Relay(name, host, command, self.folder / f"{host.name}.log")
        relay.start()
        return relay


def profile(options: argparse.Namespace) -> int:
    """Run hairpin under cProfile and print where the time of a call goes."""
    with Stage(options.replicated) as stage:
        file = stage.folder / "profile"
        relay = stage.start("hairpin", profile=file)
        relay.pin(SERVER_CORE)
        calls = options.calls * options.rounds
        cpu, _ = one_round(relay, make_calls(range(calls)))
        relay.stop()
        print(f"{calls} calls, {cpu / calls / 1e3:.0f} us of CPU each; cProfile makes small functions look dear")
        print(own_time_by_file(file, calls))
        pstats.Stats(str(file)).strip_dirs().sort_stats("tottime").print_stats(40)
    return 0


def own_time_by_file(profile_file: Path, calls: int) -> str:
    """Own time of each source file's functions, in microseconds per call: the layers of the control plane."""
    totals: dict[str, float] = {}
    for (file, _, _), (_, _, own, _, _) in pstats.Stats(str(profile_file)).stats.items():  # type: ignore[attr-defined]
        place = Path(file)
        name = str(place.relative_to(ROOT)) if place.is_relative_to(ROOT) else "built-in" if file == "~" else place.name
        totals[name] = totals.get(name, 0.0) + own
    dearest = sorted(totals.items(), key=lambda item: -item[1])[:20]
    return table(["file", "own us/call"], [[name, f"{own / calls * 1e6:.1f}"] for name, own in dearest])


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.ng", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--replicated", action="store_true", help="with Redis for both, and hairpin's journal")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--rounds", type=int, help="alternating rounds (default 15, quick 5)")
    parser.add_argument("--calls", type=int, help="calls in a round (default 2000, quick 1000)")
    parser.add_argument("--profile", action="store_true", help="run hairpin alone under cProfile")
    options = parser.parse_args(arguments)
    options.store = not (options.quick or options.rounds or options.calls)
    options.rounds = options.rounds or (5 if options.quick else 15)
    options.calls = options.calls or (1000 if options.quick else 2000)
    return options


def main(arguments: Sequence[str]) -> int:
    """The command."""
    options = _options(arguments)
    raise_file_limit()
    os.sched_setaffinity(0, {CLIENT_CORE})
    try:
        return profile(options) if options.profile else compare(options)
    except (CommandFailed, LabError) as error:
        print(f"bench.ng: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
