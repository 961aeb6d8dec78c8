"""Write manual page, sample configuration and MIGRATING.md's list from the options: `python deploy/generate.py`.

They are committed; a test holds them against the table.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from control.config import DEFAULT_SECTION, Option, options
from control.config.foreign import FOREIGN
from control.version import version

HERE = Path(__file__).parent
MIGRATING = HERE.parent / "MIGRATING.md"
LIST_STARTS, LIST_ENDS = "<!-- options: written by deploy/generate.py -->", "<!-- end of options -->"


SECTIONS = """
# One more logical interface, with a section of its own: several addresses take ; between them
#[interface-public]
#address = 192.0.2.1
# what the SDP shows instead, as behind 1:1 NAT (default: the address)
#advertised = 203.0.113.1
# ports of its own (default: port-min and port-max above), and some of them left alone
#port-min = 20000
#port-max = 29999
#exclude-ports = 20080;20100-20199
# the name the proxy uses (default: that of the section)
#name = external

# Another name for it
#[interface-old-name]
#alias = external

# Flags under a name, as the ng key rtpp-flags has them. The ng key template takes one; one by the name of a command
# holds for all such commands, and default for all. What a command says itself comes first.
#[templates]
#offer = replace=[origin] ICE=remove
"""


def manual() -> str:
    """deploy/man/hairpin.1"""
    source = (HERE / "man" / "hairpin.1.in").read_text()
    entries = "\n".join(_entry(name, given, _shown(given, default)) for name, given, default in options())
    return source.replace("@OPTIONS@", entries).replace("@FOREIGN@", _foreign()).replace("@VERSION@", version())


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
    return "\n".join(parts) + "\n" + SECTIONS


def migrating() -> str:
    """MIGRATING.md, with its list of options that mean nothing here."""
    text = MIGRATING.read_text()
    head, _, rest = text.partition(LIST_STARTS)
    _, _, tail = rest.partition(LIST_ENDS)
    rows = [f"| {', '.join(f'`{name}`' for name in names)} | {why} |" for why, names in _reasons().items()]
    table = "\n".join(("| option | why it means nothing here |", "|---|---|", *rows))
    return f"{head}{LIST_STARTS}\n{table}\n{LIST_ENDS}{tail}"


def _reasons() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for foreign in FOREIGN.values():
        found.setdefault(foreign.why, []).append(foreign.name)
    return found


def _foreign() -> str:
    entries = ((_roff(", ".join(names)), _roff(why[0].upper() + why[1:])) for why, names in _reasons().items())
    return "\n".join(f'.TP\n.B "{names}"\n{why}.' for names, why in entries)


def _shown(given: Option, default: object) -> str:
    return given.shown or str(default).lower() if isinstance(default, bool) else given.shown or str(default)


def _entry(name: str, given: Option, shown: str) -> str:
    short = f"\\-{given.short}, " if given.short else ""
    long = f"\\-\\-{_roff(name)}"
    head = f"{short}{long}" if given.metavar is None else f"{short}{long}=\\fI{_roff(given.metavar)}\\fB"
    text = given.help[0].upper() + given.help[1:]
    default = "" if given.metavar is None else f"\nDefault: {_roff(shown)}."
    live = "\nTaken over by SIGHUP." if given.live else ""
    return f'.TP\n.B "{head}"\n{_roff(text)}.{default}{live}'


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


if __name__ == "__main__":
    (HERE / "man" / "hairpin.1").write_text(manual())
    (HERE / "hairpin.conf").write_text(sample())
    MIGRATING.write_text(migrating())
