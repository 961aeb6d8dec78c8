"""Options of failover by BGP: who speaks it, what is announced and when it is withdrawn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from control.config.declare import SECONDS, option
from control.config.readers import address, choice, each, whole
from control.failover.speaker import Attributes

__all__ = ["Failover", "attributes", "check", "next_hops"]

_COMMUNITY = re.compile(r"[0-9]{1,10}(?::[0-9]{1,10}){1,2}")
_HIGHEST = 2**32 - 1


def attributes(text: str) -> Attributes:
    """A route's attributes, `med=100 local-preference=200 prepend=2 community=65000:1`, in any order."""
    found: dict[str, Any] = {}
    communities: list[str] = []
    for word in text.split():
        name, _, value = word.partition("=")
        if name == "community":
            communities.append(_community(value))
        elif name in _NUMBERS and name not in found:
            found[name] = _NUMBERS[name](value)
        else:
            raise ValueError(f"{word!r}: must be prepend=N, med=N, local-preference=N, each once, and community=N:N")
    return Attributes(found.get("prepend", 0), found.get("med"), found.get("local-preference"), tuple(communities))


_NUMBERS: dict[str, Callable[[str], int]] = {
    "prepend": whole(0, 10, "a number of times"),
    "med": whole(0, _HIGHEST, "a MED"),
    "local-preference": whole(0, _HIGHEST, "a local preference"),
}


def _community(text: str) -> str:
    """A community (RFC 1997), or a large one (RFC 8092)."""
    numbers = [int(number) for number in text.split(":")] if _COMMUNITY.fullmatch(text) else []
    if not numbers or (len(numbers) == 2 and max(numbers) > 65535) or max(numbers) > _HIGHEST:
        raise ValueError(f"{text!r}: a community is N:N, each up to 65535, or a large one, N:N:N")
    return text


def next_hops(text: str) -> tuple[str, ...]:
    """At most one address of each family."""
    found = each(address)(text)
    families = [ip_address(one).version for one in found]
    if len(set(families)) < len(families):
        raise ValueError("must be at most one IPv4 and one IPv6 address")
    return found


@dataclass(frozen=True)
class Failover:
    """Service addresses announced as routes."""

    bgp: str = option(
        "none",
        choice("none", "exabgp", "bird"),
        "who announces the media addresses: ExaBGP, BIRD, or nobody this relay speaks to",
        "none|exabgp|bird",
    )
    bgp_socket: str = option(
        "",
        str,
        "where it is reached: the socket of the bridge that ExaBGP runs, or BIRD's control socket",
        "PATH",
        shown="/run/hairpin-bgp/bridge.sock for exabgp, /run/bird/bird.ctl for bird",
    )
    bgp_include: str = option(
        "/run/hairpin/bgp/hairpin.conf",
        str,
        "the file for BIRD's configuration to include, which says what is announced",
        "FILE",
    )
    bgp_announce: tuple[str, ...] = option(
        (),
        each(address),
        "media addresses that are announced",
        "ADDRESS[,ADDRESS]",
        shown="all but loopback ones",
        repeat=True,
    )
    bgp_as: int = option(
        0, whole(0, _HIGHEST, "an AS number"), "own AS number, which prepending needs", "ASN", shown="none"
    )
    bgp_primary: Attributes = option(  # noqa: RUF009 - a named tuple does not change
        Attributes(med=100, local_preference=200),
        attributes,
        "attributes of own addresses' routes: prepend, med, local-preference, community, each NAME=VALUE",
        "ATTRIBUTES",
    )
    bgp_backup: Attributes = option(  # noqa: RUF009 - a named tuple does not change
        Attributes(med=200, local_preference=100),
        attributes,
        "attributes of the routes of partners' addresses, which are to lose against the partner's own",
        "ATTRIBUTES",
    )
    bgp_next_hop: tuple[str, ...] = option(
        (),
        next_hops,
        "next hop of the routes, one for each family; IPv6 routes in a session over IPv4 need one",
        "ADDRESS[,ADDRESS]",
        shown="the address the session is spoken from",
    )
    bgp_grace: int = option(
        15,
        whole(1, 3600, "whole seconds"),
        "how long announcements stand without a relay; those that no partner would take over stand for good",
        "SECS",
    )
    hold_off: int = option(
        30,
        SECONDS,
        "how long a relay is to be well and in step before it announces again what a partner serves meanwhile",
        "SECS",
        live=True,
    )
    damping: int = option(
        600,
        SECONDS,
        "double hold-off with each withdrawal for bad health within this time, up to this time",
        "SECS",
        live=True,
    )
    health_grace: int = option(3, SECONDS, "how long health or step is to be lost before it counts", "SECS", live=True)


def check(given: Failover) -> Iterator[str]:
    """What is wrong between the options of failover."""
    named = (("bgp-primary", given.bgp_primary), ("bgp-backup", given.bgp_backup))
    if not given.bgp_as and (prepending := [name for name, one in named if one.prepend]):
        yield f"{' and '.join(prepending)} prepend the own AS number: give it by bgp-as"
    if given.bgp == "none":
        for name in ("bgp_socket", "bgp_announce"):
            if getattr(given, name):
                yield f"{name.replace('_', '-')} is given, but nobody is to announce anything: give bgp"
    if given.bgp != "none" and given.bgp_primary == given.bgp_backup:
        yield "bgp-primary and bgp-backup are the same: no router could tell a backup from who it stands in for"
