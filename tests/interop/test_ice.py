"""ICE between two agents (aioice): their checks go end to end through the relay's ports, and media after them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aioice
import pytest

from tests.lab import Network
from tests.ng import CALLEE, CALLER, Proxy
from tests.peers import Relay

PATIENCE = 30.0
RTP = b"\x80\x00\x00\x01" + bytes(8) + b"media"


@pytest.fixture(params=["auto", "userspace"])
def relay(network: Network, request: pytest.FixtureRequest) -> Iterator[Relay]:
    with Relay(network.relay, network.RELAY_ADDRESS, f"--dataplane={request.param}") as running:
        yield running


@pytest.fixture
def proxy(network: Network, relay: Relay) -> Iterator[Proxy]:
    with Proxy(network.proxy, relay.ng) as proxy:
        yield proxy


def body(agent: aioice.Connection, mux: bool, trickle: bool) -> str:
    """An agent's SDP; one that trickles has found no candidate yet (RFC 8840 section 4.1.1)."""
    host = [one for one in agent.local_candidates if one.type == "host"]
    ip, port = ("0.0.0.0", 9) if trickle else (host[0].host, host[0].port)
    candidates = [] if trickle else [f"a=candidate:{one.to_sdp()}" for one in host]
    lines = (
        *("v=0", f"o=- 1 1 IN IP4 {ip}", "s=-", f"c=IN IP4 {ip}", "t=0 0", f"m=audio {port} RTP/AVP 0"),
        *(f"a=ice-ufrag:{agent.local_username}", f"a=ice-pwd:{agent.local_password}", *candidates),
        *(["a=rtcp-mux"] if mux else []),
    )
    return "".join(f"{line}\r\n" for line in lines)


async def hear(agent: aioice.Connection, text: str, components: int) -> list[aioice.Candidate]:
    """Let an agent read the SDP of the other one, as the relay shows it; returns the candidates in it."""
    values = [line[2:].partition(":")[::2] for line in text.split("\r\n")]
    named = dict(values)
    agent.remote_username, agent.remote_password = named["ice-ufrag"], named["ice-pwd"]
    found = [aioice.Candidate.from_sdp(value) for name, value in values if name == "candidate"]
    for one in found:
        if one.component <= components:
            await agent.add_remote_candidate(one)
    await agent.add_remote_candidate(None)
    return found


async def talk(proxy: Proxy, mux: bool, trickle: bool) -> list[aioice.Candidate]:
    """Two agents find each other and send a packet each; returns all candidates they were shown."""
    components = 1 if mux else 2
    one, other = (aioice.Connection(controlling, components, use_ipv6=False) for controlling in (True, False))
    for agent in (one, other):
        await agent.gather_candidates()
    call = {"call_id": "ice", "from_tag": CALLER}
    offered = proxy.ask("offer", sdp=body(one, mux, trickle), **call)
    shown = await hear(other, offered["sdp"], components)
    answered = proxy.ask("answer", sdp=body(other, mux, trickle), to_tag=CALLEE, **call)
    shown += await hear(one, answered["sdp"], components)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(one.connect(), other.connect())
        for component in range(1, components + 1):
            for sender, receiver in ((one, other), (other, one)):
                await sender.sendto(RTP, component)
                assert await receiver.recvfrom() == (RTP, component)
    for agent in (one, other):
        await agent.close()
    return shown


@pytest.mark.parametrize("trickle", [False, True])
@pytest.mark.parametrize("mux", [True, False])
def test_agents_find_each_other_through_the_relay(network: Network, proxy: Proxy, mux: bool, trickle: bool) -> None:
    shown = network.caller.call(lambda: asyncio.run(talk(proxy, mux, trickle)))
    assert {one.host for one in shown} == {network.RELAY_ADDRESS}
    assert {one.type for one in shown} == {"host"}
