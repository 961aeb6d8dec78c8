"""A relay among its partners: its beginning and its end, where something is in the way."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from control import pairing
from control.config import Config
from control.config.load import load
from control.pairing import Pair, handed_over
from relay.errors import HairpinError
from tests.calls import Stage


def config(*arguments: str) -> Config:
    return load(["--config-file=none", "--interface=192.0.2.1", *arguments])


def pair(given: Config, stage: Stage, standing: int = 0) -> Pair:
    return Pair(given, stage.registry, stage.plane, None, None, None, standing)


@pytest.mark.parametrize("standing", [0, 500])
def test_a_speaker_that_can_never_work_keeps_only_a_relay_without_calls_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, standing: int
) -> None:
    (tmp_path / "file").write_text("")
    given = config("--bgp=bird", f"--bgp-socket={tmp_path}/bird.ctl", f"--bgp-include={tmp_path}/file/hairpin.conf")

    stage = Stage()

    async def begin() -> None:
        made = pair(given, stage, standing)
        try:
            await made.start()
        finally:
            await made.close()

    with caplog.at_level(logging.ERROR):
        if standing:
            asyncio.run(begin())
            assert "nothing is announced until the relay is started again: cannot read" in caplog.text
        else:
            with pytest.raises(HairpinError, match="cannot read"):
                asyncio.run(begin())


@pytest.mark.parametrize(
    ("taken", "able", "rest", "least_asked"), [(100, True, 0, 2), (0, True, 1000, 1), (100, False, 1000, 1)]
)
def test_an_end_waits_for_as_long_as_partners_take_calls(
    monkeypatch: pytest.MonkeyPatch, taken: int, able: bool, rest: int, least_asked: int
) -> None:
    """More calls than are taken within the patience for one."""
    monkeypatch.setattr(pairing, "HAND_OVER", 0.1)
    monkeypatch.setattr(pairing, "GLANCE", 0.04)
    left, asked = 1000, 0

    def look() -> int:
        return left

    def ask() -> bool:
        nonlocal asked
        asked += 1
        return able

    async def take() -> None:
        nonlocal left
        while left:
            await asyncio.sleep(0.04)
            left = max(0, left - (taken if able else 0))

    async def end() -> None:
        taking = asyncio.create_task(take())
        await asyncio.wait_for(handed_over(look, ask), 10)
        taking.cancel()

    asyncio.run(end())
    assert left == rest
    assert asked >= least_asked


@pytest.mark.parametrize("withdraw", [True, False])
def test_a_relay_whose_calls_are_to_end_takes_no_more(withdraw: bool) -> None:
    stage = Stage()

    async def end() -> None:
        made = pair(config(), stage)
        await made.start()
        await made.leave(withdraw)
        await made.close()

    asyncio.run(end())
    assert stage.registry.draining is withdraw
