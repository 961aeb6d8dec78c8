"""Listening sockets that outlive the daemon: handed over by whoever started it, and held by systemd while it is away.

The protocol is systemd's: descriptors from 3 on, counted by LISTEN_FDS for the process LISTEN_PID, with names in
LISTEN_FDNAMES (sd_listen_fds(3)). A socket unit, `hairpin supervise` and systemd's own store of descriptors speak it.
A name that is one of the options of listeners says that a relay or its supervisor opened the socket for that option.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, MutableMapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple, Protocol

from relay.errors import HairpinError
from relay.types import Endpoint

__all__ = ["KINDS", "Asked", "Handed", "HandoverError", "Matched", "asked", "inherited", "match"]

FIRST = 3
"""The first descriptor that is handed over."""
MOST = 256
"""Descriptors that are looked at."""
KINDS = {
    "listen-ng": socket.SOCK_DGRAM,
    "listen-tcp-ng": socket.SOCK_STREAM,
    "listen-http": socket.SOCK_STREAM,
    "listen-https": socket.SOCK_STREAM,
}
"""Options that name listeners, and what their sockets are."""


class HandoverError(HairpinError):
    """What was handed over cannot be used; the text says which descriptor or address, and what to do."""


class Listening(Protocol):
    """The options of listeners."""

    @property
    def listen_ng(self) -> tuple[Endpoint, ...]: ...

    @property
    def listen_tcp_ng(self) -> tuple[Endpoint, ...]: ...

    @property
    def listen_http(self) -> tuple[Endpoint, ...]: ...

    @property
    def listen_https(self) -> tuple[Endpoint, ...]: ...


class Asked(NamedTuple):
    """A listener as the options want it; port 0: any."""

    option: str
    endpoint: Endpoint


class Handed(NamedTuple):
    """A socket that was handed over."""

    socket: socket.socket
    name: str
    """One of KINDS, or "" where it came from a socket unit."""
    endpoint: Endpoint

    def __str__(self) -> str:
        return f"{'udp' if self.socket.type is socket.SOCK_DGRAM else 'tcp'} {self.endpoint}"


class Matched(NamedTuple):
    """What is listened on by sockets that stood before, and sockets nobody asks for any more."""

    found: dict[Asked, Handed]
    left: list[Handed]


def asked(options: Listening) -> list[Asked]:
    """All listeners that are wanted."""
    wanted = (options.listen_ng, options.listen_tcp_ng, options.listen_http, options.listen_https)
    return [Asked(name, one) for name, endpoints in zip(KINDS, wanted, strict=True) for one in endpoints]


def inherited(environ: MutableMapping[str, str], pid: int) -> list[Handed]:
    """The sockets handed to this process; the variables are removed, so that its children do not take them.

    Raises HandoverError.
    """
    count, whose = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if whose != str(pid) or not count:
        return []
    if not count.isdecimal() or int(count) > MOST:
        raise HandoverError(f"LISTEN_FDS={count} is no number of descriptors up to {MOST}: see who starts the relay")
    names += [""] * (int(count) - len(names))
    return [_handed(number, name) for number, name in enumerate(names[: int(count)], FIRST)]


def _handed(number: int, name: str) -> Handed:
    try:
        os.set_inheritable(number, False)
        opened = socket.socket(fileno=number)
        found = opened.getsockname()
    except OSError as error:
        raise HandoverError(f"descriptor {number}, handed over as {name or 'a listener'}: {error.strerror}") from error
    if opened.family not in (socket.AF_INET, socket.AF_INET6) or opened.type not in KINDS.values():
        raise HandoverError(f"descriptor {number}, handed over as {name or 'a listener'}, is no UDP or TCP socket")
    return Handed(opened, name if name in KINDS else "", Endpoint(found[0].partition("%")[0], found[1]))


def match(handed: Iterable[Handed], asked: Sequence[Asked]) -> Matched:
    """Find the listener each socket is for.

    Raises HandoverError for a socket of somebody else's that no option asks for: what is sent there would wait in vain.
    """
    found: dict[Asked, Handed] = {}
    left: list[Handed] = []
    for one in handed:
        wanted = next((want for want in asked if want not in found and _fits(one, want)), None)
        if wanted is not None:
            found[wanted] = one
        elif one.name:
            left.append(one)
        else:
            raise HandoverError(_nobody_asked(one))
    return Matched(found, left)


def _fits(one: Handed, want: Asked) -> bool:
    if one.socket.type is not KINDS[want.option] or one.name not in ("", want.option):
        return False
    same_port = one.endpoint.port == want.endpoint.port or (want.endpoint.port == 0 and bool(one.name))
    return same_port and ip_address(one.endpoint.ip) == ip_address(want.endpoint.ip)


def _nobody_asked(one: Handed) -> str:
    options = " or ".join(f"--{option}={one.endpoint}" for option, kind in KINDS.items() if kind is one.socket.type)
    return f"{one} was handed over, and no listener has that address: give {options}, or mend the socket unit"
