"""The relay's side of ExaBGP's bridge: what it finds, what it says, and bridges that are late, gone or none."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from control.failover import exabgp
from control.failover.exabgp import ExaBgp
from control.failover.speaker import Attributes, Role, Route, SpeakerLost, Styles

IP = "192.0.2.1"
STYLES = Styles(Attributes(med=1), Attributes(med=2))


def report(held: dict[str, str] | None = None, **more: Any) -> bytes:
    said = {"held": held or {}, "done": True, "refused": {}, "peers": {"192.0.2.9": "up"}, **more}
    return json.dumps(said).encode() + b"\n"


class Bridge:
    """A bridge in the test's hands: `greeting` goes to each who connects, `answer` to each line."""

    def __init__(self, greeting: bytes = report(), answer: Callable[[dict[str, Any]], bytes] | None = None) -> None:
        self.greeting = greeting
        self.answer = answer or self.obey
        self.heard: list[dict[str, Any]] = []
        self.delay = 0.0
        self._writers: list[asyncio.StreamWriter] = []

    @staticmethod
    def obey(said: dict[str, Any]) -> bytes:
        return report({prefix: route["role"] for prefix, route in said["routes"].items()})

    @contextlib.asynccontextmanager
    async def at(self, path: Path) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._serve, path)
        try:
            yield
        finally:
            server.close()
            for writer in self._writers:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
            os.unlink(path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await asyncio.sleep(self.delay)
        writer.write(self.greeting)
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                self.heard.append(json.loads(line))
                writer.write(self.answer(self.heard[-1]))
        writer.close()


def play(scene: Callable[[], Coroutine[Any, Any, None]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exabgp, "PATIENCE", 0.5)
    monkeypatch.setattr(exabgp, "BEAT", 0.05)
    monkeypatch.setattr(exabgp, "PAUSES", (0.02, 0.02))
    asyncio.run(scene())


def test_what_a_late_bridge_holds_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        bridge, speaker = Bridge(report({f"{IP}/32": "primary", "x": "y"})), ExaBgp(tmp_path / "s", STYLES, 15)
        bridge.delay = 0.3
        async with bridge.at(tmp_path / "s"):
            assert await speaker.start() == {IP: Role.PRIMARY}
            assert bridge.heard == []  # nothing is said before there is something to say
            await speaker.close()

    play(scene, monkeypatch)


def test_a_bridge_that_is_not_there_is_not_waited_for_and_told_when_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        bridge, speaker = Bridge(), ExaBgp(tmp_path / "s", STYLES, 15)
        async with asyncio.timeout(1):
            assert await speaker.start() == {}
        with pytest.raises(SpeakerLost, match=r"not reached at .*/s: No such file"):
            await speaker.announce({IP: Route(Role.PRIMARY)})
        async with bridge.at(tmp_path / "s"):
            await speaker.announce({IP: Route(Role.PRIMARY, lone=True)})
            said = {"role": "primary", "attributes": "next-hop self med 1", "lone": True}
            assert bridge.heard[-1] == {"grace": 15, "routes": {f"{IP}/32": said}}
            count = len(bridge.heard)
            await asyncio.sleep(0.5)
            assert len(bridge.heard) > count  # each beat says it all again
            assert speaker.describe() == [f"ExaBGP is reached at {tmp_path}/s; sessions: 192.0.2.9 up"]
            await speaker.announce({IP: Route(Role.NONE)})
            assert bridge.heard[-1]["routes"] == {}
            await speaker.close()

    play(scene, monkeypatch)


def test_a_refusal_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        refusal = report(done=False, refused={f"{IP}/32": "med 1"})
        bridge, speaker = Bridge(answer=lambda said: refusal), ExaBgp(tmp_path / "s", STYLES, 15)
        async with bridge.at(tmp_path / "s"):
            await speaker.start()
            with pytest.raises(SpeakerLost, match=r"ExaBGP refuses what it was told: .*med 1"):
                await speaker.announce({IP: Route(Role.PRIMARY)})
            assert f"ExaBGP refuses {IP}/32: med 1" in speaker.describe()
            await speaker.close()

    play(scene, monkeypatch)


def test_a_bridge_that_listens_to_another_relay_is_asked_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        bridge, speaker = Bridge(b'{"error": "another relay speaks to it"}\n'), ExaBgp(tmp_path / "s", STYLES, 15)
        async with bridge.at(tmp_path / "s"):
            assert await speaker.start() == {}
            await asyncio.sleep(0.3)
            assert "not reached at" in speaker.describe()[0]
            assert "another relay speaks to it" in speaker.describe()[0]
            await speaker.close()

    with caplog.at_level("INFO"):
        play(scene, monkeypatch)
    assert caplog.text.count("s (another relay speaks to it): does ExaBGP run?") == len(caplog.messages) == 1


@pytest.mark.parametrize("nonsense", [b"x\n", b"[]\n", b'{"held": 5}\n', b"{" * 300_000, b"[" * 99_999 + b"\n"])
def test_what_is_no_bridge_is_left_and_tried_again(
    tmp_path: Path, nonsense: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        speaker = ExaBgp(tmp_path / "s", STYLES, 15)
        async with Bridge(nonsense).at(tmp_path / "s"):
            assert await speaker.start() == {}
        async with Bridge().at(tmp_path / "s"):
            await speaker.announce({IP: Route(Role.PRIMARY)})
            await speaker.close()

    play(scene, monkeypatch)
