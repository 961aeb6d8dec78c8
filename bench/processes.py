"""What a process or a kernel thread has cost so far: scheduler CPU time and resident memory, from /proc."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

__all__ = ["Memory", "cpu_ns", "find_thread", "memory", "pin", "thread_cpu_ns", "waited_ns"]


class Memory(NamedTuple):
    """Resident bytes: all of them, and those that are the process's own and no file's or map's."""

    resident: int
    anonymous: int


def thread_cpu_ns(pid: int) -> int:
    """Nanoseconds one thread has run, by the scheduler's own clock (not by ticks)."""
    return _run_time(Path(f"/proc/{pid}/schedstat"))


def cpu_ns(pid: int) -> int:
    """Nanoseconds all living threads of a process have run."""
    return sum(_run_time(task / "schedstat") for task in Path(f"/proc/{pid}/task").iterdir())


def waited_ns(pid: int) -> int:
    """Nanoseconds all living threads of a process were ready to run and found no core free."""
    return sum(int((task / "schedstat").read_text().split()[1]) for task in Path(f"/proc/{pid}/task").iterdir())


def memory(pid: int) -> Memory:
    """Resident memory of a process now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = dict(line.removesuffix(" kB").split(":", 1) for line in lines if line.endswith(" kB"))
    return Memory(int(sizes["VmRSS"]) * 1024, int(sizes["RssAnon"]) * 1024)


def find_thread(name: str, patience: float = 2.0) -> int:
    """The process id of the kernel thread whose name begins with `name`. Raises LookupError if none appears."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        for directory in Path("/proc").iterdir():
            if directory.name.isdigit() and _command(directory).startswith(name):
                return int(directory.name)
        time.sleep(0.05)
    raise LookupError(f"no thread {name}* has appeared")


def pin(pid: int, core: int) -> None:
    """Let every thread of a process run on one core only."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def _run_time(schedstat: Path) -> int:
    return int(schedstat.read_text().split()[0])


def _command(directory: Path) -> str:
    try:
        return (directory / "comm").read_text().strip()
    except OSError:
        return ""
