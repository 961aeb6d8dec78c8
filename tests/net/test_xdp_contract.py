"""The XDP plane keeps the contract of all planes, with packets from real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from relay.dataplane.xdp import XdpDataplane, XdpSettings
from relay.types import Endpoint
from tests.contract import Arrive, DataplaneContract, Heard
from tests.net.conftest import PARTY_A, PARTY_B, RELAY_A, Phone, Table

STRANGER = "10.7.1.66"
SETTLING_SECONDS = 0.02


class TestXdp(DataplaneContract):
    LOCAL = RELAY_A
    ALICE = Endpoint(PARTY_A, 4000)
    BOB = Endpoint(PARTY_B, 5000)
    STRANGER = Endpoint(STRANGER, 6000)

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
        made = XdpDataplane(XdpSettings((self.LOCAL,)))
        table.relay.call(lambda: loop.run_until_complete(made.start(listener)))
        yield made
        loop.run_until_complete(made.close())

    @pytest.fixture
    def arrive(self, table: Table, loop: asyncio.AbstractEventLoop, plane: XdpDataplane) -> Arrive:
        phones: dict[Endpoint, Phone] = {}

        def deliver(local: Endpoint, source: Endpoint, payload: bytes) -> None:
            host = table.b if source == self.BOB else table.a
            if source not in phones:
                phones[source] = table.phone(host, *source)
            phones[source].send(local, payload)
            table.relay.call(lambda: loop.run_until_complete(asyncio.sleep(SETTLING_SECONDS)))

        return deliver
