"""Where media is relayed: logical interfaces as people write them, and the addresses of this host they stand for.

interface = internal/10.0.0.1;external/eth1!203.0.113.7;old-name=external;any;external/203.0.113.8@2

[interface-public]
address = 192.0.2.1
advertised = 203.0.113.1
port-min = 20000
port-max = 29999
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from control.config.errors import ConfigError
from control.config.readers import HOST_NAME, address, host_address, parts, ports, whole
from control.config.replication import MAX_KEYSPACE, Replication
from relay.ports import slices

ANY = "any"
"""All addresses of this host but loopback and link-local ones."""
SECTION = "interface-"


class Interface(NamedTuple):
    """A local address media is relayed on, under the name the proxy's `direction` flag uses.

    As people write it, `address` may also be a network device, a host's name or `any`, and `advertised` a host's name:
    `resolve` puts addresses in their place. Several entries of one name are several addresses of that name.
    """

    name: str
    address: str
    advertised: str = ""
    """What the SDP shows in the address's place; empty for the address itself."""
    port_min: int = 0
    """Lowest port of this address, 0 for what `port-min` says; so does `port_max`."""
    port_max: int = 0
    exclude_ports: tuple[int, ...] = ()
    """Ports of the range that are left alone."""
    alias: bool = False
    """`name` is another name for all that the name in `address` stands for."""
    keyspace: int = -1
    """Of the partner whose address it is, which makes calls on it while this node holds them ready; -1: this node's."""

    def __str__(self) -> str:
        if self.alias:
            return f"{self.name}={self.address}"
        shown = f"!{self.advertised}" if self.advertised else ""
        return f"{self.name}/{self.address}{shown}" + (f"@{self.keyspace}" if self.keyspace >= 0 else "")


class HostAddress(NamedTuple):
    """One address of this host, and the network device that has it."""

    device: str
    ip: str


def interface(text: str) -> Interface:
    """`[NAME/]ADDRESS[!ADVERTISED][@KEYSPACE]` or `ALIAS=NAME`. Raises ValueError."""
    left, equals, right = (part.strip() for part in text.partition("="))
    if equals:
        return Interface(_name(left), _name(right), alias=True)
    name, slash, addresses = text.rpartition("/")
    if slash and not name:
        raise ValueError("has an empty name before the slash; write NAME/ADDRESS")
    addresses, at, keyspace = addresses.partition("@")
    local, mark, advertised = addresses.partition("!")
    home = _keyspace(keyspace) if at else -1
    return _interface(_name(name) if slash else "default", local, advertised if mark else None, home)


def _interface(name: str, local: str, advertised: str | None, home: int) -> Interface:
    where = _place(local)
    shown = "" if advertised is None else _place(advertised)
    if _family(where) and _family(shown) and _family(where) != _family(shown):
        raise ValueError("must advertise an address of the same family")
    return Interface(name, where, "" if shown == where else shown, keyspace=home)


def _name(text: str) -> str:
    if not text or any(mark in text for mark in "/!=[]") or not text.isprintable():
        raise ValueError(f"{text!r} is no name for an interface")
    return text


def _place(text: str) -> str:
    """An address in canonical text, or a name as it stands."""
    if HOST_NAME.fullmatch(text) and not _family(text):
        return text
    return address(text)


def _family(text: str) -> int:
    """4 or 6, 0 for what is no address."""
    try:
        return ip_address(text).version
    except ValueError:
        return 0


_keyspace = whole(0, MAX_KEYSPACE, "the keyspace of a partner,")

KEYS: dict[str, Callable[[str], object]] = {
    "address": str,
    "advertised": str,
    "port-min": whole(1, 65535, "a port"),
    "port-max": whole(1, 65535, "a port"),
    "exclude-ports": ports,
    "alias": str,
    "name": str,
    "keyspace": _keyspace,
}
"""What an interface's section may say; all texts are read together."""


def from_section(title: str, values: Mapping[str, object]) -> tuple[Interface, ...]:
    """The entries of one `[interface-NAME]` from what KEYS made of its lines. Raises ValueError."""
    said = {key: str(values.get(key) or "") for key in ("name", "alias", "address", "advertised")}
    name = _name(said["name"] or title.removeprefix(SECTION))
    if bool(said["alias"]) == bool(said["address"]):
        raise ValueError("needs either `address`, or `alias` with the name of another interface")
    if said["alias"]:
        return (Interface(name, _name(said["alias"]), alias=True),)
    made = [_interface(name, part, said["advertised"] or None, -1) for part in parts(said["address"])]
    numbers = [key for key in KEYS if key in values and key not in said and key != "name"]
    given: dict[str, Any] = {key.replace("-", "_"): values[key] for key in numbers}
    return tuple(one._replace(**given) for one in made)


