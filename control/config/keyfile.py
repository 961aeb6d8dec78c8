"""GLib's key files, as rtpengine reads them: `[sections]` of `key = value`, comments, and escapes in values.

A section or key that stands twice is merged; of a key the last value counts, as GLib has it. Only the sections that are
asked for are looked into: what else a file holds may be another program's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_ESCAPES = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\", ";": ";"}
_BLANKS = " \t\r"
_ESCAPE = re.compile(r"\\(.?)", re.DOTALL)


class Entry(NamedTuple):
    """One `key = value` of a section."""

    line: int
    key: str
    value: str


class Section(NamedTuple):
    """A section's entries in their order, a key's last value alone; `problems` by line, `warnings` by line and key."""

    entries: list[Entry]
    problems: list[tuple[int, str]]
    warnings: list[tuple[int, str, str]]


class KeyFile:
    """A file's sections by name."""

    def __init__(self, text: str) -> None:
        self._lines: dict[str, list[tuple[int, str]]] = {}
        self.stray: list[tuple[int, str]] = []
        """Lines before the first section, by their number."""
        current = self.stray
        for number, raw in enumerate(text.split("\n"), 1):
            line = raw.strip(_BLANKS)
            if line[:1] == "[" and line[-1:] == "]":
                current = self._lines.setdefault(line[1:-1].strip(_BLANKS), [])
            elif line and line[0] not in "#;":
                current.append((number, line))

    def __iter__(self) -> Iterator[str]:
        """The sections' names, in their order."""
        return iter(self._lines)

    def __contains__(self, name: str) -> bool:
        return name in self._lines

    def section(self, name: str) -> Section:
        """One section; an empty one if there is none."""
        found: dict[str, Entry] = {}
        problems, warnings = [], []
        for number, line in self._lines.get(name, ()):
            key, equals, value = (part.strip(_BLANKS) for part in line.partition("="))
            if not equals or not key:
                problems.append((number, "expected `option = value`, a [section] or a # comment"))
                continue
            if key in found:
                text = f"{key} is given twice: this one counts, not line {found.pop(key).line}"
                warnings.append((number, key, text))
            try:
                found[key] = Entry(number, key, unescape(value))
            except ValueError as error:
                problems.append((number, f"{key} = {value}: {error}"))
        return Section(list(found.values()), problems, warnings)


def unescape(value: str) -> str:
    r"""A value with `\s`, `\n`, `\t`, `\r`, `\\` and `\;` put back. Raises ValueError for other escapes."""

    def one(match: re.Match[str]) -> str:
        try:
            return _ESCAPES[match[1]]
        except KeyError:
            raise ValueError(rf"has an unknown escape {match[0]}; a backslash itself is written \\") from None

    return _ESCAPE.sub(one, value)


def escape(value: str) -> str:
    r"""The other way: what `unescape` makes `value` of."""
    text = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    body = text.strip(" ")
    if not body:
        return "\\s" * len(text)
    ahead, behind = text.index(body[0]), len(text) - len(text.rstrip(" "))
    return "\\s" * ahead + body + "\\s" * behind
