"""The version, from the installed distribution."""

from __future__ import annotations


def version() -> str:
    """As pyproject.toml has it."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("hairpin")
    except PackageNotFoundError:
        return "unknown (not installed: `make build`)"
