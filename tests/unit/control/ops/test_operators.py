"""The operators' socket: its protocol, and clients that send too much, nothing, or do not read."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from control.ops import operators
from control.ops.operators import OperatorError, OperatorSocket
from control.ops.place import PlaceError


def count(arguments: Mapping[str, Any]) -> Iterator[int]:
    yield from range(arguments.get("to", 0))


def refuse(arguments: Mapping[str, Any]) -> list[Any]:
    raise OperatorError("there is no call of this name")


def fail(arguments: Mapping[str, Any]) -> list[Any]:
    raise ZeroDivisionError


def flood(arguments: Mapping[str, Any]) -> Iterator[str]:
    while True:
        yield "x" * 10_000


OnLoop = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> OnLoop:
    """Runs a coroutine on each of the loops the relay runs on."""

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(coroutine)

    return run


HANDLERS = {"count": count, "refuse": refuse, "fail": fail, "flood": flood}


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[OperatorSocket]:
    socket = OperatorSocket(HANDLERS)
    await socket.start(path)
    try:
        yield socket
    finally:
        await socket.close()


async def say(path: Path, *lines: bytes) -> list[Any]:
    """All reply lines to some request lines, until the relay has closed."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.writelines(lines)
    writer.write_eof()
    replies = [json.loads(line) async for line in reader]
    writer.close()
    return replies


def request(command: str, **arguments: Any) -> bytes:
    return json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"


def test_items_then_done_and_several_requests(on_loop: OnLoop, tmp_path: Path) -> None:
    async def run() -> None:
        async with serving(tmp_path / "s"):
            replies = await say(tmp_path / "s", request("count", to=2), request("refuse"), request("count"))
            assert replies == [
                {"item": 0},
                {"item": 1},
                {"done": True},
                {"error": "there is no call of this name"},
                {"done": True},
            ]

    on_loop(run())


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"list\n", 'a request is {"command": NAME, "arguments": {...}} on one line'),
        (b"[]\n", 'a request is {"command": NAME, "arguments": {...}} on one line'),
        (b'{"arguments": {}}\n', 'a request is {"command": NAME, "arguments": {...}} on one line'),
        (b"[" * 5000 + b"\n", 'a request is {"command": NAME, "arguments": {...}} on one line'),
        (b"\xff\xfe\n", 'a request is {"command": NAME, "arguments": {...}} on one line'),
        (b'{"command": 7}\n', "command must be a string and arguments an object"),
        (b'{"command": "list", "arguments": []}\n', "command must be a string and arguments an object"),
        (b'{"command": "reboot"}\n', "the relay does not know the command 'reboot': is it of another version?"),
        (b"x" * (operators.REQUEST_BYTES * 3) + b"\n", "a request is one line of at most 65536 bytes"),
    ],
)
def test_nonsense_is_answered_and_the_relay_goes_on(on_loop: OnLoop, tmp_path: Path, line: bytes, error: str) -> None:
    async def run() -> None:
        async with serving(tmp_path / "s"):
            assert await say(tmp_path / "s", line) == [{"error": error}]
            assert await say(tmp_path / "s", request("count")) == [{"done": True}]

    on_loop(run())


def test_a_failing_command_is_logged_with_its_traceback(
    on_loop: OnLoop, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with serving(tmp_path / "s"):
            replies = await say(tmp_path / "s", request("fail"), request("count"))
            assert replies == [{"error": "the relay failed at this command: see its log"}, {"done": True}]

    on_loop(run())
    assert caplog.records[-1].exc_info is not None


def test_only_the_owner_may_open_it_and_it_goes_with_the_relay(on_loop: OnLoop, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "s"

    async def run() -> None:
        async with serving(path) as socket:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) & 0o700 == 0o700
            await socket.close()
            assert not path.exists()

    on_loop(run())


def test_a_dead_relays_socket_is_replaced_and_a_live_ones_is_not(on_loop: OnLoop, tmp_path: Path) -> None:
    path = tmp_path / "s"

    async def run() -> None:
        async with serving(path):
            with pytest.raises(PlaceError, match="another process listens at"):
                await OperatorSocket(HANDLERS).start(path)
            assert await say(path, request("count")) == [{"done": True}]
        dead = operators._listen(path)
        dead.close()
        assert path.exists()
        async with serving(path):
            assert await say(path, request("count")) == [{"done": True}]

    on_loop(run())


def test_a_reader_that_stops_is_dropped_while_others_are_served(
    on_loop: OnLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "PATIENCE", 0.3)
    path = tmp_path / "s"

    async def run() -> None:
        async with serving(path) as socket:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(request("flood"))
            await asyncio.wait_for(reader.readexactly(1), 5)
            assert await asyncio.wait_for(say(path, request("count")), 5) == [{"done": True}]
            if socket._clients:
                _, standing = await asyncio.wait(socket._clients, timeout=10)
                assert not standing
            writer.close()

    on_loop(run())


def test_silent_and_too_many_clients(on_loop: OnLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "PATIENCE", 1.0)
    monkeypatch.setattr(operators, "CLIENTS", 2)
    path = tmp_path / "s"

    async def run() -> None:
        async with serving(path):
            silent = [await asyncio.open_unix_connection(path) for _ in range(2)]
            await asyncio.sleep(0.1)
            assert await say(path) == [{"error": "2 operators' connections are open already: close some"}]
            for reader, writer in silent:
                assert await asyncio.wait_for(reader.read(), 5) == b""
                writer.close()
            assert await say(path, request("count")) == [{"done": True}]

    on_loop(run())
