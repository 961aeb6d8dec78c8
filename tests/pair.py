"""The network of relays that stand in for each other: service addresses that a router has routes to, and Redis.

    caller ---- core (router) ==== bridge ==== proxy, store, callee
    10.98.1.2   10.98.1.1          10.98.0.1   .2     .3     .4
                    |
                    +---- relay1   10.98.11.2   serves 10.98.100.1
                    +---- relay2   10.98.12.2   serves 10.98.100.2

Each relay has a cable of its own to the router and all service addresses on its loopback device, as hosts behind
anycast routes have them; which relay gets the packets of an address is the router's business alone. Relays are
commanded, speak BGP and reach Redis by the address of their cable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.lab import Host, Lab, give_address

__all__ = ["PairNetwork", "RelayHost", "pair_network", "reach", "silence"]

_SILENCE = "hairpin-silence"


@dataclass(frozen=True)
class RelayHost:
    """One relay's place in the network."""

    number: int
    """From 1 on: also its keyspace in Redis."""
    host: Host

    @property
    def address(self) -> str:
        """Of its cable: for ng, BGP and Redis."""
        return f"10.98.{10 + self.number}.2"

    @property
    def gateway(self) -> str:
        """The router's end of that cable."""
        return f"10.98.{10 + self.number}.1"

    @property
    def service(self) -> str:
        """The service address that is its own."""
        return service(self.number)

    @property
    def port(self) -> str:
        """The router's interface to it."""
        return f"to-relay{self.number}"


@dataclass(frozen=True)
class PairNetwork:
    """A router, telephones, a proxy, a host for Redis, and relays."""

    core: Host
    caller: Host
    proxy: Host
    store: Host
    callee: Host
    relays: tuple[RelayHost, ...]

    CORE_ADDRESS = "10.98.0.1"
    PROXY_ADDRESS = "10.98.0.2"
    STORE_ADDRESS = "10.98.0.3"
    CALLEE_ADDRESS = "10.98.0.4"
    CALLER_ADDRESS = "10.98.1.2"

    def route(self, ip: str, to: RelayHost | None) -> None:
        """Have the router send a service address to a relay by a static route, or nowhere: without any BGP."""
        if to is None:
            self.core.run("ip", "route", "del", f"{ip}/32", check=False)
        else:
            self.core.ip("route", "replace", f"{ip}/32", "via", to.address)

    def routed(self, ip: str) -> str:
        """Where the router's kernel sends a service address: its route as `ip` prints it, empty for none."""
        return self.core.ip("route", "show", f"{ip}/32").strip()


def service(number: int) -> str:
    """The service address of a relay by its number."""
    return f"10.98.100.{number}"


def pair_network(lab: Lab, relays: int = 2, *, napi: bool = True) -> PairNetwork:
    """Build the network; `napi` as in Lab.cable, for the relays' cables."""
    core, caller, proxy, store, callee = (lab.host(name) for name in ("core", "caller", "proxy", "store", "callee"))
    core.ip("link", "add", "bridge", "type", "bridge")
    core.ip("link", "set", "bridge", "up")
    core.ip("address", "add", f"{PairNetwork.CORE_ADDRESS}/24", "dev", "bridge")
    core.sysctl("ipv4/ip_forward", "1")
    network = PairNetwork(
        *(core, caller, proxy, store, callee),
        tuple(RelayHost(number, lab.host(f"relay{number}")) for number in range(1, relays + 1)),
    )
    on_the_bridge = ((proxy, network.PROXY_ADDRESS), (store, network.STORE_ADDRESS), (callee, network.CALLEE_ADDRESS))
    for host, address in on_the_bridge:
        lab.cable(host, "eth0", core, f"to-{host.name}")
        core.ip("link", "set", f"to-{host.name}", "master", "bridge")
        give_address(host, address, network.CORE_ADDRESS)
    lab.cable(caller, "eth0", core, "to-caller")
    core.ip("address", "add", "10.98.1.1/24", "dev", "to-caller")
    give_address(caller, network.CALLER_ADDRESS, "10.98.1.1")
    for relay in network.relays:
        _join(lab, core, relay, [service(one.number) for one in network.relays], napi)
    return network


def _join(lab: Lab, core: Host, relay: RelayHost, services: Sequence[str], napi: bool) -> None:
    lab.cable(relay.host, "eth0", core, relay.port, napi=napi)
    core.ip("address", "add", f"{relay.gateway}/24", "dev", relay.port)
    give_address(relay.host, relay.address, relay.gateway)
    # Else the relay would ask for its gateway's MAC in the name of an address that is elsewhere by now.
    relay.host.sysctl("ipv4/conf/all/arp_announce", "2")
    for ip in services:
        relay.host.ip("address", "add", f"{ip}/32", "dev", "lo")


def silence(network: PairNetwork, relay: RelayHost) -> None:
    """Let no frame pass a relay's cable in either direction, in one step; both ends stay up and see nothing of it."""
    base = f"device {relay.port} priority -500; policy drop;"
    network.core.run(
        "nft",
        f"add table netdev {_SILENCE}{relay.number};"
        f"add chain netdev {_SILENCE}{relay.number} in {{ type filter hook ingress {base} }};"
        f"add chain netdev {_SILENCE}{relay.number} out {{ type filter hook egress {base} }}",
    )


def reach(network: PairNetwork, relay: RelayHost) -> None:
    """Let frames pass again."""
    network.core.run("nft", f"delete table netdev {_SILENCE}{relay.number}")
