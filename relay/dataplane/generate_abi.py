"""Writes relay/dataplane/abi.py from the type information of the built XDP object.

    python -m relay.dataplane.generate_abi build/relay.bpf.o > relay/dataplane/abi.py
    python -m relay.dataplane.generate_abi --check build/relay.bpf.o

The second form fails if the committed file does not say what the object says.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from relay.dataplane.btf import BtfError, Enum, Field, Layout, Struct
from relay.dataplane.libbpf import Object

_PREFIX = "hp_"
_COUNTERS = "hp_counter"
_COUNTER_LINE = re.compile(r'^(COUNTER|DROP)\((\w+),\s*"(.*)"\)$', re.MULTILINE)

_HEAD = '''"""The layout that ebpf/abi.h gives to what the XDP program and Python share.

Generated from the object's BTF by `make abi` (relay.dataplane.generate_abi). Do not edit.
A field in network order has a big-endian dtype: plain numbers go in and come out.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
'''


def generate(layout: Layout, counters: str) -> str:
    """The text of abi.py; `counters` is the text of ebpf/counters.inc."""
    _refuse_namesakes(layout)
    parts = [_HEAD, f'DIGEST: Final = "{layout.digest()}"\n']
    parts += [_enum_constants(enum) for enum in layout.enums if enum.name != _COUNTERS]
    parts += [_counter_names(layout, counters)]
    parts += [_dtype(entry) for entry in layout.structs]
    return "\n".join(parts)


def _refuse_namesakes(layout: Layout) -> None:
    names = [name.lower() for enum in layout.enums if enum.name != _COUNTERS for name, _ in enum.members]
    names += [entry.name for entry in layout.structs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BtfError(f"two things in ebpf/abi.h are called {', '.join(sorted(twice))}")


def _constant_name(name: str) -> str:
    return name.removeprefix(_PREFIX).upper()


def _enum_constants(enum: Enum) -> str:
    lines = [f"# enum {enum.name}"]
    lines += [f"{_constant_name(name.lower())}: Final = {value}" for name, value in enum.members]
    return "\n".join(lines) + "\n"


def _counter_names(layout: Layout, text: str) -> str:
    declared = _COUNTER_LINE.findall(text)
    members = next(enum.members for enum in layout.enums if enum.name == _COUNTERS)
    if [name.removeprefix("HP_COUNT_") for name, _ in members[:-1]] != [name for _, name, _ in declared]:
        raise BtfError("counters.inc is not the one the object was built with: run `make build`")
    lines = ["# enum hp_counter: names by index, what each says to the operator, and which are reasons of a drop"]
    lines += ["COUNTERS: Final = (", *(f'    "{name}",' for _, name, _ in declared), ")"]
    lines += ["COUNTER_TEXTS: Final = {", *(f'    "{name}": "{meaning}",' for _, name, meaning in declared), "}"]
    lines += ["DROP_REASONS: Final = (", *(f'    "{name}",' for kind, name, _ in declared if kind == "DROP"), ")"]
    return "\n".join(lines) + "\n"


def _dtype(entry: Struct) -> str:
    fields = (f"        ({field.name!r}, {_kind(field)}{_shape(field)}),".replace("'", '"') for field in entry.fields)
    name = _constant_name(entry.name)
    return "\n".join([f"{name}: Final[np.dtype[Any]] = np.dtype(", "    [", *fields, "    ]", ")"]) + "\n"


def _kind(field: Field) -> str:
    return _constant_name(field.kind) if field.kind.startswith(_PREFIX) else repr(field.kind)


def _shape(field: Field) -> str:
    return "" if field.length is None else f", ({field.length},)"


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed file instead of printing")
    parser.add_argument("object", type=Path)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = _arguments(arguments)
    house = Path(__file__).resolve().parents[2]
    with Object.open(options.object) as program:
        text = generate(program.layout(_PREFIX), (house / "ebpf" / "counters.inc").read_text())
    if not options.check:
        sys.stdout.write(text)
        return 0
    if (house / "relay" / "dataplane" / "abi.py").read_text() == text:
        return 0
    print(f"relay/dataplane/abi.py does not describe {options.object}: run `make abi` and commit it", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
