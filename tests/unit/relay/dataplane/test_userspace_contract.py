"""The plane of sockets keeps the contract of all planes, on loopback, without privileges."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop

from relay.dataplane.userspace import UserspaceDataplane, UserspaceSettings
from relay.types import Endpoint
from tests.contract import Arrive, DataplaneContract, Heard

ROUND_SECONDS = 0.002
"""Loopback delivers before a sender's call returns; the loop takes it in its next round."""


class Loopback(DataplaneContract):
    """What the address families share."""

    @pytest.fixture
    def listener(self) -> Heard:
        return Heard()

    @pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
    def loop(self, request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
        make: Callable[[], asyncio.AbstractEventLoop] = request.param
        made = make()
        yield made
        made.close()

    @pytest.fixture
    def plane(self, loop: asyncio.AbstractEventLoop, listener: Heard) -> Iterator[UserspaceDataplane]:
        addresses = tuple({self.facing_alice.ip: None, self.facing_bob.ip: None})
        made = UserspaceDataplane(UserspaceSettings(addresses))
        loop.run_until_complete(made.start(listener))
        yield made
        loop.run_until_complete(made.close())

    @pytest.fixture
    def arrive(self, loop: asyncio.AbstractEventLoop, plane: UserspaceDataplane) -> Iterator[Arrive]:
        phones: dict[Endpoint, socket.socket] = {}

        def deliver(local: Endpoint, source: Endpoint, payload: bytes) -> None:
            if source not in phones:
                family = socket.AF_INET6 if ":" in source.ip else socket.AF_INET
                phones[source] = socket.socket(family, socket.SOCK_DGRAM)
                phones[source].bind(source)
            phones[source].sendto(payload, local)
            loop.run_until_complete(asyncio.sleep(ROUND_SECONDS))

        yield deliver
        for phone in phones.values():
            phone.close()


class TestIPv4(Loopback):
    LOCAL = "127.7.0.1"
    ALICE = Endpoint("127.7.0.2", 4000)
    BOB = Endpoint("127.7.0.3", 5000)
    STRANGER = Endpoint("127.7.0.66", 6000)


class TestIPv6(Loopback):
    LOCAL = "::1"
    ALICE = Endpoint("::1", 24000)
    BOB = Endpoint("::1", 25000)
    STRANGER = Endpoint("::1", 26000)
