"""`make demo` as a newcomer meets it: it shows what it promises, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab import FOLDERS, NAMESPACES, PREFIX

ROOT = Path(__file__).parents[2]


def start(*argv: str) -> subprocess.Popen[str]:
    demo = (sys.executable, "-B", "-m", "tests.demo", *argv)
    return subprocess.Popen(demo, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def remains(demo: subprocess.Popen[str]) -> list[Path]:
    name = f"{PREFIX}-{demo.pid}-*"
    return [*NAMESPACES.glob(name), *FOLDERS.glob(name)]


def processes_in(namespaces: list[Path]) -> list[str]:
    pids = [subprocess.run(("ip", "netns", "pids", path.name), capture_output=True, text=True) for path in namespaces]
    return [pid for done in pids for pid in done.stdout.split()]


def wait_for_programs(demo: subprocess.Popen[str]) -> list[str]:
    """Wait until the demo's laboratory stands and something runs in it; the process numbers."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        namespaces = [path for path in remains(demo) if path.parent == NAMESPACES]
        if len(namespaces) == 5 and (running := processes_in(namespaces)):
            return running
        time.sleep(0.05)
    raise AssertionError("the demo's laboratory does not come up")


def test_it_shows_a_table_of_streams_and_ends_with_a_summary() -> None:
    with start("--calls=4", "--seconds=3") as demo:
        said, _ = demo.communicate(timeout=90)
    assert demo.returncode == 0, said
    table, _, summary = said.partition("Summary")
    assert "fast path" in table
    assert "46 EF" in table
    lines = {line[:22].strip(): line[22:].strip() for line in summary.splitlines()}
    assert lines["calls"] == "4 of 4 answered"
    assert lines["packets sent"] == lines["received"]
    assert lines["lost"] == "0 RTP, 0 RTCP"
    assert lines["forwarded in XDP"].endswith(" %)")
    assert lines["marking on the wire"].startswith("46 EF on")
    assert lines["held by the relay"].startswith("0 calls, 0 rules, 0 ports")
    assert remains(demo) == []


@pytest.mark.parametrize("seconds", [0.0, 5.0])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_leaves_nothing_behind_when_it_is_stopped(how: signal.Signals, seconds: float) -> None:
    with start("--calls=4", "--seconds=60") as demo:
        running = wait_for_programs(demo)
        time.sleep(seconds)
        demo.send_signal(how)
        said, _ = demo.communicate(timeout=30)
    assert demo.returncode == (130 if how == signal.SIGINT else 128 + how), said
    assert "Traceback" not in said
    assert remains(demo) == []
    assert not [pid for pid in running if Path("/proc", pid).exists()]
