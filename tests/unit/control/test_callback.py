"""Telling of ended calls: what is said, to whom, and what is done where nobody listens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from xmlrpc.client import loads

import pytest
import uvloop

from control import callback
from control.callback import GENERIC, KAMAILIO, SEMS, Notifier, requests
from relay.call import Call
from relay.signal import Signal
from tests.calls import ALICE, Stage, sdp
from tests.calls import PROXY as STAGE_PROXY

PROXY = "127.0.0.1"
FINE = b"<methodResponse/>"


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario, 20))


def call(answered: bool = True, call_id: str = "c1", **signal: Any) -> Call:
    stage = Stage()
    stage.offer(signal=Signal(controller=PROXY, **signal), call_id=call_id)
    if answered:
        stage.answer(call_id=call_id)
    return stage.registry.query(call_id)


def allowed(ip: str) -> bool:
    return ip.startswith(("127.", "10.")) or ip == "::1"


class Listener:
    """An XMLRPC server of a few lines that keeps what it hears, and answers as it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.answers: list[bytes] = []
        self.port = 0

    def url(self, path: str = "/RPC2") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = int(head.lower().split("content-length:")[1].split()[0])
            assert "content-type: text/xml" in head.lower()
            parameters, method = loads((await reader.readexactly(length)).decode())
            self.heard.append((str(method), parameters))
            answer = self.answers.pop(0) if self.answers else FINE
            if answer:
                status = (
                    answer if answer.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\nContent-Length: %d" % len(answer)
                )
                writer.write(status + b"\r\nConnection: close\r\n\r\n" + (b"" if status is answer else answer))
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    server = await asyncio.start_server(listener.serve, "127.0.0.1", 0)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110, there is nobody who would tell
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback, "PAUSES", (0.01, 0.02))


def test_what_is_told_in_each_format() -> None:
    both = call()
    assert [loads(body.decode()) for body in requests(SEMS, both)] == [
        (("sbc", "postControlCmd", "alice", "teardown"), "di"),
        (("sbc", "postControlCmd", "bob", "teardown"), "di"),
    ]
    assert [loads(body.decode()) for body in requests(GENERIC, both)] == [(("c1",), "teardown")]
    assert [loads(body.decode()) for body in requests(KAMAILIO, both)] == [
        (("c1", "alice", "bob"), "dlg.terminate_dlg")
    ]


def test_an_unanswered_call_has_no_dialog_to_name() -> None:
    alone = call(answered=False)
    assert requests(KAMAILIO, alone) == []
    assert [loads(body.decode())[0][2] for body in requests(SEMS, alone)] == ["alice"]
    assert len(requests(GENERIC, alone)) == 1


def test_a_call_id_of_any_bytes_makes_readable_xml() -> None:
    (body,) = requests(GENERIC, call(call_id="<a>&\x00\x1f\udcff]]>\u00e4\ufffe\U0001f600"))
    assert loads(body.decode())[0] == ("<a>&???]]>\u00e4?\U0001f600",)


@pytest.mark.parametrize(
    ("url", "asked", "target"),
    [
        ("http://b2b.example:8000/x", None, "http://b2b.example:8000/x"),
        ("http://%%:8000/x", None, "http://127.0.0.1:8000/x"),
        ("http://%%:8000/x", "10.0.0.9", "http://10.0.0.9:8000/x"),
        ("http://%%:8000/x", "::1", "http://[::1]:8000/x"),
        ("http://%%:8000/x", "192.0.2.9", "http://127.0.0.1:8000/x"),
        ("http://b2b.example:8000/x", "10.0.0.9", "http://b2b.example:8000/x"),
        ("http://%%:8000/x", "https://10.0.0.9/y", "https://10.0.0.9/y"),
        (None, "http://10.0.0.9/y", "http://10.0.0.9/y"),
        (None, "http://[::1]:80/y", "http://[::1]:80/y"),
        (None, "10.0.0.9", None),
        (None, "http://192.0.2.9/y", None),
        (None, "http://10.0.0.9@192.0.2.9/y", None),
        (None, "http://name.example/y", None),
        (None, "file:///etc/passwd", None),
        (None, "gopher://10.0.0.9/y", None),
        (None, "http://[10.0.0.9", None),
        (None, "http://10.0.0.9/" + "y" * 3000, None),
        (None, "", None),
    ],
)
def test_whom_to_tell(url: str | None, asked: str | None, target: str | None) -> None:
    assert Notifier(url, GENERIC, allowed).target(call(callback=asked)) == target


