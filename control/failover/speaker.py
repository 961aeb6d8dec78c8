"""The contract of BGP speakers: what is to be announced goes in, whether the speaker is there comes out."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from ipaddress import ip_network
from typing import NamedTuple, Protocol

from relay.errors import HairpinError

__all__ = ["Attributes", "Role", "Route", "Speaker", "SpeakerLost", "Styles", "draining", "prefix"]

GRACEFUL_SHUTDOWN = "65535:0"
"""RFC 8326 section 3: whoever gets a route with it takes any other first."""
_HIGHEST = 2**32 - 1


class Role(enum.Enum):
    """How a node announces a service address. The value is what operators and partners read."""

    NONE = "none"
    PRIMARY = "primary"
    BACKUP = "backup"
    """At lower preference: taken when the primary's route goes."""
    DRAINING = "draining"
    """Still announced, as a route that is about to go (GRACEFUL_SHUTDOWN, RFC 8326)."""


class Attributes(NamedTuple):
    """What a route is announced with, so that routers prefer one relay's to another's."""

    prepend: int = 0
    """Times the own AS number stands in the path beside the one time it does anyway."""
    med: int | None = None
    local_preference: int | None = None
    """Of use within one AS only (RFC 4271 section 5.1.5)."""
    communities: tuple[str, ...] = ()
    """N:N (RFC 1997), or N:N:N (RFC 8092)."""

    def __str__(self) -> str:
        words = [f"prepend={self.prepend}"] if self.prepend else []
        words += [] if self.med is None else [f"med={self.med}"]
        words += [] if self.local_preference is None else [f"local-preference={self.local_preference}"]
        return " ".join([*words, *(f"community={one}" for one in self.communities)])


def draining(primary: Attributes, backup: Attributes) -> Attributes:
    """What a route is announced with that is about to go: worse than a backup also to who knows nothing of RFC 8326."""
    meds = [0 if one.med is None else one.med for one in (primary, backup)]
    return Attributes(
        prepend=max(primary.prepend, backup.prepend) + 2,
        med=min(max(meds) + 100, _HIGHEST),
        local_preference=0,
        communities=(*primary.communities, GRACEFUL_SHUTDOWN),
    )


class Styles(NamedTuple):
    """How a speaker writes its routes."""

    primary: Attributes
    backup: Attributes
    asn: int = 0
    """Own AS number; 0: unknown, and nothing is prepended where the speaker does not know it either."""
    next_hops: tuple[str, ...] = ()
    """At most one of each family; of a family without one, the address the session is spoken from."""

    def of(self, role: Role) -> Attributes:
        """The attributes of a role that is announced."""
        if role is Role.DRAINING:
            return draining(self.primary, self.backup)
        return self.primary if role is Role.PRIMARY else self.backup

    def next_hop(self, ip: str) -> str | None:
        """The next hop for an address, None for the speaker's own."""
        return next((one for one in self.next_hops if (":" in one) == (":" in ip)), None)


class Route(NamedTuple):
    """How one address is to be announced."""

    role: Role
    lone: bool = False
    """No partner would serve the address: the route stands also when this relay is gone for good."""


def prefix(ip: str) -> str:
    """The route to one address."""
    return str(ip_network(ip))


class SpeakerLost(HairpinError):
    """The speaker has not confirmed what it was told; it is told again once it is back."""


class Speaker(Protocol):
    """ExaBGP, BIRD or nobody."""

    name: str

    async def start(self) -> Mapping[str, Role]:
        """Begin to reach the speaker, and go on trying; returns what it announces for a relay before this one.

        Raises HairpinError for what can never work.
        """

    async def close(self) -> None:
        """Let go of it; what it announces stays as `announce` left it, for as long as the grace."""

    async def announce(self, routes: Mapping[str, Route]) -> None:
        """Have exactly these addresses announced, and return when the speaker has confirmed it.

        Told again whenever the speaker was lost and is back. Raises SpeakerLost where it does not confirm.
        """

    def describe(self) -> list[str]:
        """A few lines for the operator: whether the speaker is reached, its sessions, what it was told."""
