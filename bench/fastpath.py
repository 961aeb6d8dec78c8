"""What the relay's XDP program costs per packet: by itself, and end to end over a bare reflector.

    python -m bench.fastpath [--quick] [--rules 1,1000,36000,100000] [--rounds N] [--rate PPS]

By itself: BPF_PROG_TEST_RUN on the attached program, each packet of another flow, less what the same generator costs
with an empty program. End to end: packets through a veth and back, CPU of all that happens after the sender, at a rate
that one core keeps up with, and saturated (as much as one core takes). Rounds of relay and reflector alternate. The
rules that packets hit are those of the RTP of calls set up over ng, in random order; as many more, for the RTCP of
these calls, stand beside them in the table.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.calls import CommandFailed
from bench.field import PORT_RATE, Cost, Field
from bench.generator import PACKET_SIZE
from bench.report import Report, progress, table
from bench.stats import ratios, subtract, summarize
from relay.dataplane.libbpf import BpfError, TestRun
from tests.lab import LabError

SCALES = (1, 1_000, 36_000, 100_000)
QUICK_SCALES = (1, 1_000, 36_000)
TARGETS = {1_000: 1.10, 36_000: 1.40}
"""End to end over the reflector at a paced rate, by rules that packets hit."""
RATE = 1_000_000
PACED_PACKETS = 500_000
SATURATED_PACKETS = 1_000_000
DRIVEN_PACKETS = 300_000
EMPTY_PROGRAMS = ("empty_tx", "empty_redirect")
XDP_REDIRECT = 4
_SAMPLE_PASSES = 16
"""The relay samples one pair of packets in 16 of each stream: a run is a whole number of such periods."""
_PORT_PACKETS = 40_000
"""Packets per run and port: the rate guard's tick takes 65,535 whatever rate is allowed."""
_TICK = 0.3


def measure(field: Field, scales: Sequence[int], options: argparse.Namespace, report: Report) -> None:
    """Fill the report, scale by scale."""
    for rules in scales:
        clock = time.monotonic()
        calls = field.grow(rules)
        progress(f"{rules} rules: {calls} calls set up and learned in {time.monotonic() - clock:.1f} s")
        figure: dict[str, Any] = {"rules": rules, "calls": calls}
        report.figures.append(figure)
        by_itself(field, rules, options.rounds, figure)
        for mode, rate, wanted in (("paced", options.rate, PACED_PACKETS), ("saturated", 0.0, SATURATED_PACKETS)):
            end_to_end(field, run_length(rules, wanted), rate, options.rounds, figure.setdefault(mode, {}))
        progress("  " + "  ".join(f"{head} {cell}" for head, cell in zip(HEAD[1:], row(figure)[1:], strict=True)))


def run_length(rules: int, wanted: int) -> int:
    """About as many packets as wanted, in whole periods of what the relay does only now and then."""
    period = rules * _SAMPLE_PASSES
    return min(max(1, round(wanted / period)) * period, rules * _PORT_PACKETS)


def by_itself(field: Field, rules: int, rounds: int, figure: dict[str, Any]) -> None:
    """Nanoseconds per packet of the relay's program and of empty ones, generator included, round by round."""
    packets = run_length(rules, DRIVEN_PACKETS)
    for _ in range(rounds):
        for name in EMPTY_PROGRAMS:
            figure.setdefault(name, []).append(field.drive_empty(name, packets).duration)
        _rest(rules)
        done = field.drive_relay(packets)
        _check(done)
        figure.setdefault("program", []).append(done.duration)


