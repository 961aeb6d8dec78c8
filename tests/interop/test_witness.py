"""The witness that speaks for the relay elsewhere must also be able to speak against one.

The same calls through rtpengine in user space: all its media goes through the kernel's stack and through sockets.
"""

from __future__ import annotations

from relay.types import Endpoint
from tests.evidence import MEDIA_PORTS, Witness
from tests.lab import Lab, Network
from tests.peers import NG_PORT, media_sockets, start_kamailio, start_rtpengine
from tests.telephones import Telephones

CALLS = 5
SECONDS = 2.0


def test_media_that_a_process_relays_is_seen_in_the_stack_and_in_sockets(lab: Lab, network: Network) -> None:
    start_rtpengine(network.relay, network.RELAY_ADDRESS)
    start_kamailio(network.proxy, network.PROXY_ADDRESS, relays=[Endpoint(network.RELAY_ADDRESS, NG_PORT)])
    sockets: list[int] = []
    with Telephones(network, calls=CALLS, seconds=SECONDS) as telephones:
        witness = Witness(lab, network)
        telephones.dial()
        telephones.wait(lambda: sockets.extend(media_sockets(network.relay, MEDIA_PORTS)))
        found = witness.testify()
        parties = [party for pair in telephones.pairs() for party in pair]
    sent = sum(party.rtp_sent + party.rtcp_sent for party in parties)
    assert len(set(sockets)) == 4 * len(parties) / 2
    assert found.reached_stack == found.slow.total() == found.arrived.total() == found.left.total() == sent > 0
    assert found.forwarded_in_xdp == 0
    assert found.udp["InDatagrams"] == found.ng_requests + sent
    assert set(found.ttls) == {64}