def test_the_proxys_request_says_whom_to_tell() -> None:
    stage = Stage()
    request = {"call_id": "c1", "from_tag": "alice", "sdp": sdp(ALICE), "xmlrpc_callback": "10.0.0.9"}
    assert stage.command("offer", **request)["result"] == "ok"
    asked = stage.registry.query("c1")
    assert Notifier("http://%%:81/", GENERIC, allowed).target(asked) == "http://10.0.0.9:81/"
    assert Notifier("http://%%:81/", GENERIC, lambda ip: False).target(asked) == f"http://{STAGE_PROXY.ip}:81/"


def test_a_proxy_nobody_knows_cannot_be_told(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    stage.offer()
    Notifier("http://%%/", GENERIC, allowed).ended(stage.registry.query("c1"), "timeout")
    assert caplog.messages[0].startswith("nobody is told of a timeout: neither --b2b-url nor xmlrpc-callback= gives")


def test_timeouts_of_media_are_told_and_nothing_else() -> None:
    reasons = ("deleted", "terminated by the operator", "final timeout", "timeout", "silent timeout", "offer timeout")
    calls = [call(call_id=reason) for reason in reasons]

    async def scenario() -> None:
        async with listening() as listener:
            notifier = Notifier(listener.url(), GENERIC, allowed)
            for one in calls:
                notifier.ended(one, one.call_id)
            await until(lambda: notifier.counters.told == 3)
            told = sorted(parameters[0] for _, parameters in listener.heard)
            assert told == ["offer timeout", "silent timeout", "timeout"]
            assert notifier.statistics() == {"told": 3, "refused": 0, "failed": 0, "lost": 0, "waiting": 0}
            await notifier.close()
            await notifier.close()

    run(scenario())


def test_without_a_url_nobody_is_told() -> None:
    notifier = Notifier(None, GENERIC, allowed)
    notifier.ended(call(), "timeout")
    assert notifier.statistics()["waiting"] == 0


def test_what_may_pass_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    ended = call()

    async def scenario() -> None:
        async with listening() as listener:
            listener.answers = [b"", b"HTTP/1.1 503 Busy\r\nContent-Length: 0", FINE]
            notifier = Notifier(listener.url(), GENERIC, allowed)
            notifier.ended(ended, "timeout")
            await until(lambda: notifier.counters.told)
            assert len(listener.heard) == 3
            await notifier.close()

    run(scenario())
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"<methodResponse><fault></fault></methodResponse>", "it answered with a fault"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0", "HTTP status 404"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0", "HTTP status 302"),
    ],
)
def test_a_refusal_is_final_and_one_line(answer: bytes, why: str, caplog: pytest.LogCaptureFixture) -> None:
    ended = call()

    async def scenario() -> None:
        async with listening() as listener:
            listener.answers = [answer]
            notifier = Notifier(listener.url(), GENERIC, allowed)
            notifier.ended(ended, "timeout")
            await until(lambda: notifier.counters.refused)
            assert len(listener.heard) == 1
            assert caplog.messages == [f"its timeout could not be told to {listener.url()}: {why}"]
            await notifier.close()

    run(scenario())


def test_nobody_there_is_one_line_and_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    ended = call(answered=False)

    async def scenario() -> None:
        async with listening() as listener:
            nowhere = listener.url()
        notifier = Notifier(nowhere, SEMS, allowed)
        notifier.ended(ended, "timeout")
        await until(lambda: notifier.counters.failed)
        await notifier.close()

    run(scenario())
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("its timeout could not be told to http://127.0.0.1:")


def test_a_listener_that_never_answers_holds_up_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback, "ANSWER_WITHIN", 0.05)

    ended = call()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(mute, "127.0.0.1", 0)
        notifier = Notifier(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", GENERIC, allowed)
        notifier.ended(ended, "timeout")
        await until(lambda: notifier.counters.failed)
        monkeypatch.setattr(callback, "ANSWER_WITHIN", 60.0)
        notifier.ended(ended, "timeout")
        await notifier.close()
        server.close()

    run(scenario())


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(callback, "QUEUE", 2)

    calls = [call(call_id=f"c{number}") for number in range(5)]

    async def scenario() -> None:
        async with listening() as listener:
            notifier = Notifier(listener.url(), GENERIC, allowed)
            for one in calls:
                notifier.ended(one, "timeout")
            assert notifier.counters.lost == 3
            await until(lambda: notifier.counters.told == 2)
            await notifier.close()

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert len(caplog.messages) == 3
