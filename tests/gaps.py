"""How long telephones heard nothing: the longest silence of each, without the sender's lateness, and what was lost.

Packets are 20 ms of speech each, so a stream that nothing happens to has silences of 20 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.media import PERIOD, Party

__all__ = ["Heard", "Hearing", "hearing"]


@dataclass(frozen=True)
class Hearing:
    """What one telephone heard of the other."""

    silence: float
    """Seconds of the longest time without a packet that was due."""
    at: float
    """When that began, in Unix seconds."""
    sent: int
    lost: int
    alive: bool
    """Whether the last packet sent was among those heard."""


@dataclass(frozen=True)
class Heard:
    """What all telephones heard; each call has two hearings, side by side."""

    calls: int
    """That were to be placed."""
    hearings: Sequence[Hearing]

    @property
    def worst(self) -> Hearing:
        """The one of the longest silence. Raises ValueError where no call came about."""
        return max(self.hearings, key=lambda one: one.silence)

    @property
    def lost(self) -> int:
        """RTP packets."""
        return sum(one.lost for one in self.hearings)

    @property
    def calls_lost(self) -> int:
        """Calls that did not come about, or in which a side heard nothing in the end."""
        both = zip(self.hearings[::2], self.hearings[1::2], strict=True)
        return self.calls - sum(one.alive and other.alive for one, other in both)

    @property
    def per_call(self) -> list[float]:
        """The longest silence of each call, in seconds."""
        return [
            max(one.silence, other.silence) for one, other in zip(self.hearings[::2], self.hearings[1::2], strict=True)
        ]

    @classmethod
    def of(cls, calls: int, pairs: Iterable[tuple[Party, Party]]) -> Heard:
        """What both sides of each call heard."""
        return cls(calls, [hearing(*way) for pair in pairs for way in (pair, pair[::-1])])


def hearing(sender: Party, receiver: Party) -> Hearing:
    """What a receiver heard of a sender that has ended."""
    stream = receiver.received.get(sender.ssrc)
    came = [(at, number - sender.first_sequence & 0xFFFF) for at, number in stream.arrivals] if stream else []
    last = max(sender.sent_at)
    heard = {index for _, index in came}
    # Who heard nothing at the end was waiting until the last packet; who heard nothing at all, since the first.
    steps = [(sender.sent_at[0], 0), *came] if 0 not in heard else came
    if last not in heard:
        steps = [*steps, (sender.sent_at[last], last)]
    silence, at = max(((_silence(sender, *step), step[0][0]) for step in pairwise(steps)), default=(0.0, 0.0))
    return Hearing(silence, at, len(sender.sent_at), len(sender.sent_at) - len(heard), last in heard)


def _silence(sender: Party, before: tuple[float, int], after: tuple[float, int]) -> float:
    """Seconds between two arrivals, without those by which the sender was late with the second."""
    (began, first), (ended, second) = before, after
    late = sender.sent_at[second] - sender.sent_at[first] - (second - first) * PERIOD
    return ended - began - max(0.0, late)
