"""What replication and restarts cost: two relays that share calls over Redis, a master with a replica on each host.

    python -m bench.replication [--quick] [--calls N] [--seconds N] [--rate N]

Both relays run under `hairpin supervise` with the XDP plane and a state directory in memory. A run with default
settings is stored in bench/results/.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any

from bench.calls import Call, CommandFailed, Proxy, make_calls
from bench.load import Load, Pings, Server
from bench.processes import cpu_ns, memory, waited_ns
from bench.relays import PORTS
from bench.report import Report, progress, table
from tests.cluster import OPEN
from tests.lab import Lab, LabError
from tests.pair import RelayHost, pair_network
from tests.peers import NG_PORT
from tests.stores import RedisServer, Sentinel, eventually
from tests.supervised import Supervised, bpf_folder

ADDRESSES = 3
"""Service addresses of the first relay: 25,000 calls have more ports than two have."""
FEW = 500
"""Calls of the smaller restart."""
HOLD = 2.0
"""Seconds that a call of the load stands."""
SAMPLE = 25
"""Of so many calls one is looked for at the partner."""
GLANCE = 0.25
"""Seconds between two looks at a relay's status."""
READY = 60.0
"""Seconds that anything may take before the run is given up."""
SOON = 0.05
LAG, READY_TARGET, FEW_TARGET, MANY_TARGET = 0.05, 15.0, 1.0, 3.0
"""Seconds, as the README promises them."""
MEMORY = "/dev/shm"


class Installation:
    """A master, its replicas, a Sentinel, and two relays that are started one by one."""

    def __init__(self, lab: Lab, stack: ExitStack, memory: Path) -> None:
        self.network = pair_network(lab, 2)
        self._stack, self._lab, self._memory = stack, lab, memory
        self.master = RedisServer(self.network.store, self.network.STORE_ADDRESS, options=OPEN)
        self.replicas = [
            RedisServer(one.host, one.address, replica_of=self.master, options=OPEN) for one in self.network.relays
        ]
        self.sentinel = Sentinel(self.network.store, self.master, self.network.STORE_ADDRESS)
        self.sentinel.knows_replicas(2)

    @property
    def places(self) -> tuple[RelayHost, ...]:
        return self.network.relays

    def start(self, place: RelayHost) -> Supervised:
        """A relay that has nothing yet."""
        own = [f"a{number}/10.98.{100 + place.number}.{number + 1}" for number in range(ADDRESSES)]
        other = 3 - place.number
        partners = [f"a{number}/10.98.{100 + other}.{number + 1}@{other}" for number in range(ADDRESSES)]
        for one in (*own, *partners):
            ip = one.partition("/")[2].partition("@")[0]
            place.host.ip("address", "add", f"{ip}/32", "dev", "lo")
        place.host.sysctl("ipv4/ip_local_port_range", f"{NG_PORT + 1} {PORTS[0] - 1}")
        pins = self._stack.enter_context(bpf_folder(self._lab.folder / f"bpf{place.number}"))
        options = (
            f"--redis={place.address}:6379/{place.number}",
            f"--redis-sentinel={self.sentinel}",
            f"--subscribe-keyspace={other}",
            f"--state-dir={self._memory}/{place.number}",
            "--ng-allow=10.98.0.0/16",
            "--dataplane=xdp",
            f"--port-min={PORTS[0]}",
            f"--port-max={PORTS[1]}",
            "--delete-delay=0",
            "--timeout=3600",  # calls without media are to stand
            "--log-level=4",
        )
        relay = Supervised(place.host, place.address, pins, *options, interfaces=[*own, *partners])
        return self._stack.enter_context(relay)

    def proxy(self, relay: Supervised) -> Proxy:
        """A client that sets calls up as fast as the relay answers."""
        return Proxy(self.network.proxy.socket(), server(relay))

    def load(self, relays: Sequence[Supervised], rate: float, hold: float) -> Load:
        """A client that sets calls up at a rate, at the first of two relays."""
        first, second = relays
        return Load(self.network.proxy.socket, server(first), server(second), rate, hold, SAMPLE)

    def promoted(self, former: str) -> bool:
        return self.sentinel.master() not in ("", former)


