"""The ng server over real sockets on loopback."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from control.ng import server as server_module
from control.ng import sockets as sockets_module
from control.ng.server import NgServer
from control.ng.service import Handler, Service
from relay.types import Endpoint

LOOPBACK = Endpoint("127.0.0.1", 0)
Body = dict[str, Any]
Scenario = Callable[[], Coroutine[Any, Any, None]]


def run(
    scenario: Coroutine[Any, Any, None], loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
) -> None:
    """Run on uvloop, as the daemon does, unless another loop is given; bounded in time."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asyncio.wait_for(scenario, 20))


def echo(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
    """What the handler was given."""
    return {"result": "ok", "body": body, "ip": source.ip, "now": int(now)}


class Clock:
    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def serving(
    handle: Handler = echo,
    *,
    at: Endpoint = LOOPBACK,
    allow: tuple[str, ...] = (),
    clock: Callable[[], float] = lambda: 100.0,
) -> AsyncIterator[NgServer]:
    server = NgServer(Service(handle, [ipaddress.ip_network(network) for network in allow], clock))
    await server.start(at)
    try:
        yield server
    finally:
        server.close()


class Client:
    """A connected socket, so that a reply from any other address than the one asked does not arrive."""

    def __init__(self, to: Endpoint, bind: str = "") -> None:
        self.socket = socket.socket(socket.AF_INET6 if ":" in to.ip else socket.AF_INET, socket.SOCK_DGRAM)
        if bind:
            self.socket.bind((bind, 0))
        self.socket.connect(to)
        self.socket.setblocking(False)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.socket, 65_535)

    async def ask(self, datagram: bytes) -> bytes:
        self.socket.send(datagram)
        return await self.receive()

    async def silence(self, datagram: bytes) -> None:
        """Send, and see the reply to a later ping come first: the datagram was read and not answered."""
        self.socket.send(datagram)
        assert (await self.ask(b"silence de")).startswith(b"silence ")


