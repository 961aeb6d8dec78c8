"""`make demo`: real calls through the relay in a laboratory, a live table of their streams, and what came of it.

python -m tests.demo [--calls=N] [--seconds=N]
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Iterator, Sequence

from control.ops import render
from control.ops.asking import Failed
from control.ops.text import table
from relay.errors import HairpinError
from tests.evidence import SLOW_PER_NEXT_HOP, Evidence, Witness
from tests.lab import Lab, LabError, standard_network
from tests.media import Party
from tests.peers import EF, Relay, Stream, start_kamailio, streams_of
from tests.telephones import Telephones

DELETE_DELAY = 2
HELD = f"{{calls}} calls, {{rules}} rules, {{ports}} ports in use, {DELETE_DELAY} s after the last call"
NOTHING_HELD = HELD.format(calls=0, rules=0, ports=0)
"""Seconds; short, so that the end of the demo shows that nothing is left."""
REFRESH = 1.0
REFRESH_IN_A_FILE = 5.0
ROWS_IN_A_FILE = 8
HEADS = ("CALL", "LEG", "PART", "PACKETS", "LOST", "JITTER", "DSCP", "WHERE FORWARDED")

PICTURE = """\
  caller ---- core (router) ==== bridge ==== proxy   Kamailio, its module rtpengine speaks ng to the relay
  sipp                              |
                                    +======= callee  sipp
                                    |
                                    +======= relay   hairpin run: RTP and RTCP of both sides make their turn here
"""


class Steps:
    """Says what is being done and how long it took."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        print(f"  {what} ...", end="", flush=True)
        yield
        print(f" {time.monotonic() - began:.1f} s", flush=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start


class LiveTable:
    """The streams of standing calls: drawn in place on a terminal, printed now and then into a file."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._terminal = sys.stdout.isatty()
        self._next = time.monotonic() + REFRESH
        self._drawn = 0

    def watch(self) -> None:
        """Show the table if it is due."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (REFRESH if self._terminal else REFRESH_IN_A_FILE)
        self._draw(self._lines())

    def _lines(self) -> list[str]:
        calls = self._relay.operator("list")
        size = shutil.get_terminal_size()
        room = max(4, size.lines - 6) if self._terminal else ROWS_IN_A_FILE
        streams: list[Stream] = []
        for call in calls:
            if len(streams) >= room:
                break
            with contextlib.suppress(Failed):  # it has just ended
                streams += streams_of(self._relay.operator("show", call=call["call_id"])[0])
        shown = streams[:room]
        rest = sum(call["streams"] for call in calls) - len(shown)
        return [
            "",
            f"{len(calls)} calls, {sum(call['packets'] for call in calls):,} packets, "
            f"{sum(call['lost'] for call in calls)} lost",
            *table(HEADS, map(row, shown)).splitlines(),
            f"... and {rest} streams more" if rest > 0 else "",
        ]

    def _draw(self, lines: list[str]) -> None:
        width = shutil.get_terminal_size().columns if self._terminal else None
        up = f"\x1b[{self._drawn}A\x1b[J" if self._terminal and self._drawn else ""
        print(up + "\n".join(line[:width] for line in lines), flush=True)
        self._drawn = len(lines)


def row(stream: Stream) -> Sequence[object]:
    jitter = None if stream["jitter_ms"] is None else f"{stream['jitter_ms']:.1f} ms"
    lost = stream["lost"] if stream["expected"] else None
    return (
        *(stream["call"], stream["leg"], stream["part"], stream["packets"], lost, jitter),
        *(render.dscp(stream["tos"]), stream["path"]),
    )


def remaining(relay: Relay) -> str:
    """What the relay still holds once the delete delay has passed; waits for it a little longer than that."""
    until = time.monotonic() + DELETE_DELAY + 3
    while (calls := relay.operator("list")) and time.monotonic() < until:
        time.sleep(0.2)
    rules = relay.operator("rules")
    ports = sum(interface["ports_used"] for interface in relay.operator("status")[0]["interfaces"])
    return HELD.format(calls=len(calls), rules=len(rules), ports=ports)


def share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}" + (f" ({100 * part / whole:.2f} %)" if whole else "")


