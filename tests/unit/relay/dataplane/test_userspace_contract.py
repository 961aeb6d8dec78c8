"""The plane of sockets keeps the contract of all planes, on loopback, without privileges."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop

from relay.dataplane.userspace import UserspaceDataplane, UserspaceSettings
from relay.types import Endpoint
from tests.contract import Arrive, ForwardingContract, Heard, Reached

ROUND_SECONDS = 0.002
"""Loopback delivers before a sender's call returns; the loop takes it in its next round."""


class Phones:
    """The parties' sockets, each opened when it is first used."""

    def __init__(self) -> None:
        self._opened: dict[Endpoint, socket.socket] = {}

    def at(self, party: Endpoint) -> socket.socket:
        if party not in self._opened:
            family = socket.AF_INET6 if ":" in party.ip else socket.AF_INET
            self._opened[party] = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            self._opened[party].bind(party)
        return self._opened[party]

    def received(self, party: Endpoint) -> list[tuple[bytes, Endpoint]]:
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                payload, source = self.at(party).recvfrom(65535)
                found.append((payload, Endpoint(source[0], source[1])))
        return found

    def close(self) -> None:
        for each in self._opened.values():
            each.close()


class Loopback(ForwardingContract):
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
    def phones(self) -> Iterator[Phones]:
        opened = Phones()
        yield opened
        opened.close()

    @pytest.fixture
    def plane(self, loop: asyncio.AbstractEventLoop, listener: Heard) -> Iterator[UserspaceDataplane]:
        addresses = tuple({self.facing_alice.ip: None, self.facing_bob.ip: None})
        made = UserspaceDataplane(UserspaceSettings(addresses))
        loop.run_until_complete(made.start(listener))
        yield made
        loop.run_until_complete(made.close())

    @pytest.fixture
    def arrive(self, loop: asyncio.AbstractEventLoop, plane: UserspaceDataplane, phones: Phones) -> Arrive:
        def deliver(local: Endpoint, source: Endpoint, payload: bytes) -> None:
            phones.at(source).sendto(payload, local)
            loop.run_until_complete(asyncio.sleep(ROUND_SECONDS))

        return deliver

    @pytest.fixture
    def reached(self, phones: Phones) -> Reached:
        return phones.received


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


class TestFromIPv4ToIPv6(Loopback):
    LOCAL = "127.7.0.1"
    LOCAL_BOB = "::1"
    ALICE = Endpoint("127.7.0.2", 4000)
    BOB = Endpoint("::1", 25000)
    STRANGER = Endpoint("127.7.0.66", 6000)


class TestFromIPv6ToIPv4(Loopback):
    LOCAL = "::1"
    LOCAL_BOB = "127.7.0.1"
    ALICE = Endpoint("::1", 24000)
    BOB = Endpoint("127.7.0.3", 5000)
    STRANGER = Endpoint("::1", 26000)