@pytest.mark.parametrize("loop", [uvloop.new_event_loop, asyncio.new_event_loop])
def test_answers_in_the_encoding_it_was_asked_in(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def scenario() -> None:
        async with serving(lambda body, source, now, room=0: {"result": "pong"}) as server:
            with Client(server.endpoints[0]) as client:
                assert await client.ask(b"a d7:command4:pinge") == b"a d6:result4:ponge"
                assert await client.ask(b'b {"command":"ping"}') == b'b {"result":"pong"}'
            assert server.service.counters.requests == 2
            assert server.service.counters.replies == 2

    run(scenario(), loop)


def test_hands_body_source_and_time_to_the_handler() -> None:
    seen: list[tuple[Body, Endpoint, float]] = []

    def handle(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
        seen.append((body, source, now))
        return {}

    async def scenario() -> None:
        async with serving(handle, clock=lambda: 12.5) as server:
            with Client(server.endpoints[0]) as client:
                assert await client.ask(b"a d7:command4:pinge") == b"a de"
                assert seen == [({"command": "ping"}, Endpoint(*client.socket.getsockname()), 12.5)]

    run(scenario())


def test_a_repeat_is_answered_from_memory_and_done_once() -> None:
    calls: list[Body] = []

    def handle(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
        calls.append(body)
        return {"result": "ok", "call": len(calls)}

    async def scenario() -> None:
        async with serving(handle) as server:
            with Client(server.endpoints[0]) as client, Client(server.endpoints[0]) as other:
                first = await client.ask(b"0_1_2 de")
                assert await client.ask(b"0_1_2 de") == first
                assert len(calls) == 1
                assert await other.ask(b"0_1_2 de") != first
            assert server.service.counters.requests == 2
            assert server.service.counters.repeats == 1

    run(scenario())


@pytest.mark.parametrize(
    ("datagram", "reply"),
    [
        (b"c ", b"c d6:result5:error12:error-reason25:Invalid data (no payload)e"),
        (b"c hello", b"c d6:result5:error12:error-reason22:Invalid NG data formate"),
        (b"c d3:foo", b"c d6:result5:error12:error-reason35:Could not decode bencode dictionarye"),
        (b"c {", b'c {"result":"error","error-reason":"Failed to parse JSON document"}'),
    ],
)
def test_nonsense_with_a_cookie_is_answered(datagram: bytes, reply: bytes) -> None:
    async def scenario() -> None:
        async with serving() as server:
            with Client(server.endpoints[0]) as client:
                assert await client.ask(datagram) == reply
            assert server.service.counters.malformed == 1
            assert server.service.counters.requests == 0

    run(scenario())


@pytest.mark.parametrize("datagram", [b"", b"nocookie", b" d7:command4:pinge", b"x" * 60_000])
def test_what_has_no_cookie_is_counted_and_not_answered(datagram: bytes) -> None:
    async def scenario() -> None:
        async with serving() as server:
            with Client(server.endpoints[0]) as client:
                await client.silence(datagram)
            assert server.service.counters.malformed == 1

    run(scenario())


def test_a_failing_handler_is_an_error_reply_a_traceback_and_no_dead_server(caplog: pytest.LogCaptureFixture) -> None:
    def handle(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
        if body:
            raise KeyError("broken")
        return {"result": "ok"}

    async def scenario() -> None:
        async with serving(handle) as server:
            with Client(server.endpoints[0]) as client:
                error = b"d6:result5:error12:error-reason14:Internal errore"
                for number in range(5):
                    assert await client.ask(b"%d d1:a1:be" % number) == b"%d " % number + error
                assert await client.ask(b"ok de") == b"ok d6:result2:oke"
            assert server.service.counters.failures == 5

    with caplog.at_level(logging.ERROR):
        run(scenario())
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(records) == 1, "a flood of broken requests is no flood of tracebacks"
    assert records[0].exc_info is not None
    assert records[0].exc_info[0] is KeyError


def test_a_reply_that_fits_no_datagram_becomes_an_error(caplog: pytest.LogCaptureFixture) -> None:
    fits = 65_507 - len(b"c d1:x65495:e")

    async def scenario() -> None:
        async with serving(lambda body, source, now, room=0: {"x": "y" * int(body["n"])}) as server:
            with Client(server.endpoints[0]) as client:
                assert len(await client.ask(b"c d1:ni%dee" % fits)) == 65_507
                reply = await client.ask(b"c d1:ni%dee" % (fits + 1))
                assert reply == b"c d6:result5:error12:error-reason15:Reply too largee"
            assert server.service.counters.oversize == 1

    run(scenario())
    assert "a reply of 65508 bytes" in caplog.text


def test_strangers_get_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with serving(at=Endpoint("0.0.0.0", 0), allow=("127.0.0.1/32",)) as server:
            port = server.endpoints[0].port
            with Client(Endpoint("127.0.0.1", port), "127.0.0.2") as stranger:
                for number in range(3):
                    stranger.socket.send(b"%d de" % number)
                with Client(Endpoint("127.0.0.1", port)) as friend:
                    assert (await friend.ask(b"c de")).startswith(b"c ")
                with pytest.raises(BlockingIOError):
                    stranger.socket.recv(1)
            assert server.service.counters.strangers == 3
            assert server.service.counters.requests == 1

    run(scenario())
    assert caplog.text.count("127.0.0.2") == 1


def test_no_network_allowed_means_nobody() -> None:
    async def scenario() -> None:
        async with serving(at=Endpoint("0.0.0.0", 0)) as server, serving() as local:
            with Client(Endpoint("127.0.0.1", server.endpoints[0].port)) as client:
                client.socket.send(b"c de")
                with Client(local.endpoints[0]) as other:
                    await other.ask(b"c de")
                with pytest.raises(BlockingIOError):
                    client.socket.recv(1)
            assert server.service.counters.strangers == 1

    run(scenario())


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2", "127.9.8.7"])
def test_bound_to_all_addresses_it_replies_from_the_one_that_was_asked(address: str) -> None:
    async def scenario() -> None:
        async with serving(at=Endpoint("0.0.0.0", 0), allow=("127.0.0.0/8",)) as server:
            with Client(Endpoint(address, server.endpoints[0].port)) as client:
                assert (await client.ask(b"c de")).startswith(b"c d6:result2:ok")

    run(scenario())


@pytest.mark.parametrize("address", ["::1", "::"])
def test_ipv6(address: str) -> None:
    async def scenario() -> None:
        async with serving(at=Endpoint(address, 0), allow=("::1/128",)) as server:
            with Client(Endpoint("::1", server.endpoints[0].port)) as client:
                assert b"2:ip3:::1" in await client.ask(b"c de")

    run(scenario())


def test_several_listeners_and_a_clean_end(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with serving() as server:
            await server.start(Endpoint("127.0.0.2", 0))
            endpoints = server.endpoints
            for endpoint in endpoints:
                with Client(endpoint) as client:
                    assert (await client.ask(b"c de")).startswith(b"c ")
            server.close()
            server.close()
            assert server.endpoints == []
            for endpoint in endpoints:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
                    again.bind(endpoint)

    with caplog.at_level(logging.INFO):
        run(scenario())
    assert caplog.text.count("listening on") == caplog.text.count("closed") == 2


def test_an_address_that_is_taken_is_named() -> None:
    async def scenario() -> None:
        async with serving() as server:
            taken = server.endpoints[0]
            with pytest.raises(
                OSError, match=f"cannot listen for ng on 127.0.0.1:{taken.port}: Address already in use"
            ):
                await server.start(taken)
            assert server.endpoints == [taken]

    run(scenario())


def test_a_burst_is_answered_in_full() -> None:
    async def scenario() -> None:
        async with serving(lambda body, source, now, room=0: {}) as server:
            with Client(server.endpoints[0]) as client:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                for number in range(200):
                    client.socket.send(b"%d de" % number)
                replies = [await client.receive() for _ in range(200)]
            assert replies == [b"%d de" % number for number in range(200)]
            assert server.statistics()["receive_drops"] == 0

    run(scenario())


def test_what_the_kernel_dropped_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr(sockets_module, "RECEIVE_BUFFER", 4096)
        async with serving() as server:
            with Client(server.endpoints[0]) as client:
                for _ in range(100):
                    client.socket.send(b"c d1:a1000:" + b"x" * 1000 + b"e")
                assert 0 < server.statistics()["receive_drops"] < 100

    run(scenario())


class Unsendable:
    """A socket whose send fails."""

    def __init__(self, error: OSError) -> None:
        self.error = error

    def send(self, data: bytes, address: Any, local: bytes) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "counter"),
    [
        (BlockingIOError(errno.EAGAIN, "again"), "unsent_full"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "unsent_error"),
    ],
)
def test_a_reply_that_cannot_be_sent_is_counted(error: OSError, counter: str) -> None:
    server = NgServer(Service(echo, [], lambda: 0.0))
    server._send(Unsendable(error), b"c de", ("10.0.0.1", 5000), b"")  # type: ignore[arg-type]
    assert getattr(server.service.counters, counter) == 1
    assert server.service.counters.replies == 0


def test_a_source_that_floods_keeps_nobody_from_being_heard() -> None:
    order: list[str] = []
    calm = "127.0.0.3"

    def handle(body: Body, source: Endpoint, now: float, room: int | None = 0) -> Body:
        order.append(source.ip)
        return {}

    async def scenario() -> None:
        async with serving(handle) as server:
            with Client(server.endpoints[0], "127.0.0.2") as flood, Client(server.endpoints[0], calm) as client:
                for number in range(900):
                    flood.socket.send(b"%d de" % number)
                assert await client.ask(b"calm de") == b"calm de"
                place = order.index(calm)
                assert place <= 2 * server_module.BATCH, "it had its turn before most of the flood"
                await until(lambda: len(order) == 901)
            assert server.statistics() == {"receive_drops": 0, "flooded": 0}

    run(scenario())


def test_what_was_read_is_answered_and_the_rest_waits_for_the_next_server() -> None:
    async def scenario() -> None:
        async with serving() as server:
            with Client(server.endpoints[0]) as client:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                for number in range(300):
                    client.socket.send(b"%d de" % number)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                server.pause()
                assert server.statistics() == {"receive_drops": 0, "flooded": 0}
                client.socket.send(b"300 de")
                kept = server._listeners[0].socket.dup()
                server.close()
                following = NgServer(Service(echo, [], lambda: 100.0))
                await following.start(Endpoint(*kept.getsockname()), kept)
                replies = [await client.receive() for _ in range(301)]
                assert [reply.split(b" ")[0] for reply in replies] == [b"%d" % number for number in range(301)]
                assert following.service.counters.requests >= 1
                following.close()

    run(scenario())


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110, there is nobody who would tell
            await asyncio.sleep(0.01)
