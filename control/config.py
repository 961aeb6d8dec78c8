"""What `hairpin run` was told: one table of options, read by the command line, the configuration file and the manual.

Each field of `Config` is one option: its name (underscores for hyphens), default, reader and help stand in one place.
Names, short forms and the file's format are rtpengine's; the command line wins over the file.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

from relay.errors import HairpinError
from relay.types import Endpoint

T = TypeVar("T")
Network = IPv4Network | IPv6Network

DEFAULT_FILE = Path("/etc/hairpin/hairpin.conf")
DEFAULT_SECTION = "rtpengine"
LOCAL_NETWORKS: tuple[Network, ...] = tuple(
    ip_network(net)
    for net in (
        *("127.0.0.0/8", "::1/128"),
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
        *("169.254.0.0/16", "fe80::/10"),  # link-local
        "fc00::/7",  # ULA, RFC 4193
    )
)


class ConfigError(HairpinError):
    """An option that is unknown or has a value that is not allowed; the text names the place and what is allowed."""


class Interface(NamedTuple):
    """A local address media is relayed on, under the name the proxy's `direction` flag uses."""

    name: str
    address: str
    advertised: str = ""
    """What the SDP shows in the address's place; empty for the address itself."""
    port_min: int = 0
    """Lowest port of this address, 0 for what `port-min` says; so does `port_max`."""
    port_max: int = 0
    exclude_ports: tuple[int, ...] = ()
    """Ports of the range that are left alone."""


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


