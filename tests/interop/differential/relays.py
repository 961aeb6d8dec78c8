"""The two relays that are compared, on like hosts of one laboratory, and how they are asked."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from control.ng import bencode
from relay.types import Endpoint
from tests.lab import Host, Lab, Network, join_core, standard_network
from tests.peers import NG_PORT, Relay, start_rtpengine

PEER_ADDRESS = "10.99.0.5"
PATIENCE = 10.0
"""Seconds until a reply: the machine may be busy."""

_cookies = itertools.count()


@dataclass
class Contestant:
    """One of the two relays; `addresses` says what each of its media addresses is called here."""

    name: str
    host: Host
    ng: Endpoint
    addresses: Mapping[str, str] = field(default_factory=dict)

    def line(self) -> Line:
        return Line(self)


class Line:
    """A socket to one relay, for one conversation at a time. Use it as a context manager."""

    def __init__(self, contestant: Contestant) -> None:
        self._socket = contestant.host.socket()
        self._socket.settimeout(PATIENCE)
        self._socket.connect(contestant.ng)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The reply to one request, which is sent once; raises TimeoutError."""
        return self.send(bencode.encode(dict(request)))

    def send(self, body: bytes) -> dict[str, Any]:
        """The same for a body as it is written."""
        cookie = f"differential_{next(_cookies)}".encode()
        self._socket.send(cookie + b" " + body)
        answered, _, reply = self._socket.recv(65535).partition(b" ")
        if answered != cookie:
            raise OSError(f"{cookie!r} was answered with {answered!r}")
        found: dict[str, Any] = json.loads(reply) if reply.startswith(b"{") else bencode.decode(reply)
        return found


class Rivals(NamedTuple):
    """Both relays, in one network."""

    ours: Contestant
    theirs: Contestant
    network: Network


@contextmanager
def two_relays() -> Iterator[Rivals]:
    """Hairpin and Debian's rtpengine with the same interfaces, on hosts of the standard network."""
    with Lab() as lab:
        network = standard_network(lab)
        peer = lab.host("peer")
        join_core(lab, network, peer, PEER_ADDRESS)
        ours = _contestant("hairpin", network.relay, network.RELAY_ADDRESS, 3)
        theirs = _contestant("rtpengine", peer, PEER_ADDRESS, 5)
        start_rtpengine(peer, PEER_ADDRESS, options=_interfaces(5))
        with Relay(network.relay, network.RELAY_ADDRESS, *_interfaces(3)):
            yield Rivals(ours, theirs, network)


_PLACES = {
    "default6": "fd99::{0}",
    "internal": "10.99.0.1{0}",
    "internal6": "fd99::1:{0}",
    "external": "10.99.0.2{0}",
    "external6": "fd99::2:{0}",
    "nat": "10.99.0.4{0}!203.0.113.{0}",
}
"""Interfaces beside the default one; those with a 6 are the same one's IPv6."""


def _interfaces(host: int) -> list[str]:
    return [f"--interface={name.rstrip('6')}/{address.format(host)}" for name, address in _PLACES.items()]


def _contestant(name: str, host: Host, address: str, number: int) -> Contestant:
    """Give a host its addresses."""
    shown = {address: "default"}
    for place, template in _PLACES.items():
        local, _, advertised = template.format(number).partition("!")
        shown[local] = place
        if advertised:
            shown[advertised] = f"{place}'s advertised"
        if ":" in local:
            host.ip("-6", "address", "add", f"{local}/64", "dev", "eth0", "nodad")
        else:
            host.ip("address", "add", f"{local}/24", "dev", "eth0")
    return Contestant(name, host, Endpoint(address, NG_PORT), shown)


__all__ = ["Contestant", "Line", "Rivals", "two_relays"]
