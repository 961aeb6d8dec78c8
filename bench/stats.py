"""Medians and spreads of interleaved rounds; ratios are taken within a round, where both sides met the same machine."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Summary", "divide", "ratios", "subtract", "summarize"]


@dataclass(frozen=True, slots=True)
class Summary:
    """A median with its quartiles and extremes, all in the unit of the samples."""

    median: float
    low: float
    """First quartile."""
    high: float
    """Third quartile."""
    least: float
    most: float
    count: int

    def show(self, digits: int = 2) -> str:
        """`median (quartile to quartile)`."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def summarize(samples: Sequence[float]) -> Summary:
    """The summary of at least one sample; the quartiles of a single one are itself."""
    if not samples:
        raise ValueError("nothing was measured")
    ordered = sorted(samples)
    low, middle, high = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    return Summary(middle, low, high, ordered[0], ordered[-1], len(ordered))


def divide(part: float, whole: float) -> float:
    """`part` of `whole`; a round in which nothing passed is an error, not a figure."""
    if whole <= 0:
        raise ValueError("a round passed nothing")
    return part / whole


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round, ours over theirs. A round cut short on one side is left out."""
    return [divide(one, other) for one, other in zip(ours, theirs, strict=False)]


def subtract(samples: Sequence[float], base: Sequence[float]) -> list[float]:
    """Round by round, what is left of the samples without their base."""
    return [one - other for one, other in zip(samples, base, strict=False)]
