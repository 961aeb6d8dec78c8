"""What runs: the version of the installed distribution, and whether it was compiled."""

from __future__ import annotations


def version() -> str:
    """As pyproject.toml has it."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("hairpin")
    except PackageNotFoundError:
        return "unknown (not installed: `make build`)"


def build() -> str:
    """ "compiled", or "interpreted" with what that costs and how to mend it (setup.py)."""
    from relay import registry

    return "interpreted (twice the CPU per call: `make build`)" if registry.__file__.endswith(".py") else "compiled"
