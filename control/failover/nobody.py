"""No speaker: a router, keepalived or people decide where the packets of an address go."""

from __future__ import annotations

from collections.abc import Mapping

from control.failover.speaker import Role, Route

__all__ = ["Nobody"]


class Nobody:
    """Takes what it is told and tells no one."""

    name = "none"

    async def start(self) -> Mapping[str, Role]:
        return {}

    async def close(self) -> None:
        return None

    async def announce(self, routes: Mapping[str, Route]) -> None:
        return None

    def describe(self) -> list[str]:
        return ["nothing is announced from here (--bgp=none)"]