def server(relay: Supervised) -> Server:
    return relay.ng.ip, relay.ng.port


def calls_from(numbers: Iterator[int]) -> Iterator[Call]:
    """Calls that no relay has seen, spread over the addresses."""
    for number in numbers:
        yield from make_calls([number], [f"a{place}" for place in range(ADDRESSES)])


def settled(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that a relay's status tells, which takes it 20 ms with 25,000 calls: not asked too often."""
    until = time.monotonic() + READY
    while not condition():
        if time.monotonic() > until:
            raise LabError(f"not within {READY:.0f} s: {what}")
        time.sleep(GLANCE)


def in_sync(relay: Supervised, keyspace: int, calls: int) -> bool:
    """Whether a relay has all calls of its partner, and in force."""
    said = relay.operator("status")[0].get("replication", {})
    partner = said.get("partners", {}).get(str(keyspace), {})
    return not partner.get("doubt", "-") and not said["waiting"] and said["calls"].get(str(keyspace), 0) >= calls


def await_sync(relay: Supervised, keyspace: int, calls: int) -> None:
    """Wait for that. Raises LabError, with what the relay says of itself."""
    try:
        settled(lambda: in_sync(relay, keyspace, calls), f"all {calls} calls of the partner are here")
    except LabError as error:
        raise LabError(f"{error}; {relay.operator('status')[0].get('replication')}") from None


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """Milliseconds: median, 99th percentile, worst."""
    ordered = sorted(samples)
    if not ordered:
        return {"count": 0}
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.5, 0.99, 1.0)]
    return {"count": len(ordered)} | {
        name: round(one * 1e3, 2) for name, one in zip(("p50", "p99", "worst"), at, strict=True)
    }


# -- the scenes, each of which adds a figure


def empty_partner(stage: Installation, first: Supervised, standing: int) -> tuple[Supervised, dict[str, Any]]:
    """A partner that has nothing meets so many calls."""
    began = time.monotonic()
    second = stage.start(stage.places[1])
    answers = time.monotonic() - began
    with (
        Pings(stage.network.proxy.socket(), server(second)) as pings,
        Pings(stage.network.proxy.socket(), server(first)) as others,
    ):
        await_sync(second, 1, standing)
        ready = time.monotonic() - began
    return second, {
        "scene": "a partner starts empty", "calls": standing, "ready_s": round(ready, 2),
        "first_answer_s": round(answers, 2), "its_pings_ms": percentiles(pings.took),
        "owner_pings_ms": percentiles(others.took),
    }  # fmt: skip


def steady(
    stage: Installation, relays: Sequence[Supervised], numbers: Iterator[int], rate: float, seconds: float
) -> dict[str, Any]:
    """New calls at a steady rate."""
    pids = [relay.pid() for relay in relays]
    load = stage.load(relays, rate, HOLD)
    load.run(calls_from(numbers), HOLD * 2)  # what is made at first use is made
    load = stage.load(relays, rate, HOLD)
    before = [(cpu_ns(pid), memory(pid).anonymous, waited_ns(pid)) for pid in pids]
    load.run(calls_from(numbers), seconds)
    after = [(cpu_ns(pid), memory(pid).anonymous, waited_ns(pid)) for pid in pids]
    calls = round(seconds * rate)
    return {
        "scene": "steady load", "rate": rate, "calls": calls, "refused": load.lost, "unseen": load.unseen,
        "lag_ms": percentiles(load.lags), "replies_ms": percentiles(load.replies), "proxy_late_ms": load.late * 1e3,
        "cpu_us_per_call": [round((new[0] - old[0]) / calls / 1e3) for old, new in zip(before, after, strict=True)],
        "waited_for_a_core": [
            round((new[2] - old[2]) / seconds / 1e9, 3) for old, new in zip(before, after, strict=True)
        ],
        "memory_mb": [[round(one[1] / 2**20, 1) for one in pair] for pair in zip(before, after, strict=True)],
    }  # fmt: skip


