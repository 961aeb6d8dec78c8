"""Options of relay pairs: Redis, whose calls are held ready, and who may take over what."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Replication"]


@dataclass(frozen=True)
class Replication:
    """Calls shared with partners over Redis."""
