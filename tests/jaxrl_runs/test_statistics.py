"""Statistics with known answers."""

import numpy as np
import pytest
from scipy import stats

from jaxrl_runs.statistics import (
    bootstrap_ci95,
    interquartile_mean,
    steps_to_solve,
    summarize,
)


def test_known_answers():
    scores = np.arange(1, 101.0)
    summary = summarize(scores, solved_return=91)
    assert summary.num_agents == 100
    assert summary.mean == 50.5 and summary.iqm == 50.5
    assert summary.p10 == pytest.approx(10.9)
    assert summary.fraction_solved == 0.1  # a return equal to the threshold solves
    low, high = summary.ci95
    half = 1.96 * scores.std() / 10
    assert low == pytest.approx(50.5 - half, abs=0.5)
    assert high == pytest.approx(50.5 + half, abs=0.5)


def test_the_interquartile_mean_leaves_out_the_outer_quarters():
    assert interquartile_mean(np.array([-1e9, 1, 2, 3, 4, 5, 6, 1e9])) == 3.5
    assert interquartile_mean(np.array([0.0, 10.0])) == 5.0


def test_a_threshold_is_optional():
    assert np.isnan(summarize(np.ones(3), None).fraction_solved)


@pytest.mark.parametrize("number", [5, 1])
def test_constant_scores(number):
    summary = summarize(np.full(number, 500.0), 475.0)
    assert (summary.mean, summary.iqm, summary.p10) == (500, 500, 500)
    assert summary.fraction_solved == 1
    # One score says nothing about how much scores differ.
    expected = (500, 500) if number > 1 else (np.nan, np.nan)
    np.testing.assert_array_equal(summary.ci95, expected)


@pytest.mark.parametrize("scores", [np.array([]), np.ones((2, 3)), np.float64(3)])
def test_scores_must_be_one_number_per_agent(scores):
    with pytest.raises(ValueError, match="scores must be one number per agent"):
        summarize(scores, 1.0)


def test_failed_agents_are_not_dropped(recwarn):
    summary = summarize(np.array([1.0, np.nan, 3.0]), 1.0)
    assert np.isnan([summary.mean, summary.iqm, summary.p10, *summary.ci95]).all()
    assert summary.fraction_solved == pytest.approx(2 / 3) and not recwarn.list


def test_the_interval_covers():
    """Of 200 samples of 40 normal scores, about 95 % cover the true mean.

    Fewer than 180 have probability 1e-3 at the 94 % that 40 scores give.
    """
    generator = np.random.default_rng(1)
    samples = generator.normal(3.0, 2.0, (200, 40))
    intervals = np.array([bootstrap_ci95(sample) for sample in samples])
    covers = (intervals[:, 0] <= 3) & (intervals[:, 1] >= 3)
    assert 180 <= covers.sum() < 200


def test_the_interval_is_reproducible_and_of_any_statistic():
    scores = np.random.default_rng(0).normal(size=30)
    assert bootstrap_ci95(scores) == bootstrap_ci95(scores)
    low, high = bootstrap_ci95(scores, np.median)
    assert low <= np.median(scores) <= high
    low, high = bootstrap_ci95(scores, lambda x, axis: stats.trim_mean(x, 0.25, axis))
    assert low <= interquartile_mean(scores) <= high


def test_steps_to_solve():
    returns = np.array([[0, 200, 100], [200, 0, 0], [0, 0, 0], [0, 0, 195]])
    steps = np.array([10, 20, 30])
    found = steps_to_solve(returns, steps, 195.0)
    assert found.tolist() == [20, 10, 30, 30]
    assert np.median(found) == 25
