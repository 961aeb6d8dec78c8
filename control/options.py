"""How one option is given by people: its name, help and the reader of its text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple, TypeVar

from relay.types import Endpoint

T = TypeVar("T")
Network = IPv4Network | IPv6Network


class Interface(NamedTuple):
    """A local address media is relayed on, under the name the proxy's `direction` flag uses."""

    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Option:
    """How one field of `Config` is given by people."""

    read: Callable[[str], Any]
    help: str
    metavar: str | None = None
    """None for a switch, which takes no value."""
    short: str | None = None
    shown: str = ""
    """The default in words, where the value alone would not say it."""
    repeat: bool = False
    """A list: given several times on the command line, or with `;` or `,` between its values."""


def option(default: T, read: Callable[[str], Any], help: str, metavar: str | None = None, **more: Any) -> T:
    """A field of `Config`; typed as its default so that the class reads as plain annotations."""
    declared: T = field(default=default, metadata={"option": Option(read, help, metavar, **more)})
    return declared


def whole(low: int, high: int | None, what: str) -> Callable[[str], int]:
    """A reader of whole numbers from `low` to `high`."""
    allowed = f"{what}, {low} or more" if high is None else f"{what} from {low} to {high}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"must be {allowed}") from None
        if value < low or (high is not None and value > high):
            raise ValueError(f"must be {allowed}")
        return value

    return read


def choice(*allowed: str) -> Callable[[str], str]:
    """A reader of one word out of a few."""

    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return read


def read_switch(text: str) -> bool:
    """A switch as the configuration file spells it."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        return words[text.lower()]
    except KeyError:
        raise ValueError("must be true or false") from None


def read_interface(text: str) -> Interface:
    """`[NAME/]ADDRESS`; IPv4 only so far."""
    name, slash, address = text.rpartition("/")
    if slash and not name:
        raise ValueError("has an empty name before the slash; write NAME/ADDRESS")
    if "!" in address:
        raise ValueError("has an advertised address (ADDRESS!ADVERTISED), which this version does not support")
    try:
        local = ip_address(address)
    except ValueError:
        raise ValueError("must be an IPv4 address of this host, or NAME/ADDRESS") from None
    if not isinstance(local, IPv4Address):
        raise ValueError("is an IPv6 address; this version relays IPv4 only")
    if local.is_multicast or local.is_unspecified:
        raise ValueError("must be one address of this host, which the SDP can name")
    return Interface(name or "default", str(local))


def read_listener(text: str) -> Endpoint:
    """`[IP:]PORT`; a port alone listens on all IPv4 addresses."""
    ip, colon, port = text.rpartition(":")
    ip = {"": "0.0.0.0", "localhost": "127.0.0.1"}.get(ip, ip.removeprefix("[").removesuffix("]"))
    try:
        if colon and text.startswith(":"):
            raise ValueError
        return Endpoint(str(ip_address(ip)), whole(1, 65535, "a port")(port))
    except ValueError:
        raise ValueError("must be PORT, IP:PORT or [IPv6]:PORT, port 1 to 65535") from None


def read_network(text: str) -> Network:
    """A network, or one address."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"must be networks such as 192.0.2.0/24: {error}") from None


SECONDS = whole(0, None, "whole seconds")
