"""BIRD's control protocol: replies of several lines, errors, and a BIRD that is none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from control.failover import birdsocket
from control.failover.birdsocket import BirdError, BirdSocket, Line

READY = b"0001 BIRD 2.0.12 ready.\n"


def talk(folder: Path, answers: list[bytes], scene: Callable[[BirdSocket], Coroutine[None, None, None]]) -> list[bytes]:
    """Serve these answers, the greeting first, and have a conversation; returns the commands that came."""
    commands: list[bytes] = []

    async def run() -> None:
        served = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError):
                for answer in answers:
                    writer.write(answer)
                    commands.append(await reader.readline())
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            served.set()

        async with await asyncio.start_unix_server(serve, folder / "ctl"):
            bird = await BirdSocket.reach(folder / "ctl")
            try:
                await scene(bird)
            finally:
                bird.close()
                await served.wait()
                await asyncio.sleep(0)

    asyncio.run(run())
    return [one for one in commands if one]


def test_lines_of_a_reply(tmp_path: Path) -> None:
    async def scene(bird: BirdSocket) -> None:
        assert await bird.ask("show protocols") == [
            Line(2002, "Name       Proto"),
            Line(1002, "core       BGP"),
            Line(1002, "more of it"),
            Line(0, ""),
        ]
        assert await bird.ask("enable x") == [Line(11, "x: enabled")]

    reply = b"2002-Name       Proto\n1002-core       BGP\n more of it\n0000 \n"
    asked = talk(tmp_path, [READY, reply, b"0011 x: enabled\n"], scene)
    assert asked == [b"show protocols\n", b"enable x\n"]


def test_a_refusal_is_told_in_birds_words(tmp_path: Path) -> None:
    async def scene(bird: BirdSocket) -> None:
        with pytest.raises(BirdError, match=r"BIRD refuses `configure`: /etc/bird.conf:3 syntax error"):
            await bird.ask("configure")

    talk(tmp_path, [READY, b"0002-Reading configuration\n8002 /etc/bird.conf:3 syntax error\n"], scene)


@pytest.mark.parametrize("answer", [b"x\n" * 9000, b"1002-x\n" * 9000, b"", b"y" * 100_000 + b"\n", b"half a line"])
def test_what_is_no_reply_ends_the_conversation(tmp_path: Path, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(birdsocket, "PATIENCE", 0.3)

    async def scene(bird: BirdSocket) -> None:
        with pytest.raises((OSError, TimeoutError)):
            await bird.ask("show protocols")

    talk(tmp_path, [READY, answer], scene)
