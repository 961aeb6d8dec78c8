"""The supervisor with small programs in the relay's place: they are started again, get its signals, and end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.__main__ import main as hairpin
from control.supervise import LONGEST_PAUSE, pause

SUPERVISING = """
import logging, signal, sys
from control.supervise import HEARD, Supervisor
from control.ng.sockets import open_datagrams
from relay.types import Endpoint
signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
sockets = [("listen-ng", open_datagrams(Endpoint("127.0.0.1", 0))), ("other", open_datagrams(Endpoint("127.0.0.1", 0)))]
sys.exit(Supervisor((sys.executable, "-c", sys.argv[1]), sockets).run())
"""
TELLING = """
import os, signal, socket, sys, time
def end(number, frame):
    print("ends", signal.Signals(number).name, flush=True)
    sys.exit(0 if number == signal.SIGUSR2 else 7)
for one in (signal.SIGTERM, signal.SIGUSR2):
    signal.signal(one, end)
signal.signal(signal.SIGHUP, lambda number, frame: print("reads", flush=True))
signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP, signal.SIGUSR2))
own = os.environ["LISTEN_PID"] == str(os.getpid())
ports = [socket.socket(fileno=number).getsockname()[1] for number in (3, 4)]
print("runs", os.getpid(), own, os.environ["LISTEN_FDS"], os.environ["LISTEN_FDNAMES"], *ports, flush=True)
while True:
    time.sleep(1)
"""


class Supervised:
    """A supervisor with a program, and what both print."""

    def __init__(self, program: str, folder: Path) -> None:
        self.out = folder / "out"
        with self.out.open("w") as out:
            self.process = subprocess.Popen([sys.executable, "-u", "-c", SUPERVISING, program], stdout=out, stderr=out)

    def said(self, words: str, times: int = 1) -> list[str]:
        """Wait until so many lines have these words."""
        until = time.monotonic() + 20
        while len(found := [line for line in self.out.read_text().splitlines() if words in line]) < times:
            assert time.monotonic() < until, self.out.read_text()
            time.sleep(0.02)
        return found

    def runs(self, times: int) -> list[str]:
        return self.said("runs ", times)[times - 1].split()[1:]


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    started = Supervised(TELLING, tmp_path)
    yield started
    started.process.kill()
    started.process.wait()
    for line in started.out.read_text().splitlines():
        if line.startswith("runs ") and Path("/proc", pid := line.split()[1], "cmdline").exists():
            os.kill(int(pid), signal.SIGKILL)


def test_sockets_stay_the_same_over_deaths(supervised: Supervised) -> None:
    pid, own, count, names, *ports = supervised.runs(1)
    assert (own, count, names, len(set(ports))) == ("True", "2", "listen-ng:other", 2)
    os.kill(int(pid), signal.SIGKILL)
    other, *again = supervised.runs(2)
    assert again == [own, count, names, *ports]
    assert other != pid
    assert f"the relay (pid {pid}) ended by signal SIGKILL" in supervised.said("; again at once")[0]


def test_signals_are_passed_on(supervised: Supervised) -> None:
    pid = supervised.runs(1)[0]
    supervised.process.send_signal(signal.SIGHUP)
    supervised.said("reads")
    supervised.process.send_signal(signal.SIGUSR2)
    supervised.said("ends SIGUSR2")
    assert supervised.runs(2)[0] != pid
    supervised.said("ended in order, next one")
    supervised.process.send_signal(signal.SIGINT)
    assert supervised.process.wait(20) == 7
    supervised.said("ends SIGTERM")


def test_a_relay_that_does_not_get_far_is_given_time(tmp_path: Path) -> None:
    started = Supervised("raise SystemExit(1)", tmp_path)
    try:
        assert "ended by exit code 1" in started.said("; again in 1 s, or at once on SIGHUP")[0]
        before = len(started.said("started hairpin run"))
        started.process.send_signal(signal.SIGHUP)
        started.said("started hairpin run", before + 1)
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(20) in (1, 128 + signal.SIGTERM)
    finally:
        started.process.kill()
        started.process.wait()


def test_pauses_grow_and_end_somewhere() -> None:
    pauses = [pause(count) for count in range(12)]
    assert pauses[:7] == [0, 0, 0, 0, 1, 2, 4]
    assert pauses == sorted(pauses)
    assert max(pauses) == LONGEST_PAUSE


def test_options_that_are_not_understood_are_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert hairpin(["supervise", "--tos=loud"]) == 2
    assert capsys.readouterr().err.startswith("hairpin: --tos=loud: ")


def test_an_address_that_is_taken_is_named() -> None:
    code = "import sys; from control.__main__ import main; sys.exit(main(sys.argv[1:]))"
    options = ("--config-file=none", "--log-stderr", "--listen-ng=192.0.2.99:5")
    run = subprocess.run(
        [sys.executable, "-c", code, "supervise", *options], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "cannot start: cannot listen for ng on 192.0.2.99:5: Cannot assign requested address; choose" in run.stderr
