"""ng over TCP, on loopback, with clients that misbehave."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from control.ng import stream as stream_module
from control.ng.framing import MAX_MESSAGE
from control.ng.service import Handler, Service
from control.ng.stream import NgStreams
from relay.types import Endpoint

LOOPBACK = Endpoint("127.0.0.1", 0)
PONG = b"d6:result4:ponge"
Body = dict[str, Any]
Loop = Callable[[], asyncio.AbstractEventLoop]


def run(scenario: Coroutine[Any, Any, None], loop: Loop = uvloop.new_event_loop) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(scenario, 20))


def pong(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
    return {"result": "pong"}


def long(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
    return {"x": "y" * int(body.get("n", 0))}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def serving(
    handle: Handler = pong, *, at: Endpoint = LOOPBACK, allow: tuple[str, ...] = (), clock: Clock | None = None
) -> AsyncIterator[NgStreams]:
    networks = [ipaddress.ip_network(network) for network in allow]
    server = NgStreams(Service(handle, networks, clock or Clock()))
    await server.start(at)
    listening = open_files()
    try:
        yield server
        await until(lambda: not server.connections and open_files() <= listening)
    finally:
        server.close()
    await until(lambda: open_files() < listening)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110, there is nobody who would tell
            await asyncio.sleep(0.01)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read(self, reply: bytes) -> None:
        assert await self.reader.readexactly(len(reply)) == reply

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        try:
            return await self.reader.read(-1)
        except ConnectionError:
            return b""


@asynccontextmanager
async def client(server: NgStreams, address: str | None = None) -> AsyncIterator[Client]:
    asked = server.endpoints[0]
    reader, writer = await asyncio.open_connection(address or asked.ip, asked.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_replies_come_in_the_order_of_requests(loop: Loop) -> None:
    async def scenario() -> None:
        async with serving() as server, client(server) as one:
            one.send(b"1 d7:command4:pinge2 d7:command4:pinge\n" + b'3 {"command":"ping"}')
            await one.read(b"1 " + PONG + b"2 " + PONG + b'3 {"result":"pong"}')
            one.send(b"4 d7:comm")
            await asyncio.sleep(0.01)
            one.send(b"and4:pinge")
            await one.read(b"4 " + PONG)
            assert server.service.counters.requests == server.service.counters.replies == 4

    run(scenario(), loop)


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_client_that_says_no_more_still_gets_all_replies(loop: Loop) -> None:
    async def scenario() -> None:
        async with serving() as server, client(server) as one:
            one.send(b"".join(b"%d de" % number for number in range(1000)))
            one.writer.write_eof()
            assert await one.rest() == b"".join(b"%d " % number + PONG for number in range(1000))

    run(scenario(), loop)


def test_a_repeat_on_the_connection_is_answered_from_memory() -> None:
    async def scenario() -> None:
        async with serving() as server, client(server) as one:
            for _ in range(3):
                one.send(b"same de")
                await one.read(b"same " + PONG)
            assert (server.service.counters.requests, server.service.counters.repeats) == (1, 2)

    run(scenario())


def test_no_datagram_limits_a_reply() -> None:
    async def scenario() -> None:
        async with serving(long) as server, client(server) as one:
            one.send(b"1 d1:ni1000000ee")
            await one.read(b"1 d1:x1000000:" + b"y" * 1_000_000 + b"e")

    run(scenario())


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"GET /ng HTTP/1.1\r\n\r\n", b"GET d6:result5:error12:error-reason22:Invalid NG data formate"),
        (b"\x16\x03\x01" + b"\0" * 300, b""),
        (b"x" * 2000, b""),
        (b"c d1:a99999:" + b"x" * 100_000, b"c d6:result5:error12:error-reason21:more than 65792 bytese"),
    ],
)
def test_what_is_no_message_closes_the_connection(data: bytes, reply: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert MAX_MESSAGE == 65_792

    async def scenario() -> None:
        async with serving() as server, client(server) as one, client(server) as other:
            one.send(data)
            assert await one.rest() in (reply, b"")  # a reset may overtake the reply
            assert server.counters.broken == server.service.counters.malformed == 1
            other.send(b"1 de")
            await other.read(b"1 " + PONG)

    run(scenario())
    assert "its TCP connection is closed" in caplog.text


def test_a_body_that_cannot_be_decoded_loses_no_connection() -> None:
    async def scenario() -> None:
        async with serving() as server, client(server) as one:
            one.send(b"1 di1ei2ee2 de")
            await one.read(b"1 d6:result5:error12:error-reason35:Could not decode bencode dictionarye2 " + PONG)

    run(scenario())


def test_half_a_message_is_waited_for_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "SWEEP", 0.01)

    async def scenario() -> None:
        clock = Clock()
        async with serving(clock=clock) as server, client(server) as loris, client(server) as quiet:
            loris.send(b"1 d7:com")
            quiet.send(b"1 de\n")
            await quiet.read(b"1 " + PONG)
            await until(lambda: any(len(one._frames) for one in server.connections))
            for letter in (b"m", b"a", b"n"):  # dribbling is no excuse
                clock.now += 4
                loris.send(letter)
                await asyncio.sleep(0.05)
            assert await loris.rest() == b""
            assert server.counters.slow == 1
            assert len(server.connections) == 1
            clock.now += stream_module.IDLE
            assert await quiet.rest() == b""
            assert server.counters.idle == 1

    run(scenario())


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_client_that_does_not_read_is_not_heard_and_then_dropped(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stream_module, "SWEEP", 0.01)

    async def scenario() -> None:
        clock = Clock()
        async with serving(long, clock=clock) as server:
            with socket.create_connection(server.endpoints[0]) as deaf:
                deaf.setblocking(False)
                sent = 0
                while not any(one.stuck for one in server.connections):
                    with suppress(BlockingIOError):
                        sent += deaf.send(b"%d d1:ni60000ee" % sent)
                    await asyncio.sleep(0)
                heard = server.service.counters.requests
                clock.now += stream_module.PATIENCE / 2
                await asyncio.sleep(0.05)
                assert server.service.counters.requests == heard
                assert len(server.connections) == 1
                clock.now += stream_module.PATIENCE
                await until(lambda: not server.connections)
                assert server.counters.slow == 1

    run(scenario(), loop)
    assert "it does not read its replies" in caplog.text


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_a_client_that_reads_late_gets_everything(loop: Loop) -> None:
    async def scenario() -> None:
        async with serving(long) as server, client(server) as late:
            one = b"d1:x60000:" + b"y" * 60_000 + b"e"
            late.send(b"".join(b"%d d1:ni60000ee" % number for number in range(200)))
            late.writer.write_eof()
            await until(lambda: any(one.stuck for one in server.connections))
            expected = b"".join(b"%d " % number + one for number in range(200))
            assert await late.rest() == expected

    run(scenario(), loop)


def test_what_all_slow_readers_may_leave_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "ALL_UNREAD", 1 << 20)

    async def scenario() -> None:
        async with serving(long) as server:
            async with client(server) as one:
                one.reader._transport.pause_reading()  # type: ignore[attr-defined]
                one.send(b"".join(b"%d d1:ni8000000ee" % number for number in range(4)))
                await until(lambda: server.counters.slow == 1)
            assert not server.connections

    run(scenario())


def test_a_client_that_vanishes_in_mid_reply() -> None:
    async def scenario() -> None:
        async with serving(long) as server:
            for _ in range(20):
                vanishing = socket.create_connection(server.endpoints[0])
                vanishing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                vanishing.send(b"1 d1:ni3000000ee2 d1:ni3000000ee")
                await asyncio.sleep(0)
                vanishing.close()
            await until(lambda: not server.connections)
            assert server.service.counters.failures == 0

    run(scenario())


def test_a_burst_on_one_connection_leaves_time_to_others() -> None:
    burst = 20_000

    async def scenario() -> None:
        async with serving() as server, client(server) as busy, client(server) as calm:
            busy.send(b"".join(b"%d de" % number for number in range(burst)))
            reading = asyncio.create_task(busy.reader.readexactly(len(PONG) * burst))
            await until(lambda: server.service.counters.requests)
            calm.send(b"c de")
            await calm.read(b"c " + PONG)
            assert server.service.counters.requests < burst, "the other one's burst was not over"
            await reading

    run(scenario())


def test_five_hundred_connections() -> None:
    async def scenario() -> None:
        async with serving() as server:
            opened = [await asyncio.open_connection(*server.endpoints[0]) for _ in range(500)]
            clients = [Client(*streams) for streams in opened]
            for one in clients:
                one.send(b"1 d7:command4:pinge")
            for one in clients:
                await one.read(b"1 " + PONG)
            assert server.statistics()["open"] == 500
            for one in clients:
                one.writer.transport.abort()

    run(scenario())


def test_the_connection_that_is_silent_for_the_longest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MAX_CONNECTIONS", 2)

    async def scenario() -> None:
        clock = Clock()
        async with serving(clock=clock) as server, client(server) as first, client(server) as second:
            await until(lambda: len(server.connections) == 2)
            clock.now += 1
            first.send(b"1 de")
            await first.read(b"1 " + PONG)
            async with client(server) as third:
                third.send(b"1 de")
                await third.read(b"1 " + PONG)
                assert await second.rest() == b""
                first.send(b"2 de")
                await first.read(b"2 " + PONG)
            assert server.statistics().items() >= {"accepted": 3, "made_room": 1}.items()

    run(scenario())


def test_strangers_are_not_heard(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with serving(at=Endpoint("0.0.0.0", 0), allow=("127.0.0.2/32",)) as server:
            async with client(server, "127.0.0.1") as stranger:
                stranger.send(b"1 de")
                assert await stranger.rest() == b""
            assert server.service.counters.strangers == 1
            assert server.service.counters.requests == 0

    run(scenario())
    assert "is not in the networks of --ng-allow" in caplog.text


def test_ipv6_and_a_taken_address() -> None:
    async def scenario() -> None:
        async with serving(at=Endpoint("::1", 0)) as server, client(server) as one:
            one.send(b"1 de")
            await one.read(b"1 " + PONG)
            taken = server.endpoints[0]
            with pytest.raises(OSError, match=rf"cannot listen for ng on tcp \[::1\]:{taken.port}: Address already"):
                await server.start(taken)

    run(scenario())


def test_an_end_closes_listeners_and_connections(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with serving() as server, client(server) as one:
            one.send(b"1 de")
            await one.read(b"1 " + PONG)
            server.close()
            server.close()
            assert await one.rest() == b""
            assert server.endpoints == []

    with caplog.at_level(logging.INFO):
        run(scenario())
    assert caplog.text.count("listening on tcp") == caplog.text.count("closed tcp") == 1
