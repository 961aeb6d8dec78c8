"""Six relays in two data centres that stand in for each other: each holds the calls of five others ready.

Everything is as in tests.cluster. What befalls one of many relays is looked at with pairs and threes elsewhere; here
half of all relays are away at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from relay.ports import slices
from relay.types import Endpoint
from tests.cluster import QUICK, Cluster, Node
from tests.lab import Lab, LabError
from tests.line import Line, talk
from tests.ng import Dialogue, Proxy, above
from tests.routers import until

RELAYS = 6
CENTRE = RELAYS // 2
OPTIONS = (*QUICK, f"--max-addresses={RELAYS}", "--delete-delay=0", "--node-lease=2", "--compare-interval=5")
PORTS = 30000, 40000
"""That relays have where nobody says otherwise."""
CUT = slices(*PORTS, [(number, 1 / 8) for number in range(1, RELAYS + 1)])
"""What each relay draws from of an address that is not its own."""
PATIENCE = 30.0
RULES = 4
"""Ports of a call with one stream: RTP and RTCP towards each party."""
VIDEO = ("m=video 29000 RTP/AVP 96", "a=rtpmap:96 H264/90000")

_serial = itertools.count(1)


@dataclass(eq=False)
class Call:
    """A call with its telephones' media sockets; `node` is where its proxy asked for it."""

    node: Node
    dialogue: Dialogue
    caller: Line
    callee: Line

    def passes(self) -> bool:
        """Whether a packet of each telephone reaches the other."""
        return all(_passes(*pair) for pair in ((self.caller, self.callee), (self.callee, self.caller)))

    def goes_on(self) -> None:
        """Wait until packets pass, and have telephones talk then without any loss."""
        until(f"media of {self.dialogue.call_id}", self.passes, PATIENCE)
        talk(self.caller, self.callee)


def _passes(sender: Line, receiver: Line) -> bool:
    """Whether this packet arrives: one that was late the last time is heard before it, and left behind."""
    sender.send(sent := sender.speech(1))
    while came := receiver.heard(1, seconds=0.3):
        if came[0][0] == sent[0]:
            return True
    return False


class Set:
    """All relays, and calls through them."""

    def __init__(self, cluster: Cluster, proxies: Sequence[Proxy]) -> None:
        self.cluster, self.nodes = cluster, cluster.nodes
        self._proxies = proxies
        self.away: list[Node] = []
        self.calls: list[Call] = []

    def living(self) -> list[Node]:
        return [node for node in self.nodes if node not in self.away]

    def begin(self, node: Node) -> Call:
        """A call with media, set up at a relay."""
        network, number = self.cluster.network, node.place.number
        caller = Line(network.caller, network.CALLER_ADDRESS)
        callee = Line(network.callee, network.CALLEE_ADDRESS)
        dialogue = Dialogue(self._proxies[number - 1], f"call {next(_serial)} of {number}")
        self.calls.append(call := Call(node, dialogue, caller, callee))
        dialogue.set_up(caller.local, callee.local)
        caller.towards = dialogue.for_caller, above(dialogue.for_caller)
        callee.towards = dialogue.for_callee, above(dialogue.for_callee)
        return call

    def at(self, node: Node, call: Call) -> Dialogue:
        """A standing call as a proxy sees it that asks this relay."""
        return Dialogue(self._proxies[node.place.number - 1], call.dialogue.call_id)

    def end(self, call: Call, at: Node) -> None:
        """Hang up, by a command to any of the relays."""
        self.at(at, call).delete()
        self.forget(call)

    def forget(self, call: Call) -> None:
        self.calls.remove(call)
        call.caller.close()
        call.callee.close()

    @contextmanager
    def without(self, *nodes: Node) -> Iterator[None]:
        """Let hosts die, and have them back at the end with their addresses."""
        self.away.extend(nodes)
        for node in nodes:
            self.cluster.die(node)
        try:
            yield
        finally:
            for node in nodes:
                self.cluster.wake(node)
            self.away.clear()
        self.cluster.at_rest()

    def served(self, node: Node) -> Node:
        """Wait until the address of a relay that is away has one route, to one of those that live; which one."""
        places = {one.place: one for one in self.living()}
        until(f"a route to {node.place.service}", lambda: self.cluster.serves(node.place.service) in places, PATIENCE)
        route = self.cluster.network.routed(node.place.service)
        assert "nexthop" not in route
        assert len(route.splitlines()) == 1
        place = self.cluster.serves(node.place.service)
        assert place
        return places[place]

    # -- what relays tell

    def settled(self) -> dict[str, int]:
        """Wait until all who live have just these calls and the same ports in force; returns the owners they name."""
        differs = ""

        def agree() -> bool:
            nonlocal differs
            differs = self._differs()
            return not differs

        try:
            until("agreement", agree, PATIENCE, 0.1)
        except LabError as error:
            raise LabError(f"{error}: {differs}") from None
        return owners(self.living()[0])

    def _differs(self) -> str:
        expected = {call.dialogue.call_id for call in self.calls}
        first, *_ = living = self.living()
        told, forced = owners(first), rules(first)
        for node in living:
            name = node.place.host.name
            if (found := owners(node)) != told or found.keys() != expected:
                return f"{name} has {found}, {first.place.host.name} has {told}, and there are {sorted(expected)}"
            if (there := rules(node)) != forced:
                return f"rules at {name}: {set(there.items()) ^ set(forced.items())}"
            if (drawn := ports_drawn(node)) != len(there):
                return f"{drawn} ports are drawn at {name}, {len(there)} in force"
        return ""


