"""ng over HTTP, HTTPS and WebSocket, on loopback, with clients that misbehave and pages that should not be heard."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from control.ng import web as web_module
from control.ng.service import Handler, Service
from control.ng.web import NgWeb, TlsError, tls
from relay.types import Endpoint

LOOPBACK = Endpoint("127.0.0.1", 0)
NG, JSON = "application/x-rtpengine-ng", "application/json"
PONG = b"d6:result4:ponge"
Body = dict[str, Any]
Loop = Callable[[], asyncio.AbstractEventLoop]


def run(scenario: Coroutine[Any, Any, None], loop: Loop = uvloop.new_event_loop) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(scenario, 30))


def pong(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
    return {"result": "pong"}


def long(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
    return {"x": "y" * int(body.get("n", 0))}


def stray(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
    """A reply with a byte that is no UTF-8."""
    return {"x": "\udcff"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that signs itself; its key lies beside it."""
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    more = ["-subj", "/CN=relay", "-addext", "subjectAltName=IP:127.0.0.1", "-out", str(path)]
    subprocess.run([*command, *more, "-keyout", str(path.with_name("key.pem"))], check=True, capture_output=True)
    return path


@asynccontextmanager
async def serving(
    handle: Handler = pong,
    *,
    at: Endpoint = LOOPBACK,
    allow: tuple[str, ...] = (),
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[NgWeb]:
    networks = [ipaddress.ip_network(network) for network in allow]
    server = NgWeb(Service(handle, networks, lambda: 100.0), {"relay7", "203.0.113.7"})
    await server.start(at, context)
    listening = open_files()
    try:
        yield server
        await until(lambda: not server.connections and open_files() <= listening)
    finally:
        await server.close()
    await until(lambda: open_files() < listening)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110, there is nobody who would tell
            await asyncio.sleep(0.01)


def where(server: NgWeb) -> Endpoint:
    return server.endpoints[0][1]


def posting(path: str, kind: str, body: bytes, **headers: str) -> bytes:
    """A request as it stands on the wire."""
    head = {"Host": "relay", "Content-Type": kind, "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def raw(server: NgWeb, data: bytes, end: bool = False) -> bytes:
    """What comes back for these bytes until the server closes."""
    reader, writer = await asyncio.open_connection(*where(server))
    writer.write(data)
    if end:
        writer.write_eof()
    try:
        return await reader.read(-1)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def post(server: NgWeb, path: str, kind: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    reply = await raw(server, posting(path, kind, body, Connection="close", **headers))
    top, _, content = reply.partition(b"\r\n\r\n")
    return int(top.split(b" ")[1]), content


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_posts_with_and_without_cookie(loop: Loop) -> None:
    async def scenario() -> None:
        async with serving() as server:
            assert await post(server, "/ng", NG, b"1 d7:command4:pinge") == (200, b"1 " + PONG)
            assert await post(server, "/ng", NG, b'2 {"command":"ping"}') == (200, b'2 {"result":"pong"}')
            assert await post(server, "/ng-plain", NG, b"d7:command4:pinge") == (200, PONG)
            assert await post(server, "/ng-plain", JSON, b'{"command":"ping"}') == (200, b'{"result":"pong"}')
            assert await post(server, "/ng-plain", JSON + "; charset=utf-8", b"{}") == (200, b'{"result":"pong"}')
            assert server.counters.posts == server.service.counters.replies == 5
            assert server.counters.unfit == 0

    run(scenario(), loop)


@pytest.mark.parametrize(
    ("path", "kind", "body", "status"),
    [
        ("/ng", JSON, b"1 {}", 404),
        ("/ng", "text/plain", b"1 de", 404),
        ("/ng-plain", "text/plain", b"de", 404),
        ("/", NG, b"1 de", 404),
        ("/ng/", NG, b"1 de", 404),
        ("/../ng", NG, b"1 de", 404),
        ("/ng", NG, b"nocookie", 400),
        ("/ng", NG, b"", 400),
        ("/ng", NG, b"1 d1:a1:b" + b" " * 70_000, 413),
    ],
)
def test_what_does_not_fit_is_refused(path: str, kind: str, body: bytes, status: int) -> None:
    async def scenario() -> None:
        async with serving() as server:
            assert (await post(server, path, kind, body))[0] == status
            assert server.counters.unfit == 1
            assert server.service.counters.requests == 0

    run(scenario())


def test_nonsense_in_a_message_is_answered_as_everywhere() -> None:
    async def scenario() -> None:
        async with serving() as server:
            status, reply = await post(server, "/ng", NG, b"c hello")
            assert (status, reply) == (200, b"c d6:result5:error12:error-reason22:Invalid NG data formate")
            status, reply = await post(server, "/ng-plain", JSON, b"{")
            assert (status, reply) == (200, b'{"result":"error","error-reason":"Failed to parse JSON document"}')

    run(scenario())


def test_no_datagram_limits_a_reply() -> None:
    async def scenario() -> None:
        async with serving(long) as server:
            status, reply = await post(server, "/ng-plain", NG, b"d1:ni1000000ee")
            assert (status, len(reply)) == (200, len(b"d1:x1000000:e") + 1_000_000)

    run(scenario())


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_websockets_of_both_protocols(loop: Loop) -> None:
    async def scenario() -> None:
        async with serving() as server, aiohttp.ClientSession() as session:
            url = f"http://{where(server)}/anything"
            async with session.ws_connect(url, protocols=["chat", "ng.rtpengine.com"]) as opened:
                assert opened.protocol == "ng.rtpengine.com"
                await opened.send_bytes(b"1 d7:command4:pinge")
                assert await opened.receive_bytes() == b"1 " + PONG
                await opened.send_str('2 {"command":"ping"}')
                assert await opened.receive_str() == '2 {"result":"pong"}'
                await opened.send_str('2 {"command":"ping"}')
                assert await opened.receive_str() == '2 {"result":"pong"}'
                assert server.service.counters.repeats == 1
            async with session.ws_connect(url, protocols=["ng-plain.rtpengine.com"]) as opened:
                await opened.send_str("d7:command4:pinge")
                assert await opened.receive_str() == PONG.decode()
            assert server.counters.websockets == 2
        assert not server._sockets

    run(scenario(), loop)


def test_a_reply_that_is_no_text_comes_as_bytes() -> None:
    async def scenario() -> None:
        async with serving(stray) as server, aiohttp.ClientSession() as session:
            opened = await session.ws_connect(f"http://{where(server)}/", protocols=["ng.rtpengine.com"])
            await opened.send_str("1 de")
            assert await opened.receive_bytes() == b"1 d1:x1:\xffe"
            await opened.close()

    run(scenario())


@pytest.mark.parametrize("protocols", [[], ["chat"], ["janus-protocol", "NG.RTPENGINE.COM"]])
def test_a_websocket_of_another_protocol_is_refused(protocols: list[str]) -> None:
    async def scenario() -> None:
        async with serving() as server, aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as error:
                await session.ws_connect(f"http://{where(server)}/", protocols=protocols)
            assert error.value.status == 400
            assert server.counters.unfit == 1

    run(scenario())


def test_a_websocket_message_beyond_the_limit_ends_it() -> None:
    async def scenario() -> None:
        async with serving() as server, aiohttp.ClientSession() as session:
            async with session.ws_connect(f"http://{where(server)}/", protocols=["ng.rtpengine.com"]) as opened:
                await opened.send_bytes(b"1 d1:a99999:" + b"x" * 99_999 + b"e")
                message = await opened.receive()
                assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1009)
            assert server.service.counters.requests == 0

    run(scenario())


def test_a_message_without_cookie_gets_no_reply_and_ends_nothing() -> None:
    async def scenario() -> None:
        async with serving() as server, aiohttp.ClientSession() as session:
            async with session.ws_connect(f"http://{where(server)}/", protocols=["ng.rtpengine.com"]) as opened:
                await opened.send_str("nocookie")
                await opened.send_str("1 de")
                assert await opened.receive_str() == "1 " + PONG.decode()
            assert server.service.counters.malformed == 1

    run(scenario())


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:{port}", 200),
        ("http://localhost:{port}", 200),
        ("http://127.0.0.1", 200),  # as Kamailio writes it
        ("https://127.0.0.1:{port}", 200),
        ("http://relay7:{port}", 200),
        ("http://203.0.113.7", 200),
        ("http://127.0.0.2:{port}", 403),
        ("http://relay7.example:{port}", 403),
        ("http://127.0.0.1.example", 403),
        ("http://127.0.0.1@192.0.2.1", 403),
        ("http://rebound.example:{port}", 403),
        ("http://192.0.2.1:{port}", 403),
        ("null", 403),
        ("", 403),
        ("http://[", 403),
    ],
)
def test_pages_of_other_origins_are_refused(origin: str, status: int) -> None:
    async def scenario() -> None:
        async with serving() as server:
            origin_header = origin.format(port=where(server).port)
            got, _ = await post(server, "/ng-plain", JSON, b"{}", Origin=origin_header, Host=origin_header[7:] or "x")
            assert got == status
            async with aiohttp.ClientSession() as session:
                opening = session.ws_connect(
                    f"http://{where(server)}/", protocols=["ng.rtpengine.com"], headers={"Origin": origin_header}
                )
                if status == 403:
                    with pytest.raises(aiohttp.WSServerHandshakeError) as error:
                        await opening
                    assert error.value.status == 403
                else:
                    await (await opening).close()
            assert server.counters.foreign == (2 if status == 403 else 0)
            assert server.service.counters.requests == (0 if status == 403 else 1)

    run(scenario())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_strangers_are_not_heard(address: str) -> None:
    async def scenario() -> None:
        everywhere = "::" if ":" in address else "0.0.0.0"
        async with serving(at=Endpoint(everywhere, 0), allow=("127.0.0.2/32",)) as server:
            reader, writer = await asyncio.open_connection(address, where(server).port)
            try:
                writer.write(posting("/ng-plain", JSON, b"{}"))
                assert await reader.read(-1) == b""
            except ConnectionError:
                pass
            finally:
                writer.transport.abort()
            assert server.service.counters.strangers == 1
            assert server.service.counters.requests == 0

    run(scenario())


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_tls(certificate: Path, loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        context = tls(str(certificate), str(certificate.with_name("key.pem")))
        trust = ssl.create_default_context(cafile=str(certificate))
        async with serving(context=context) as server:
            connector = aiohttp.TCPConnector(ssl=trust)
            async with aiohttp.ClientSession(connector=connector, connector_owner=False) as session:
                url = f"https://{where(server)}"
                async with session.post(f"{url}/ng", data=b"1 de", headers={"Content-Type": NG}) as reply:
                    assert (reply.status, await reply.read()) == (200, b"1 " + PONG)
                own = {"Origin": url}
                async with session.ws_connect(url, protocols=["ng.rtpengine.com"], headers=own) as opened:
                    await opened.send_str("2 de")
                    assert await opened.receive_str() == "2 " + PONG.decode()
            await connector.close(abort_ssl=True)
            assert b"HTTP" not in await raw(server, b"POST /ng HTTP/1.1\r\nHost: x\r\n\r\n")
            assert server.endpoints[0][0] == "https"

    run(scenario(), loop)
    assert [record for record in caplog.records if record.exc_info] == []


def test_a_certificate_that_cannot_be_used_is_named(certificate: Path, tmp_path: Path) -> None:
    key, other = certificate.with_name("key.pem"), tmp_path / "other.pem"
    genpkey = ["openssl", "genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run([*genpkey, "-out", str(other)], check=True, capture_output=True)
    locked = tmp_path / "locked.pem"
    subprocess.run([*genpkey, "-aes256", "-pass", "pass:x", "-out", str(locked)], check=True, capture_output=True)
    junk = tmp_path / "junk.pem"
    junk.write_text("no PEM")
    for given, text in [
        (("", ""), "--listen-https needs a certificate: --https-cert=FILE"),
        ((str(tmp_path / "none"), ""), f"--https-cert={tmp_path}/none: cannot read it: No such file or directory"),
        ((str(certificate), str(other)), f"with --https-key={other}: the key is of another certificate"),
        ((str(certificate), ""), f"--https-cert={certificate}: no certificate chain and private key in PEM"),
        ((str(junk), str(key)), f"--https-cert={junk} with --https-key={key}: no certificate chain"),
        ((str(certificate), str(locked)), "is encrypted: store it without a password"),
    ]:
        with pytest.raises(TlsError) as error:
            tls(*given)
        assert text in str(error.value)
    both = tmp_path / "both.pem"
    both.write_text(key.read_text() + certificate.read_text())
    assert tls(str(both), "").minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_head_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_module, "IDLE", 0.3)

    async def scenario() -> None:
        async with serving() as server:
            assert await raw(server, b"POST /ng HTTP/1.1\r\nHost: re") == b""
            assert await raw(server, b"") == b""

    run(scenario())


def test_a_handshake_that_never_ends_is_given_up(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_module, "PATIENCE", 0.3)

    async def scenario() -> None:
        async with serving(context=tls(str(certificate), str(certificate.with_name("key.pem")))) as server:
            assert await raw(server, b"\x16\x03\x01") == b""

    run(scenario())


def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(web_module, "PATIENCE", 0.3)

    async def scenario() -> None:
        async with serving() as server:
            assert await raw(server, posting("/ng", NG, b"1 d7:command4:pinge")[:-5]) == b""
            assert server.counters.slow == 1

    run(scenario())
    assert "neither sends nor reads" in caplog.text


@pytest.mark.parametrize("websocket", [False, True])
def test_a_client_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch, websocket: bool) -> None:
    monkeypatch.setattr(web_module, "PATIENCE", 0.3)
    request = posting("/ng-plain", NG, b"d1:ni8000000ee")
    upgrade = (
        "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ng-plain.rtpengine.com\r\n\r\n"
    )

    async def scenario() -> None:
        async with serving(long) as server:
            with socket.create_connection(where(server)) as deaf:
                if websocket:
                    deaf.send(upgrade.encode() + b"\x82\x8e\0\0\0\0d1:ni8000000ee")
                else:
                    deaf.send(request)
                await until(lambda: server.counters.slow == 1 and not server.connections)

    run(scenario())


