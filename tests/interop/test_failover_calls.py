"""Calls that talk while addresses move and relays, speakers, routers and hosts die; bench.failover has the figures.

What may be lost is three times and more what an idle machine loses, since the machine that runs this is not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from relay.types import Endpoint
from tests.cluster import Node
from tests.gaps import Heard
from tests.lab import Lab
from tests.line import Line, talk
from tests.ng import Dialogue, Proxy
from tests.pair import PairNetwork
from tests.routers import ExaBgpd, until
from tests.scenes import TALK, Offers, Scene, complaints

CALLS = 15
TIMEOUT = 4
"""Seconds of silence that end a call."""
REINVITES = 10
PREFERRED = ("metric", "1")
"""Of a static route, before those of the router's BIRD."""


ONCE = pytest.mark.parametrize("raised", ["exabgp"], indirect=True)
BOTH = pytest.mark.parametrize("raised", ["exabgp", "bird"], indirect=True)
"""What speakers have a part in."""


@pytest.fixture(scope="module")
def raised(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with Lab() as lab, Scene(lab, speaker=request.param, options=(*TALK, f"--timeout={TIMEOUT}")) as scene:
        yield scene


@pytest.fixture
def scene(raised: Scene) -> Scene:
    """An installation at rest, which is what it is to come back to by itself."""
    raised.cluster.at_rest()
    return raised


def lost_nothing(found: Heard, gap: float = 0.2) -> None:
    """All calls came about and stood to the end, and no packet was lost."""
    assert (found.calls_lost, found.lost) == (0, 0)
    assert found.worst.silence < gap


def goes_on(found: Heard, gap: float) -> None:
    """All calls stood to the end, whatever was lost on the way."""
    assert found.calls_lost == 0
    assert found.worst.silence < gap


def moves(scene: Scene, ip: str, order: str, to: Node) -> Callable[[], None]:
    """An operator's order at the first relay, and the router following it."""

    def act() -> None:
        scene.cluster.nodes[0].hairpin(order, ip)
        scene.cluster.moved(ip, to.place)

    return act


@BOTH
def test_a_withdrawal_and_what_follows_it_lose_no_packet(scene: Scene) -> None:
    one, other = scene.cluster.nodes
    ip = one.place.service
    lost_nothing(
        scene.play(CALLS, (1.0, moves(scene, ip, "withdraw", other)), (3.0, moves(scene, ip, "announce", one)))
    )


@ONCE
def test_an_address_that_flaps_loses_no_packet(scene: Scene) -> None:
    one = scene.cluster.nodes[0]
    ip = one.place.service
    orders = ["withdraw", "announce"] * 4
    acts = [(0.5 + 0.3 * n, lambda order=order: one.hairpin(order, ip)) for n, order in enumerate(orders)]
    lost_nothing(scene.play(CALLS, *acts))


@ONCE
def test_the_daemon_dies_while_calls_come_and_go(scene: Scene) -> None:
    node = scene.cluster.nodes[0]
    began = len(complaints(scene))
    with Offers(scene, 10, 120) as offers:
        lost_nothing(scene.play(CALLS, (1.0, node.relay.kill), (6.0, node.relay.kill), seconds=9.0))
    assert offers.outcome.placed == 120
    assert offers.outcome.failed == 0
    assert complaints(scene)[began:] == []


def calls_of(node: Node) -> dict[str, Any]:
    """The owner of each call at a node, None for itself."""
    return {call["call_id"]: call["owner"] for call in node.relay.operator("list")}


@ONCE
def test_a_router_that_moves_an_address_by_itself_loses_no_call(scene: Scene) -> None:
    """Its own relay lives, serves calls of others, and is not told; for three times the seconds of silence allowed."""
    one, other = scene.cluster.nodes
    route = ("route", "replace", f"{one.place.service}/32", "via", other.place.address, *PREFERRED)
    core = scene.cluster.network.core
    try:
        found = scene.play(CALLS, (0.5, lambda: core.ip(*route)), seconds=0.5 + 3 * TIMEOUT)
        lost_nothing(found)
    finally:
        core.run("ip", "route", "del", f"{one.place.service}/32", *PREFERRED, check=False)


@ONCE
def test_calls_that_two_relays_hear_change_their_owner_once_at_most(scene: Scene) -> None:
    """The router spreads flows over both: a call's two ways, and its RTCP, take different ones."""
    one, other = scene.cluster.nodes
    core = scene.cluster.network.core
    hops = [word for node in (one, other) for word in ("nexthop", "via", node.place.address)]
    core.sysctl("ipv4/fib_multipath_hash_policy", "1")
    changes: dict[str, int] = {}
    last: dict[str, Any] = {}

    def look() -> None:
        for call, owner in calls_of(one).items():
            changes[call] = changes.get(call, 0) + (call in last and last[call] != owner)
            last[call] = owner

    spread = [(1.0 + 0.25 * n, look) for n in range(36)]
    route = (f"{one.place.service}/32", *PREFERRED)
    try:
        found = scene.play(CALLS, (0.5, lambda: core.ip("route", "replace", *route, *hops)), *spread)
        lost_nothing(found)
    finally:
        core.run("ip", "route", "del", *route, check=False)
    assert changes
    assert max(changes.values()) <= 1


@ONCE
@pytest.mark.parametrize(("commanded", "served"), [(0, 1), (1, 0)])
def test_signalling_and_media_of_a_call_are_at_different_relays(scene: Scene, commanded: int, served: int) -> None:
    """Offers and answers at one, packets at the other: ten re-INVITEs, with telephones that change their ports."""
    network, nodes = scene.cluster.network, scene.cluster.nodes
    ip, via = nodes[commanded].place.service, nodes[served].place.address
    network.core.ip("route", "replace", f"{ip}/32", "via", via, *PREFERRED)
    lines = []
    try:
        with Proxy(network.proxy, nodes[commanded].ng) as proxy:
            call = Dialogue(proxy, f"apart-{commanded}-{random.getrandbits(32)}")
            for _ in range(1 + REINVITES):
                lines += [pair := (line(network, True), line(network, False))]
                caller, callee = pair
                call.set_up(caller.local, callee.local)
                caller.towards = call.for_caller, Endpoint(call.for_caller.ip, call.for_caller.port + 1)
                callee.towards = call.for_callee, Endpoint(call.for_callee.ip, call.for_callee.port + 1)
                until("the rules at the partner", lambda: reached(pair), 10.0)
                talk(caller, callee)
            call.delete()
            until("its end at the partner", lambda: call.call_id not in calls_of(nodes[served]), 10.0)
    finally:
        network.core.run("ip", "route", "del", f"{ip}/32", *PREFERRED, check=False)
        for pair in lines:
            for one in pair:
                one.close()


def line(network: PairNetwork, caller: bool) -> Line:
    """A telephone's media sockets."""
    host, address = (network.caller, network.CALLER_ADDRESS) if caller else (network.callee, network.CALLEE_ADDRESS)
    return Line(host, address)


def reached(pair: tuple[Line, Line]) -> bool:
    """Whether a packet of each passes by the relay that has heard of the call by replication only."""
    return all(_passes(one, other) for one, other in (pair, pair[::-1]))


def _passes(sender: Line, receiver: Line) -> bool:
    sender.send(sender.speech(1))
    return bool(receiver.heard(1, seconds=0.2))


@BOTH
def test_a_speaker_that_dies_and_returns_loses_no_call(scene: Scene) -> None:
    speaker = scene.cluster.nodes[0].speaker
    goes_on(scene.play(CALLS, (1.0, speaker.kill), (2.0, speaker.start), seconds=5.0), 1.0)


@ONCE
def test_bfd_that_dies_and_returns_loses_no_call(scene: Scene) -> None:
    bfd = scene.cluster.nodes[0].bfd
    assert bfd
    goes_on(scene.play(CALLS, (1.0, bfd.kill), (2.0, bfd.start), seconds=4.0), 1.0)


@ONCE
def test_a_router_that_restarts_loses_no_call(scene: Scene) -> None:
    """Its kernel has no route meanwhile; calls are silent for as long."""
    router = scene.cluster.router
    goes_on(scene.play(CALLS, (0.5, router.kill), (0.6, router.start), seconds=TIMEOUT + 8.0), TIMEOUT + 6.0)


@BOTH
def test_an_operators_configure_of_the_router_and_the_speaker_loses_no_packet(scene: Scene) -> None:
    cluster = scene.cluster
    birds = [bird for bird in (cluster.router, cluster.nodes[0].speaker) if not isinstance(bird, ExaBgpd)]
    lost_nothing(
        scene.play(CALLS, *((1.0 + n, lambda bird=bird: bird.ask("configure")) for n, bird in enumerate(birds)))
    )


@BOTH
def test_a_host_dies_and_its_calls_go_on(scene: Scene) -> None:
    """BFD finds it silent; it comes back and has its address again."""
    cluster = scene.cluster
    node, partner = cluster.nodes
    try:
        goes_on(scene.play(CALLS, (1.0, lambda: cluster.die(node)), seconds=4.0), 0.75)
        assert cluster.serves(node.place.service) == partner.place
    finally:
        cluster.wake(node)
    cluster.at_rest()