def end_to_end(field: Field, packets: int, rate: float, rounds: int, figure: dict[str, Any]) -> None:
    """One round after the other, relay and reflector in turn, the same number of packets each."""
    ways = {"relay": field.relay_way, "reflector": field.reflector_way}
    for turn in range(rounds):
        for name in sorted(ways, reverse=bool(turn % 2)):
            _rest(packets // _PORT_PACKETS)
            cost = field.send(ways[name], packets, rate)
            figure.setdefault(name, []).append(cost._asdict())


def _rest(rules: int) -> None:
    """Let a new tick of the rate guard begin, where so few ports take all packets that it would drop some."""
    if rules <= 1:
        time.sleep(_TICK)


def _check(done: TestRun) -> None:
    if done.verdict != XDP_REDIRECT:
        raise LabError(f"the relay's program said {done.verdict} to a packet of a call, not XDP_REDIRECT")


HEAD = ["rules", "program", "/ empty TX", "paced", "/ reflector", "saturated", "/ reflector", "Mpps/core"]


def costs(figure: dict[str, Any], mode: str, name: str) -> list[float]:
    """Nanoseconds per returned packet, round by round."""
    return [Cost(**run).per_packet for run in figure.get(mode, {}).get(name, [])]


def row(figure: dict[str, Any]) -> list[str]:
    """One line of the table, as far as this scale was measured."""
    cells = [f"{figure['rules']:,}"]
    if "program" in figure:
        own = summarize(subtract(figure["program"], figure["empty_tx"]))
        cells += [own.show(0), summarize(ratios(figure["program"], figure["empty_tx"])).show()]
    for mode in ("paced", "saturated"):
        relay, reflector = costs(figure, mode, "relay"), costs(figure, mode, "reflector")
        if ratios(relay, reflector):
            cells += [summarize(relay).show(0), summarize(ratios(relay, reflector)).show()]
    if ratios(costs(figure, "saturated", "relay"), costs(figure, "saturated", "reflector")):
        cells.append(f"{1e3 / summarize(costs(figure, 'saturated', 'relay')).median:.2f}")
    return cells + ["-"] * (len(HEAD) - len(cells))


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
        for mode in ("paced", "saturated"):
            for name, runs in figure.get(mode, {}).items():
                share = 1 - sum(run["returned"] for run in runs) / sum(run["sent"] for run in runs)
                if share > 0.005:
                    lines.append(f"{figure['rules']:,} rules, {mode}, {name}: {share:.1%} of packets did not return")
    return lines


def show(report: Report) -> str:
    """The report for people, as far as the run came."""
    text = [report.heading(), LEGEND.format(**report.settings)]
    text += [table(HEAD, [row(figure) for figure in report.figures]), *verdicts(report), *losses(report)]
    if not report.complete:
        text.append("The run was cut short.")
    return "\n".join(text)


LEGEND = """ns of CPU per packet of {packet_size} bytes; medians and quartiles of {rounds} rounds.
rules: hit by packets, in random order; as many more stand for RTCP. program: less the generator and an empty XDP_TX.
paced ({rate:,.0f} packets/s), saturated: all after the sender, from the relay's receive to the frame's release."""


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fastpath", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rules and rounds, and no result is stored")
    parser.add_argument("--rules", type=_numbers, help="how many rules packets hit, in rising order")
    parser.add_argument("--rounds", type=int, help="alternating rounds (default 11, quick 3)")
    parser.add_argument("--rate", type=float, default=RATE, help=f"packets per second when paced (default {RATE:,})")
    options = parser.parse_args(arguments)
    options.rules = options.rules or (QUICK_SCALES if options.quick else SCALES)
    options.rounds = options.rounds or (3 if options.quick else 11)
    return options


def _numbers(text: str) -> list[int]:
    return sorted(int(part) for part in text.split(","))


def main(arguments: Sequence[str]) -> int:
    """The command."""
    options = _options(arguments)
    settings = {"rounds": options.rounds, "rate": options.rate, "packet_size": PACKET_SIZE}
    report = Report("fastpath", settings | {"port_rate": PORT_RATE})
    try:
        with Field(max(options.rules)) as field:
            report.settings["hairpin"] = " ".join(field.relay.command[1:])
            measure(field, options.rules, options, report)
            report.complete = True
    except KeyboardInterrupt:
        progress("cut short")
    except (BpfError, CommandFailed, LabError, LookupError) as error:
        print(f"bench.fastpath: {error}", file=sys.stderr)
        return 1
    print(show(report))
    if report.complete and not options.quick:
        progress(f"written to {report.save()}")
    return 0 if report.complete else 130


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
