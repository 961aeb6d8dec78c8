"""The relay as a whole, in the form the ng protocol gives it: the groups and names of `list jsonstats` that are known
here. What is not measured is left out, so that no zero looks like a measurement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from control.ng import room as rooms
from control.ng.bencode import write
from relay.registry import Registry

__all__ = ["COUNTED", "statistics"]

Report = dict[str, Any]

COUNTED = {
    "ping": "ping",
    "offer": "offer",
    "answer": "answer",
    "delete": "delete",
    "query": "query",
    "list": "list",
    "start recording": "startrec",
    "stop recording": "stoprec",
    "pause recording": "pauserec",
    "start forwarding": "startfwd",
    "stop forwarding": "stopfwd",
    "block dtmf": "blkdtmf",
    "unblock dtmf": "unblkdtmf",
    "block media": "blkmedia",
    "unblock media": "unblkmedia",
    "play media": "playmedia",
    "stop media": "stopmedia",
    "play dtmf": "playdtmf",
    "statistics": "stats",
    "silence media": "slnmedia",
    "unsilence media": "unslnmedia",
    "publish": "pub",
    "subscribe request": "subreq",
    "subscribe answer": "subans",
    "unsubscribe": "unsub",
    "error": "error",
}
"""Commands as they are counted, and their names in the statistics."""
REASONS = {
    "timeout": "timeoutsessions",
    "silent timeout": "silenttimeoutsessions",
    "offer timeout": "offertimeoutsessions",
    "final timeout": "finaltimeoutsessions",
    "deleted": "regularterminatedsessions",
    "terminated by the operator": "forcedterminatedsessions",
}


def statistics(
    registry: Registry, commands: Mapping[str, Counter[str]], others: Counter[str], uptime: float, room: int
) -> Report:
    """The statistics and, where not all proxies fit into `room` bytes, the `warning` that they are cut.

    `commands` are counted by the address of the proxy, `others` are those of addresses that are not told apart.
    """
    counters = registry.plane.counters()
    found: Report = {
        "currentstatistics": {
            "sessionsown": registry.own,
            "sessionsforeign": registry.foreign,
            "sessionstotal": len(registry),
            "transcodedmedia": 0,
        },
        "totalstatistics": _total(registry, counters, uptime),
        "interfaces": [_interface(registry, number) for number in range(len(registry.interfaces))],
        "transcoders": [],
        "dataplane": {"name": registry.plane.name, **counters},
    }
    control = found["controlstatistics"] = _control(commands, others)
    told = len(control["proxies"])
    while not rooms.fits(write(found), room) and control["proxies"]:
        control["proxies"] = control["proxies"][: len(control["proxies"]) // 2]
    reply: Report = {"statistics": found}
    if len(control["proxies"]) < told:
        reply["warning"] = (
            f"cut to {room} bytes: {len(control['proxies'])} of {told} proxies are told; {rooms.hint(room)}"
        )
    return reply


def _total(registry: Registry, counters: Mapping[str, int], uptime: float) -> Report:
    """Since the start. Durations are those of ended calls; packets too where the data plane does not count its own."""
    tally = registry.tally
    forwarded = counters.get("forwarded")
    average = tally.seconds / tally.ended if tally.ended else 0.0
    return {
        "uptime": str(int(uptime)),
        "managedsessions": tally.managed,
        "rejectedsessions": tally.rejected,
        **{name: registry.closed.get(reason, 0) for reason, name in REASONS.items()},
        "relayedpackets": tally.packets if forwarded is None else forwarded + counters.get("slow_path_sent", 0),
        "relayedbytes": registry.plane.octets(),
        "avgcallduration": f"{average:.6f}",
        "totalcallsduration": f"{tally.seconds:.6f}",
    }


def _control(commands: Mapping[str, Counter[str]], others: Counter[str]) -> Report:
    """What was asked for, in all and by each proxy, those that ask most first."""
    total = Counter(others)
    for counts in commands.values():
        total.update(counts)
    busiest = sorted(commands.items(), key=lambda one: -one[1].total())
    proxies = [
        {"proxy": ip, **{f"{name}count": counts[key] for key, name in COUNTED.items()}} for ip, counts in busiest
    ]
    return {"proxies": proxies, **{f"total{name}count": total[key] for key, name in COUNTED.items()}}


def _interface(registry: Registry, number: int) -> Report:
    interface = registry.interfaces[number]
    pool = interface.pool
    used, free = 2 * pool.drawn, 2 * pool.available
    ports = {
        "min": pool.low,
        "max": pool.high,
        "used": used,
        "used_pct": f"{100 * used / ((used + free) or 1):.2f}",
        "free": free,
        "totals": used + free,
    }
    return {"name": interface.name, "address": interface.address, "ports": ports}
