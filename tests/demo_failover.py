"""`make demo-failover`: live calls while their address is withdrawn, announced again, and its host dies.

python -m tests.demo_failover [--calls=N] [--picture=FILE]

Shows who serves which address from second to second, and in the end a table and a picture of the longest silence of
each call.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from control.ops.text import table
from relay.errors import HairpinError
from tests.cluster import Cluster
from tests.demo import Steps, conclude
from tests.gaps import Heard
from tests.lab import Lab, LabError
from tests.scenes import Scene

ROOT = Path(__file__).parents[1]
PICTURE_FILE = ROOT / "build" / "failover.png"
MOVE_MS, DEATH_MS = 60, 250
"""What a planned move and the death of a host may silence a call for, on a machine that does nothing else."""
REFRESH = 1.0
HEADS = ("SECOND", "10.98.100.1 IS AT", "10.98.100.2 IS AT", "RELAY 1", "RELAY 2")

PICTURE = """\
  caller ---- core (router, BIRD) ==== bridge ==== proxy   Kamailio, with both relays in its set
                 |                        |
                 |                        +======= store   Redis and its Sentinel
                 |                        +======= callee
                 +---- relay1   hairpin supervise, ExaBGP, BFD, a replica of Redis: serves 10.98.100.1
                 +---- relay2   the same, serves 10.98.100.2; each has the other's calls ready
"""


class Watch:
    """A line for each second: who serves which address, and how many calls each relay has and holds ready."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._began = self._next = time.monotonic()
        self._dead: set[int] = set()

    def look(self) -> None:
        """Print a line if it is due."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + REFRESH
            self._line(now, *map(self._place, (1, 2)), *map(self._calls, (0, 1)))

    def tell(self, what: str) -> None:
        """Say what happens in its place."""
        print(f"  {time.monotonic() - self._began:6.1f}  {what}", flush=True)

    def buried(self, number: int) -> None:
        """Ask this relay no more."""
        self._dead.add(number)

    def _line(self, now: float, *cells: str) -> None:
        print(f"  {now - self._began:6.1f}  {cells[0]:18} {cells[1]:18} {cells[2]:28} {cells[3]}", flush=True)

    def _place(self, number: int) -> str:
        found = self._cluster.serves(self._cluster.network.relays[number - 1].service)
        return found.host.name if found else "nowhere"

    def _calls(self, number: int) -> str:
        if number in self._dead:
            return "dead"
        calls = self._cluster.nodes[number].relay.operator("list")
        own = sum(call["owner"] is None for call in calls)
        return f"{own} own, {len(calls) - own} ready"


def show(lab: Lab, calls: int, picture: Path, steps: Steps) -> bool:
    """The demonstration, in an empty laboratory. Returns whether all went well."""
    with ExitStack() as stack:
        with steps.step("raising two relays with Redis, Sentinel, ExaBGP, BFD, a router and Kamailio"):
            scene = stack.enter_context(Scene(lab))
        watch = Watch(scene.cluster)
        print(f"\nsipp places {calls} calls for each part; both sides of each talk, half of the calls at each relay.\n")
        print(f"  {HEADS[0]:6}  {HEADS[1]:18} {HEADS[2]:18} {HEADS[3]:28} {HEADS[4]}")
        moved = scene.play(calls, *withdrawal(scene, watch), watch=watch.look)
        died = scene.play(calls, *death(scene, watch), seconds=4.0, watch=watch.look)
    print()
    print(table(("CALLS", "LOST", "PACKETS LOST", "LONGEST SILENCE", "MEDIAN", "AT MOST"), rows(moved, died)))
    drawn = draw(picture, moved, died)
    well = moved.calls_lost == died.calls_lost == moved.lost == 0
    conclude([("calls lost", str(moved.calls_lost + died.calls_lost)), ("picture", drawn)])
    return well


def withdrawal(scene: Scene, watch: Watch) -> list[tuple[float, Callable[[], None]]]:
    node, partner = scene.cluster.nodes
    ip = node.place.service

    def order(word: str, to: str) -> Callable[[], None]:
        def act() -> None:
            watch.tell(f"hairpin {word} {ip}: its packets go to {to}")
            node.hairpin(word, ip)

        return act

    return [(1.0, order("withdraw", partner.place.host.name)), (4.0, order("announce", node.place.host.name))]


def death(scene: Scene, watch: Watch) -> list[tuple[float, Callable[[], None]]]:
    node = scene.cluster.nodes[0]

    def act() -> None:
        watch.buried(0)
        scene.cluster.die(node)
        watch.tell("relay1 dies: its cable is silent and all its programs stand still; nobody is told")

    return [(1.0, act)]


def rows(moved: Heard, died: Heard) -> list[Sequence[object]]:
    return [row("withdrawn and announced", moved, MOVE_MS), row("host death, BFD 50 ms x 3", died, DEATH_MS)]


def row(name: str, heard: Heard, target: int) -> Sequence[object]:
    silences = sorted(heard.per_call)
    middle = silences[len(silences) // 2] if silences else 0.0
    worst = max(silences, default=0.0)
    lost = f"{heard.calls_lost} of {heard.calls}"
    return name, lost, heard.lost, f"{1000 * worst:.0f} ms", f"{1000 * middle:.0f} ms", f"{target} ms"


def draw(file: Path, moved: Heard, died: Heard) -> str:
    """Draw the longest silence of each call; returns where."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    parts = (("withdrawn and announced again", moved, MOVE_MS), ("host death, BFD 50 ms x 3", died, DEATH_MS))
    for axes, (name, heard, target) in zip(figure.subplots(1, 2), parts, strict=True):
        silences = [1000 * one for one in heard.per_call]
        axes.bar(range(1, len(silences) + 1), silences, color="#4477aa")
        axes.axhline(target, color="#cc3311", linestyle="--", label=f"at most {target} ms")
        axes.axhline(20, color="#999999", linestyle=":", label="one packet, 20 ms")
        axes.set(title=name, xlabel="call", ylabel="longest silence, ms", ylim=(0, 1.2 * max([target, *silences])))
        axes.legend(loc="upper right")
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=120)
    return str(file)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo-failover", description="Live calls while their relay goes away.")
    parser.add_argument("--calls", type=int, default=30, help="calls at once (default 30)")
    parser.add_argument("--picture", type=Path, default=PICTURE_FILE, help="where to draw (default build/failover.png)")
    given = parser.parse_args()
    steps = Steps()
    print(PICTURE)
    try:
        with Lab() as lab:
            well = show(lab, given.calls, given.picture, steps)
    except (LabError, HairpinError) as error:
        print("", error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; nothing is left behind.")
        return 130
    print(f"\nAll calls went on. Done in {steps.seconds:.0f} s." if well else "\nNot all went well: see above.")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