def read_switch(text: str) -> bool:
    """A switch as the configuration file spells it."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        return words[text.lower()]
    except KeyError:
        raise ValueError("must be true or false") from None


def read_address(text: str) -> str:
    """One unicast address in canonical text."""
    try:
        found = ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no IPv4 or IPv6 address") from None
    if found.is_multicast or found.is_unspecified or "%" in text:
        raise ValueError("must be one address of this host, which the SDP can name")
    return str(found)


def read_interface(text: str) -> Interface:
    """`[NAME/]ADDRESS[!ADVERTISED]`, IPv4 or IPv6."""
    name, slash, addresses = text.rpartition("/")
    if slash and not name:
        raise ValueError("has an empty name before the slash; write NAME/ADDRESS")
    local, mark, advertised = addresses.partition("!")
    address = read_address(local)
    shown = read_address(advertised) if mark else ""
    if shown and (":" in shown) != (":" in address):
        raise ValueError("must advertise an address of the same family")
    return Interface(name or "default", address, "" if shown == address else shown)


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


def read_url(text: str) -> str | None:
    """An http or https URL; empty for none."""
    if text and not text.startswith(("http://", "https://")):
        raise ValueError("must be a URL, http://HOST[:PORT]/PATH")
    return text or None


def read_network(text: str) -> Network:
    """A network, or one address."""
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f"must be networks such as 192.0.2.0/24: {error}") from None


SECONDS = whole(0, None, "whole seconds")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything `hairpin run` can be told. Times are in seconds."""

    interface: tuple[Interface, ...] = option(
        (),
        read_interface,
        "local address for media; the first one is used where the proxy names none",
        "[NAME/]ADDRESS[!ADVERTISED]",
        short="i",
        shown="the address of the default route",
        repeat=True,
    )
    listen_ng: tuple[Endpoint, ...] = option(
        (Endpoint("127.0.0.1", 2223),),
        read_listener,
        "where the proxy's ng commands arrive, over UDP",
        "[IP:]PORT",
        short="n",
        shown="127.0.0.1:2223",
        repeat=True,
    )
    ng_allow: tuple[Network, ...] = option(
        LOCAL_NETWORKS,
        read_network,
        "who may command the relay over listeners that are not on loopback; others get no answer",
        "NET[,NET]",
        shown="private, link-local and loopback networks",
        repeat=True,
    )
    listen_tcp_ng: tuple[Endpoint, ...] = option(
        (),
        read_listener,
        "where ng commands arrive over TCP",
        "[IP:]PORT",
        short="N",
        shown="none",
        repeat=True,
    )
    listen_http: tuple[Endpoint, ...] = option(
        (), read_listener, "where ng commands arrive over HTTP and WebSocket", "[IP:]PORT", shown="none", repeat=True
    )
    listen_https: tuple[Endpoint, ...] = option(
        (), read_listener, "the same over TLS", "[IP:]PORT", shown="none", repeat=True
    )
    https_cert: str = option("", str, "certificate chain of listen-https, in PEM", "FILE", shown="none")
    https_key: str = option("", str, "its private key", "FILE", shown="in the file of https-cert")
    foreground: bool = option(
        False, read_switch, "accepted for rtpengine's users: hairpin always stays in the foreground", short="f"
    )
    log_level: int = option(
        6,
        whole(0, 7, "a syslog level"),
        "how much to log: 3 errors, 4 warnings, 5 notices, 6 calls, 7 all",
        "LEVEL",
        short="L",
    )
    log_stderr: bool = option(
        False,
        read_switch,
        "log to standard error instead of syslog; so it does on a terminal and without a syslog",
        short="E",
    )
    table: int = option(
        0,
        whole(-1, 63, "an instance number"),
        "instance number, for several relays in one network namespace, on interfaces of their own; -1 counts as 0",
        "N",
        short="t",
    )
    port_min: int = option(30000, whole(1, 65535, "a port"), "lowest port for media", "PORT", short="m")
    port_max: int = option(40000, whole(1, 65535, "a port"), "highest port for media", "PORT", short="M")
    tos: int = option(
        0,
        whole(-1, 255, "a TOS byte (-1 leaves each packet's own)"),
        "TOS byte written to media where the proxy sets none; 184 is EF, the two low bits are ignored",
        "TOS",
        short="T",
    )
    timeout: int = option(
        60, SECONDS, "end a call when none of its receiving streams had a packet for this long", "SECS", short="o"
    )
    silent_timeout: int = option(3600, SECONDS, "the same for calls on hold or muted", "SECS", short="s")
    offer_timeout: int = option(3600, SECONDS, "end a call that was never answered after this long", "SECS")
    final_timeout: int = option(0, SECONDS, "end any call after this long; 0 never does", "SECS", short="a")
    delete_delay: int = option(30, SECONDS, "keep a deleted call's ports forwarding for this long", "SECS", short="d")
    max_sessions: int = option(
        -1,
        whole(-1, None, "a number of calls (-1 for no limit)"),
        "refuse offers of new calls beyond this many",
        "N",
        shown="no limit",
    )
    max_load: float = option(
        0.0,
        decimal("a load average"),
        "refuse offers of new calls while the host's load of the last minute is above this",
        "LOAD",
        shown="no limit",
    )
    max_cpu: float = option(
        0.0,
        decimal("a percentage"),
        "refuse offers of new calls while the host's CPUs together are busier than this many percent",
        "PERCENT",
        shown="no limit",
    )
    max_bandwidth: int = option(
        0,
        whole(0, None, "bytes per second"),
        "refuse offers of new calls while more media than this arrives, in bytes per second",
        "BYTES",
        shown="no limit",
    )
    b2b_url: str | None = option(
        None,
        read_url,
        "whom to tell by XMLRPC of calls that ended by a timeout; %% in it stands for the proxy's address",
        "URL",
        short="b",
        shown="nobody",
    )
    xmlrpc_format: int = option(
        0,
        whole(0, 2, "a format"),
        "how to tell: 0 SEMS, di.terminate_call with the tags; 1 the Call-ID alone; 2 Kamailio, dlg.terminate_dlg",
        "N",
        short="x",
    )
    sip_source: bool = option(
        False, read_switch, "send media to where a party's signalling came from, whatever address its SDP names"
    )
    endpoint_learning: str = option(
        "delayed",
        choice("delayed", "immediate", "off", "heuristic"),
        "how a port finds out where its party sends from, where the proxy does not say",
        "delayed|immediate|off|heuristic",
    )
    max_addresses: int = option(
        16,
        whole(1, 16, "a number of addresses"),
        "local addresses at most; the tables take 12 MB of memory for each in use",
        "N",
    )
    dataplane: str = option(
        "auto",
        choice("auto", "xdp", "xdp-generic", "userspace", "memory"),
        "what forwards media: auto takes the best that works, native XDP, generic XDP or userspace, which is a socket "
        "for each port; memory keeps rules and forwards nothing",
        "auto|xdp|xdp-generic|userspace|memory",
    )
    attach: tuple[str, ...] = option(
        (),
        str,
        "network interfaces to attach XDP to",
        "IF[,IF]",
        shown="those media arrives on and leaves from",
        repeat=True,
    )
    port_rate: int = option(
        2000, whole(1, 1_000_000, "packets per second"), "packets per second one port takes; more are dropped", "N"
    )
    slow_rate: int = option(
        16,
        whole(1, 255, "packets per second"),
        "packets per second one port may send up to the daemon (unresolved neighbours, RTCP copies)",
        "N",
    )
    deny_peer: tuple[Network, ...] = option(
        (),
        read_network,
        "networks media is never forwarded to, besides the unsafe ones",
        "NET[,NET]",
        shown="none",
        repeat=True,
    )
    socket: str = option(
        "", str, "operators' socket", "PATH", shown="in /run/hairpin, or $XDG_RUNTIME_DIR/hairpin without root"
    )
    pidfile: str = option("", str, "write the process number here", "FILE", short="p", shown="none")

    @property
    def instance(self) -> int:
        """The instance number: rtpengine's "no kernel table" is our first instance."""
        return max(self.table, 0)


