"""Who may import whom: the table of the import rules, held against the code as it is written (its syntax tree)."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RELAY_PURE = (
    *("types", "errors", "settings", "signal", "ports", "interfaces", "media", "leg", "call", "dialogs", "flows"),
    *("forwarding", "timers", "registry", "rtcp", "quality", "keeper", "fields", "recording", "snapshot"),
    *("standing", "receiving"),
)
CONTROL_PURE = (
    "control.journal.format",
    "control.ng.bencode",
    "control.ng.framing",
    "control.ng.message",
    "control.ng.flags",
    "control.ng.options",
    "control.ng.rtppflags",
    "control.ng.takers",
    "control.ng.unserved",
    "control.ng.needed",
    "control.ng.offeranswer",
    "control.ng.participants",
    "control.ng.commands",
    "control.ng.report",
    "control.ng.turns",
    "control.ng.room",
    "control.ng.statistics",
    "control.ng.templates",
    "control.failover.speaker",
    "control.failover.state",
    "control.replication.graves",
    "control.replication.hearing",
    "control.replication.inbound",
    "control.replication.inbox",
    "control.replication.outbound",
    "control.replication.ownership",
    "control.replication.partners",
    "control.replication.record",
    "control.replication.replicator",
    "control.replication.store",
    "control.replication.takeover",
    "control.replication.traffic",
    "control.sdp",
)
WORLD = frozenset({"asyncio", "socket", "selectors", "time", "os", "subprocess", "threading", "random", "secrets"})
"""Modules that touch the world outside. Time and randomness are handed to pure modules as arguments."""


@dataclass(frozen=True)
class Layer:
    """What the modules of one layer may import, beside the standard library."""

    name: str
    ours: tuple[str, ...]
    """Prefixes of this project's modules."""
    libraries: frozenset[str] = frozenset()
    pure: bool = False


PURE_RELAY_MODULES = tuple(f"relay.{name}" for name in RELAY_PURE)
CONTRACTS = ("relay", "control", "relay.dataplane")
"""Packages whose own __init__ holds nothing but documentation or a protocol: open to all layers."""

RELAY_PURE_LAYER = Layer("relay, pure", PURE_RELAY_MODULES, frozenset({"orjson"}), pure=True)
RELAY_PLANES = Layer(
    "relay.dataplane and relay.nic",
    ("relay",),
    frozenset({"cffi", "numpy", "pyroute2"}),
)
NIC = Layer("relay.nic", (*PURE_RELAY_MODULES, "relay.nic"), RELAY_PLANES.libraries)
CONTROL_PURE_LAYER = Layer("control, pure", (*PURE_RELAY_MODULES, *CONTROL_PURE), frozenset({"orjson"}), pure=True)
ADAPTERS = Layer(
    "control, adapters",
    (*PURE_RELAY_MODULES, *CONTROL_PURE),
    frozenset({"aiohttp", "psutil", "redis"}),
)
JOINERS = tuple(
    f"control.{name}"
    for name in (
        *("__main__", "announcing", "assembly", "check", "daemon", "flush", "host", "keeper", "planes"),
        *("pairing", "reload", "restoring", "sharing", "state", "supervise", "telling", "transports"),
    )
)
DAEMON = Layer("control.daemon and control.planes", ("relay", "control"), frozenset({"uvloop"}))


def within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


def layer_of(module: str) -> Layer:
    if module in ("relay", "relay.dataplane") or within(module, PURE_RELAY_MODULES):
        return RELAY_PURE_LAYER
    if within(module, ("relay.nic",)):
        return NIC
    if within(module, ("relay.dataplane",)):
        return RELAY_PLANES
    if within(module, CONTROL_PURE):
        return CONTROL_PURE_LAYER
    if module in JOINERS:
        return DAEMON
    if within(module, ("control",)):
        return ADAPTERS
    raise LookupError(f"{module} belongs to no layer: name it in this table")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Absolute names of all modules that a file imports, wherever in it the import stands."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = f"{origin}.{alias.name}"
                yield submodule if is_module(submodule) else origin


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def breach(module: str, imported: str) -> str | None:
    """Why `module` may not import `imported`, None where it may."""
    layer, top = layer_of(module), imported.split(".")[0]
    if top in ("relay", "control"):
        same_package = layer is ADAPTERS and shared_adapter_package(module, imported)
        allowed = within(imported, layer.ours) or imported in CONTRACTS or same_package
        return None if allowed else f"{layer.name}: may not import {imported}"
    if top in sys.stdlib_module_names:
        return f"{layer.name}: pure, may not import {top}" if layer.pure and top in WORLD else None
    return None if top in layer.libraries else f"{layer.name}: may not import the library {top}"


def shared_adapter_package(module: str, imported: str) -> bool:
    """Options, the operators' socket and ng's transports are one adapter each in several files; others are one file."""
    packages = (
        ("control.config",),
        ("control.ops",),
        ("control.ng",),
        ("control.failover",),
        ("control.journal",),
        ("control.replication",),
    )
    return any(within(module, package) and within(imported, package) for package in packages)


FILES = sorted(path for folder in ("relay", "control") for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_imports_only_what_its_layer_may(path: Path) -> None:
    module = module_name(path)
    assert [reason for name in imports(path) if (reason := breach(module, name))] == []


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("relay.call", "asyncio"),
        ("relay.call", "time"),
        ("relay.call", "control.ng.flags"),
        ("relay.flows", "relay.dataplane.xdp"),
        ("relay.flows", "numpy"),
        ("relay.dataplane.xdp", "control.config"),
        ("relay.nic.links", "relay.dataplane.xdp"),
        ("control.sdp.parse", "socket"),
        ("control.ng.server", "control.config"),
        ("control.config", "control.ops.cli"),
        ("control.ops.cli", "control.daemon"),
        ("control.ng.server", "scapy"),
    ],
)
def test_the_table_forbids(module: str, imported: str) -> None:
    assert breach(module, imported) is not None


def test_only_the_entry_imports_the_daemon() -> None:
    importers = {module_name(path) for path in FILES if any(within(i, ("control.daemon",)) for i in imports(path))}
    assert importers <= {"control.__main__"}


def test_scapy_stays_in_tests_and_bench() -> None:
    assert [str(path) for path in FILES if "scapy" in path.read_text()] == []
