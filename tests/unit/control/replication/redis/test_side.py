"""A side of the store that loses its connection: what it tells, what it logs, and how long it waits."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from control.replication.redis.link import Place, RedisFault
from control.replication.redis.side import Settings, Side, together

PLACE = Place("192.0.2.1", 6379, "secret")


class Flapping(Side):
    """Stands for a moment each time, if it may, and fails in words of its own so many times."""

    def __init__(self, settings: Settings, words: Callable[[int], str], stands: bool, times: int) -> None:
        super().__init__("trying", settings)
        self.attempts = self.losses = 0
        self.enough = asyncio.Event()
        self._words, self._stands, self._times = words, stands, times

    async def session(self) -> None:
        if self.attempts == self._times:
            self.enough.set()
            await asyncio.Event().wait()
        self.attempts += 1
        if self._stands:
            self.stand()
            await asyncio.sleep(0)
        raise RedisFault(self._words(self.attempts))

    def lost(self) -> None:
        self.losses += 1


def flap(words: Callable[[int], str], stands: bool, times: int = 3, **more: Any) -> Flapping:
    """A side that has failed so many times, and come to another attempt."""

    async def play() -> Flapping:
        side = Flapping(Settings(PLACE, PLACE, 1, **more), words, stands, times)
        running = asyncio.create_task(side.run())
        await side.enough.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return side

    return asyncio.run(play())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize("stands", [True, False])
def test_one_line_tells_of_a_server_that_comes_and_goes(caplog: pytest.LogCaptureFixture, stands: bool) -> None:
    side = flap(lambda attempt: f"fails for the {attempt}. reason", stands)
    assert side.losses == (3 if stands else 0)
    assert warnings(caplog) == [
        "trying: Redis at 192.0.2.1:6379 fails for the 1. reason; calls go on, it is tried again"
    ]


def test_a_fault_of_the_relays_own_is_logged_with_its_traceback_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken(attempt: int) -> str:
        raise KeyError(attempt)

    assert flap(broken, stands=True).losses == 3
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "was left after a fault of the relay's own, KeyError" in record.getMessage()
    assert record.exc_info is not None


def test_the_state_is_told_in_words_and_the_first_outcome_is_kept() -> None:
    side = flap(lambda attempt: "does not answer", stands=False)
    assert side.status()["state"] == "Redis at 192.0.2.1:6379 does not answer"
    assert side.status()["faults"] == 3
    assert str(side.first.result()) == "does not answer"
    assert flap(lambda attempt: "does not answer", stands=True).first.result() is None


def test_pauses_grow_and_redis_is_left_alone_after_too_many_errors() -> None:
    before = time.monotonic()
    flap(lambda attempt: "fails", stands=False, times=3)
    assert time.monotonic() - before >= 0.1 + 0.2 + 0.4
    before = time.monotonic()
    flap(lambda attempt: "fails", stands=False, times=2, allowed_errors=1, disable_time=1.0)
    assert time.monotonic() - before >= 0.1 + 1.0


def test_what_is_not_as_it_should_be_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        side = Flapping(Settings(PLACE, PLACE, 1), str, stands=True, times=1)
        for words in ("is odd", None, "is odd"):
            side.warn(words)
        assert side.status()["caution"] == "Redis at 192.0.2.1:6379 is odd"
        side.warn(None)
        assert "caution" not in side.status()

    asyncio.run(play())
    assert warnings(caplog) == ["trying: Redis at 192.0.2.1:6379 is odd"]


def test_the_first_part_that_ends_ends_the_others() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("forever")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise RedisFault("fails")

    with pytest.raises(RedisFault, match="fails"):
        asyncio.run(together(forever(), fails()))
    assert ended == ["forever"]
