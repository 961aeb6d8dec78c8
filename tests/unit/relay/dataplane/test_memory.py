"""The data plane without packets keeps the contract of all planes."""

from __future__ import annotations

import asyncio

import pytest

from relay.dataplane.memory import MemoryDataplane
from relay.errors import DataplaneError
from relay.types import Endpoint, Path
from tests.contract import RTCP, Arrive, DataplaneContract, Ending, Heard, Inheriting, Succeed


def arriving(plane: MemoryDataplane) -> Arrive:
    def deliver(local: Endpoint, source: Endpoint, payload: bytes) -> None:
        if payload == RTCP:
            plane.arrive_rtcp(local, source, payload)
        else:
            plane.arrive(local, source, len(payload))

    return deliver


class TestMemory(DataplaneContract, Inheriting, Ending):
    @pytest.fixture
    def listener(self) -> Heard:
        return Heard()

    @pytest.fixture
    def plane(self, listener: Heard) -> MemoryDataplane:
        made = MemoryDataplane()
        asyncio.run(made.start(listener))
        return made

    @pytest.fixture
    def arrive(self, plane: MemoryDataplane) -> Arrive:
        return arriving(plane)

    @pytest.fixture
    def succeed(self, plane: MemoryDataplane, listener: Heard) -> Succeed:
        planes = [plane]

        def follow() -> tuple[MemoryDataplane, Arrive]:
            planes.append(MemoryDataplane(former=planes[-1]))
            asyncio.run(planes[-1].start(listener))
            return planes[-1], arriving(planes[-1])

        return follow

    def test_it_admits_that_it_forwards_nothing(self, plane: MemoryDataplane) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        assert plane.state(self.facing_alice).path is Path.MEMORY

    def test_beyond_its_limit_it_installs_none(self, plane: MemoryDataplane) -> None:
        plane.limit = 1
        with pytest.raises(DataplaneError, match="no room for 2 more rules beside 0"):
            plane.install(self.pair(self.ALICE, self.BOB))
        assert plane.rules() == []

    def test_ports_out_of_force_linger(self, plane: MemoryDataplane) -> None:
        plane.install(self.pair(self.ALICE, self.BOB))
        plane.remove([self.facing_alice], 30)
        assert plane.lingering == {self.facing_alice: 30}
