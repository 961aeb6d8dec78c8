"""Calls with media both ways on the standard network, one line each for a test that is about something else."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Any

from relay.types import Endpoint
from tests.lab import Network
from tests.media import Agent, Party, open_party, steady
from tests.ng import Dialogue, Proxy, above

NATED = Endpoint("192.168.7.20", 7000)
"""What a caller's SDP says, from behind a NAT."""

_ports = itertools.count(4000, 10)


@dataclass
class Talk:
    """A call with media both ways."""

    agent: Agent
    caller: Party
    callee: Party
    call: Dialogue

    def begin(self, packets: int) -> None:
        for party, to in ((self.caller, self.call.for_caller), (self.callee, self.call.for_callee)):
            self.agent.talk(party, to, above(to), steady(packets))

    def lost(self) -> tuple[int, int]:
        """Packets that did not arrive, of the caller's and of the callee's."""
        caller, callee = self.caller, self.callee
        return caller.rtp_sent - callee.rtp_received, callee.rtp_sent - caller.rtp_received

    def heard(self) -> tuple[int, int]:
        """Packets that reached the caller and the callee."""
        return self.caller.rtp_received, self.callee.rtp_received


class Talks:
    """Opens parties on the standard network, in calls that a proxy sets up."""

    def __init__(self, network: Network, agent: Agent, proxy: Proxy) -> None:
        self.network, self.agent, self.proxy = network, agent, proxy

    def call(self, name: str, nated: bool = False, **keys: Any) -> Talk:
        network, port = self.network, next(_ports)
        source = random.Random(port)
        caller = open_party(network.caller, network.CALLER_ADDRESS, port, source)
        callee = open_party(network.callee, network.CALLEE_ADDRESS, port, source)
        self.agent.add((caller, callee))
        if nated:
            keys["received_from"] = ["IP4", caller.local.ip]
        call = Dialogue(self.proxy, name, **keys).set_up(NATED if nated else caller.local, callee.local)
        return Talk(self.agent, caller, callee, call)
