"""The announcements of a relay's addresses, made of its options: which addresses, through whom, judged by what."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from control.config import Config
from control.failover import bird, exabgp
from control.failover.failover import Failover, Place
from control.failover.nobody import Nobody
from control.failover.pulse import Pulse
from control.failover.speaker import Speaker, Styles
from control.failover.state import Limits
from control.replication.replicator import Replicator
from relay.dataplane import Dataplane
from relay.errors import HairpinError
from relay.registry import Registry

__all__ = ["announcer", "limits"]

REMAINS = "failover.json"


def announcer(
    config: Config, registry: Registry, plane: Dataplane, folder: Path | None, replicator: Replicator | None
) -> Failover:
    """What announces the relay's media addresses; `folder` keeps operators' orders over a restart.

    Raises HairpinError where an address is to be announced that is no media address.
    """
    places = _places(config, registry)
    return Failover(
        places,
        _speaker(config, [place.ip for place in places]),
        limits(config),
        _health(plane),
        keyspace=config.keyspace,
        partners=replicator if config.subscribe_keyspace else None,
        blind=_blind(replicator),
        busy=_busy(plane, replicator),
        calls=lambda: _left(registry),
        remains=None if folder is None else folder / REMAINS,
        clock=time.monotonic,
        unix=time.time,
    )


def limits(config: Config) -> Limits:
    """The times of the options."""
    return Limits(config.hold_off, config.damping, config.health_grace, config.bgp_grace)


def _places(config: Config, registry: Registry) -> list[Place]:
    homes = {one.address: one.home if one.home >= 0 else config.keyspace for one in registry.interfaces}
    if unknown := [ip for ip in config.bgp_announce if ip not in homes]:
        raise HairpinError(f"bgp-announce names {', '.join(unknown)}, which is no media address of this relay")
    meant = config.bgp_announce or [ip for ip in homes if not ip_address(ip).is_loopback]
    return [Place(ip, homes[ip]) for ip in meant]


def _speaker(config: Config, addresses: list[str]) -> Speaker:
    styles = Styles(config.bgp_primary, config.bgp_backup, config.bgp_as, config.bgp_next_hop)
    if config.bgp == "exabgp":
        return exabgp.ExaBgp(Path(config.bgp_socket or exabgp.DEFAULT_SOCKET), styles, config.bgp_grace)
    if config.bgp == "bird":
        path, include = Path(config.bgp_socket or bird.DEFAULT_SOCKET), Path(config.bgp_include)
        return bird.Bird(path, include, addresses, styles, config.bgp_grace, Pulse(config.instance))
    return Nobody()


def _health(plane: Dataplane) -> Callable[[], str]:
    """XDP can say whether it is attached; the other planes forward as long as their process lives."""
    check: Callable[[], str] = getattr(plane, "health", str)
    return check


def _left(registry: Registry) -> int:
    """Calls of this relay's own that are still served, in their delete delay, too."""
    calls = registry.counts()
    return calls["standing"] + calls["deleted"]


def _blind(replicator: Replicator | None) -> Callable[[], bool]:
    """Whether leases may be missing for Redis' sake alone."""
    if replicator is None:
        return lambda: False
    keyspaces = (replicator.own, *replicator.partners.values())
    return lambda: not all(one.reachable for one in keyspaces)


def _busy(plane: Dataplane, replicator: Replicator | None) -> Callable[[str], int]:
    """At how many ports of an address packets came lately."""
    if replicator is None:
        return lambda ip: int.from_bytes(plane.heard(ip), "little").bit_count()
    traffic = replicator.traffic.addresses
    return lambda ip: traffic[ip].mine if ip in traffic else -1