def options() -> Iterator[tuple[str, Option, Any]]:
    """The table: (name as people write it, how it is given, default)."""
    for item in dataclasses.fields(Config):
        yield item.name.replace("_", "-"), item.metadata["option"], item.default


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def parser() -> argparse.ArgumentParser:
    """The command line of `hairpin run`. Values stay text: the file and the command line share the readers."""
    made = _Parser(prog="hairpin run", allow_abbrev=False, description="Relay media for the SIP proxies that ask.")
    made.add_argument("--config-file", metavar="FILE", help=f"read options from here, or none (default {DEFAULT_FILE})")
    made.add_argument(
        "--config-section",
        metavar="NAME",
        default=DEFAULT_SECTION,
        help=f"section of the file to read (default {DEFAULT_SECTION})",
    )
    for name, given, default in options():
        flags = [f"-{given.short}", f"--{name}"] if given.short else [f"--{name}"]
        if given.metavar is None:
            made.add_argument(*flags, action="store_const", const="true", help=given.help)
        else:
            text = f"{given.help} (default {given.shown or default})".replace("%", "%%")
            made.add_argument(*flags, action="append", metavar=given.metavar, help=text)
    return made


def load(arguments: Sequence[str], default_file: Path = DEFAULT_FILE) -> Config:
    """Settings from the command line and the configuration file it names; raises ConfigError."""
    namespace, unknown = parser().parse_known_args(list(arguments))
    if unknown:
        raise ConfigError(_no_option(unknown[0].partition("=")[0]) + "; `hairpin run --help` lists them")
    given = vars(namespace)
    path, section = given.pop("config_file"), given.pop("config_section")
    values = dict(_from_file(path, section, default_file))
    for name, texts in given.items():
        if texts is not None:
            values[name] = _from_command_line(name, texts)
    config = Config(**values)
    _check(config)
    return config


def _from_command_line(name: str, texts: str | list[str]) -> Any:
    given = _option(name)
    spelled = "--" + name.replace("_", "-")
    if isinstance(texts, str):
        return _read(given, texts, spelled)
    if given.repeat:
        return _read(given, ";".join(texts), f"{spelled}={';'.join(texts)}")
    return _read(given, texts[-1], f"{spelled}={texts[-1]}")


def _from_file(path: str | None, section: str, default_file: Path) -> Mapping[str, Any]:
    if path == "none" or (path is None and not default_file.exists()):
        return {}
    place = Path(path) if path is not None else default_file
    try:
        text = place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration file {place}: {error}") from error
    return read_file(text, section, str(place))


def read_file(text: str, section: str, place: str) -> dict[str, Any]:
    """The options of one section of an INI text, whatever others say; raises ConfigError naming the line."""
    known = {name for name, _, _ in options()}
    values: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for number, key, value in _lines(text, section, place):
        where = f"{place} line {number}"
        if key not in known:
            raise ConfigError(f"{where}: {_no_option(key)}; `man hairpin` lists them")
        if key in seen:
            raise ConfigError(f"{where}: {key} is given twice, first on line {seen[key]}; lists take ; between values")
        seen[key] = number
        name = key.replace("-", "_")
        values[name] = _read(_option(name), value, f"{where}: {key} = {value}")
    return values


def _lines(text: str, wanted: str, place: str) -> Iterator[tuple[int, str, str]]:
    section, found = "", False
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[" and line[-1] == "]":
            section = line[1:-1].strip()
            found = found or section == wanted
            continue
        key, equals, value = line.partition("=")
        if section != wanted:
            continue
        if not equals or not key.strip():
            raise ConfigError(f"{place} line {number}: expected `option = value`, a [section] or a # comment")
        yield number, key.strip(), value.strip()
    if not found:
        raise ConfigError(f"{place} has no section [{wanted}]; name another with --config-section=")


def _no_option(name: str) -> str:
    close = get_close_matches(name.lstrip("-"), [known for known, _, _ in options()], 1)
    return f"there is no option {name}" + (f" (did you mean {close[0]}?)" if close else "")


def _option(name: str) -> Option:
    found: Option = Config.__dataclass_fields__[name].metadata["option"]
    return found


def _read(given: Option, text: str, where: str) -> Any:
    try:
        if given.repeat:
            return tuple(given.read(part.strip()) for part in text.replace(";", ",").split(",") if part.strip())
        return given.read(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _check(config: Config) -> None:
    """What no single option can say; raises ConfigError."""
    if config.port_max - config.port_min < 3:
        raise ConfigError(
            f"port-min {config.port_min} and port-max {config.port_max} leave no room for one call, which takes 4 ports"
        )
    if not config.listen_ng:
        raise ConfigError("listen-ng is empty: no proxy could reach the relay; leave it out for 127.0.0.1:2223")
    if config.listen_https and not config.https_cert:
        raise ConfigError("listen-https needs a certificate: name its file with https-cert")
    addresses = [interface.address for interface in config.interface]
    if len(set(addresses)) > config.max_addresses:
        raise ConfigError(f"{len(set(addresses))} local addresses, but max-addresses is {config.max_addresses}")
    if len(set(config.interface)) < len(config.interface):
        raise ConfigError("interface: the same NAME/ADDRESS is given twice")
