"""What a dialogue does besides talking: re-INVITEs in the middle of it, and a caller that gives up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.lab import Lab, Network
from tests.media import PERIOD, REPORT_PERIOD
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
        telephones.dial("reinvite", pauses=3, direction="sendrecv")
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


def test_a_call_on_hold_is_shown_as_such_and_goes_on_after_it(network: Network, relay: Relay) -> None:
    seen: list[set[str]] = []

    def look() -> None:
        shown = [relay.operator("show", call=call["call_id"])[0] for call in relay.operator("list")]
        directions = {media["direction"] for call in shown for leg in call["legs"] for media in leg["media"]}
        if directions and (not seen or seen[-1] != directions):
            seen.append(directions)

    with Telephones(network, calls=1, seconds=SECONDS) as telephones:
        telephones.dial("reinvite", pauses=3, direction="sendonly")
        telephones.wait(look)
        ((caller, callee),) = telephones.pairs()
        assert callee.rtp_received == caller.rtp_sent
        assert caller.remote_rtp == telephones.caller.answers.popitem()[1][-1]
    assert {"sendonly", "recvonly"} in seen
    assert seen[-1] == {"sendrecv"}


def test_a_cancelled_call_leaves_nothing_behind(network: Network, relay: Relay) -> None:
    with Telephones(network, calls=CALLS, seconds=REPORT_PERIOD) as telephones:
        telephones.dial("cancel", "ringing")
        assert ends(lambda: len(relay.operator("list")) < CALLS, 10)
        telephones.wait()
        assert telephones.pairs() == []
    assert ends(lambda: relay.operator("list") or relay.operator("rules"), DELETE_DELAY + 5)


def test_a_terminated_call_forwards_no_more(lab: Lab, network: Network, relay: Relay) -> None:
    with Telephones(network, calls=1, seconds=SECONDS) as telephones:
        telephones.dial()
        assert ends(lambda: telephones.follow() and not telephones.pairs(), 10)
        ((caller, callee),) = telephones.pairs()
        assert ends(lambda: callee.rtp_received < 50, 10)
        relay.operator("terminate", call=relay.operator("list")[0]["call_id"])
        heard = callee.rtp_received
        assert ends(lambda: caller.rtp_sent < heard + 50, 10)
        assert callee.rtp_received <= heard + 2
        assert caller.refused == 0
        telephones.wait()
