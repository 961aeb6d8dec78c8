"""Options of failover by BGP: who speaks it, what is announced and when it is withdrawn."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Failover"]


@dataclass(frozen=True)
class Failover:
    """Service addresses announced as routes."""
