"""Which code the tests see: the compiled modules, as they are shipped, or the sources they were made of."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.abc import PathEntryFinder
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

from control.version import changed_since

__all__ = ["prefer_sources", "stale"]

ROOT = Path(__file__).parent.parent
PACKAGES = ("relay", "control")


def prefer_sources() -> None:
    """Import this project's modules from their sources from now on, compiled or not."""
    make_finder = FileFinder.path_hook((SourceFileLoader, SOURCE_SUFFIXES))

    def hook(path: str) -> PathEntryFinder:
        if not any(Path(path).is_relative_to(ROOT / package) for package in PACKAGES):
            raise ImportError(path)
        return make_finder(path)

    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()


def stale() -> Iterable[Path]:
    """Sources that were changed after they were compiled."""
    return changed_since(ROOT)
