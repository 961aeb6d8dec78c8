"""What a listener would say, by the figures."""

from __future__ import annotations

import pytest

from relay.quality import Heard, mean_opinion
from relay.rtcp import ReportBlock


def report(fraction: int = 0, jitter: int = 0, lost: int = 0) -> ReportBlock:
    return ReportBlock(1, 2, fraction, lost, 0, jitter, 0, 0)


def test_a_clean_call_is_toll_quality() -> None:
    assert mean_opinion(0, 0, 0.02) == pytest.approx(4.4, abs=0.05)


@pytest.mark.parametrize("worse", [(5, 0, 0.02), (0, 80, 0.02), (0, 0, 0.8)])
def test_each_impairment_costs(worse: tuple[float, float, float]) -> None:
    assert mean_opinion(*worse) < mean_opinion(0, 0, 0.02) - 0.05


@pytest.mark.parametrize("figures", [(100, 1e6, 10.0), (0, 0, None), (-5, 0, 0)])
def test_the_scale_ends_at_one_and_four_and_a_half(figures: tuple[float, float, float | None]) -> None:
    assert 1.0 <= mean_opinion(*figures) <= 4.5


def test_reports_are_averaged_and_the_extremes_kept() -> None:
    heard = Heard(2)
    heard.add(report(), 8000, 0.1, 1.0)
    heard.add(report(fraction=128, jitter=160, lost=9), 8000, None, 2.0)
    average = heard.average
    assert heard.samples == 2
    assert average.jitter_ms == pytest.approx(10)
    assert average.loss_percent == pytest.approx(25)
    assert average.round_trip == pytest.approx(0.1)
    assert (heard.best.at, heard.worst.at, heard.last.at) == (1.0, 2.0, 2.0)
    assert heard.best.mos > average.mos > heard.worst.mos
    assert heard.lost == 9
