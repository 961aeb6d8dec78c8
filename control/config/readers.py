"""Text to values: what people write behind an option's name. Each reader raises ValueError saying what is allowed."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from relay.types import Endpoint

T = TypeVar("T")
Network = IPv4Network | IPv6Network

LOCAL_NETWORKS: tuple[Network, ...] = tuple(
    ip_network(net)
    for net in (
        *("127.0.0.0/8", "::1/128"),
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
        *("169.254.0.0/16", "fe80::/10"),  # link-local
        "fc00::/7",  # ULA, RFC 4193
    )
)
HOST_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9._@:-]{1,253}")
"""A name of a host or of a network device."""
_PORT = re.compile(r"(?!0+$)[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]")
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")
_IF_INET6 = Path("/proc/net/if_inet6")


def whole(low: int, high: int | None, what: str) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""
    allowed = f"{what}, {low} or more" if high is None else f"{what} from {low} to {high}"

    def read(text: str) -> int:
        if not _WHOLE.fullmatch(text) or not low <= int(text) <= (2**63 - 1 if high is None else high):
            raise ValueError(f"must be {allowed}")
        return int(text)

    return read


def decimal(what: str) -> Callable[[str], float]:
    """A reader of numbers of 0 or more."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise ValueError(f"must be {what}, 0 or more")
        return value

    return read


def choice(*allowed: str) -> Callable[[str], str]:
    """A reader of one word out of a few."""

    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return read


def switch(text: str) -> bool:
    """A switch as the configuration file spells it."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        return words[text.lower()]
    except KeyError:
        raise ValueError("must be true or false") from None


def each(read: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """A reader of lists, with `;` or `,` between their values."""
    return lambda text: tuple(read(part) for part in parts(text))


def parts(text: str) -> list[str]:
    """The values of a list, empty ones left out."""
    return [part.strip() for part in text.replace(";", ",").split(",") if part.strip()]


def address(text: str) -> str:
    """One unicast address in canonical text."""
    try:
        found = ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no IPv4 or IPv6 address") from None
    if found.is_multicast or found.is_unspecified or "%" in text:
        raise ValueError("must be one address of this host, which the SDP can name")
    return str(found)


def listeners(text: str) -> tuple[Endpoint, ...]:
    """A list of `PORT`, `IP:PORT`, `[IPv6]:PORT` or `HOST:PORT`; a port alone is all addresses of both families."""
    return tuple(endpoint for part in parts(text) for endpoint in _listener(part))


def _listener(text: str) -> tuple[Endpoint, ...]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not _PORT.fullmatch(port) or (colon and not host):
        raise ValueError("must be PORT, IP:PORT, [IPv6]:PORT or HOST:PORT, port 1 to 65535")
    everywhere = ("0.0.0.0", "::") if _IF_INET6.exists() else ("0.0.0.0",)
    return tuple(Endpoint(ip, int(port)) for ip in ((_literal(host),) if host else everywhere))


def _literal(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        return host_address(host)


def host_address(name: str) -> str:
    """The first address of a host's name, IPv4 if it has any. Raises ValueError where it has none."""
    if not HOST_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a host")
    try:
        found = sorted(socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM), key=lambda one: one[0])
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{name!r} is no host that can be found: {error}") from None
    return str(found[0][4][0])


def network(text: str) -> Network:
    """A network, or one address."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"must be networks such as 192.0.2.0/24: {error}") from None


def url(text: str) -> str | None:
    """An http or https URL; empty for none."""
    try:
        found = urlsplit(text)
        sound = found.scheme in ("http", "https") and found.hostname and found.port != 0 and text.split() == [text]
    except ValueError:
        sound = False
    if text and not sound:
        raise ValueError("must be a URL, http://HOST[:PORT]/PATH")
    return text or None


def ports(text: str) -> tuple[int, ...]:
    """A list of ports and ranges of them, `5060;30000-30010`, in ascending order."""
    found: set[int] = set()
    read = whole(1, 65535, "ports and ranges of them,")
    for part in parts(text):
        first, _, last = part.partition("-")
        found.update(range(read(first.strip()), read((last or first).strip()) + 1))
    return tuple(sorted(found))
