"""What the operator sets for all calls."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from relay.types import Learning

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for all calls. Times in seconds, 0 for never (but for the delete delay, where 0 is at once)."""

    timeout: float = 60
    """No packet on any stream whose party sends."""
    silent_timeout: float = 3600
    """The same for streams whose party does not send: hold, mute."""
    offer_timeout: float = 3600
    """The same for calls that were never answered."""
    final_timeout: float = 0
    """Since the first offer, whatever happens."""
    delete_delay: float = 30
    max_sessions: int = -1
    """Calls that may stand at once, negative for any number."""
    tos: int = 0
    """The TOS byte of forwarded packets where the proxy sets none, negative to leave each packet's own."""
    learning: Learning = Learning.DELAYED
    sip_source: bool = False
    """Take the address of the signalling for the SDP's in all calls."""
    denied: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks nothing is forwarded to, this host's own addresses that carry no media included."""
