"""Relays that stand in for each other, with all that a real installation has: routers, Redis, speakers, supervisors.

The network is tests.pair's. Redis' master and its Sentinel run on `store`, a replica on each relay's own host; the
router is BIRD; each relay runs under `hairpin supervise` with a state directory, its own service address announced as
primary and its partners' as backup, by ExaBGP with BFD from BIRD beside it, or by BIRD.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from relay.types import Endpoint
from tests.lab import Lab, command
from tests.pair import RelayHost, pair_network, reach, silence
from tests.peers import NG_PORT
from tests.routers import Bird, ExaBgpd, relay_bfd, relay_bird, relay_exabgp, router_bird, until
from tests.stores import RedisServer, Sentinel
from tests.supervised import Supervised, bpf_folder

__all__ = ["Cluster", "Node"]

SERVICES = "10.98.100.0/24"
QUICK = ("--hold-off=1", "--health-grace=1", "--damping=0")
"""For laboratories, in which nobody waits half a minute for a route."""

AT_REST = 30.0
"""Seconds for relays to find each other."""
OPEN = ("--protected-mode", "no")
"""Servers of a laboratory have no password."""


@dataclass
class Node:
    """One relay with its speaker and its replica of Redis."""

    place: RelayHost
    replica: RedisServer
    speaker: ExaBgpd | Bird
    relay: Supervised
    bfd: Bird | None = None
    _frozen: list[int] = field(default_factory=list)

    @property
    def ng(self) -> Endpoint:
        """Where it is commanded."""
        return Endpoint(self.place.address, NG_PORT)

    def covered(self) -> bool:
        """Whether a partner would take its service address, as it knows."""
        rows = self.relay.operator("status")[0]["failover"]["addresses"]
        return any("backup" in row["partners"].values() for row in rows if row["address"] == self.place.service)

    def hairpin(self, *words: str) -> str:
        """An operator's command on its host, and all it says."""
        return self.relay.hairpin(*words, f"--socket={self.relay.socket}")

    @property
    def frozen(self) -> bool:
        """Whether its programs were stopped."""
        return bool(self._frozen)

    def freeze(self) -> None:
        """Stop all its programs where they are."""
        for pid in command("ip", "netns", "pids", self.place.host.namespace).split():
            os.kill(int(pid), signal.SIGSTOP)
            self._frozen.append(int(pid))

    def thaw(self) -> None:
        for pid in self._frozen:
            os.kill(pid, signal.SIGCONT)
        self._frozen.clear()


class Cluster:
    """The whole installation. Use it as a context manager.

    `speaker`: exabgp or bird. `bfd`: whether hosts that fall silent are noticed by it. `options` go to all relays.
    """

    def __init__(
        self,
        lab: Lab,
        relays: int = 2,
        *,
        speaker: str = "exabgp",
        bfd: bool = True,
        options: Sequence[str] = QUICK,
    ) -> None:
        self.network = pair_network(lab, relays)
        self._lab = lab
        self._kind, self._bfd = speaker, bfd
        self._options = tuple(options)
        self._stack = ExitStack()
        self.nodes: list[Node] = []
        self.master: RedisServer
        self.sentinel: Sentinel
        self.router: Bird

    def __enter__(self) -> Cluster:
        with ExitStack() as building:
            self._build(building)
            self._stack = building.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        for node in self.nodes:
            node.thaw()
        self._stack.close()

    def _build(self, stack: ExitStack) -> None:
        network = self.network
        self.master = RedisServer(network.store, network.STORE_ADDRESS, options=OPEN)
        places = network.relays
        self.router = router_bird(
            network.core, network.CORE_ADDRESS, [one.address for one in places], SERVICES, bfd=self._bfd
        )
        replicas = [RedisServer(one.host, one.address, replica_of=self.master, options=OPEN) for one in places]
        self.sentinel = Sentinel(network.store, self.master, network.STORE_ADDRESS)
        self.sentinel.knows_replicas(len(replicas))
        for place, replica in zip(places, replicas, strict=True):
            speaker, bfd = self._speak(place)
            self.nodes.append(Node(place, replica, speaker, self._relay(stack, place), bfd))
        for node in self.nodes:
            node.relay.ready()
        self.at_rest()

    def _speak(self, place: RelayHost) -> tuple[ExaBgpd | Bird, Bird | None]:
        host = place.host
        if self._kind == "bird":
            return relay_bird(host, place.address, place.gateway), None
        bfd = relay_bfd(host, place.address, place.gateway) if self._bfd else None
        return relay_exabgp(host, place.address, place.gateway), bfd

    def _relay(self, stack: ExitStack, place: RelayHost) -> Supervised:
        network, host = self.network, place.host
        pins = stack.enter_context(bpf_folder(self._lab.folder / f"bpf{place.number}"))
        others = [one for one in network.relays if one is not place]
        interfaces = [f"public/{place.service}", *(f"public/{one.service}@{one.number}" for one in others)]
        socket = host.folder / ("bird.ctl" if self._kind == "bird" else "bridge.sock")
        options = (
            f"--redis={place.address}:6379/{place.number}",
            f"--redis-sentinel={self.sentinel}",
            f"--subscribe-keyspace={';'.join(str(one.number) for one in others)}",
            f"--node-name={host.name}",
            f"--bgp={self._kind}",
            f"--bgp-socket={socket}",
            f"--bgp-include={host.folder}/bgp/hairpin.conf",
            "--ng-allow=10.98.0.0/16",
            *self._options,
        )
        return stack.enter_context(Supervised(host, place.address, pins, *options, interfaces=interfaces, waits=False))

    def at_rest(self) -> None:
        """Wait until each relay serves its own address, and a partner would take it."""
        for node in self.nodes:
            self.moved(node.place.service, node.place)
            until(f"a partner for {node.place.service}", node.covered, AT_REST)

    # -- what the router does

    def serves(self, ip: str) -> RelayHost | None:
        """The relay that the router's kernel sends a service address to."""
        route = self.network.routed(ip)
        return next((one for one in self.network.relays if f"via {one.address} " in f"{route} "), None)

    def moved(self, ip: str, to: RelayHost) -> float:
        """Wait until the router sends an address to a relay; seconds that took."""
        return until(f"{ip} is at {to.host.name}", lambda: self.serves(ip) == to, AT_REST, 0.005)

    # -- what befalls a host

    def die(self, node: Node) -> float:
        """Let a host die: nothing passes its cable, and all its programs stop. Returns when, monotonic."""
        silence(self.network, node.place)
        at = time.monotonic()
        node.freeze()
        return at

    def wake(self, node: Node) -> None:
        """Let it go on."""
        node.thaw()
        reach(self.network, node.place)
