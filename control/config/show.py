"""Settings as a configuration file: what `hairpin check-config` prints, and what reads back as the same settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from control.config.interfaces import KEYS, SECTION, Interface
from control.config.keyfile import escape
from control.config.load import DEFAULT_SECTION
from control.config.options import Config, options


def text(value: object) -> str:
    """One option's value as a file has it."""
    if type(value) is tuple:  # a list; named tuples write themselves
        return ";".join(map(text, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else escape(str(value))


def settings(config: Config, origins: Mapping[str, str]) -> Iterator[str]:
    """All options line by line, with where each was given."""
    yield f"[{DEFAULT_SECTION}]"
    for name, _, _ in options():
        field = name.replace("-", "_")
        value = getattr(config, field)
        yield f"# {origins.get(field, 'default')}"
        yield f"{name} = {text(_listed(value) if field == 'interface' else value)}"
    for number, one in enumerate(_own_sections(config.interface), 1):
        yield from ("", f"[{SECTION}{number}]", *_section(one))
    if config.flag_templates:
        yield from ("", f"[{config.templates}]")
        yield from (f"{name} = {escape(flags)}" for name, flags in config.flag_templates.items())


def _listed(interfaces: Iterable[Interface]) -> tuple[Interface, ...]:
    return tuple(one for one in interfaces if not _has_ports(one))


def _own_sections(interfaces: Iterable[Interface]) -> Iterator[Interface]:
    return (one for one in interfaces if _has_ports(one))


def _has_ports(one: Interface) -> bool:
    return bool(one.port_min or one.port_max or one.exclude_ports)


def _section(one: Interface) -> Iterator[str]:
    for key in KEYS:
        field = key.replace("-", "_")
        if (value := getattr(one, field)) != Interface._field_defaults.get(field):
            yield f"{key} = {text(value)}"
