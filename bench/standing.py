"""Calls without media that stand at the first relay of a scene, ready at its partner, while others are listened to."""

from __future__ import annotations

from bench.calls import Proxy, make_calls
from bench.relays import PORTS
from bench.replication import await_sync
from tests.cluster import AT_REST, Node
from tests.lab import Lab
from tests.pair import service
from tests.peers import NG_PORT
from tests.routers import until
from tests.scenes import TALK, Scene

__all__ = ["Standing", "at_home", "roomy_scene"]

RELAYS = (1, 2)
NAMES = ("public", "more1", "more2")
"""Of the addresses of each relay, the scene's own first: 25,000 calls have more ports than two addresses have."""
SILENCE = 3600
"""Seconds that calls may be silent: those that stand are, as long as the bench runs."""


def roomy_scene(lab: Lab, *, bfd: bool) -> Scene:
    """A scene, still to be entered, whose relays have ports for 40,000 calls each and let them be silent."""
    further = [(name, _address(relay, turn), relay) for relay in RELAYS for turn, name in enumerate(NAMES) if turn]
    scene = Scene(
        lab,
        len(RELAYS),
        bfd=bfd,
        options=(
            *TALK,
            *(f"--interface={name}/{ip}@{relay}" for name, ip, relay in further),
            f"--port-min={PORTS[0]}",
            f"--port-max={PORTS[1]}",
            f"--timeout={SILENCE}",
        ),
    )
    for place in scene.cluster.network.relays:
        place.host.sysctl("ipv4/ip_local_port_range", f"{NG_PORT + 1} {PORTS[0] - 1}")
        for _, ip, _ in further:
            place.host.ip("address", "add", f"{ip}/32", "dev", "lo")
    return scene


def _address(relay: int, turn: int) -> str:
    return service(relay + 100 * turn)


def at_home(node: Node) -> dict[str, bool]:
    """The addresses whose home a relay is, and whether a partner would take them, as it knows."""
    rows = node.relay.operator("status")[0]["failover"]["addresses"]
    return {row["address"]: "backup" in row["partners"].values() for row in rows if row["home"] == node.place.number}


class Standing:
    """Makes the calls at a roomy scene's first relay, spread over its addresses, and waits until its partner has all.

    Raises LabError and CommandFailed where it cannot.
    """

    def __init__(self, scene: Scene, calls: int) -> None:
        self._nodes = scene.cluster.nodes[:2]
        first, partner = self._nodes
        made = make_calls(range(calls), NAMES)
        self._call_ids = {str(call.request("delete")["call-id"]) for call in made}
        with scene.cluster.network.proxy.socket() as commands:
            Proxy(commands, (first.ng.ip, first.ng.port)).run(made, ("offer", "answer"))
        await_sync(partner.relay, first.place.number, calls)
        until("a partner for all addresses", lambda: all(at_home(first).values()), AT_REST, 0.25)
        for ip in at_home(first):
            scene.cluster.moved(ip, first.place)

    def figures(self) -> dict[str, int]:
        """How many there were, and how many a relay that lives does not have, the worse of them."""
        missing = [self._call_ids.difference(node.relay.call_ids()) for node in self._nodes if not node.frozen]
        return {"standing": len(self._call_ids), "standing_lost": max(map(len, missing))}
