"""How long calls are silent, and how many are lost, when addresses move and relays, hosts and Redis die.

python -m bench.failover [--quick] [--calls=N] [--standing=N] [--case=NAME ...]
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.calls import CommandFailed
from bench.report import Report, progress, table
from bench.standing import Standing, at_home, roomy_scene
from relay.errors import HairpinError
from tests.gaps import Heard
from tests.lab import Lab, LabError
from tests.pair import RelayHost
from tests.scenes import Act, Offers, Scene, complaints

OFFER_RATE = 50
"""New calls per second beside those that talk, where a case has them."""
KILL_PERIOD = 6.0
"""Seconds from one kill of a daemon to the next."""
PROMOTION = 10.0
"""Seconds that calls go on after Redis' master was killed."""


@dataclass(frozen=True)
class Case:
    """Something that befalls live calls, and what may come of it at most."""

    name: str
    what: str
    gap_ms: int
    """The longest silence of any telephone."""
    packets: int | None
    """Lost, None for as many as the gap allows."""
    play: Callable[[Scene, int, int], dict[str, Any]]
    """Of a scene, the number of calls and of repetitions: the figures."""
    bfd: bool = True


def heard(found: Heard) -> dict[str, Any]:
    """The figures of calls that were listened to."""
    return {
        "calls": found.calls,
        "calls_lost": found.calls_lost,
        "packets": sum(one.sent for one in found.hearings),
        "packets_lost": found.lost,
        "gap_ms": round(1000 * found.worst.silence, 1),
        "gaps_ms": [round(1000 * gap, 1) for gap in found.per_call],
    }


def withdraw(scene: Scene, calls: int, _times: int) -> dict[str, Any]:
    """An operator withdraws a relay's own addresses, and announces them again."""
    node, partner = scene.cluster.nodes[:2]
    addresses = tuple(at_home(node))

    def move(word: str, to: RelayHost) -> None:
        # Of the relay itself: while programs were started for it, the calls would come to their ends.
        for ip in addresses:
            node.relay.operator(word, address=ip, force=False)
        for ip in addresses:
            scene.cluster.moved(ip, to)

    away, back = functools.partial(move, "withdraw", partner.place), functools.partial(move, "announce", node.place)
    return heard(scene.play(calls, (1.0, away), (4.0, back)))


def kills(scene: Scene, calls: int, times: int) -> dict[str, Any]:
    """The daemon of one relay dies again and again, while its supervisor stands and calls come and go."""
    node = scene.cluster.nodes[0]
    acts = [(1.0 + KILL_PERIOD * number, node.relay.kill) for number in range(times)]
    return beside_offers(scene, calls, acts[-1][0] + KILL_PERIOD, *acts)


def promotion(scene: Scene, calls: int, _times: int) -> dict[str, Any]:
    """Redis' master dies, and Sentinel makes one of a replica."""
    cluster = scene.cluster
    former = cluster.sentinel.master()
    figures = beside_offers(scene, calls, PROMOTION, (1.0, cluster.master.kill))
    if cluster.sentinel.master() == former:
        raise LabError("Sentinel has promoted no replica")
    return figures


def beside_offers(scene: Scene, calls: int, seconds: float, *acts: Act) -> dict[str, Any]:
    """Live calls while others come and go, which begin some seconds before and go on to the end."""
    told = len(complaints(scene))
    with Offers(scene, OFFER_RATE, round(OFFER_RATE * (seconds + calls / 25))) as offers:
        found = scene.play(calls, *acts, seconds=seconds)
    outcome = offers.outcome
    return {
        **heard(found),
        "deaths": len(acts),
        "offers": outcome.placed,
        "offers_failed": outcome.failed,
        "slowest_setup_ms": round(1000 * outcome.slowest),
        "complaints": complaints(scene)[told:],
    }


def death(scene: Scene, calls: int, _times: int, *, patience: float) -> dict[str, Any]:
    """A host is silent from one moment on, and nobody is told."""
    cluster = scene.cluster
    node, partner = cluster.nodes[:2]
    found = scene.play(calls, (1.0, lambda: cluster.die(node)), seconds=patience)
    if not found.lost:
        raise LabError(f"no call passed {node.place.host.name} when it died: {complaints(scene) or 'nobody said why'}")
    return heard(found) | {"moved": cluster.serves(node.place.service) == partner.place}


