"""Medians, quartiles and ratios of rounds."""

import pytest

from bench.stats import ratios, subtract, summarize


def test_the_median_and_the_quartiles_of_rounds() -> None:
    summary = summarize([5.0, 1.0, 3.0, 2.0, 4.0])
    assert (summary.median, summary.low, summary.high) == (3.0, 2.0, 4.0)
    assert (summary.least, summary.most, summary.count) == (1.0, 5.0, 5)


def test_one_round_has_no_spread() -> None:
    summary = summarize([7.0])
    assert (summary.low, summary.median, summary.high) == (7.0, 7.0, 7.0)


def test_no_round_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        summarize([])


def test_a_ratio_is_taken_within_its_round_so_that_drift_cancels() -> None:
    assert ratios([110.0, 220.0, 55.0], [100.0, 200.0, 50.0]) == pytest.approx([1.1, 1.1, 1.1])


def test_a_round_cut_short_is_left_out() -> None:
    assert ratios([2.0, 4.0], [1.0]) == [2.0]
    assert subtract([40.0, 41.0], [30.0]) == [10.0]


def test_a_round_that_passed_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="passed nothing"):
        ratios([1.0], [0.0])


def test_a_summary_shows_median_and_quartiles() -> None:
    assert summarize([1.0, 1.2, 1.4]).show() == "1.20 (1.10 to 1.30)"