def summary(pairs: list[tuple[Party, Party]], wanted: int, found: Evidence, held: str) -> list[tuple[str, str]]:
    """What came of it: (name, text)."""
    parties = [party for pair in pairs for party in pair]
    rtp, rtcp = sum(p.rtp_sent for p in parties), sum(p.rtcp_sent for p in parties)
    heard, reports = sum(p.rtp_received for p in parties), sum(p.rtcp_received for p in parties)
    marks = ", ".join(f"{render.dscp(tos)} on {count:,} packets" for tos, count in found.marks.most_common())
    return [
        ("calls", f"{len(pairs)} of {wanted} answered"),
        ("packets sent", f"{rtp:,} RTP and {rtcp:,} RTCP"),
        ("received", f"{heard:,} RTP and {reports:,} RTCP"),
        ("lost", f"{rtp - heard} RTP, {rtcp - reports} RTCP"),
        ("forwarded in XDP", share(found.forwarded_in_xdp, found.left.total())),
        ("by the slow path", f"{found.slow.total()}, first packets to neighbours that were not resolved yet"),
        ("seen by sockets", f"{found.reached_stack} packets"),
        ("marking on the wire", marks),
        ("held by the relay", held),
    ]


def went_well(pairs: list[tuple[Party, Party]], wanted: int, found: Evidence, held: str) -> bool:
    both_ways = [(one, other) for pair in pairs for one, other in (pair, pair[::-1])]
    complete = all(
        one.rtp_sent == other.rtp_received and one.rtcp_sent == other.rtcp_received for one, other in both_ways
    )
    in_xdp = found.forwarded_in_xdp > 0 and all(count <= SLOW_PER_NEXT_HOP for count in found.slow.values())
    return len(pairs) == wanted and complete and in_xdp and set(found.marks) == {EF} and held == NOTHING_HELD


def show(lab: Lab, calls: int, seconds: float, steps: Steps) -> bool:
    """The demonstration, in an empty laboratory. Returns whether all went well."""
    with steps.step("raising the laboratory, five hosts in network namespaces"):
        network = standard_network(lab)
    with steps.step("starting the relay"):
        relay = Relay(network.relay, network.RELAY_ADDRESS, f"--tos={EF}", f"--delete-delay={DELETE_DELAY}")
    with relay, Telephones(network, calls=calls, seconds=seconds) as telephones:
        with steps.step("starting Kamailio"):
            start_kamailio(network.proxy, network.PROXY_ADDRESS, relays=[relay.ng])
        print("\n" + "\n".join(f"  {line}" for line in relay.operator("status")[0]["dataplane"]))
        witness = Witness(lab, network)
        print(f"\nsipp places {calls} calls; both sides of each talk for {seconds:g} s.")
        telephones.dial()
        telephones.wait(LiveTable(relay).watch)
        held = remaining(relay)
        found = witness.testify()
        pairs = telephones.pairs()
    conclude(summary(pairs, calls, found, held))
    return went_well(pairs, calls, found, held)


def conclude(lines: list[tuple[str, str]]) -> None:
    print("\nSummary")
    for name, text in lines:
        print(f"  {name:20} {text}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description="Real calls through the relay, in a laboratory.")
    parser.add_argument("--calls", type=int, default=50, help="calls at once (default 50)")
    parser.add_argument("--seconds", type=float, default=12.0, help="seconds that each call talks (default 12)")
    given = parser.parse_args()
    steps = Steps()
    print(PICTURE)
    try:
        with Lab() as lab:
            well = show(lab, given.calls, given.seconds, steps)
    except (LabError, HairpinError) as error:
        print("", error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; nothing is left behind.")
        return 130
    print(f"\nDone in {steps.seconds:.0f} s; the laboratory is gone." if well else "\nNot all went well: see above.")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
