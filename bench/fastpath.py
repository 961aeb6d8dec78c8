"""What the relay's XDP program costs per packet: by itself, and end to end over a bare reflector.

    python -m bench.fastpath [--quick] [--rules 1,1000,36000,100000] [--rounds N] [--rate PPS]
    python -m bench.fastpath --against OTHER.bpf.o [--rules N] [--rounds N]

By itself: BPF_PROG_TEST_RUN on the attached program, each packet of another flow, less what the same generator costs
with an empty program. End to end: packets through a veth and back, CPU of all that happens after the sender, at a rate
that a reflecting core keeps up with (paced), and as much as one core takes (saturated). Rounds of relay and reflector
alternate. The rules are those of calls set up over ng, four each; packets hit those of RTP, half of them, in random
order. A run with default settings is stored in bench/results/.
The second form compares other builds of the program with the attached one, by itself, on the same tables.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.calls import CommandFailed
from bench.field import PORT_RATE, Cost, Field
from bench.generator import PACKET_SIZE
from bench.report import Report, progress, table
from bench.stats import ratios, subtract, summarize
from relay.dataplane.libbpf import BpfError, TestRun
from tests.lab import LabError

SCALES = (1, 1_000, 36_000, 100_000)
QUICK_SCALES = (1_000, 36_000)
TARGETS = {1_000: 1.10, 36_000: 1.40}
"""End to end over the reflector at a paced rate, by rules in the table."""
RATE = 3_000_000
"""Packets per second when paced: what leaves a core that only reflects time to sleep."""
SENT_PACKETS = 1_000_000
DRIVEN_PACKETS = 300_000
MODES = ("paced", "saturated")
EMPTY_PROGRAMS = ("empty_tx", "empty_redirect")
XDP_REDIRECT = 4
_SAMPLE_PASSES = 16
"""The relay samples one pair of packets in 16 of each stream: a run is a whole number of such periods."""
_PORT_PACKETS = 40_000
"""Packets per run and port: the rate guard's tick takes 65,535 whatever rate is allowed."""
_TICK = 0.3


