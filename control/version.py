"""What runs: the version of the installed distribution, and whether it was compiled."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path


def version() -> str:
    """As pyproject.toml has it."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("hairpin")
    except PackageNotFoundError:
        return "unknown (not installed: `make build`)"


def build() -> str:
    """ "compiled", or "interpreted" with what that costs and how to mend it (setup.py).

    A compiled module hides its source, also a newer one: after an update without `make build` old and new code would
    run together, and nothing else would tell.
    """
    from relay import registry

    if registry.__file__.endswith(".py"):
        return "interpreted (twice the CPU per call: `make build`)"
    changed = next(changed_since(Path(registry.__file__).parent.parent), None)
    return f"compiled, but {changed} has changed since: `make build`" if changed else "compiled"


def changed_since(root: Path) -> Iterator[Path]:
    """Sources of this project that are newer than what was compiled of them, below `root`."""
    for package in ("control", "relay"):
        for library in (root / package).rglob("*" + EXTENSION_SUFFIXES[0]):
            source = library.with_name(library.name.removesuffix(EXTENSION_SUFFIXES[0]) + ".py")
            if source.exists() and source.stat().st_mtime > library.stat().st_mtime:
                yield source.relative_to(root)
