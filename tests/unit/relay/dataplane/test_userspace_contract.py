"""The plane of sockets keeps the contract of all planes, on loopback, without privileges."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import uvloop

from relay.dataplane.userspace import UserspaceDataplane, UserspaceSettings
from relay.types import Endpoint
from tests.contract import Arrive, ForwardingContract, Heard, Reached
from tests.loopback import own_ip, own_port

QUIET_SECONDS = 0.01
"""Loopback delivers before a sender's call returns, but for a kernel that is busy."""


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
        """All that has arrived, and what comes until it is quiet."""
        found: list[tuple[bytes, Endpoint]] = []
        before = -1
        while len(found) > before:
            before = len(found)
            time.sleep(QUIET_SECONDS)
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

    @property
    def facing_alice(self) -> Endpoint:
        return Endpoint(self.LOCAL, own_port(0))

    @property
    def facing_bob(self) -> Endpoint:
        return Endpoint(self.LOCAL_BOB or self.LOCAL, own_port(10))

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
        async def dealt_with(before: int) -> None:
            async with asyncio.timeout(5):
                while sum(plane.counters().values()) == before:  # noqa: ASYNC110 - counters tell nobody
                    await asyncio.sleep(0.001)

        def deliver(local: Endpoint, source: Endpoint, payload: bytes) -> None:
            before = sum(plane.counters().values())
            phones.at(source).sendto(payload, local)
            loop.run_until_complete(dealt_with(before))

        return deliver

    @pytest.fixture
    def reached(self, phones: Phones) -> Reached:
        return phones.received


class TestIPv4(Loopback):
    LOCAL = own_ip(1)
    ALICE = Endpoint(own_ip(2), 4000)
    BOB = Endpoint(own_ip(3), 5000)
    STRANGER = Endpoint(own_ip(66), 6000)


class TestIPv6(Loopback):
    LOCAL = "::1"
    ALICE = Endpoint("::1", own_port(20))
    BOB = Endpoint("::1", own_port(30))
    STRANGER = Endpoint("::1", own_port(40))


class TestFromIPv4ToIPv6(Loopback):
    LOCAL = own_ip(1)
    LOCAL_BOB = "::1"
    ALICE = Endpoint(own_ip(2), 4000)
    BOB = Endpoint("::1", own_port(30))
    STRANGER = Endpoint(own_ip(66), 6000)


class TestFromIPv6ToIPv4(Loopback):
    LOCAL = "::1"
    LOCAL_BOB = own_ip(1)
    ALICE = Endpoint("::1", own_port(20))
    BOB = Endpoint(own_ip(3), 5000)
    STRANGER = Endpoint("::1", own_port(40))
