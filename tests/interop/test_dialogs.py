"""Several dialogues at once that do more than talk: re-INVITEs in the middle of speech, and offers that come late."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.lab import Network
from tests.media import PERIOD
from tests.peers import Relay, start_kamailio
from tests.telephones import Telephones

CALLS = 5
SECONDS = 3.0
DELETE_DELAY = 1


@pytest.fixture
def relay(network: Network) -> Iterator[Relay]:
    with Relay(network.relay, network.RELAY_ADDRESS, f"--delete-delay={DELETE_DELAY}") as running:
        start_kamailio(network.proxy, network.PROXY_ADDRESS, relays=[running.ng])
        yield running


def ends(condition: Callable[[], object], seconds: float) -> bool:
    """Whether a condition ends within some seconds."""
    until = time.monotonic() + seconds
    while condition() and time.monotonic() < until:
        time.sleep(0.05)
    return not condition()


def test_re_invites_that_change_nothing_keep_the_ports_and_lose_no_packet(network: Network, relay: Relay) -> None:
    with Telephones(network, calls=CALLS, seconds=SECONDS) as telephones:
        telephones.dial("reinvite", pauses=3)
        telephones.wait()
        assert len(telephones.pairs()) == CALLS
        for side in (telephones.caller, telephones.callee):
            assert all(len(answers) == 3 and len(set(answers)) == 1 for answers in side.answers.values())
        for one, other in telephones.pairs():
            assert one.rtp_received == other.rtp_sent == round(SECONDS / PERIOD)
            assert other.rtp_received == one.rtp_sent == round(SECONDS / PERIOD)


def test_media_flows_where_the_offer_comes_with_the_200_and_the_answer_with_the_ack(
    network: Network, relay: Relay
) -> None:
    with Telephones(network, calls=CALLS, seconds=SECONDS) as telephones:
        telephones.dial("late-caller", "late-callee")
        telephones.wait()
        assert len(telephones.pairs()) == CALLS
        for one, other in telephones.pairs():
            assert set(one.sources) == {one.remote_rtp}
            assert set(other.sources) == {other.remote_rtp}
            assert other.rtp_received == one.rtp_sent == one.rtp_received == other.rtp_sent
    assert ends(lambda: relay.operator("list") or relay.operator("rules"), DELETE_DELAY + 5)
