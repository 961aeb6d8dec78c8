"""From a call to the rules of its ports, and from two sets of rules to what changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from relay.call import Call, Media, Mux, Stream
from relay.types import Carries, Endpoint, MediaDescription, PayloadType, Rule

__all__ = ["Rules", "Screen", "clocks", "difference", "refusal", "rules"]

Rules = dict[Endpoint, Rule]
Clocks = tuple[tuple[int, int], ...]
Network = IPv4Network | IPv6Network

_BROADCAST = IPv4Address("255.255.255.255")
_BOTH = Carries.RTP | Carries.RTCP
_NO_CLOCK = frozenset({"telephone-event", "cn"})
_COMFORT_NOISE = 13
_CLOCKS_PER_RULE = 4
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
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return _kind(address, loopback_ok) or _denied(address, denied)


def _kind(address: IPv4Address | IPv6Address, loopback_ok: bool) -> str | None:
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
    for first, second in zip(call.legs[0].medias, call.legs[1].medias, strict=True):
        if first.port is not None:
            _section(found, call, first, second)
        if first.retired or second.retired:
            _retired(found, first, second)
    return found


def _retired(found: Rules, first: Media, second: Media) -> None:
    """Ports that are replaced but in use until the answer, as long as what they send from is in force."""
    kept = {rule.local: rule for media in (first, second) for retired in media.retired for rule in retired.rules}
    found.update((local, rule) for local, rule in kept.items() if rule.source in found or rule.source in kept)


def _section(found: Rules, call: Call, first: Media, second: Media) -> None:
    """The two ports of one m-line, or its four."""
    line = first.line
    if not line.is_rtp:
        _mirrored(found, call, Carries.OPAQUE, first.rtp, second.rtp, (), ())
        return
    # The receiver chooses the numbers of payload types (RFC 3264 section 5.1), once it has spoken.
    to_second = _clocks(second.description or first.description)
    to_first = _clocks(first.description or second.description)
    carries = Carries.RTP if line.mux is Mux.OFF else _BOTH
    _mirrored(found, call, carries, first.rtp, second.rtp, to_second, to_first)
    if line.mux is not Mux.ON:
        _mirrored(found, call, Carries.RTCP, first.rtcp, second.rtcp, (), ())


def _clocks(description: MediaDescription | None) -> Clocks:
    return clocks(description.payload_types) if description is not None else ()


def _mirrored(
    found: Rules, call: Call, carries: Carries, first: Stream, second: Stream, up: Clocks, down: Clocks
) -> None:
    """The rules of two ports that face each other: the source of one is the destination of the other."""
    here, there = first.local, second.local
    assert here is not None
    assert there is not None
    to_first, to_second = first.destination, second.destination
    strict, handover, tos = call.strict_source, call.media_handover, call.tos
    found[here] = Rule(
        here, there, to_second, second.epoch, to_first, first.epoch,
        carries, first.learning, first.preferred, strict, handover, tos, up, first.known,
    )  # fmt: skip
    found[there] = Rule(
        there, here, to_first, first.epoch, to_second, second.epoch,
        carries, second.learning, second.preferred, strict, handover, tos, down, second.known,
    )  # fmt: skip


def difference(old: Mapping[Endpoint, Rule], new: Mapping[Endpoint, Rule]) -> tuple[list[Rule], list[Endpoint]]:
    """(rules to install or change, ports to take out of force) on the way from `old` to `new`."""
    if not old:
        return list(new.values()), []
    install = [rule for local, rule in new.items() if old.get(local) != rule]
    remove = [local for local in old if local not in new]
    return install, remove
