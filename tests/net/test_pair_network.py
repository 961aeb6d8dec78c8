"""The laboratory of relay pairs routes and silences as it says."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.lab import Host, Lab
from tests.pair import PairNetwork, pair_network, reach, service, silence

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def network() -> Iterator[PairNetwork]:
    with Lab() as lab:
        yield pair_network(lab)


def reaches(host: Host, ip: str) -> bool:
    """Whether a host at an address says that nobody listens."""
    with host.socket(kind=socket.SOCK_STREAM) as asking:
        asking.settimeout(1.0)
        try:
            asking.connect((ip, 9))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    raise AssertionError("somebody listens")


def test_each_relay_is_reached_by_its_cable(network: PairNetwork) -> None:
    assert [reaches(network.caller, relay.address) for relay in network.relays] == [True, True]


def test_a_service_address_leads_where_the_router_sends_it(network: PairNetwork) -> None:
    one, two = network.relays
    assert not reaches(network.caller, one.service)
    for relay in (one, two):
        network.route(one.service, relay)
        received = relay.host.snmp("Tcp")["OutRsts"]
        assert reaches(network.caller, one.service)
        assert relay.host.snmp("Tcp")["OutRsts"] == received + 1
    network.route(service(1), None)
    assert network.routed(service(1)) == ""


def test_a_silenced_relay_neither_hears_nor_is_heard_and_its_links_stay_up(network: PairNetwork) -> None:
    one, two = network.relays
    silence(network, one)
    try:
        assert not reaches(network.caller, one.address)
        assert reaches(network.caller, two.address)
        assert "state UP" in one.host.ip("link", "show", "eth0")
        assert "state UP" in network.core.ip("link", "show", one.port)
        assert not reaches(one.host, one.gateway)
    finally:
        reach(network, one)
    assert reaches(network.caller, one.address)
