"""Write the manual page and the sample configuration from the table of options: `python deploy/generate.py`.

Both are committed; a test holds them against the table.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from control.config import DEFAULT_SECTION, Option, options
from control.version import version

HERE = Path(__file__).parent


def manual() -> str:
    """deploy/man/hairpin.1"""
    source = (HERE / "man" / "hairpin.1.in").read_text()
    entries = "\n".join(_entry(name, given, _shown(given, default)) for name, given, default in options())
    return source.replace("@OPTIONS@", entries).replace("@VERSION@", version())


def sample() -> str:
    """deploy/hairpin.conf"""
    parts = [
        "# Options of `hairpin run`, each with its default. Copy to /etc/hairpin/hairpin.conf, change what you need;",
        "# no line is needed for a working relay. `man hairpin` says more. The command line wins over this file.",
        f"\n[{DEFAULT_SECTION}]",
    ]
    for name, given, default in options():
        shown = _shown(given, default)
        note = textwrap.wrap(given.help + (f" (default: {shown})" if given.shown else ""), 110)
        parts.append("\n" + "\n".join(f"# {line}" for line in note))
        parts.append(f"#{name} = {given.metavar if given.shown else shown}")
    return "\n".join(parts) + "\n"


def _shown(given: Option, default: object) -> str:
    return given.shown or str(default).lower() if isinstance(default, bool) else given.shown or str(default)


def _entry(name: str, given: Option, shown: str) -> str:
    short = f"\\-{given.short}, " if given.short else ""
    long = f"\\-\\-{_roff(name)}"
    head = f"{short}{long}" if given.metavar is None else f"{short}{long}=\\fI{_roff(given.metavar)}\\fB"
    text = given.help[0].upper() + given.help[1:]
    default = "" if given.metavar is None else f"\nDefault: {_roff(shown)}."
    return f'.TP\n.B "{head}"\n{_roff(text)}.{default}'


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


if __name__ == "__main__":
    (HERE / "man" / "hairpin.1").write_text(manual())
    (HERE / "hairpin.conf").write_text(sample())
