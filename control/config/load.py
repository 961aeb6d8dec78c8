"""The command line and the configuration file to a `Config`; all that is wrong is told at once, with its place.

The command line wins over the file. An `--interface` on it replaces all interfaces of the file, those of sections too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from control.config import failover, interfaces, replication
from control.config.declare import Option
from control.config.errors import ConfigError
from control.config.foreign import FOREIGN
from control.config.interfaces import Interface
from control.config.keyfile import KeyFile
from control.config.options import Config, options

DEFAULT_FILE = Path("/etc/hairpin/hairpin.conf")
DEFAULT_SECTION = "rtpengine"
LARGEST_FILE = 1 << 20


@dataclass(slots=True)
class Loaded:
    """Settings, what they were read from in words, where each option was given, and what to warn of."""

    config: Config = field(default_factory=Config)
    source: str = "the command line alone"
    origins: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def parser(program: str = "hairpin run") -> argparse.ArgumentParser:
    """The command line of `hairpin run`. Values stay text: the file and the command line share the readers."""
    made = _Parser(prog=program, allow_abbrev=False, description="Relay media for the SIP proxies that ask.")
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
    for foreign in FOREIGN.values():
        flags = [f"-{foreign.short}", f"--{foreign.name}"] if foreign.short else [f"--{foreign.name}"]
        how: dict[str, Any] = {"action": "store_const", "const": "true"} if foreign.switch else {"action": "append"}
        made.add_argument(*flags, **how, help=argparse.SUPPRESS)
    return made


def load(arguments: Sequence[str], default_file: Path = DEFAULT_FILE) -> Config:
    """Settings from the command line and the configuration file it names; raises ConfigError."""
    return examine(arguments, default_file).config


def examine(arguments: Sequence[str], default_file: Path = DEFAULT_FILE, program: str = "hairpin run") -> Loaded:
    """The same with all there is to say about it; raises ConfigError with every problem found."""
    namespace, unknown = parser(program).parse_known_args(list(arguments))
    given: dict[str, Any] = {name: value for name, value in vars(namespace).items() if value is not None}
    section = given.pop("config_section")
    reading = _Reading()
    if unknown:
        reading.problems.append(f"{_no_option(unknown[0].partition('=')[0])}; `hairpin run --help` lists them")
    reading.file(given.pop("config_file", None), section, default_file)
    for name, texts in given.items():
        reading.command_line(name.replace("_", "-"), texts)
    reading.templates()
    return reading.done()


def read_file(text: str, section: str, place: str) -> dict[str, Any]:
    """The options of one section of a file's text; raises ConfigError naming every line that is wrong."""
    reading = _Reading()
    reading.text(text, section, place)
    reading.templates()
    if reading.problems:
        raise ConfigError(*reading.problems, warnings=reading.loaded.warnings)
    return reading.values


