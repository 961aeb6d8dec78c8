"""`hairpin run` and the operators' commands as processes on a host of the laboratory."""

from __future__ import annotations

import json
import signal
import subprocess
import time

from relay.types import Endpoint
from tests.lab import Host
from tests.peers import HAIRPIN, PATIENCE, answers

NG = Endpoint("127.0.0.1", 2223)
SDP = "v=0\r\no=- 1 1 IN IP4 10.99.5.2\r\ns=-\r\nc=IN IP4 10.99.5.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"


class Daemon:
    """`hairpin run` with its log in a file."""

    def __init__(self, host: Host, *options: str, wrapper: tuple[str, ...] = ()) -> None:
        self.host = host
        self.log = host.folder / f"hairpin-{time.monotonic_ns()}.log"
        with self.log.open("w") as log:
            command = (*wrapper, str(HAIRPIN), "run", "--config-file=none", "--log-stderr", *options)
            self.process = host.start(*command, stdout=log, stderr=log)

    def ready(self, ng: Endpoint = NG) -> Daemon:
        assert answers(self.host, self.process, ng), self.said()
        return self

    def said(self) -> str:
        return self.log.read_text()

    def says(self, words: str) -> str:
        """Wait until the log has these words."""
        until = time.monotonic() + PATIENCE
        while words not in self.said():
            assert time.monotonic() < until, f"{words!r} is not in {self.said()}"
            time.sleep(0.05)
        return self.said()

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        return self.host.end(self.process, how)

    def refused(self) -> str:
        assert self.process.wait(PATIENCE) == 1, self.said()
        self.host.end(self.process)
        return self.said()


def memory(host: Host, *options: str) -> Daemon:
    return Daemon(host, "--dataplane=memory", *options)


def hairpin(host: Host, *words: str) -> subprocess.CompletedProcess[str]:
    command = ("nsenter", f"--net={host.path}", str(HAIRPIN), *words)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def offer(host: Host, call_id: str, ng: Endpoint = NG, **more: object) -> dict[str, str]:
    body = {"command": "offer", "call-id": call_id, "from-tag": "a", "sdp": SDP, **more}
    with host.socket() as asking:
        asking.settimeout(5)
        asking.sendto(f"{call_id} ".encode() + json.dumps(body).encode(), ng)
        reply: dict[str, str] = json.loads(asking.recv(65535).split(b" ", 1)[1])
        return reply