def resolve(
    given: Iterable[Interface],
    host: Sequence[HostAddress],
    lookup: Callable[[str], str] = host_address,
) -> tuple[Interface, ...]:
    """The same interfaces by their addresses alone, aliases included. Raises ConfigError for names nobody has."""
    found: dict[tuple[str, str, int], Interface] = {}
    problems = []
    for entry in given:
        try:
            made = _aliased(entry, found.values()) if entry.alias else _addressed(entry, host, lookup)
        except ValueError as error:
            problems.append(f"interface {entry}: {error}")
            continue
        for one in made:
            found.setdefault((one.name, one.address, one.port_min), one)
    if problems:
        raise ConfigError(*problems)
    return tuple(found.values())


def _aliased(entry: Interface, found: Iterable[Interface]) -> list[Interface]:
    meant = [one._replace(name=entry.name) for one in found if one.name == entry.address]
    if not meant:
        raise ValueError(f"no interface before it is called {entry.address}")
    return meant


def _addressed(entry: Interface, host: Sequence[HostAddress], lookup: Callable[[str], str]) -> list[Interface]:
    shown = entry.advertised if _family(entry.advertised) or not entry.advertised else lookup(entry.advertised)
    return [
        entry._replace(address=ip, advertised=shown if _family(shown) == _family(ip) and shown != ip else "")
        for ip in _addresses(entry.address, host, lookup)
    ]


def _addresses(text: str, host: Sequence[HostAddress], lookup: Callable[[str], str]) -> list[str]:
    if _family(text):
        return [text]
    if text == ANY:
        found = [one.ip for one in host if not ip_address(one.ip).is_loopback]
    else:
        found = [one.ip for one in host if one.device == text]
    if found := [ip for ip in found if not ip_address(ip).is_link_local]:
        return found
    if text == ANY or any(one.device == text for one in host):
        raise ValueError(f"{text} has only addresses that an SDP cannot name")
    try:
        return [lookup(text)]
    except ValueError:
        devices = ", ".join(sorted({one.device for one in host}))
        raise ValueError(
            f"neither a network device with an address nor a host is called {text}; the devices are {devices}"
        ) from None


def repeated(given: Sequence[Interface]) -> Iterator[str]:
    """A word on each interface that stands twice, and of which the first counts."""
    first: dict[tuple[str, str, int, bool], Interface] = {}
    for one in given:
        other = first.setdefault((one.name, one.address, one.port_min, one.alias), one)
        if other is not one:
            yield f"interface {one} does not count: {other} stands before it"


def check_ports(interfaces: Sequence[Interface]) -> Iterator[str]:
    """What is wrong with the port ranges of addresses, all given in full."""
    for number, one in enumerate(interfaces):
        span = f"{one.port_min}-{one.port_max}"
        left_out = frozenset(one.exclude_ports)
        pairs = range(one.port_min + one.port_min % 2, one.port_max, 2)
        if sum(1 for port in pairs if left_out.isdisjoint((port, port + 1))) < 2:
            without = ", without exclude-ports," if left_out else ""
            yield (
                f"port-min {one.port_min} and port-max {one.port_max}{without} leave no room for one call, "
                "which takes 4 ports"
            )
        for other in interfaces[:number]:
            theirs = f"{other.port_min}-{other.port_max}"
            apart = one.port_max < other.port_min or other.port_max < one.port_min
            if one.address == other.address and span != theirs and not apart:
                yield (
                    f"interfaces {other.name} and {one.name} share the address {one.address}, but their ports "
                    f"{theirs} and {span} overlap: give both the same ports, or ports apart"
                )


def check_keyspaces(interfaces: Sequence[Interface], given: Replication) -> Iterator[str]:
    """What is wrong with whose addresses these are, all given in full, and with who draws which of their ports."""
    for one in interfaces:
        if one.keyspace >= 0 and one.keyspace not in given.keyspaces:
            yield (
                f"interface {one} belongs to keyspace {one.keyspace}, which is neither this node's own "
                f"({given.keyspace}) nor among subscribe-keyspace"
            )
    if all(one.keyspace not in (-1, given.keyspace) for one in interfaces):
        yield "all interfaces are partners': calls are made on an address of this node's own, which needs no keyspace"
    shares = [(one.keyspace, float(one.share)) for one in given.slices]
    for low, high in dict.fromkeys((one.port_min, one.port_max) for one in interfaces):
        try:
            slices(low, high, shares)
        except ValueError as error:
            yield f"takeover-slices: {error}; widen the range, or give larger shares to fewer nodes"
