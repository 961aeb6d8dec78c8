"""The XDP plane keeps the contract of all planes, with packets from real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.dataplane.xdp import XdpDataplane, XdpSettings
from relay.types import Endpoint
from tests.contract import Arrive, DataplaneContract, Ending, Forwarding, Heard, Inheriting, Parties, Reached, Succeed
from tests.lab import Lab
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


@pytest.fixture(scope="module")
def wires() -> Iterator[Table]:
    with Lab() as lab:
        built = Table(lab)
        built.a.ip("address", "add", f"{STRANGER}/24", "dev", "eth0")
        built.a.ip("address", "add", f"{STRANGER6}/64", "dev", "eth0", "nodad")
        yield built
        built.close()


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="module")
def running(wires: Table, loop: asyncio.AbstractEventLoop, heard: Heard) -> Iterator[XdpDataplane]:
    """One plane for all tests: the kernel takes seconds to accept its program. Each test leaves it without rules."""
    made = XdpDataplane(XdpSettings((RELAY_A, RELAY_B, RELAY6_A, RELAY6_B)))
    wires.relay.call(lambda: loop.run_until_complete(made.start(heard)))
    yield made
    loop.run_until_complete(made.close())


class OverWires(Parties):
    """What the address families share."""

    @pytest.fixture
    def listener(self, heard: Heard) -> Heard:
        heard.sources.clear()
        heard.reports.clear()
        return heard

    @pytest.fixture
    def plane(self, running: XdpDataplane, listener: Heard) -> Iterator[XdpDataplane]:
        yield running
        running.remove(running.rules(), 0)
        running.deny(())

    @pytest.fixture
    def phones(self, wires: Table) -> Iterator[dict[Endpoint, Phone]]:
        class Phones(dict[Endpoint, Phone]):
            def __missing__(self, party: Endpoint) -> Phone:
                host = wires.b if party.ip in (PARTY_B, PARTY6_B) else wires.a
                found = self[party] = wires.phone(host, *party)
                return found

        switched_on = Phones()
        yield switched_on
        for phone in switched_on.values():
            phone.close()

    @pytest.fixture
    def arrive(
        self, wires: Table, loop: asyncio.AbstractEventLoop, plane: XdpDataplane, phones: dict[Endpoint, Phone]
    ) -> Arrive:
        def deliver(local: Endpoint, source: Endpoint, payload: bytes) -> None:
            phones[source].send(local, payload)
            wires.relay.call(lambda: loop.run_until_complete(asyncio.sleep(SETTLING_SECONDS)))

        return deliver

    @pytest.fixture
    def reached(self, phones: dict[Endpoint, Phone]) -> Reached:
        return lambda party: phones[party].received()


class TestIPv4(OverWires, Forwarding, DataplaneContract):
    LOCAL, LOCAL_BOB = RELAY_A, RELAY_B
    ALICE = Endpoint(PARTY_A, 4000)
    BOB = Endpoint(PARTY_B, 5000)
    STRANGER = Endpoint(STRANGER, 6000)


class TestIPv6(OverWires, Forwarding, DataplaneContract):
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


class TestInheriting(Inheriting):
    """From plane to plane over what stands pinned."""

    LOCAL, LOCAL_BOB = RELAY_A, RELAY_B
    ALICE = Endpoint(PARTY_A, 4000)
    BOB = Endpoint(PARTY_B, 5000)

    @pytest.fixture
    def relays(
        self, table: Table, folder: Path, loop: asyncio.AbstractEventLoop
    ) -> Iterator[Callable[[], XdpDataplane]]:
        """Starts a plane where the one before it has gone, and ends the last."""
        planes: list[XdpDataplane] = []

        def follow() -> XdpDataplane:
            if planes:
                loop.run_until_complete(planes[-1].close(keep=True))
            planes.append(XdpDataplane(XdpSettings((RELAY_A, RELAY_B), pins=folder)))
            table.relay.call(lambda: loop.run_until_complete(planes[-1].start(Heard())))
            return planes[-1]

        yield follow
        loop.run_until_complete(planes[-1].close())

    @pytest.fixture
    def plane(self, relays: Callable[[], XdpDataplane]) -> XdpDataplane:
        return relays()

    @pytest.fixture
    def arrive(self, table: Table, loop: asyncio.AbstractEventLoop) -> Iterator[Arrive]:
        phones: dict[Endpoint, Phone] = {}

        def deliver(local: Endpoint, source: Endpoint, payload: bytes) -> None:
            if source not in phones:
                phones[source] = table.phone(table.b if source == self.BOB else table.a, *source)
            phones[source].send(local, payload)
            table.relay.call(lambda: loop.run_until_complete(asyncio.sleep(SETTLING_SECONDS)))

        yield deliver
        for phone in phones.values():
            phone.close()

    @pytest.fixture
    def succeed(self, relays: Callable[[], XdpDataplane], arrive: Arrive) -> Succeed:
        return lambda: (relays(), arrive)


class TestEnding(Ending):
    @pytest.fixture
    def plane(self, table: Table) -> XdpDataplane:
        """A plane of its own, which is closed in mid-run."""
        made = XdpDataplane(XdpSettings((RELAY_A, RELAY6_B)))
        table.run(lambda: made.start(Heard()))
        return made
