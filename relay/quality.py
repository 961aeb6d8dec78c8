"""What figures of loss, delay and jitter mean to a listener: the E-model of ITU-T G.107, shortened for G.711."""

from __future__ import annotations

from typing import NamedTuple

from relay.rtcp import ReportBlock

__all__ = ["Heard", "Sample", "mean_opinion"]

_BEST_R = 93.2
_CODEC_DELAY_MS = 10.0
_KNEE_MS = 177.3
"""One-way delay beyond which conversation suffers at once (G.107 appendix)."""


class Sample(NamedTuple):
    """One reception report in plain units."""

    mos: float
    """Estimated mean opinion score, 1.0 to 4.5."""
    jitter_ms: float
    loss_percent: float
    round_trip: float | None
    """Seconds, None where it could not be measured."""
    at: float


def mean_opinion(loss_percent: float, jitter_ms: float, round_trip: float | None) -> float:
    """The estimate of ITU-T G.107, with twice the jitter as the depth of the listener's buffer."""
    delay = (round_trip or 0.0) * 500 + 2 * jitter_ms + _CODEC_DELAY_MS
    impairment = 0.024 * delay + (0.11 * (delay - _KNEE_MS) if delay > _KNEE_MS else 0.0)
    r = min(max(_BEST_R - impairment - 2.5 * loss_percent, 0.0), 100.0)
    mos = 1 + 0.035 * r + 7e-6 * r * (r - 60) * (100 - r)
    return min(max(mos, 1.0), 4.5)


class Heard:
    """The reception reports of one party on one SSRC: the last, the best and the worst, and the sums for averages."""

    __slots__ = (
        "best",
        "jitter_ms",
        "last",
        "loss_percent",
        "lost",
        "mos",
        "samples",
        "ssrc",
        "trip",
        "trips",
        "worst",
    )

    def __init__(self, ssrc: int) -> None:
        self.ssrc = ssrc
        self.samples = 0
        self.lost = 0
        """Cumulative, as last reported."""
        self.mos = self.jitter_ms = self.loss_percent = self.trip = 0.0
        self.trips = 0
        """Samples with a round trip."""
        self.last = self.best = self.worst = Sample(0.0, 0.0, 0.0, None, 0.0)

    def add(self, block: ReportBlock, clock: int, round_trip: float | None, now: float) -> None:
        """Take in one report; `clock` in Hz is that of the media reported on."""
        jitter, loss = 1000 * block.jitter / clock, 100 * block.fraction_lost / 256
        sample = Sample(mean_opinion(loss, jitter, round_trip), jitter, loss, round_trip, now)
        self.best = sample if not self.samples or sample.mos > self.best.mos else self.best
        self.worst = sample if not self.samples or sample.mos < self.worst.mos else self.worst
        self.last, self.lost = sample, block.lost
        self.samples += 1
        self.mos += sample.mos
        self.jitter_ms += jitter
        self.loss_percent += loss
        if round_trip is not None:
            self.trip += round_trip
            self.trips += 1

    @property
    def average(self) -> Sample:
        """The mean of all samples; its time is that of the last."""
        n = max(self.samples, 1)
        trip = self.trip / self.trips if self.trips else None
        return Sample(self.mos / n, self.jitter_ms / n, self.loss_percent / n, trip, self.last.at)
