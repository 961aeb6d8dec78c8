"""A process that journals as fast as it can is killed: what it was told is written is there."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from control.journal.files import JournalFiles
from control.journal.format import Header, body, name
from control.journal.segment import Segment

ROOT = Path(__file__).parents[4]
ROUNDS = 10

CHILD = """
import asyncio, random, sys
from pathlib import Path
from tests.compiled import prefer_sources
prefer_sources()
from control.journal import Journal, files

async def main(folder, number):
    files.RETRY, files.SLICE = 0.0, 4_000
    journal = Journal.open(folder / "j", asyncio.get_running_loop(), patience=60.0)
    journal._files._floor = 20_000
    draw = random.Random(number)
    asked, told = open(folder / "asked", "wb", 0), open(folder / "told", "wb", 0)
    for step in range(number * 1_000_000, (number + 1) * 1_000_000):
        call, gone = f"call {draw.randrange(40)}", draw.random() < 0.2
        said = f"{call},{0 if gone else step}\\n".encode()
        asked.write(said)
        journal.drop(call) if gone else journal.put(call, b"%d " % step + bytes(draw.randrange(600)))
        journal.after(lambda said=said: told.write(said))
        if draw.random() < 0.3:
            await asyncio.sleep(0)

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


def said(path: Path) -> list[tuple[str, int]]:
    """Whole lines of what a child wrote: a call, and the step by which it was put, 0 for gone."""
    lines = path.read_text().split("\n")[:-1]
    return [(call, int(step)) for call, step in (line.split(",") for line in lines)]


def standing(folder: Path) -> tuple[dict[str, int], list[str]]:
    """The step of each call that a start finds, and what it could not read."""
    files = JournalFiles(folder, Header())
    _, _, problems = files.read(time.time())
    found = {name(call): int(read(slot.segment, slot.offset, slot.size)) for call, slot in files.index.items()}
    files.close()
    return found, problems


def read(segment: Segment, offset: int, size: int) -> bytes:
    return body(segment.path.read_bytes()[offset : offset + size]).split()[0]


def killed(folder: Path, number: int, seconds: float) -> None:
    """Let a child journal for so long once it has begun, and kill it."""
    for path in (folder / "asked", folder / "told"):
        path.unlink(missing_ok=True)
    with subprocess.Popen([sys.executable, "-c", CHILD, str(folder), str(number)], cwd=ROOT) as child:
        deadline = time.monotonic() + 30
        while not (folder / "told").exists() or not (folder / "told").stat().st_size:
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(seconds)
        child.kill()


def test_ten_kills_cost_no_record_whose_writing_was_confirmed(tmp_path: Path) -> None:
    draw = random.Random(4)
    before: dict[str, int] = {}
    confirmed = 0
    for number in range(1, ROUNDS + 1):
        killed(tmp_path, number, draw.uniform(0.02, 0.2))
        told = said(tmp_path / "told")
        confirmed += len(told)
        last = {**before, **dict(told)}
        may: dict[str, set[int]] = {call: {step} for call, step in last.items()}
        for call, step in said(tmp_path / "asked")[len(told) :]:
            may.setdefault(call, {last.get(call, 0)}).add(step)  # it may have been written, and it may not
        found, problems = standing(tmp_path / "j")
        assert [problem for problem in problems if "ends with" not in problem] == []
        for call, steps in may.items():
            assert found.get(call, 0) in steps, (number, call)
        before = found
    assert confirmed > ROUNDS * 100
    assert len(list((tmp_path / "j").glob("calls-*"))) < ROUNDS  # it was tidied meanwhile