def test_a_client_that_vanishes_in_mid_reply(caplog: pytest.LogCaptureFixture) -> None:
    request = posting("/ng-plain", NG, b"d1:ni8000000ee")

    async def scenario() -> None:
        async with serving(long) as server:
            for _ in range(10):
                vanishing = socket.create_connection(where(server))
                vanishing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                vanishing.send(request)
                await until(lambda: server.connections)
                vanishing.close()
                await until(lambda: not server.connections)
            assert server.service.counters.failures == 0

    run(scenario())
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01" + bytes(500),
        b"GET / HTTP/9.9\r\n\r\n",
        b"a" * 20_000,
        b"POST /ng HTTP/1.1\r\nHost: x\r\nx\r\n\r\n",
    ],
)
def test_garbage_is_no_traceback(garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with serving() as server:
            assert b"200 OK" not in await raw(server, garbage, end=True)
            assert await post(server, "/ng", NG, b"1 de") == (200, b"1 " + PONG)

    run(scenario())
    assert [record for record in caplog.records if record.exc_info] == []


def test_connections_beyond_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_module, "MAX_CONNECTIONS", 2)

    async def scenario() -> None:
        async with serving() as server:
            held = [await asyncio.open_connection(*where(server)) for _ in range(2)]
            await until(lambda: server.connections == 2)
            assert await raw(server, b"POST /ng HTTP/1.1\r\n") == b""
            assert server.counters.crowded == 1
            for _, writer in held:
                writer.transport.abort()

    run(scenario())


def test_five_hundred_websockets_and_an_end_with_all_open() -> None:
    async def scenario() -> None:
        async with serving() as server:
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=connector) as session:
                url = f"http://{where(server)}/"
                opened = [await session.ws_connect(url, protocols=["ng.rtpengine.com"]) for _ in range(500)]
                for one in opened:
                    await one.send_bytes(b"1 de")
                for one in opened:
                    assert await one.receive_bytes() == b"1 " + PONG
                assert server.connections == 500
                closing = asyncio.create_task(server.close())
                for one in opened:
                    assert (await one.receive()).type is aiohttp.WSMsgType.CLOSE
                await closing

    run(scenario())


def test_a_taken_address_is_named() -> None:
    async def scenario() -> None:
        async with serving() as server:
            with pytest.raises(OSError, match=f"cannot listen for ng on tcp {where(server)}: Address already in use"):
                await server.start(where(server))

    run(scenario())