def promotion(
    stage: Installation, relays: Sequence[Supervised], numbers: Iterator[int], rate: float, seconds: float
) -> dict[str, Any]:
    """The master is killed while calls come and go."""
    load = stage.load(relays, rate, seconds / 4)
    former = str(stage.master)
    calls = calls_from(numbers)
    load.run(calls, seconds / 8, keep=True)
    stage.master.kill()
    killed = time.monotonic()
    load.run(calls, seconds, keep=True)
    eventually(lambda: stage.promoted(former), "Sentinel names another master", READY)
    missing: list[int] = []
    while time.monotonic() - killed < seconds + READY:
        missing = [len(load.standing.keys() - set(relay.call_ids())) for relay in relays]
        if not any(missing):
            break
        time.sleep(GLANCE)
    took = time.monotonic() - killed
    return {
        "scene": "master killed", "rate": rate, "refused": load.lost, "standing": len(load.standing),
        "missing": missing, "replies_ms": percentiles(load.replies),
        "late_replies": sum(one > SOON for one in load.replies), "all_at_both_s": round(took, 1),
        "proxy_late_ms": load.late * 1e3,
    }  # fmt: skip


def restart(stage: Installation, relay: Supervised, standing: int) -> dict[str, Any]:
    """The daemon is killed; commands wait in its sockets meanwhile."""
    before = len(relay.call_ids())
    pid = relay.pid()
    with stage.network.proxy.socket() as asking:
        asking.settimeout(READY)
        relay.kill()
        began = time.monotonic()
        asking.sendto(b"first d7:command4:pinge", server(relay))
        asking.recv(65536)
        first = time.monotonic() - began
    with Pings(stage.network.proxy.socket(), server(relay)) as pings:
        settled(lambda: restored(relay, pid, before), "all calls are restored")
        restored_after = time.monotonic() - began
    return {
        "scene": "daemon killed", "calls": standing, "first_reply_s": round(first, 2),
        "restored_s": round(restored_after, 2), "missing": before - len(relay.call_ids()),
        "pings_ms": percentiles(pings.took),
    }  # fmt: skip


def restored(relay: Supervised, former: int, calls: int) -> bool:
    """Whether a relay that took over from another process has restored what it could."""
    said = relay.operator("status")[0]
    return said["pid"] != former and not said["keeper"]["waiting"] and said["keeper"]["restored"] >= calls


def measure(stage: Installation, options: argparse.Namespace, report: Report) -> None:
    """All scenes, in an order in which each finds what it needs."""
    numbers = count()
    first = stage.start(stage.places[0])
    await_sync(first, 2, 0)  # before it has asked, it takes no calls
    _stand(stage, first, islice(numbers, FEW))
    _note(report, restart(stage, first, FEW))
    _stand(stage, first, islice(numbers, options.calls - FEW))
    second, figure = empty_partner(stage, first, options.calls)
    _note(report, figure)
    _note(report, restart(stage, first, options.calls))
    await_sync(second, 1, options.calls)
    await_sync(first, 2, 0)
    _note(report, steady(stage, (first, second), numbers, options.rate, options.seconds))
    _note(report, promotion(stage, (first, second), numbers, options.rate / 2, options.seconds))


def _stand(stage: Installation, relay: Supervised, numbers: Iterator[int]) -> None:
    stage.proxy(relay).run(calls_from(numbers), ("offer", "answer"))


def _note(report: Report, figure: dict[str, Any]) -> None:
    report.figures.append(figure)
    progress(", ".join(f"{name} {value}" for name, value in figure.items()))


# -- for people


def show(report: Report) -> str:
    """The table, as far as the run came."""
    rows = [row for figure in report.figures for row in _rows(figure)]
    text = [report.heading(), "", table(["figure", "measured", "target"], rows)]
    return "\n".join([*text, *([] if report.complete else ["The run was cut short."])])