def owners(node: Node) -> dict[str, int]:
    """The calls that a relay has, and whose they are as it knows."""
    return {row["call_id"]: row["owner"] or node.place.number for row in node.relay.operator("list")}


def rules(node: Node) -> dict[str, tuple[Any, ...]]:
    """The ports that a relay has in force."""
    rows = node.relay.operator("rules")
    found = {row["local"]: (row["call_id"], row["leaves_from"], row["destination"]) for row in rows}
    assert len(found) == len(rows), f"a port is in force twice at {node.place.host.name}"
    return found


def ports_of(call: Call, node: Node) -> set[Endpoint]:
    """The ports of a call that a relay has in force."""
    found = (local.rpartition(":") for local, rule in rules(node).items() if rule[0] == call.dialogue.call_id)
    return {Endpoint(ip, int(port)) for ip, _, port in found}


def ports_drawn(node: Node) -> int:
    """How many the pools of a relay count as drawn."""
    return sum(int(one["ports_used"]) for one in node.relay.operator("status")[0]["interfaces"])


@pytest.fixture(scope="module")
def bare() -> Iterator[Set]:
    with Lab() as lab, Cluster(lab, RELAYS, options=OPTIONS) as cluster:
        proxies = [Proxy(cluster.network.proxy, node.ng) for node in cluster.nodes]
        yield Set(cluster, proxies)
        for proxy in proxies:
            proxy.__exit__(None, None, None)


@pytest.fixture
def relays(bare: Set) -> Iterator[Set]:
    """All at rest, with one call at each; at the end of all calls nothing is left of them anywhere."""
    bare.cluster.at_rest()
    for node in bare.nodes:
        bare.begin(node)
    bare.settled()
    yield bare
    for call in list(bare.calls):
        bare.end(call, bare.nodes[0])
    assert bare.settled() == {}
    assert rules(bare.nodes[-1]) == {}


def test_each_relay_holds_the_calls_of_all_others_ready(relays: Set) -> None:
    assert sorted(relays.settled().values()) == list(range(1, RELAYS + 1))
    for node in relays.nodes:
        foreign = [call_id for call_id, owner in owners(node).items() if owner != node.place.number]
        assert len(foreign) == RELAYS - 1
        assert len(rules(node)) == RULES * RELAYS
    for call in relays.calls:
        assert relays.cluster.serves(call.dialogue.for_caller.ip) == call.node.place
        call.goes_on()


def test_a_data_centre_dies_and_its_calls_go_on_through_the_other(relays: Set) -> None:
    dead, standing = relays.nodes[:CENTRE], relays.nodes[CENTRE:]
    calls = list(relays.calls)
    with relays.without(*dead):
        for node in dead:
            assert relays.served(node) in standing
        for call in calls:
            call.goes_on()
        for node in standing:
            relays.begin(node).goes_on()
        assert relays.settled().keys() == {call.dialogue.call_id for call in relays.calls}
    for call in relays.calls:
        assert relays.cluster.serves(call.dialogue.for_caller.ip) == call.node.place
        call.goes_on()
    relays.settled()


def test_calls_of_a_dead_data_centre_change_and_end_at_the_other(relays: Set) -> None:
    """Streams are added by two relays at once to calls of each address, and the ports for these are drawn by both."""
    standing, dead = relays.nodes[:CENTRE], relays.nodes[CENTRE:]
    ending = [call for call in relays.calls if call.node in dead]
    changed = {relays.begin(node): at for node in dead for at in standing[:2]}
    relays.settled()
    before = {port for call in changed for port in ports_of(call, standing[0])}
    with relays.without(*dead):
        for call, at in changed.items():
            dialogue = relays.at(at, call)
            dialogue.offer(call.caller.local, *VIDEO)
            dialogue.answer(call.callee.local, *VIDEO)
        for call, at in zip(ending, standing, strict=True):
            relays.end(call, at)
        told = relays.settled()
        for call, at in changed.items():
            assert told[call.dialogue.call_id] == at.place.number
            added = ports_of(call, standing[-1]) - before
            assert len(added) == RULES
            low, high = CUT[at.place.number]
            assert {port.ip for port in added} == {call.node.place.service}
            assert {port for port in added if not low <= port.port <= high} == set()
            call.goes_on()
    told = relays.settled()
    assert told.keys() >= {call.dialogue.call_id for call in changed}
    for call in changed:
        call.goes_on()
