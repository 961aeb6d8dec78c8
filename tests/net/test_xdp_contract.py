"""The XDP plane keeps the contract of all planes, with packets from real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from relay.dataplane.xdp import XdpDataplane, XdpSettings
from relay.types import Endpoint
from tests.contract import Arrive, Forwarding, ForwardingContract, Heard, Parties, Reached
from tests.net.conftest import (
    PARTY6_A,
    PARTY6_B,
    PARTY_A,
    PARTY_B,
    RELAY6_A,
    RELAY6_B,
    RELAY_A,
    RELAY_B,
    Phone,
    Table,
)

STRANGER, STRANGER6 = "10.7.1.66", "fd07:1::66"
SETTLING_SECONDS = 0.02


class OverWires(Parties):
    """What the address families share."""

    @pytest.fixture
    def listener(self) -> Heard:
        return Heard()

    @pytest.fixture
    def loop(self, table: Table) -> Iterator[asyncio.AbstractEventLoop]:
        made = asyncio.new_event_loop()
        yield made
        made.close()

    @pytest.fixture
    def plane(self, table: Table, loop: asyncio.AbstractEventLoop, listener: Heard) -> Iterator[XdpDataplane]:
        table.a.ip("address", "add", f"{STRANGER}/24", "dev", "eth0")
        table.a.ip("address", "add", f"{STRANGER6}/64", "dev", "eth0", "nodad")
        made = XdpDataplane(XdpSettings(tuple({self.facing_alice.ip: 0, self.facing_bob.ip: 0})))
        table.relay.call(lambda: loop.run_until_complete(made.start(listener)))
        yield made
        loop.run_until_complete(made.close())

    @pytest.fixture
    def phones(self, table: Table) -> dict[Endpoint, Phone]:
        class Phones(dict[Endpoint, Phone]):
            def __missing__(self, party: Endpoint) -> Phone:
                host = table.b if party.ip in (PARTY_B, PARTY6_B) else table.a
                found = self[party] = table.phone(host, *party)
                return found

        return Phones()

    @pytest.fixture
    def arrive(
        self, table: Table, loop: asyncio.AbstractEventLoop, plane: XdpDataplane, phones: dict[Endpoint, Phone]
    ) -> Arrive:
        def deliver(local: Endpoint, source: Endpoint, payload: bytes) -> None:
            phones[source].send(local, payload)
            table.relay.call(lambda: loop.run_until_complete(asyncio.sleep(SETTLING_SECONDS)))

        return deliver

    @pytest.fixture
    def reached(self, phones: dict[Endpoint, Phone]) -> Reached:
        return lambda party: phones[party].received()


class TestIPv4(OverWires, ForwardingContract):
    LOCAL, LOCAL_BOB = RELAY_A, RELAY_B
    ALICE = Endpoint(PARTY_A, 4000)
    BOB = Endpoint(PARTY_B, 5000)
    STRANGER = Endpoint(STRANGER, 6000)


class TestIPv6(OverWires, ForwardingContract):
    LOCAL, LOCAL_BOB = RELAY6_A, RELAY6_B
    ALICE = Endpoint(PARTY6_A, 4000)
    BOB = Endpoint(PARTY6_B, 5000)
    STRANGER = Endpoint(STRANGER6, 6000)


class TestFromIPv4ToIPv6(OverWires, Forwarding):
    LOCAL, LOCAL_BOB = RELAY_A, RELAY6_B
    ALICE = Endpoint(PARTY_A, 4000)
    BOB = Endpoint(PARTY6_B, 5000)
    STRANGER = Endpoint(STRANGER, 6000)


class TestFromIPv6ToIPv4(OverWires, Forwarding):
    LOCAL, LOCAL_BOB = RELAY6_A, RELAY_B
    ALICE = Endpoint(PARTY6_A, 4000)
    BOB = Endpoint(PARTY_B, 5000)
    STRANGER = Endpoint(STRANGER6, 6000)
