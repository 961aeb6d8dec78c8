"""The bridge as ExaBGP runs it: a process with pipes on one side and relays on the other, in any order of events."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.failover import bridge
from control.failover.bridge import FRESH, MAX_LINE

ROUTES = {"192.0.2.1/32": {"role": "primary", "attributes": "next-hop self", "lone": False}}
NEWS = b'{"type": "state", "neighbor": {"address": {"peer": "192.0.2.9"}, "state": "up"}}\n'


class Running:
    """A bridge, and an ExaBGP that says `done` to each command."""

    def __init__(self, folder: Path, program: str) -> None:
        self.path = folder / "bridge.sock"
        argv = ("/usr/bin/python3", "-S", "-E", program, str(self.path))
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.commands: list[str] = []
        self._thread = threading.Thread(target=self._answer)
        self._thread.start()
        self.until(self.path.exists)

    def _answer(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.commands.append(line.decode().strip())
            self.say(b"done\n")

    def say(self, line: bytes) -> None:
        assert self.process.stdin
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def relay(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(10)
        for _ in range(500):
            with contextlib.suppress(ConnectionRefusedError, BlockingIOError):  # it does not listen yet, or is behind
                made.connect(str(self.path))
                return made
            time.sleep(0.01)
        raise AssertionError("the bridge does not listen")

    def until(self, seen: object) -> None:
        assert callable(seen)
        end = time.monotonic() + 20
        while not seen():
            assert time.monotonic() < end
            assert self.process.poll() is None, self.process.stderr
            time.sleep(0.01)

    def end(self) -> str:
        """Close its input, as an ExaBGP that ends does; returns what it logged."""
        assert self.process.stdin
        assert self.process.stderr
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        said = self.process.stderr.read().decode()
        assert self.process.wait(10) == 0, said
        self._thread.join(10)
        return said


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path, bridge.__file__)
    yield made
    made.process.kill()
    made.process.wait()
    for pipe in (made.process.stdin, made.process.stdout, made.process.stderr):
        assert pipe
        with contextlib.suppress(OSError):
            pipe.close()


def line(routes: object, grace: float = 60) -> bytes:
    return json.dumps({"grace": grace, "routes": routes}).encode() + b"\n"


def test_a_relay_is_obeyed_and_told(running: Running) -> None:
    with running.relay() as relay:
        relay.sendall(line(ROUTES)[:10])
        time.sleep(0.05)
        relay.sendall(line(ROUTES)[10:])
        reports = relay.makefile("rb")
        while (said := json.loads(reports.readline()))["held"] == {}:
            pass
        assert said["held"] == {"192.0.2.1/32": "primary"}
        relay.sendall(line({}))
        while json.loads(reports.readline())["held"]:
            pass
        reports.close()
    assert [command for command in running.commands if "route" in command] == [
        "announce route 192.0.2.1/32 next-hop self",
        "withdraw route 192.0.2.1/32 next-hop self",
    ]
    assert running.end() == ""


def test_one_relay_is_listened_to_until_it_is_silent(running: Running) -> None:
    """Two would announce and withdraw each other's routes as fast as they can."""
    with running.relay() as relay, relay.makefile("rb") as reports:
        relay.sendall(line(ROUTES))
        while json.loads(reports.readline())["held"] == {}:
            pass
        with running.relay() as other, other.makefile("rb") as answers:
            assert b"another relay speaks to it" in answers.readline()
        relay.sendall(line(ROUTES))
        assert json.loads(reports.readline())["held"] == {"192.0.2.1/32": "primary"}
        time.sleep(FRESH + 0.2)
        with running.relay() as other, other.makefile("rb") as answers:
            assert json.loads(answers.readline())["held"] == {"192.0.2.1/32": "primary"}
    assert not any("withdraw" in command for command in running.commands)


def test_relays_that_come_and_go_while_exabgp_speaks_end_nothing(running: Running) -> None:
    for number in range(150):
        with running.relay() as relay:
            running.say(NEWS)
            relay.sendall(line(ROUTES if number % 2 else {}))
            running.say(NEWS)
        if number % 3 == 0:
            running.say(NEWS * 5)
    with running.relay() as relay, relay.makefile("rb") as reports:
        relay.sendall(line(ROUTES))
        while json.loads(reports.readline())["held"] != {"192.0.2.1/32": "primary"}:
            pass
    assert running.end() == ""


@pytest.mark.parametrize("goes_first", [True, False])
def test_a_relay_that_goes_in_the_moment_exabgp_speaks_ends_nothing(running: Running, goes_first: bool) -> None:
    for _ in range(10):
        relay = running.relay()
        relay.sendall(line(ROUTES))
        assert relay.recv(65536)
        running.process.send_signal(signal.SIGSTOP)  # so that both come at once
        if goes_first:
            relay.close()
            running.say(NEWS)
        else:
            running.say(NEWS)
            relay.close()
        running.process.send_signal(signal.SIGCONT)
    running.relay().close()
    assert running.end() == ""


def test_who_says_nonsense_or_too_much_is_dropped(running: Running) -> None:
    for nonsense in (b"x\n", b"y" * (3 * MAX_LINE)):
        with running.relay() as relay, contextlib.suppress(ConnectionError):
            relay.sendall(nonsense)
            while relay.recv(65536):
                pass
    assert running.process.poll() is None
    assert running.end().count("is dropped") == 2


def test_the_grace_ends_without_any_relay(running: Running) -> None:
    with running.relay() as relay:
        relay.sendall(line(ROUTES, 0.3))
        running.until(lambda: "announce route 192.0.2.1/32 next-hop self" in running.commands)
    running.until(lambda: "withdraw route 192.0.2.1/32 next-hop self" in running.commands)
    assert "withdrawn: 192.0.2.1/32" in running.end()


def test_a_socket_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    argv = ("/usr/bin/python3", "-S", "-E", bridge.__file__)
    failed = subprocess.run((*argv, str(tmp_path / "no/s")), capture_output=True, text=True, timeout=20, check=False)
    assert failed.returncode == 1
    assert "cannot listen at" in failed.stderr
    assert subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode == 2
