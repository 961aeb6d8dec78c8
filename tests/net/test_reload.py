"""A running relay whose configuration file changes under it: SIGHUP, calls that stand, and what an operator sees."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.types import Endpoint
from tests.lab import Host, Lab, give_address
from tests.peers import HAIRPIN, answers

NG = Endpoint("127.0.0.1", 2223)
PEERS = Path("/etc/rtpengine/rtpengine.conf")
SDP = "v=0\r\no=- 1 1 IN IP4 10.99.5.2\r\ns=-\r\nc=IN IP4 10.99.5.2\r\nt=0 0\r\nm=audio 4000 RTP/AVP 8\r\n"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def host(lab: Lab) -> Host:
    number = len(lab.hosts)
    made, router = lab.host(f"relay{number}"), lab.host(f"router{number}")
    lab.cable(made, "eth0", router, "eth0", napi=True)
    give_address(made, "10.99.5.1", "10.99.5.2")
    router.ip("address", "add", "10.99.5.2/24", "dev", "eth0")
    return made


class Relay:
    """`hairpin run` with a configuration file that a test rewrites."""

    def __init__(self, host: Host, *lines: str) -> None:
        self.host = host
        self.file = host.folder / "hairpin.conf"
        self.log = host.folder / "hairpin.log"
        self.write(*lines)
        with self.log.open("w") as log:
            command = (str(HAIRPIN), "run", f"--config-file={self.file}", "--log-stderr", "--dataplane=memory")
            self.process = host.start(*command, stdout=log, stderr=log)
        assert answers(host, self.process, NG), self.log.read_text()

    def write(self, *lines: str) -> None:
        self.file.write_text("\n".join(("[rtpengine]", *lines)) + "\n")

    def reload(self, *lines: str) -> str:
        """Rewrite the file and send SIGHUP; what is logged then."""
        before = len(self.log.read_text())
        self.write(*lines)
        self.process.send_signal(signal.SIGHUP)
        return self.says("reloaded", before)

    def says(self, words: str, since: int) -> str:
        until = time.monotonic() + 15
        while words not in (said := self.log.read_text()[since:]):
            assert time.monotonic() < until, f"{words!r} is not in {said}"
            time.sleep(0.05)
        time.sleep(0.3)
        return self.log.read_text()[since:]

    def asks(self, word: str, *more: str) -> str:
        command = ("nsenter", f"--net={self.host.path}", str(HAIRPIN), word, *more)
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    def offer(self, call_id: str) -> dict[str, str]:
        body = {"command": "offer", "call-id": call_id, "from-tag": "a", "sdp": SDP}
        with self.host.socket() as asking:
            asking.settimeout(10)
            asking.sendto(f"{call_id} ".encode() + json.dumps(body).encode(), NG)
            reply: dict[str, str] = json.loads(asking.recv(65535).split(b" ", 1)[1])
            return reply

    def end(self) -> None:
        assert self.host.end(self.process, signal.SIGTERM) == 0
        assert "Traceback" not in self.log.read_text()


def test_limits_change_and_the_call_stays(host: Host) -> None:
    relay = Relay(host, "max-sessions = 1", "port-min = 30000", "port-max = 30003")
    assert relay.offer("one")["result"] == "ok"
    assert relay.offer("two")["error-reason"] == "Parallel session limit reached"
    assert "in force: max-sessions" in relay.reload("max-sessions = 9", "port-min = 30000", "port-max = 30003")
    assert relay.offer("three")["error-reason"] == "Ran out of ports"
    assert "in force: port-min, port-max" in relay.reload("max-sessions = 9", "port-min = 29000", "port-max = 30007")
    assert relay.offer("four")["result"] == "ok"
    assert [call["call_id"] for call in json.loads(relay.asks("list", "--json"))] == ["one", "four"]
    relay.end()


def test_networks_denied_later_end_the_media_of_standing_calls(host: Host) -> None:
    relay = Relay(host)
    assert relay.offer("one")["result"] == "ok"
    assert "own or denied" not in relay.asks("show", "one")
    assert "in force: deny-peer" in relay.reload("deny-peer = 10.99.5.0/24")
    assert "own or denied" in relay.asks("show", "one")
    assert "in force: deny-peer" in relay.reload()
    assert "own or denied" not in relay.asks("show", "one")
    relay.end()


def test_flags_of_templates_change_with_the_file(host: Host) -> None:
    relay = Relay(host)
    assert "a=mid:" not in relay.offer("one")["sdp"]
    assert "in force: templates" in relay.reload("[templates]", "offer = generate-mid")
    assert "a=mid:" in relay.offer("two")["sdp"]
    relay.end()


def test_what_cannot_change_is_said_and_shown_until_a_restart(host: Host) -> None:
    relay = Relay(host)
    said = relay.reload("table = 3", "timeout = 7", "interface = 10.99.5.1;127.0.0.1")
    assert "NOTICE reloaded from the command line and" in said
    assert "in force: timeout" in said
    assert "WARNING needs a restart: interface, table" in said
    assert "a restart is needed for interface, table" in relay.asks("status")
    assert json.loads(relay.asks("status", "--json"))["reload"]["problems"] == []
    assert "needs a restart" not in relay.reload("timeout = 7")
    relay.end()


def test_a_broken_file_changes_nothing(host: Host) -> None:
    relay = Relay(host, "max-sessions = 1")
    said = relay.reload("max-sessions = 9", "tos = loud", "interface = 10.1.1.1")
    assert f"ERROR not reloaded, nothing changes: {relay.file} line 3: tos = loud: must be a TOS byte" in said
    said = relay.reload("max-sessions = 9", "interface = 10.1.1.1")
    assert "ERROR not reloaded, nothing changes: --interface=10.1.1.1 is no address of this host" in said
    assert "reload     " in relay.asks("status")
    assert "failed: --interface=10.1.1.1 is no address of this host" in relay.asks("status")
    assert relay.offer("one")["result"] == "ok"
    assert relay.offer("two")["error-reason"] == "Parallel session limit reached"
    relay.end()


def test_a_burst_of_signals_is_survived(host: Host) -> None:
    relay = Relay(host)
    for _ in range(200):
        relay.process.send_signal(signal.SIGHUP)
    relay.says("reloaded", 0)
    assert relay.offer("one")["result"] == "ok"
    relay.end()


def test_the_peers_packaged_file_runs_the_relay(host: Host) -> None:
    if not PEERS.exists():
        pytest.skip(f"{PEERS} is missing: apt-get install rtpengine-daemon")
    relay_file = host.folder / "rtpengine.conf"
    shutil.copy(PEERS, relay_file)
    log = host.folder / "peers.log"
    with log.open("w") as out:
        command = (str(HAIRPIN), "run", "-f", "-E", "--no-log-timestamps", f"--config-file={relay_file}")
        process = host.start(*command, "--dataplane=memory", stdout=out, stderr=out)
    assert answers(host, process, NG), log.read_text()
    assert host.end(process, signal.SIGTERM) == 0
    said = log.read_text()
    assert "media: default 10.99.5.1, ports 30000-40000" in said
    assert said.count("means nothing here") == 3
