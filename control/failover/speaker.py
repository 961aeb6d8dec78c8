"""The contract of BGP speakers: what is to be announced goes in, whether the speaker is there comes out."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Protocol

__all__ = ["Role", "Speaker"]


class Role(enum.Enum):
    """How a node announces a service address. The value is what operators and partners read."""

    NONE = "none"
    PRIMARY = "primary"
    BACKUP = "backup"
    """At lower preference: taken when the primary's route goes."""
    DRAINING = "draining"
    """Still announced, as a route that is about to go (GRACEFUL_SHUTDOWN, RFC 8326)."""


class Speaker(Protocol):
    """ExaBGP, BIRD or nobody."""

    name: str

    async def start(self) -> None:
        """Begin to reach the speaker, and go on trying. Raises HairpinError for what can never work."""

    async def close(self) -> None:
        """Let go of it; what it announces stays as `announce` left it."""

    async def announce(self, routes: Mapping[str, Role]) -> None:
        """Have exactly these addresses announced; told again whenever the speaker was lost and is back."""

    def describe(self) -> list[str]:
        """A few lines for the operator: whether the speaker is reached, its sessions, what it was told."""
