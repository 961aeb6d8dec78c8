"""What a relay's options make of its announcements."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from control.announcing import announcer, limits
from control.config import Config, load
from control.failover.failover import Failover
from control.failover.state import Limits
from relay.dataplane.memory import MemoryDataplane
from relay.errors import HairpinError
from relay.ports import Interface, PortPool
from relay.registry import Registry, Settings


def interface(ip: str, home: int = -1) -> Interface:
    return Interface("default", ip, ip, PortPool(30000, 30019, random.Random(1).random), home)


def made(*options: str) -> Failover:
    plane = MemoryDataplane()
    given = [interface("192.0.2.1"), interface("192.0.2.1"), interface("192.0.2.2", 2), interface("127.0.0.1")]
    registry = Registry(plane, given, Settings(), lambda: 0.0)
    return announcer(config(*options), registry, plane, None, None)


def config(*options: str) -> Config:
    return load(options, Path("/nonexistent"))


@pytest.mark.parametrize("bgp", ["none", "exabgp", "bird"])
def test_all_media_addresses_are_announced_but_loopback_ones(bgp: str) -> None:
    status = made(f"--bgp={bgp}").status()
    assert status["speaker"] == bgp
    assert status["addresses"] == []  # before the start


def test_each_address_has_its_home() -> None:
    asyncio.run(_places())


async def _places() -> None:
    failover = made()
    await failover.start()
    rows = {row["address"]: (row["home"], row["own"]) for row in failover.status()["addresses"]}
    assert rows == {"192.0.2.1": (0, True), "192.0.2.2": (2, False)}
    await failover.close()


def test_an_address_that_is_no_media_address_is_refused() -> None:
    with pytest.raises(HairpinError, match=r"bgp-announce names 192\.0\.2\.9, which is no media address"):
        made("--bgp=bird", "--bgp-announce=192.0.2.1,192.0.2.9")


def test_times_are_those_of_the_options() -> None:
    given = config("--hold-off=1", "--damping=2", "--health-grace=3", "--bgp-grace=4")
    assert limits(given) == Limits(1, 2, 3, 4)
    assert limits(config()) == Limits()
