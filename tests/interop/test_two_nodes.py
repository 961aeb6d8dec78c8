"""Kamailio with two relays: one that can take no more calls says so in words that make Kamailio ask the other."""

from __future__ import annotations

import pytest

from tests.lab import Lab, Network, join_core
from tests.media import PERIOD
from tests.peers import Relay, start_kamailio
from tests.telephones import Telephones

CALLS = 12
"""Kamailio shares them by a hash of their Call-ID: far more than ROOM on either relay."""
ROOM = 2
SECONDS = 3.0
SPARE_ADDRESS = "10.99.0.5"


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param((f"--max-sessions={ROOM}",), id="load limit"),
        pytest.param(("--port-min=30000", f"--port-max={30000 + 4 * ROOM - 1}"), id="out of ports"),
    ],
)
def test_calls_that_a_full_relay_refuses_go_through_the_other(
    lab: Lab, network: Network, limits: tuple[str, ...]
) -> None:
    spare_host = lab.host("spare")
    join_core(lab, network, spare_host, SPARE_ADDRESS)
    most: dict[str, int] = {"full": 0, "spare": 0}
    with (
        Relay(network.relay, network.RELAY_ADDRESS, *limits) as full,
        Relay(spare_host, SPARE_ADDRESS) as spare,
        Telephones(network, calls=CALLS, seconds=SECONDS) as telephones,
    ):

        def look() -> None:
            for name, relay in (("full", full), ("spare", spare)):
                answered = [call for call in relay.operator("list") if call["state"] == "answered"]
                most[name] = max(most[name], len(answered))

        start_kamailio(network.proxy, network.PROXY_ADDRESS, relays=[full.ng, spare.ng])
        telephones.dial()
        telephones.wait(look)
        assert len(telephones.pairs()) == CALLS
        for one, other in telephones.pairs():
            assert one.rtp_received == other.rtp_received == one.rtp_sent == round(SECONDS / PERIOD)
    assert most == {"full": ROOM, "spare": CALLS - ROOM}