def _rows(figure: dict[str, Any]) -> Iterator[list[str]]:
    scene = figure["scene"]
    if scene == "daemon killed":
        name = f"{figure['calls']} calls, daemon killed"
        target = FEW_TARGET if figure["calls"] <= FEW else MANY_TARGET
        yield [f"{name}: first reply", f"{figure['first_reply_s']} s", f"{target:.0f} s"]
        yield [f"{name}: all restored", f"{figure['restored_s']} s", ""]
        yield [f"{name}: calls lost", str(figure["missing"]), "0"]
        yield [f"{name}: replies meanwhile", _show(figure["pings_ms"]), ""]
    elif scene == "a partner starts empty":
        name = f"{figure['calls']} calls, a partner starts empty"
        yield [f"{name}: ready", f"{figure['ready_s']} s", f"{READY_TARGET:.0f} s"]
        yield [f"{name}: its replies meanwhile", _show(figure["its_pings_ms"]), ""]
        yield [f"{name}: the owner's replies", _show(figure["owner_pings_ms"]), ""]
    elif scene == "steady load":
        name = f"{figure['rate']:.0f} new calls/s"
        yield [f"{name}: lag", _show(figure["lag_ms"]), f"p99 {LAG * 1e3:.0f} ms"]
        yield [f"{name}: replies", _show(figure["replies_ms"]), ""]
        yield [f"{name}: refused, not replicated", f"{figure['refused']}, {figure['unseen']}", "0, 0"]
        yield [f"{name}: CPU per call, owner and partner", "{} us, {} us".format(*figure["cpu_us_per_call"]), ""]
        waited = "{:.0%}, {:.0%} of the time".format(*figure["waited_for_a_core"])
        yield [f"{name}: waited for a core, owner and partner", waited, ""]
        for who, pair in zip(("owner", "partner"), figure["memory_mb"], strict=True):
            yield [f"{name}: the {who}'s memory before and after", "{} MB, {} MB".format(*pair), "bounded"]
    else:
        name = f"Redis master killed at {figure['rate']:.0f} calls/s"
        yield [f"{name}: calls lost, at either relay", "{}, {}".format(*figure["missing"]), "0, 0"]
        yield [f"{name}: replies beyond 50 ms, refused", f"{figure['late_replies']}, {figure['refused']}", "0, 0"]
        yield [f"{name}: replies", _show(figure["replies_ms"]), ""]
        yield [f"{name}: load over, all calls at both", f"{figure['all_at_both_s']} s", ""]


def _show(of: dict[str, float]) -> str:
    return "p50 {p50} ms, p99 {p99} ms, worst {worst} ms".format(**of) if of["count"] else "none"


@contextmanager
def installation() -> Iterator[Installation]:
    """Build it, and leave nothing behind."""
    with Lab() as lab, ExitStack() as stack:
        memory_folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
        yield Installation(lab, stack, memory_folder)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.replication", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer calls, and shorter")
    parser.add_argument("--calls", type=int, help="standing calls (default 25000, quick 2000)")
    parser.add_argument("--seconds", type=float, help="of load (default 60, quick 8)")
    parser.add_argument("--rate", type=float, default=500.0, help="new calls a second (default 500)")
    options = parser.parse_args(arguments)
    options.store = not (options.quick or options.calls or options.seconds) and options.rate == 500.0
    options.calls = options.calls or (2_000 if options.quick else 25_000)
    options.seconds = options.seconds or (8.0 if options.quick else 60.0)
    return options


def main(arguments: Sequence[str]) -> int:
    """The command."""
    options = _options(arguments)
    report = Report("replication", {"calls": options.calls, "seconds": options.seconds, "rate": options.rate})
    try:
        with installation() as stage:
            measure(stage, options, report)
            report.complete = True
    except KeyboardInterrupt:
        progress("cut short")
    except (CommandFailed, LabError) as error:
        print(f"bench.replication: {error}", file=sys.stderr)
        return 1
    print(show(report))
    if report.complete and options.store:
        progress(f"written to {report.save()}")
    return 0 if report.complete else 130


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
