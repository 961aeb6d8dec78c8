"""What was measured, where, and of which commit: a JSON file for machines and a heading for people."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "ROOT", "Report", "machine", "progress", "table"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"


@dataclass(slots=True)
class Report:
    """The figures of one run of a bench; usable, and marked as such, when the run was cut short."""

    bench: str
    settings: dict[str, Any]
    machine: dict[str, Any] = field(default_factory=lambda: machine())
    figures: list[dict[str, Any]] = field(default_factory=list)
    complete: bool = False

    def heading(self) -> str:
        """Machine, kernel and commit in one line."""
        where = "{cores} x {processor}, Linux {kernel}, commit {commit}, {date}".format(**self.machine)
        return f"bench.{self.bench}: {where}"

    def as_dict(self) -> dict[str, Any]:
        """All of it, for json."""
        return asdict(self)

    def save(self) -> Path:
        """Write the report into bench/results, over the last one of this bench."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.bench}.json"
        path.write_text(json.dumps(self.as_dict(), indent=1) + "\n")
        return path


def machine() -> dict[str, Any]:
    """The facts without which a figure means nothing."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": os.getloadavg()[0],
    }


def progress(text: str) -> None:
    """Tell whoever waits how far the run is."""
    print(text, file=sys.stderr, flush=True)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Rows under their heads, the first column to the left, all others to the right."""
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]

    def show(line: list[str]) -> str:
        first, *rest = line
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        return "  ".join(cells).rstrip()

    return "\n".join([show(head), *(show(row) for row in rows)])


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
