"""Addresses, partners and what keeps calls, as text for people."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from control.ops.text import clean, duration, table

__all__ = ["active", "addresses", "happened", "ordered", "standby", "tree"]

_HEADS = ("ADDRESS", "ROLE", "SINCE", "PARTNERS", "PORTS HEARD", "WHY")


def addresses(item: Mapping[str, Any]) -> Iterator[str]:
    """The lines of `hairpin status` on service addresses."""
    rows = item["addresses"]
    if not rows:
        return
    yield f"addresses, announced by {item['speaker']}"
    yield from (f"  {clean(line)}" for line in item["speaker_lines"])
    yield from (f"  {line}" for line in table(_HEADS, map(_row, rows)).splitlines())
    yield from (f"  ALARM {row['address']}: {clean(row['alarm'])}" for row in rows if row["alarm"])
    if item["unconfirmed"]:
        yield f"  ALARM {clean(item['unconfirmed'])}"
    if item["unwell"]:
        yield f"  not well: {clean(item['unwell'])}"


def _row(row: Mapping[str, Any]) -> Sequence[object]:
    role = row["role"] if row["confirmed"] else f"{row['role']} (not confirmed)"
    partners = ", ".join(f"{name} {said}" for name, said in row["partners"].items())
    return row["address"], role, duration(row["seconds"]), partners, row["busy_ports"], row["why"]


def happened(rows: Iterable[Mapping[str, Any]], since: float) -> Iterator[str]:
    """What happened to addresses from some Unix time on, in its order, each with its time of day."""
    found = [(one["at"], row["address"], one["what"]) for row in rows for one in row["happenings"]]
    for at, ip, what in sorted((one for one in found if one[0] >= since), key=lambda one: one[0]):
        yield f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at * 1000) % 1000:03d}  {ip}  {clean(what)}"


def ordered(item: Mapping[str, Any]) -> str:
    """Where `hairpin withdraw` and `announce` have left the addresses."""
    return "\n".join(f"{row['address']}: {_left(row)}" for row in item["addresses"])


def _left(row: Mapping[str, Any]) -> str:
    confirmed = "" if row["confirmed"] else ", which the speaker has not confirmed"
    heard = {None: "", 0: ", no packets come here"}.get(
        row["busy_ports"], f", packets come at {row['busy_ports']} ports"
    )
    alarm = f"; ALARM: {clean(row['alarm'])}" if row["alarm"] else ""
    return f"{row['role']}{confirmed}{heard}{alarm}"


def active(items: Sequence[Mapping[str, Any]]) -> str:
    """`hairpin active`."""
    return "\n".join(f"{one['address']}: {one['calls']} calls are being taken" for one in items)


def standby(items: Sequence[Mapping[str, Any]]) -> str:
    """`hairpin standby`."""
    return "\n".join(f"{one['address']}: keyspace {one['partner']} is asked to take the calls" for one in items)


def tree(title: str, value: Any, indent: str = "") -> Iterator[str]:
    """Anything of names and values, as one part of the relay tells it of itself; what is empty is left out."""
    if isinstance(value, Mapping):
        inner = [line for name, one in value.items() for line in tree(str(name), one, indent + "  ")]
    elif isinstance(value, (list, tuple)):
        inner = [f"{indent}  {clean(one)}" for one in value if one not in (None, "")]
    else:
        told = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
        inner = []
        if value not in (None, ""):
            yield f"{indent}{clean(title)}: {clean(told)}"
    if inner:
        yield f"{indent}{clean(title)}"
        yield from inner
