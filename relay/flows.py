"""From a call to the rules of its ports, and from two sets of rules to what changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from relay.call import Call, Media, Stream
from relay.media import OFF
from relay.types import Carries, Endpoint, PayloadType, Rule, Treatment

__all__ = ["Rules", "Screen", "clocks", "difference", "events", "fills", "refusal", "rules", "treated"]

Rules = dict[Endpoint, Rule]
Clocks = tuple[tuple[int, int], ...]
Network = IPv4Network | IPv6Network

_BROADCAST = IPv4Address("255.255.255.255")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052 section 2.1; 6to4 is RFC 3056
_EMBEDDED = (IPv6Network("::/96"), IPv6Network("::ffff:0:0/96"))  # RFC 4291 section 2.5.5
# An Enum's members are found by a search, at each time of asking.
_PASS: Final = Treatment.PASS
_RTP: Final = Carries.RTP
_BOTH: Final = Carries.RTP | Carries.RTCP
_RTCP: Final = (Carries.RTCP, Carries.RTCP)
_NO_CLOCK = frozenset({"telephone-event", "cn"})
_COMFORT_NOISE = 13
_CLOCKS_PER_RULE = 4
_EVENTS_PER_RULE = 2
_SILENCE = {"PCMU": 0xFF, "PCMA": 0xD5, "G722": 0xFA}
"""The byte that is silence, in encodings that have one."""
_SCREEN_CACHE = 65536


def refusal(endpoint: Endpoint, *, loopback_ok: bool, denied: Sequence[Network] = ()) -> str | None:
    """Why media is never forwarded to `endpoint`, or None if it may be.

    `loopback_ok`: the leg's own media address is a loopback address. `denied`: networks the operator rules out, and
    this host's own addresses that are not media addresses.
    """
    try:
        address = ip_address(endpoint.ip)
    except ValueError:
        return "not an IP address"
    reason = _kind(address, loopback_ok) or _denied(address, denied)
    if reason is None and isinstance(address, IPv6Address):
        reason = _translated(address, denied)
    return reason


def _translated(address: IPv6Address, denied: Sequence[Network]) -> str | None:
    """Why nothing is sent to the IPv4 address that a gateway would make of an IPv6 one, if any does."""
    if address in _NAT64:
        found = IPv4Address(address.packed[12:])
    elif address.sixtofour is not None:
        found = address.sixtofour
    else:
        return None
    reason = _kind(found, loopback_ok=False) or _denied(found, denied)
    return f"{reason} behind a translation to IPv4" if reason else None


def _kind(address: IPv4Address | IPv6Address, loopback_ok: bool) -> str | None:
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return "an address with a scope"
        if int(address) > 1 and any(address in network for network in _EMBEDDED):
            return "an IPv4 address written as IPv6"
    if address.is_unspecified or (address.version == 4 and address.packed[0] == 0):
        return "an unspecified address"
    if address.is_loopback:
        return None if loopback_ok else "a loopback address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_link_local:
        return "a link-local address"
    if address == _BROADCAST:
        return "the broadcast address"
    if address.version == 4 and address.packed[0] >= 240:
        return "a reserved address"
    return None


def _denied(address: IPv4Address | IPv6Address, denied: Sequence[Network]) -> str | None:
    for network in denied:
        if address in network:
            return "an address media is not sent to (own or denied)"
    return None


class Screen:
    """`refusal` for one list of denied networks, with a memory of the addresses it has seen."""

    __slots__ = ("_denied", "_known")

    def __init__(self, denied: Sequence[Network] = ()) -> None:
        self._denied = tuple(denied)
        self._known: dict[tuple[str, str], str | None] = {}

    def deny(self, denied: Sequence[Network]) -> None:
        """Rule out other networks from now on."""
        self._denied = tuple(denied)
        self._known.clear()

    def __call__(self, endpoint: Endpoint, local_ip: str) -> str | None:
        """Why nothing is sent from `local_ip` to `endpoint`, or None."""
        key = (endpoint.ip, local_ip)
        known = self._known
        if key not in known:
            if len(known) >= _SCREEN_CACHE:
                known.clear()
            known[key] = self._look(endpoint, local_ip)
        return known[key]

    def _look(self, endpoint: Endpoint, local_ip: str) -> str | None:
        if (":" in endpoint.ip) != (":" in local_ip):
            return "of another address family than this relay's side"
        loopback = local_ip.startswith("127.") or local_ip == "::1"
        return refusal(endpoint, loopback_ok=loopback, denied=self._denied)


@lru_cache(maxsize=1024)
def clocks(payload_types: tuple[PayloadType, ...]) -> Clocks:
    """The payload types jitter is measured on: no telephone-event and no comfort noise, at most four."""
    found = [
        (payload.number, payload.clock)
        for payload in payload_types
        if payload.number != _COMFORT_NOISE and payload.clock > 0 and payload.encoding.lower() not in _NO_CLOCK
    ]
    return tuple(found[:_CLOCKS_PER_RULE])


def rules(call: Call) -> Rules:
    """The rules of all ports of a call, by port: what the data plane is to hold for it."""
    found: Rules = {}
    one, other = call.legs
    treated = one.treatment is not _PASS or other.treatment is not _PASS
    for first, second in zip(one.medias, other.medias, strict=True):
        if first.port is None:
            continue
        if treated or first.line.held is not None:
            found.update(_special(call, first, second))
        else:
            _section(found, call, first, second)
    return found


def _special(call: Call, first: Media, second: Media) -> Rules:
    """The ports of an m-line under a treatment, or of one that a re-offer is about to change.

    What was in force is in force until the answer; ports that are new stand beside it.
    """
    found: Rules = {}
    _section(found, call, first, second)
    held = first.line.held
    kept: tuple[tuple[Rule, ...], tuple[Rule, ...]] = held.rules if held is not None else ((), ())
    for leg, mine, theirs, standing in zip(call.legs, (first, second), (second, first), kept, strict=True):
        types = _types(theirs, mine)
        assert mine.rtp.local is not None
        for rule in (found[mine.rtp.local], *standing):
            of_rtcp = rule.carries is Carries.RTCP
            found[rule.local] = rule if of_rtcp else treated(rule, leg.treatment, types)
    return found


def _section(found: Rules, call: Call, first: Media, second: Media) -> None:
    """The two ports of one m-line, or its four."""
    line = first.line
    if not line.is_rtp:
        _mirrored(found, call, (first.rtp, second.rtp), (first.rtp, second.rtp), (Carries.OPAQUE, Carries.OPAQUE))
        return
    # The receiver chooses the numbers of payload types (RFC 3264 section 5.1), once it has spoken.
    up, down = clocks(_types(second, first)), clocks(_types(first, second))
    one, other = first.mux is not OFF, second.mux is not OFF
    carries = _BOTH if one else _RTP, _BOTH if other else _RTP
    split = one and not other, other and not one
    parties = first.rtp, second.rtp
    _mirrored(found, call, parties, parties, carries, (up, down), split)
    if not line.one_port:
        # A party that has both on one port is sent RTCP there.
        parties = first.rtp if split[0] else first.rtcp, second.rtp if split[1] else second.rtcp
        _mirrored(found, call, (first.rtcp, second.rtcp), parties, _RTCP, joined=(split[1], split[0]))


def _types(receiver: Media, sender: Media) -> tuple[PayloadType, ...]:
    """The payload types of what goes to a party."""
    description = receiver.description or sender.description
    return description.payload_types if description is not None else ()


def _mirrored(
    found: Rules,
    call: Call,
    ports: tuple[Stream, Stream],
    parties: tuple[Stream, Stream],
    carries: tuple[Carries, Carries],
    clocks: tuple[Clocks, Clocks] = ((), ()),
    split: tuple[bool, bool] = (False, False),
    joined: tuple[bool, bool] = (False, False),
) -> None:
    """The rules of two ports that face each other: the source of one is the destination of the other."""
    here, there = ports[0].local, ports[1].local
    assert here is not None
    assert there is not None
    first, second = parties
    to_first, to_second = first.destination, second.destination
    strict, handover, tos = call.strict_source, call.media_handover, call.tos
    found[here] = Rule(
        here, there, to_second, second.epoch, to_first, first.epoch, carries[0], first.learning, first.preferred,
        strict, handover, tos, clocks[0], first.known, split[0], joined[0],
    )  # fmt: skip
    found[there] = Rule(
        there, here, to_first, first.epoch, to_second, second.epoch, carries[1], second.learning, second.preferred,
        strict, handover, tos, clocks[1], second.known, split[1], joined[1],
    )  # fmt: skip


# -- treatments


def treated(rule: Rule, treatment: Treatment, payload_types: tuple[PayloadType, ...]) -> Rule:
    """A rule under a treatment; media that is not RTP can be blocked and nothing else."""
    if treatment is _PASS or (rule.carries is Carries.OPAQUE and treatment is not Treatment.BLOCK):
        return rule._replace(treatment=_PASS, event_types=(), fills=())
    return rule._replace(treatment=treatment, event_types=events(payload_types), fills=fills(payload_types))


@lru_cache(maxsize=1024)
def events(payload_types: tuple[PayloadType, ...]) -> tuple[int, ...]:
    """The payload types of telephone-event (RFC 4733), as many as a rule has room for."""
    found = [one.number for one in payload_types if one.encoding.lower() == "telephone-event"]
    return tuple(found[:_EVENTS_PER_RULE])


@lru_cache(maxsize=1024)
def fills(payload_types: tuple[PayloadType, ...]) -> tuple[tuple[int, int], ...]:
    """The payload types that silence is known for, with its byte."""
    found = [(one.number, _SILENCE[one.encoding.upper()]) for one in payload_types if one.encoding.upper() in _SILENCE]
    return tuple(found[:_CLOCKS_PER_RULE])


def difference(old: Mapping[Endpoint, Rule], new: Mapping[Endpoint, Rule]) -> tuple[list[Rule], list[Endpoint]]:
    """(rules to install or change, ports to take out of force) on the way from `old` to `new`."""
    if not old:
        return list(new.values()), []
    install = [rule for local, rule in new.items() if old.get(local) != rule]
    remove = [local for local in old if local not in new]
    return install, remove