def measure(field: Field, scales: Sequence[int], options: argparse.Namespace, report: Report) -> None:
    """Fill the report, scale by scale."""
    programs = {"program": field.program} | {path.name: field.load_variant(path) for path in options.against}
    for rules in scales:
        clock = time.monotonic()
        streams = max(rules // 2, 1)
        calls = field.grow(streams)
        progress(f"{rules} rules: {calls} calls set up and learned in {time.monotonic() - clock:.1f} s")
        figure: dict[str, Any] = {"rules": rules, "calls": calls, "streams": streams}
        report.figures.append(figure)
        by_itself(field, programs, options.rounds, figure)
        if options.against:
            continue
        for mode, rate in zip(MODES, (options.rate, 0.0), strict=True):
            end_to_end(field, streams, rate, options.rounds, figure.setdefault(mode, {}))
            progress("  " + "  ".join(path_row(figure, mode)))


def run_length(streams: int, wanted: int) -> int:
    """About as many packets as wanted, in whole periods of what the relay does only now and then."""
    period = streams * _SAMPLE_PASSES
    return min(max(1, round(wanted / period)) * period, streams * _PORT_PACKETS)


def by_itself(field: Field, programs: dict[str, int], rounds: int, figure: dict[str, Any]) -> None:
    """Nanoseconds per packet of the relay's programs and of empty ones, generator included, round by round."""
    streams = figure["streams"]
    packets = run_length(streams, DRIVEN_PACKETS)
    for _ in range(rounds):
        for name in EMPTY_PROGRAMS:
            figure.setdefault(name, []).append(field.drive_empty(name, packets).duration)
        for name, program in programs.items():
            _rest(streams)
            done = field.drive_relay(program, packets)
            _check(name, done)
            figure.setdefault(name, []).append(done.duration)
        figure.setdefault("line", []).append(field.chase(streams))


def end_to_end(field: Field, streams: int, rate: float, rounds: int, figure: dict[str, Any]) -> None:
    """One round after the other, relay and reflector in turn, the same number of packets each."""
    ways = {"relay": field.relay_way, "reflector": field.reflector_way}
    for turn in range(rounds):
        for name in sorted(ways, reverse=bool(turn % 2)):
            _rest(streams)
            cost = field.send(ways[name], run_length(streams, SENT_PACKETS), rate)
            figure.setdefault(name, []).append(cost._asdict())


def _rest(streams: int) -> None:
    """Let a new tick of the rate guard begin, where so few ports take all packets that it would drop some."""
    if streams <= 1:
        time.sleep(_TICK)


def _check(name: str, done: TestRun) -> None:
    if done.verdict != XDP_REDIRECT:
        raise LabError(f"{name} said {done.verdict} to a packet of a call, not XDP_REDIRECT")


def costs(figure: dict[str, Any], mode: str, name: str) -> list[float]:
    """Nanoseconds per returned packet, round by round."""
    return [Cost(**run).per_packet for run in figure.get(mode, {}).get(name, [])]


def program_row(figure: dict[str, Any]) -> list[str]:
    """The program by itself at one scale: nanoseconds with the generator, then without it."""
    names = (*EMPTY_PROGRAMS, "program")
    own = [subtract(figure["program"], figure[name]) for name in EMPTY_PROGRAMS]
    samples = [*(figure[name] for name in names), *own, figure["line"]]
    return [f"{figure['rules']:,}", *(summarize(one).show(0) for one in samples)]


def variant_rows(report: Report) -> list[list[str]]:
    """Each build of the program at each scale, less the generator and an empty XDP_TX, and over the attached one."""
    rows = []
    for figure in filter(was_driven, report.figures):
        for name in ("program", *report.settings["against"]):
            own = subtract(figure[name], figure["empty_tx"])
            ratio = summarize(ratios(own, subtract(figure["program"], figure["empty_tx"])))
            rows.append([f"{figure['rules']:,} {name}", summarize(own).show(0), ratio.show()])
    return rows


def path_row(figure: dict[str, Any], mode: str) -> list[str]:
    """One mode of the path end to end at one scale."""
    relay, reflector = costs(figure, mode, "relay"), costs(figure, mode, "reflector")
    ratio = summarize(ratios(relay, reflector))
    rate = f"{1e3 / summarize(relay).median:.2f}"
    return [f"{figure['rules']:,} {mode}", *(summarize(one).show(0) for one in (relay, reflector)), ratio.show(), rate]


def was_driven(figure: dict[str, Any]) -> bool:
    """Whether at least one round of the program by itself was finished."""
    return bool(figure.get("line"))


def was_compared(figure: dict[str, Any], mode: str) -> bool:
    """Whether at least one round of both ways was finished."""
    return bool(ratios(costs(figure, mode, "relay"), costs(figure, mode, "reflector")))


def verdicts(report: Report) -> list[str]:
    """What became of the targets, scale by scale."""
    lines = []
    for figure in report.figures:
        target = TARGETS.get(figure["rules"])
        samples = ratios(costs(figure, "paced", "relay"), costs(figure, "paced", "reflector"))
        if target is None or not samples:
            continue
        ratio = summarize(samples)
        said = "reached" if ratio.median <= target else "missed"
        lines.append(
            f"{figure['rules']:,} rules, paced, over the reflector: {ratio.show()}, target {target:.2f}: {said}"
        )
    return lines


def losses(report: Report) -> list[str]:
    """Runs in which packets did not come back, which makes their figures doubtful."""
    lines = []
    for figure in report.figures:
        for mode in MODES:
            for name, runs in figure.get(mode, {}).items():
                share = 1 - sum(run["returned"] for run in runs) / sum(run["sent"] for run in runs)
                if share > 0.005:
                    lines.append(f"{figure['rules']:,} rules, {mode}, {name}: {share:.1%} of packets did not return")
    return lines


def show(report: Report) -> str:
    """The report for people, as far as the run came."""
    driven = [program_row(figure) for figure in report.figures if was_driven(figure)]
    paths = [path_row(figure, mode) for mode in MODES for figure in report.figures if was_compared(figure, mode)]
    text = [report.heading(), LEGEND.format(**report.settings)]
    text += ["", "The program by itself, ns per packet", table(PROGRAM_HEAD, driven)]
    if report.settings["against"]:
        return "\n".join([*text, "", table(VARIANT_HEAD, variant_rows(report))])
    text += ["", "End to end, ns of CPU per packet", table(PATH_HEAD, paths), *losses(report), "", *verdicts(report)]
    if not report.complete:
        text.append("The run was cut short.")
    return "\n".join(text)


PROGRAM_HEAD = ["rules", "empty TX", "empty redirect", "relay", "relay - TX", "relay - redirect", "line"]
VARIANT_HEAD = ["rules", "ns", "of the attached"]
PATH_HEAD = ["rules", "relay", "reflector", "ratio", "Mpps/core"]
LEGEND = """Packets of {packet_size} bytes; medians and quartiles of {rounds} rounds.
Four rules a call (in the row of 1, too); packets hit those of RTP, half of them, in random order.
By itself: BPF_PROG_TEST_RUN; the first three columns with the generator; line: what this machine
takes to fetch one line of 64 bytes out of as many as are hit, which each packet has to.
End to end: all CPU after the sender, from the relay's receive to the frame's release;
paced at {rate:,.0f} packets/s at most, or saturated. Nothing is lost on the way in either."""


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fastpath", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rules and rounds")
    parser.add_argument("--rules", type=_numbers, help="how many rules stand in the table, in rising order")
    parser.add_argument("--rounds", type=int, help="alternating rounds (default 7, quick 3)")
    parser.add_argument(
        "--against", type=Path, nargs="+", default=[], help="other builds of relay.bpf.o, compared by themselves only"
    )
    parser.add_argument("--rate", type=float, default=RATE, help=f"packets per second when paced (default {RATE:,})")
    options = parser.parse_args(arguments)
    options.store = not (options.quick or options.rules or options.against or options.rounds or options.rate != RATE)
    options.rules = options.rules or (QUICK_SCALES if options.quick else SCALES)
    options.rounds = options.rounds or (3 if options.quick else 7)
    return options


def _numbers(text: str) -> list[int]:
    return sorted(int(part) for part in text.split(","))


def main(arguments: Sequence[str]) -> int:
    """The command."""
    options = _options(arguments)
    settings = {"rounds": options.rounds, "rate": options.rate, "packet_size": PACKET_SIZE}
    against = [path.name for path in options.against]
    report = Report("fastpath", settings | {"port_rate": PORT_RATE, "against": against})
    try:
        with Field(max(*options.rules, 2) // 2) as field:
            report.settings["hairpin"] = " ".join(field.relay.command[1:])
            measure(field, options.rules, options, report)
            report.complete = True
    except KeyboardInterrupt:
        progress("cut short")
    except (BpfError, CommandFailed, LabError, LookupError) as error:
        print(f"bench.fastpath: {error}", file=sys.stderr)
        return 1
    print(show(report))
    if report.complete and options.store:
        progress(f"written to {report.save()}")
    return 0 if report.complete else 130


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
