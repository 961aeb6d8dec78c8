"""Another build of the relay's program on the tables of a running relay, to compare the two packet by packet."""

from __future__ import annotations

import ctypes
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from relay.dataplane import abi
from relay.dataplane.libbpf import BpfError, Object
from tests.lab import command

__all__ = ["load_variant", "open_program"]

_libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)


def open_program(identity: int) -> int:
    """A descriptor of a loaded program, by the number `ip link` and bpftool show. The caller closes it."""
    return _descriptor("program", _libbpf.bpf_prog_get_fd_by_id(identity), identity)


def load_variant(path: Path, identity: int) -> Object:
    """Load an object whose program `hairpin` works on the tables, and with the settings, of a program that is loaded.

    The caller closes it. Raises BpfError where the two do not fit: their layouts must be one.
    """
    variant = Object.open(path)
    variant.check_layout(abi.DIGEST)
    for number in _bpftool("prog", "show", "id", str(identity))["map_ids"]:
        name = _bpftool("map", "show", "id", str(number))["name"]
        if name.endswith(".rodata"):
            variant.set_rodata("settings", _settings(number))
        else:
            _share(variant, name, number)
    variant.load()
    return variant


def _share(variant: Object, name: str, number: int) -> None:
    descriptor = _descriptor("map", _libbpf.bpf_map_get_fd_by_id(number), number)
    try:
        variant.map(name).reuse(descriptor)
    finally:
        os.close(descriptor)


def _settings(number: int) -> bytes:
    (element,) = _bpftool("map", "dump", "id", str(number))
    (values,) = (item["settings"] for item in element["formatted"]["value"][".rodata"] if "settings" in item)
    settings = np.zeros((), abi.SETTINGS)
    for name, value in values.items():
        settings[name] = value
    return settings.tobytes()


def _descriptor(what: str, result: int, number: int) -> int:
    if result < 0:
        raise BpfError(f"open {what} {number}", -result)
    return result


def _bpftool(*arguments: str) -> Any:
    return json.loads(command("bpftool", "--json", *arguments))
