"""`hairpin flush`: ends what a dead relay left in force: its pinned tables, the program, and the journal of its calls.

It takes the options of `hairpin run`, to find out what is meant. Exit codes: 0 nothing is left, 1 it cannot be done or
is not done without --force, 2 options not understood.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from control import journal
from control.config import DEFAULT_FILE, Config, ConfigError, examine
from control.journal import Journal
from control.ops import place
from control.state import claim, pin_folder, remains
from relay.dataplane import pins
from relay.errors import HairpinError
from relay.nic.portreserve import PortReservation

__all__ = ["main"]

DONE, FAILED, USAGE = 0, 1, 2
FORCE = "--force"


def main(arguments: Sequence[str], default_file: Path = DEFAULT_FILE) -> int:
    """Flush; returns the exit code."""
    try:
        config = examine([word for word in arguments if word != FORCE], default_file, f"hairpin flush [{FORCE}]").config
    except ConfigError as error:
        for problem in error.problems:
            print(f"hairpin: {problem}", file=sys.stderr)
        return USAGE
    logging.getLogger().addHandler(logging.NullHandler())  # what is wrong with a journal that goes is of no interest
    try:
        said = flush(config, FORCE in arguments)
    except (HairpinError, OSError) as error:
        print(f"hairpin: {error}", file=sys.stderr)
        return FAILED
    print(said)
    return DONE


def flush(config: Config, force: bool) -> str:
    """Remove all that the relay of an instance left; returns that in words.

    Raises InstanceTaken and JournalTaken where one lives, HairpinError where calls would end and `force` is off.
    """
    left = remains(config, place.namespace())
    tables = pin_folder(config, place.namespace())
    held, _ = claim(config)
    try:
        calls = asyncio.run(_standing(left.journal)) if left is not None and left.journal.is_dir() else 0
        facts = [f"{calls} calls in {left.journal}"] if left is not None and calls else []
        facts += [f"the tables in {tables}"] if pins.stands(tables) else []
        if facts and not force:
            raise HairpinError(f"calls end with {' and '.join(facts)}: say {FORCE} if they are to")
        pins.flush(tables)
        if left is not None:
            journal.flush(left.journal)
        if held.left_behind:
            PortReservation(1, 0).take(held.left_behind)
    except BaseException:
        held.release(keep=True)
        raise
    held.release()
    return f"removed {' and '.join(facts)}" if facts else f"nothing was left of instance {config.instance}"


async def _standing(folder: Path) -> int:
    """How many calls a journal holds. Raises JournalTaken."""
    opened = Journal.open(folder, asyncio.get_running_loop())
    try:
        return sum(1 for _ in opened.standing())
    finally:
        opened.close()
