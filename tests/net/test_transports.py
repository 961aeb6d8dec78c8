"""ng by every transport to one relay, its limits, draining, and what it tells of calls whose media has ceased."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xmlrpc.client import loads

import aiohttp
import pytest

from relay.types import Endpoint
from tests.daemon import NG, SDP, Daemon, hairpin, memory, offer
from tests.lab import Host, Lab, give_address
from tests.peers import HAIRPIN

TCP, HTTP, HTTPS = Endpoint("127.0.0.1", 2223), Endpoint("127.0.0.1", 2280), Endpoint("127.0.0.1", 2443)
JSON = {"Content-Type": "application/json"}
LIMIT = "Parallel session limit reached"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def host(lab: Lab) -> Host:
    """A host with one neighbour."""
    made, router = lab.host("relay"), lab.host("router")
    lab.cable(made, "eth0", router, "eth0", napi=True)
    give_address(made, "10.99.5.1", "10.99.5.2")
    router.ip("address", "add", "10.99.5.2/24", "dev", "eth0")
    return made


@pytest.fixture
def daemons(host: Host) -> Iterator[Callable[..., Daemon]]:
    """What starts a relay that ends with the test, in order and without an error in its log."""
    started: list[Daemon] = []

    def start(*options: str) -> Daemon:
        started.append(memory(host, *options).ready())
        return started[-1]

    yield start
    for daemon in started:
        assert daemon.end() == 0
        assert "ERROR" not in daemon.said()
        assert "Traceback" not in daemon.said()


def connect(host: Host, to: Endpoint) -> socket.socket:
    return host.call(lambda: socket.create_connection(to, timeout=10))


def by_tcp(connection: socket.socket, cookie: str, **request: Any) -> dict[str, Any]:
    """One command over a connection that has no other under way."""
    connection.sendall(f"{cookie} ".encode() + json.dumps(request).encode())
    got = b""
    while True:
        piece = connection.recv(65536)
        assert piece, f"closed after {got!r}"
        got += piece
        try:
            reply: dict[str, Any] = json.loads(got.removeprefix(cookie.encode() + b" "))
        except ValueError:
            continue
        return reply


def on_the_web(host: Host, url: str, *requests: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """Commands over HTTP, or one WebSocket."""

    async def ask() -> list[dict[str, Any]]:
        connector = aiohttp.TCPConnector()
        try:
            return await asking(connector)
        finally:
            await connector.close(abort_ssl=True)
            await asyncio.sleep(0.05)  # what was aborted closes at the loop's next turn

    async def asking(connector: aiohttp.TCPConnector) -> list[dict[str, Any]]:
        patience = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(connector=connector, connector_owner=False, timeout=patience) as session:
            if url.startswith("ws"):
                async with session.ws_connect(url, protocols=["ng-plain.rtpengine.com"], **more) as opened:
                    replies = []
                    for request in requests:
                        await opened.send_str(json.dumps(request))
                        replies.append(json.loads(await opened.receive_str()))
                    return replies
            found = []
            for request in requests:
                async with session.post(f"{url}/ng-plain", data=json.dumps(request), headers=JSON, **more) as reply:
                    found.append(json.loads(await reply.read()))
            return found

    return host.call(lambda: asyncio.run(ask()))


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.1)
    return found


def open_files(daemon: Daemon) -> int:
    return len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir()))


def status(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(hairpin(host, "status", "--json").stdout)
    return found


def test_one_call_by_all_transports(host: Host, daemons: Callable[..., Daemon], tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(
        [*command, "-subj", "/CN=relay", "-out", str(cert), "-keyout", str(tmp_path / "key.pem")],
        check=True,
        capture_output=True,
    )
    web = (
        f"--listen-http={HTTP}",
        f"--listen-https={HTTPS}",
        f"--https-cert={cert}",
        f"--https-key={tmp_path}/key.pem",
    )
    daemons(f"--listen-tcp-ng={TCP}", *web)
    with connect(host, TCP) as tcp:
        made = by_tcp(tcp, "1_1", command="offer", **{"call-id": "one", "from-tag": "a", "sdp": SDP})
        assert "c=IN IP4 10.99.5.1" in made["sdp"]
        answer = {"command": "answer", "call-id": "one", "from-tag": "a", "to-tag": "b", "sdp": SDP}
        (answered,) = on_the_web(host, f"http://{HTTP}", answer)
        assert answered["result"] == "ok"
        query = {"command": "query", "call-id": "one"}
        queried = on_the_web(host, f"ws://{HTTP}/", query) + on_the_web(host, f"https://{HTTPS}", query, ssl=False)
        assert [set(reply["tags"]) for reply in queried] == [{"a", "b"}] * 2
        (deleted,) = on_the_web(host, f"wss://{HTTPS}/", {"command": "delete", "call-id": "one"}, ssl=False)
        assert deleted["result"] == "ok"
        found = status(host)
        assert [one["address"] for one in found["listeners"]] == [
            str(NG),
            f"tcp {TCP}",
            f"http://{HTTP}",
            f"https://{HTTPS}",
        ]
        assert found["counters"]["ng over TCP"]["open"] == 1
        assert found["counters"]["ng over HTTP"]["posts"] == 2
        assert found["counters"]["ng over HTTP"]["websockets"] == 2


def test_a_long_list_goes_in_full_over_a_stream_alone(host: Host, daemons: Callable[..., Daemon]) -> None:
    daemons(f"--listen-tcp-ng={TCP}")
    names = [f"{number}-{'x' * 200}" for number in range(500)]
    with connect(host, TCP) as tcp:
        for name in names:
            by_tcp(tcp, name[:9], command="offer", **{"call-id": name, "from-tag": "a", "sdp": SDP})
        assert by_tcp(tcp, "list", command="list", limit=1000)["calls"] == names


def test_connections_that_break_off_leave_nothing(host: Host, daemons: Callable[..., Daemon]) -> None:
    daemon = daemons(f"--listen-tcp-ng={TCP}", f"--listen-http={HTTP}")
    on_the_web(host, f"http://{HTTP}", {"command": "ping"})
    until(lambda: not status(host)["counters"]["ng over HTTP"]["open"])
    before = open_files(daemon)
    linger = struct.pack("ii", 1, 0)
    for data in (b"1 d7:comm", b"1 d7:command4:listex", b"POST /ng HTTP/1.1\r\nHost: x\r\n", b"\x16\x03\x01\x02"):
        for to in (TCP, HTTP):
            for _ in range(25):
                with connect(host, to) as broken:
                    broken.sendall(data)
                    broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    until(lambda: open_files(daemon) <= before)
    assert offer(host, "afterwards")["result"] == "ok"


def test_strangers_are_not_heard_by_any_transport(lab: Lab, host: Host, daemons: Callable[..., Daemon]) -> None:
    tcp, http = Endpoint("10.99.5.1", 2223), Endpoint("10.99.5.1", 2280)
    daemons(f"--listen-tcp-ng={tcp}", f"--listen-http={http}", "--ng-allow=10.99.5.1")
    for to in (tcp, http):
        with connect(lab.hosts[1], to) as stranger:
            assert unheard(stranger)
    with connect(host, tcp) as known:
        assert by_tcp(known, "1", command="ping") == {"result": "pong"}
    assert status(host)["counters"]["ng messages"]["strangers"] == 2


def unheard(stranger: socket.socket) -> bool:
    try:
        stranger.sendall(b"1 d7:command4:pinge")
        return stranger.recv(100) == b""
    except ConnectionError:
        return True


def test_a_listener_that_cannot_be_had_is_named(host: Host) -> None:
    with host.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(TCP)
        other.listen()
        taken = memory(host, f"--listen-tcp-ng={TCP}").refused()
        assert (
            f"cannot listen for ng on tcp {TCP}: Address already in use; choose another with --listen-tcp-ng" in taken
        )
    missing = memory(host, f"--listen-https={HTTPS}", "--https-cert=/nonexistent").refused()
    assert "--https-cert=/nonexistent: cannot read it: No such file or directory" in missing


def test_draining(host: Host, daemons: Callable[..., Daemon]) -> None:
    daemon = daemons("--delete-delay=0")
    offer(host, "standing")
    assert hairpin(host, "drain").stdout.startswith("draining, new calls are refused: 1 standing")
    assert "drains the relay: new calls are refused; calls left: 1" in daemon.says("drains the relay")
    assert offer(host, "new", supports=["load limit"]) == {"result": "load limit", "message": LIMIT}
    assert offer(host, "older") == {"result": "error", "error-reason": LIMIT}
    # the same call again, by another request: its reply is none of the kept ones
    assert offer(host, "standing", label="again")["result"] == "ok"
    assert "draining   new calls are refused" in hairpin(host, "status").stdout
    waiting = host.start(str(HAIRPIN), "drain", "--wait")
    time.sleep(1.5)
    assert waiting.poll() is None
    assert hairpin(host, "terminate", "standing").returncode == 0
    assert waiting.wait(20) == 0
    assert hairpin(host, "resume").stdout.startswith("new calls are taken")
    assert offer(host, "newer")["result"] == "ok"


def test_max_sessions_of_none_is_draining_too(host: Host, daemons: Callable[..., Daemon]) -> None:
    daemons("--max-sessions=0")
    assert offer(host, "new", supports=["load limit"]) == {"result": "load limit", "message": LIMIT}


@pytest.mark.parametrize(
    ("option", "text"),
    [("--max-cpu=0.0001", "CPU usage limit exceeded"), ("--max-load=0.0001", "Load limit exceeded")],
)
def test_a_busy_host_takes_no_new_calls(host: Host, daemons: Callable[..., Daemon], option: str, text: str) -> None:
    daemons(option)
    numbers = iter(range(10_000))
    refusal = {"result": "load limit", "message": text}
    until(lambda: offer(host, f"c{next(numbers)}", supports=["load limit"]) == refusal)
    assert f"limit      new calls are refused: {text}" in hairpin(host, "status").stdout


class Callbacks:
    """Whoever is told of calls that ended, on the relay's host."""

    def __init__(self, host: Host) -> None:
        self.told: list[tuple[str | None, Any]] = []
        self._socket = host.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                length = 0
                while (line := lines.readline()).strip():
                    name, _, value = line.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                if length:
                    parameters, method = loads(lines.read(length).decode())
                    self.told.append((method, parameters))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)


def test_the_proxy_is_told_of_media_that_ceased(host: Host, daemons: Callable[..., Daemon]) -> None:
    callbacks = Callbacks(host)
    try:
        daemons(
            "--timeout=2", f"--b2b-url=http://%%:{callbacks.port}/RPC2", "--xmlrpc-format=2", f"--listen-tcp-ng={TCP}"
        )
        with connect(host, TCP) as tcp:
            for name in ("silent", "deleted"):
                made = {"call-id": name, "from-tag": "a", "sdp": SDP}
                assert by_tcp(tcp, f"{name}1", command="offer", **made)["result"] == "ok"
                assert by_tcp(tcp, f"{name}2", command="answer", **made, **{"to-tag": "b"})["result"] == "ok"
            gone = {"call-id": "deleted", "delete-delay": 0}
            assert by_tcp(tcp, "delete", command="delete", **gone)["result"] == "ok"
        until(lambda: callbacks.told)
        until(lambda: status(host)["counters"]["timeouts told"]["told"] == 1)
        assert callbacks.told == [("dlg.terminate_dlg", ("silent", "a", "b"))]
    finally:
        callbacks.close()