class _Reading:
    """Values as they are found, and what is wrong with them."""

    def __init__(self) -> None:
        self.loaded = Loaded()
        self.values: dict[str, Any] = {}
        self.problems: list[str] = []
        self._file, self._place = KeyFile(""), ""

    def file(self, path: str | None, section: str, default_file: Path) -> None:
        if path is None and not default_file.exists():
            self.loaded.source += f": there is no {default_file}, another file is named by --config-file="
            return
        if path == "none":
            return
        place = Path(path) if path is not None else default_file
        self.loaded.source = f"the command line and {place}"
        try:
            with place.open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
            text = content.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the configuration file {place}: {error}") from error
        if len(content) > LARGEST_FILE:
            raise ConfigError(f"the configuration file {place} has more than {LARGEST_FILE} bytes")
        self.text(text, section, str(place))

    def text(self, text: str, section: str, place: str) -> None:
        file = KeyFile(text)
        if section not in file:
            self.problems.append(f"{place} has no section [{section}]; name another with --config-section=")
        self.problems += [
            f"{place} line {line}: {text}: stands before the first section, [{section}] belongs above it"
            for line, text in file.stray
        ]
        for line, key, value in self._entries(file, section, place):
            self._option(key, value, f"{place} line {line}")
        titles = [title for title in file if title.startswith(interfaces.SECTION)]
        if found := [one for title in titles for one in self._interface(file, title, place)]:
            self.values["interface"] = (*self.values.get("interface", ()), *found)
            self.loaded.origins["interface"] = place
        self._file, self._place = file, place

    def command_line(self, name: str, texts: str | list[str]) -> None:
        if name in FOREIGN:
            self._foreign(name, f"--{name}")
        elif isinstance(texts, str):
            self._take(name, texts, f"--{name}", "command line")
        else:
            text = ";".join(texts) if _option(name).repeat else texts[-1]
            self._take(name, text, f"--{name}={_option(name).repeated(text)}", "command line")

    def templates(self) -> None:
        """Take the templates of flags, once it is known which section holds them."""
        default = Config().templates
        section = self.values.get("templates", default)
        if section in self._file:
            entries = self._entries(self._file, section, self._place)
            self.values["flag_templates"] = {key: value for _, key, value in entries}
        elif section != default:
            place = self.loaded.origins["templates"]
            self.problems.append(f"{place}: templates = {section}: there is no section [{section}] in the file")

    def done(self) -> Loaded:
        if not self.problems:
            config = self.loaded.config = Config(**self.values)
            self.problems += _problems(config)
            self.loaded.warnings += interfaces.repeated(config.interface)
        if self.problems:
            raise ConfigError(*self.problems, warnings=self.loaded.warnings)
        return self.loaded

    def _entries(self, file: KeyFile, section: str, place: str) -> Iterable[tuple[int, str, str]]:
        found = file.section(section)
        self.problems += [f"{place} line {line}: {text}" for line, text in found.problems]
        self.loaded.warnings += [f"{place} line {line}: {text}{_list_hint(key)}" for line, key, text in found.warnings]
        return found.entries

    def _option(self, key: str, value: str, where: str) -> None:
        if key in FOREIGN:
            if not FOREIGN[key].switch or value not in ("false", "0", "no"):
                self._foreign(key, f"{where}: {key}")
        elif key in _names():
            value = self._first_word(key, value, where)
            self._take(key, value, f"{where}: {key} = {_option(key).repeated(value)}", where)
        else:
            self.problems.append(f"{where}: {_no_option(key)}; `man hairpin` lists them")

    def _first_word(self, key: str, value: str, where: str) -> str:
        """A number ends at the first space, as GLib reads it: `tos = 184 # EF`."""
        words = value.split()
        if len(words) < 2 or not isinstance(Config.__dataclass_fields__[_field(key)].default, int | float):
            return value
        if _option(key).metavar is None:
            return value
        self.loaded.warnings.append(f"{where}: {key} is {words[0]}: what stands behind it in the line does not count")
        return words[0]

    def _foreign(self, name: str, where: str) -> None:
        self.loaded.warnings.append(f"{where} means nothing here: {FOREIGN[name].why}")

    def _take(self, name: str, text: str, where: str, origin: str) -> None:
        try:
            self.values[_field(name)] = _option(name).read(text)
            self.loaded.origins[_field(name)] = origin
        except ValueError as error:
            self.problems.append(f"{where}: {error}")

    def _interface(self, file: KeyFile, title: str, place: str) -> tuple[Interface, ...]:
        values: dict[str, object] = {}
        before = len(self.problems)
        for line, key, value in self._entries(file, title, place):
            where = f"{place} line {line}: {key} = {value}"
            try:
                values[key] = interfaces.KEYS[key](value)
            except KeyError:
                self.problems.append(f"{where}: an interface has no {key}; it has {', '.join(interfaces.KEYS)}")
            except ValueError as error:
                self.problems.append(f"{where}: {error}")
        if len(self.problems) > before:
            return ()
        try:
            return interfaces.from_section(title, values)
        except ValueError as error:
            self.problems.append(f"{place} section [{title}]: {error}")
            return ()


def _field(name: str) -> str:
    return name.replace("-", "_")


def _names() -> dict[str, Option]:
    return {name: given for name, given, _ in options()}


def _option(name: str) -> Option:
    return _names()[name]


def _list_hint(name: str) -> str:
    """How a list is written that stood on several lines."""
    given = _names().get(name)
    return "; all belong on one line, with ; between" if given and given.repeat else ""


def _no_option(name: str) -> str:
    close = get_close_matches(name.lstrip("-"), [*_names(), *FOREIGN], 1)
    return f"there is no option {name}" + (f" (did you mean {close[0]}?)" if close else "")


def _problems(config: Config) -> list[str]:
    """What no single option can say."""
    found = list(check(config, [one for one in config.interface if not one.alias]))
    if not config.listen_ng:
        found.append("listen-ng is empty: no proxy could reach the relay; leave it out for 127.0.0.1:2223")
    if config.listen_https and not config.https_cert:
        found.append("listen-https needs a certificate: name its file with https-cert")
    found += replication.check(config)
    found += failover.check(config)
    return found


def check(config: Config, named: Sequence[Interface]) -> Iterator[str]:
    """What is wrong with the addresses and ports of these interfaces; said again once their addresses are known."""
    full = [config.with_ports(one) for one in named or (Interface("default", ""),)]
    wrong = list(dict.fromkeys(interfaces.check_ports(full)))
    yield from wrong or interfaces.check_keyspaces(full, config)
    addresses = {one.address for one in full}
    if len(addresses) > config.max_addresses:
        yield (
            f"{len(addresses)} local addresses for media, but the tables have room for max-addresses = "
            f"{config.max_addresses}"
        )
