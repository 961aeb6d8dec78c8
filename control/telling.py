"""What a running relay tells people: a few lines in the log at its start, and `hairpin status`."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

from control import log as logs
from control.version import build, version

if TYPE_CHECKING:
    from control.assembly import Relay
    from control.state import Remains

__all__ = ["report", "status"]

log = logging.getLogger("hairpin")


def report(relay: Relay) -> None:
    """Say what was chosen, what was found, and how a proxy is pointed here."""
    say = log.log
    say(logs.NOTICE, "hairpin %s, %s, instance %d, pid %d", version(), build(), relay.config.instance, os.getpid())
    for interface in relay.registry.interfaces:
        pool = interface.pool
        shown = f", shown as {interface.advertised}" if interface.advertised != interface.address else ""
        place = f"{interface.name} {interface.address}{shown}"
        say(logs.NOTICE, "media: %s, ports %d-%d", place, pool.low, pool.high)
    say(logs.NOTICE, "ports: %s", relay.reserved)
    for line in relay.plane.describe():
        say(logs.NOTICE, "data plane: %s", line)
    if relay.remains is not None:
        say(logs.NOTICE, "kept: %s", "; ".join(_kept(relay, relay.remains)))
    for listener in relay.listeners():
        if listener["kamailio"]:
            say(logs.NOTICE, 'Kamailio: modparam("rtpengine", "rtpengine_sock", "%s")', listener["kamailio"])
    say(logs.NOTICE, "operators: hairpin status, at %s", relay.socket_path)


def status(relay: Relay) -> dict[str, Any]:
    """What `hairpin status` tells beside the calls."""
    told: dict[str, Any] = {
        "version": f"{version()}, {build()}",
        "instance": relay.config.instance,
        "pid": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(relay.begun)),
        "uptime": round(time.monotonic() - relay.started, 3),
        "listeners": relay.listeners(),
        "limits": relay.meters.describe(),
        "ports": relay.reserved,
        "reload": relay.reloader.view() if relay.reloader is not None else {"pending": []},
        "counters": _counters(relay),
        **relay.pair.status(),
    }
    if relay.remains is not None:
        told["kept"] = _kept(relay, relay.remains)
    if relay.keeper is not None:
        told["keeper"] = relay.keeper.status()
    if relay.journal is not None:
        told["journal"] = relay.journal.status()
    return told


def _kept(relay: Relay, remains: Remains) -> list[str]:
    """What the relay before this one left, and what the end of this one does."""
    ends = "keeps" if relay.config.on_exit == "keep" else "ends"
    return [
        f"{relay.found_calls} calls found in {remains.journal}",
        f"{relay.found_ports} ports found in force",
        f"a stop {ends} all calls (on-exit={relay.config.on_exit})",
    ]


def _counters(relay: Relay) -> dict[str, dict[str, int]]:
    per_source = {f"ng requests from {ip}": dict(counts) for ip, counts in relay.commands.counts.items()}
    counters = relay.transports.counters()
    counters["ng messages"]["ignored_keys"] = relay.commands.ignored
    return {**per_source, **counters, "timeouts told": relay.notifier.statistics()}
