"""Operators' orders in a file, so that they hold over a restart."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from control.failover.state import Order

__all__ = ["Remains", "recall", "remember"]

log = logging.getLogger(__name__)

MAX_SIZE = 65536


class Remains(NamedTuple):
    """What operators had ordered."""

    draining: bool = False
    orders: Mapping[str, Order] = {}
    """By address; those that are announced by themselves are left out."""


def remember(path: Path, remains: Remains) -> None:
    """Write the file in one step; a failure is logged and changes nothing else."""
    said = {"draining": remains.draining, "orders": {ip: order.value for ip, order in remains.orders.items()}}
    fresh = path.with_suffix(".fresh")
    try:
        fresh.write_text(json.dumps(said))
        os.replace(fresh, path)
    except OSError as error:
        log.error("operators' orders will not survive a restart: cannot write %s: %s", path, error)


def recall(path: Path) -> Remains:
    """Read it; nothing, with a line in the log, where it cannot be read."""
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(MAX_SIZE))
        return Remains(bool(said["draining"]), {ip: Order(order) for ip, order in said["orders"].items()})
    except FileNotFoundError:
        return Remains()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        log.error("operators' orders of before the restart cannot be read from %s: %s", path, error)
        return Remains()
