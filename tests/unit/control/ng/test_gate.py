"""Replies wait at the gate, whatever their requests came by, and leave in the order of their requests."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import uvloop

from control.ng.message import Remembered
from control.ng.server import NgServer
from control.ng.service import Service
from control.ng.stream import NgStreams
from control.ng.web import NgWeb
from relay.types import Endpoint

LOOPBACK = Endpoint("127.0.0.1", 0)
SOURCE = Endpoint("10.0.0.1", 5000)
PING, PONG = b"d7:command4:pinge", b"d6:result4:ponge"
OFFER, DONE = b"d7:command5:offere", b"d6:result2:oke"
Body = dict[str, Any]


class Gate:
    """Holds replies from the first change until it is opened."""

    def __init__(self) -> None:
        self.kept = 0
        self.held: deque[Callable[[], None]] = deque()
        self.shut = False
        self.replies: list[Remembered] = []

    def keep(self) -> None:
        self.kept += 1
        self.shut = True

    def reply(self, remembered: Remembered) -> None:
        self.replies.append(remembered)

    def after(self, send: Callable[[], None]) -> None:
        if self.shut:
            self.held.append(send)
        else:
            send()

    def open(self) -> None:
        self.shut = False
        while self.held:
            self.held.popleft()()


def gated() -> tuple[Service, Gate]:
    """A service whose offers change something."""
    gate = Gate()

    def handle(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
        if body["command"] == "offer":
            gate.keep()
            return {"result": "ok"}
        return {"result": "pong"}

    service = Service(handle, [], lambda: 100.0)
    service.gate = gate
    return service, gate


def run(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario, 20))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110, there is nobody who would tell
            await asyncio.sleep(0.005)


def test_replies_are_kept_with_what_their_commands_changed_and_no_others() -> None:
    service, gate = gated()
    (reply,) = service.answer(b"1 " + OFFER, SOURCE, 1.0)
    service.answer(b"2 " + PING, SOURCE, 1.0)
    service.answer(b"1 " + OFFER, SOURCE, 1.0)
    assert [(one.source, one.cookie, one.reply) for one in gate.replies] == [(SOURCE, b"1 ", reply)]


def test_a_reply_of_another_process_is_given_to_its_repeat_alone() -> None:
    service, gate = gated()
    (reply,) = service.answer(b"1 " + OFFER, SOURCE, 1.0)
    later, _ = gated()
    later.recall(gate.replies)
    assert later.answer(b"1 " + OFFER, SOURCE, 100.0) == [reply]
    assert later.counters.requests == 0
    assert later.answer(b"1 " + OFFER, Endpoint("10.0.0.1", 5001), 100.0)
    assert later.answer(b"1 " + PING, SOURCE, 100.0) == [b"1 " + PONG]
    assert later.counters.requests == 2


def test_over_udp_a_reply_and_its_repeats_wait_and_a_ping_before_them_does_not() -> None:
    async def scenario() -> None:
        service, gate = gated()
        server = NgServer(service)
        await server.start(LOOPBACK)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(server.endpoints[0])
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            client.send(b"1 " + PING)
            assert await loop.sock_recv(client, 999) == b"1 " + PONG
            for datagram in (b"2 " + OFFER, b"3 " + OFFER, b"2 " + OFFER):
                client.send(datagram)
            await until(lambda: len(gate.held) == 3)
            assert service.counters.replies == 1
            gate.open()
            assert [await loop.sock_recv(client, 999) for _ in range(3)] == [b"2 " + DONE, b"3 " + DONE, b"2 " + DONE]
        server.close()

    run(scenario())


def test_replies_that_outlive_their_listener_do_no_harm() -> None:
    async def scenario() -> None:
        service, gate = gated()
        server = NgServer(service)
        await server.start(LOOPBACK)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(server.endpoints[0])
            client.send(b"2 " + OFFER)
            await until(lambda: gate.held)
            server.close()
            gate.open()
            assert service.counters.unsent_error == 1

    run(scenario())


def test_over_tcp_the_order_stays_and_the_end_comes_last() -> None:
    async def scenario() -> None:
        service, gate = gated()
        server = NgStreams(service)
        await server.start(LOOPBACK)
        reader, writer = await asyncio.open_connection(*server.endpoints[0])
        writer.write(b"1 " + PING + b"2 " + OFFER + b"3 " + PING)
        writer.write_eof()
        assert await reader.readexactly(len(b"1 " + PONG)) == b"1 " + PONG
        await until(lambda: len(gate.held) == 3)
        gate.open()
        assert await reader.read() == b"2 " + DONE + b"3 " + PONG
        writer.close()
        server.close()

    run(scenario())


def test_over_tcp_garbage_behind_a_command_costs_it_nothing() -> None:
    async def scenario() -> None:
        service, gate = gated()
        server = NgStreams(service)
        await server.start(LOOPBACK)
        reader, writer = await asyncio.open_connection(*server.endpoints[0])
        writer.write(b"2 " + OFFER + b"3 nonsense")
        await until(lambda: server.counters.broken)
        writer.write(b"4 more nonsense")
        await asyncio.sleep(0.02)
        gate.open()
        rest = await reader.read()
        assert rest.startswith(b"2 " + DONE + b"3 d")
        assert server.counters.broken == 1
        writer.close()
        server.close()

    run(scenario())


def test_a_client_that_is_gone_before_the_gate_opens_does_no_harm() -> None:
    async def scenario() -> None:
        service, gate = gated()
        streams, web = NgStreams(service), NgWeb(service)
        await streams.start(LOOPBACK)
        await web.start(LOOPBACK)
        for endpoint, request in (
            (streams.endpoints[0], b"1 " + OFFER),
            (web.endpoints[0][1], b"POST /ng HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-rtpengine-ng\r\n"
             b"Content-Length: 20\r\n\r\n2 " + OFFER),
        ):  # fmt: skip
            _, writer = await asyncio.open_connection(*endpoint)
            writer.write(request)
            await until(lambda: gate.held)
            writer.transport.abort()
            await asyncio.sleep(0.02)
            gate.open()
        streams.close()
        await web.close()
        assert service.counters.failures == 0

    run(scenario())


def test_over_http_and_websocket_a_reply_waits_and_others_do_not_wait_for_it() -> None:
    async def scenario() -> None:
        service, gate = gated()
        server = NgWeb(service)
        await server.start(LOOPBACK)
        url = f"http://{server.endpoints[0][1]}/ng"
        headers = {"Content-Type": "application/x-rtpengine-ng"}

        async def post(session: aiohttp.ClientSession, data: bytes) -> bytes:
            async with session.post(url, data=data, headers=headers) as response:
                return await response.read()

        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, protocols=["ng.rtpengine.com"]) as opened,
        ):
            assert await post(session, b"1 " + PING) == b"1 " + PONG
            posted = asyncio.create_task(post(session, b"2 " + OFFER))
            await until(lambda: len(gate.held) == 1)
            await opened.send_bytes(b"3 " + OFFER)
            await until(lambda: len(gate.held) == 2)
            assert not posted.done()
            gate.open()
            assert await posted == b"2 " + DONE
            assert await opened.receive_bytes() == b"3 " + DONE
        await server.close()

    run(scenario())