CASES = (
    Case("withdraw", "planned withdraw, and announce again", 60, 0, withdraw),
    Case("kill", "kill -9 of the daemon, again and again, at 50 offers/s", 60, 0, kills),
    Case("redis", "Redis' master killed, another promoted, at 50 offers/s", 60, 0, promotion),
    Case("bfd", "host death, BFD 50 ms x 3", 250, None, functools.partial(death, patience=4.0)),
    Case("hold", "host death, hold time 3 s, no BFD", 4000, None, functools.partial(death, patience=8.0), bfd=False),
)


def measure(cases: Sequence[Case], calls: int, kills_of_daemon: int, standing: int, report: Report) -> None:
    """Fill the report case by case; those that want the same installation share one."""
    for bfd in (True, False):
        chosen = [case for case in cases if case.bfd is bfd]
        if not chosen:
            continue
        progress(f"raising an installation {'with' if bfd else 'without'} BFD")
        with Lab() as lab, roomy_scene(lab, bfd=bfd) if standing else Scene(lab, bfd=bfd) as scene:
            beside = _stand(scene, standing) if standing else None
            for case in chosen:
                progress(case.what)
                figure = {"case": case.name, **case.play(scene, calls, kills_of_daemon)}
                report.figures.append(figure | (beside.figures() if beside else {}))


def _stand(scene: Scene, calls: int) -> Standing:
    progress(f"making {calls} calls that stand")
    return Standing(scene, calls)


def reached(case: Case, figure: dict[str, Any]) -> bool:
    """Whether all that a case may cost at most was kept to."""
    few = case.packets is None or figure["packets_lost"] <= case.packets
    well = not figure.get("offers_failed") and not figure.get("complaints")
    lost = figure["calls_lost"] or figure.get("standing_lost")
    return few and well and figure["gap_ms"] <= case.gap_ms and not lost


HEAD = [
    *("case", "calls lost", "packets lost", "longest gap", "at most"),
    *("calls refused", "slowest set-up", "standing lost", ""),
]


def show(report: Report) -> str:
    """The table for people, as far as the run came."""
    cases = {case.name: case for case in CASES}
    rows = [_row(cases[figure["case"]], figure) for figure in report.figures]
    text = [report.heading(), "{calls} live calls, {kills} kills of the daemon.".format(**report.settings), ""]
    text.append(table(HEAD, rows))
    if not report.complete:
        text.append("The run was cut short.")
    return "\n".join(text)


def _row(case: Case, figure: dict[str, Any]) -> list[str]:
    offers = "offers" in figure
    return [
        case.what,
        f"{figure['calls_lost']} of {figure['calls']}",
        f"{figure['packets_lost']} of {figure['packets']}",
        f"{figure['gap_ms']:.0f} ms",
        f"{case.gap_ms} ms",
        f"{figure['offers_failed']} of {figure['offers']}" if offers else "-",
        f"{figure['slowest_setup_ms']} ms" if offers else "-",
        f"{figure['standing_lost']} of {figure['standing']}" if "standing" in figure else "-",
        "reached" if reached(case, figure) else "missed",
    ]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.failover", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="20 calls and two kills")
    parser.add_argument("--calls", type=int, help="live calls (default 100)")
    parser.add_argument("--standing", type=int, default=0, help="calls without media that stand beside (default 0)")
    names = [case.name for case in CASES]
    parser.add_argument("--case", action="append", choices=names, help="only this; may be given again")
    options = parser.parse_args(arguments)
    options.store = not (options.quick or options.calls or options.standing or options.case)
    options.calls = options.calls or (20 if options.quick else 100)
    return options


def main(arguments: Sequence[str]) -> int:
    """The command."""
    options = _options(arguments)
    kills_of_daemon = 2 if options.quick else 10
    settings = {"calls": options.calls, "kills": kills_of_daemon, "offers_per_second": OFFER_RATE}
    report = Report("failover", settings | {"standing": options.standing})
    chosen = [case for case in CASES if not options.case or case.name in options.case]
    code = 130
    try:
        measure(chosen, options.calls, kills_of_daemon, options.standing, report)
        report.complete, code = True, 0
    except KeyboardInterrupt:
        progress("cut short")
    except (HairpinError, LabError, CommandFailed) as error:
        print(f"bench.failover: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        code = 1
    print(show(report))
    if report.complete and options.store:
        progress(f"written to {report.save()}")
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
