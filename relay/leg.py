"""One party of a call: its names, its media, and what was ordered for them. No I/O, no clock."""

from __future__ import annotations

from typing import Final

from relay.interfaces import Places
from relay.media import Media
from relay.ports import Interface
from relay.signal import Who
from relay.types import Treatment

__all__ = ["NO_TREATMENTS", "Leg", "strongest", "switched"]

NO_TREATMENTS: frozenset[Treatment] = frozenset()
_PASS: Final = Treatment.PASS  # an Enum's members are found by a search, at each time of asking
_BY_STRENGTH = (Treatment.BLOCK, Treatment.SILENCE, Treatment.BLOCK_EVENTS)


class Leg:
    """One party of a call."""

    __slots__ = (
        "asymmetric",
        "created",
        "label",
        "medias",
        "memory",
        "places",
        "received_from",
        "tags",
        "treatment",
        "treatments",
    )

    def __init__(self, places: Places, now: float) -> None:
        self.places = places
        """Where its ports are drawn."""
        self.created = now
        self.tags: list[str] = []
        """The first one names the leg; more are forks answered on the same ports."""
        self.label: str | None = None
        self.received_from: str | None = None
        self.asymmetric = False
        self.medias: list[Media] = []
        self.memory: object | None = None
        """Whatever the control plane remembers of this party; nothing in here reads it."""
        self.treatments = NO_TREATMENTS
        """What was ordered for the media of this party alone."""
        self.treatment = _PASS
        """What becomes of its media."""

    @property
    def tag(self) -> str:
        """The tag that names the leg, empty until its party has answered."""
        return self.tags[0] if self.tags else ""

    @property
    def interface(self) -> Interface:
        """The interface that new ports are drawn on first."""
        return self.places[0]

    def is_meant(self, who: Who) -> bool:
        """Whether a command names this party."""
        if who.tag is not None:
            return who.tag in self.tags
        if who.label is not None:
            return who.label == self.label
        if who.address == self.received_from:
            return True
        streams = [stream for media in self.medias for stream in media.streams]
        seen = [endpoint for one in streams for endpoint in (one.signalled, one.observed) if endpoint is not None]
        return any(endpoint.ip == who.address for endpoint in seen)


def switched(treatments: frozenset[Treatment], treatment: Treatment, on: bool) -> frozenset[Treatment]:
    """Orders with one more, or without it."""
    return treatments | {treatment} if on else treatments - {treatment}


def strongest(treatments: frozenset[Treatment]) -> Treatment:
    """What becomes of media that several treatments were ordered for."""
    return next((one for one in _BY_STRENGTH if one in treatments), _PASS)
