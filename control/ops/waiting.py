"""What an operator who has given an order waits for: the last call of a drain, the packets of an address."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from control.ops.asking import Failed, ask
from control.ops.routes import happened

__all__ = ["for_the_addresses", "for_the_drain"]

LOOK = 1.0
"""Seconds between two looks at a relay that drains."""
GLANCE = 0.1
"""Seconds between two looks at what becomes of an order."""


def for_the_drain(path: Path, item: Mapping[str, Any]) -> dict[str, Any]:
    """Wait until a draining relay has no call left, not even in its delete delay, or no packets come to it any more.

    Raises Failed, Unreachable.
    """
    told = ""
    drained: list[str] = []
    while (left := _left(item)) and not drained:
        if told != (told := f"calls left: {left}"):
            print(f"hairpin: {told}", file=sys.stderr, flush=True)
        time.sleep(LOOK)
        (item,) = ask(path, "status", {})
        if not item["draining"]:
            raise Failed("the relay does not drain any more: it was told to resume, or started anew")
        drained = _drained(item)
    return {"draining": True, "calls": item["calls"], **({"drained": drained} if drained else {})}


def _left(item: Mapping[str, Any]) -> int:
    """Calls of the relay's own that stand, or are in their delete delay; those held ready are their owners' to end."""
    calls: Mapping[str, int] = item["calls"]
    return calls["standing"] + calls["deleted"]


def _drained(item: Mapping[str, Any]) -> list[str]:
    """The own addresses, once all are withdrawn at the end of the drain."""
    own = [row for row in item.get("failover", {}).get("addresses", ()) if row["own"]]
    return [row["address"] for row in own] if all(row["order"] == "drained" for row in own) else []


def for_the_addresses(
    path: Path, item: Mapping[str, Any], gone: bool, patience: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Tell what happens to addresses after an order, until all of it is done or patience is over.

    Done is what the speaker has confirmed; with `gone` no packets may come here any more. Raises Unreachable.
    """
    until = time.monotonic() + patience
    told = 0
    while True:
        (status,) = ask(path, "addresses", {})
        rows = [row for row in status["addresses"] if row["address"] in item["addresses"]]
        lines = list(happened(rows, item["at"]))
        for line in lines[told:]:
            say(line)
        told = len(lines)
        if all(_done(row, gone) for row in rows) or time.monotonic() > until:
            return {**item, "addresses": rows}
        time.sleep(GLANCE)


def _done(row: Mapping[str, Any], gone: bool) -> bool:
    if not row["confirmed"] or (row["role"] == "none") is not gone:
        return False
    return not (gone and row["busy_ports"])
