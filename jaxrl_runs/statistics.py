"""Statistics over agents and over evolution runs: mean, IQM, intervals, steps to solve.

An agent's score is its mean return over test episodes; everything here is over agents
(or, across runs, over evolution seeds), as Agarwal et al. (2021) recommend.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class ReturnStatistics:
    """How well a set of independent agents does.

    Attributes:
      num_agents: How many agents.
      mean: Mean of their scores.
      iqm: Interquartile mean: the mean of the middle half.
      ci95: Bootstrap 95 % interval of the mean.
      p10: 10th percentile.
      fraction_solved: Fraction of agents that reach the solved return; NaN without one.
    """

    num_agents: int
    mean: float
    iqm: float
    ci95: tuple[float, float]
    p10: float
    fraction_solved: float


def summarize(scores: np.ndarray, solved_return: float | None) -> ReturnStatistics:
    """Summarises the scores `[num_agents]` of independent agents."""
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or scores.size == 0:
        raise ValueError(
            f"scores must be one number per agent, got shape {scores.shape}"
        )
    solved = np.nan if solved_return is None else np.mean(scores >= solved_return)
    return ReturnStatistics(
        num_agents=scores.size,
        mean=float(scores.mean()),
        iqm=interquartile_mean(scores),
        ci95=bootstrap_ci95(scores),
        p10=float(np.percentile(scores, 10)),
        fraction_solved=float(solved),
    )


def interquartile_mean(scores: np.ndarray) -> float:
    """Mean of the middle half of the scores."""
    from scipy import stats  # takes a second to import

    return float(stats.trim_mean(scores, 0.25))


def bootstrap_ci95(
    scores: np.ndarray, statistic: Callable = np.mean
) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval of a statistic (2,000 resamples, seed 0).

    NaN where there is none: of one score, or with NaN or infinity among the scores.
    """
    scores = np.asarray(scores, np.float64)
    if len(scores) < 2 or not np.isfinite(scores).all():
        return float("nan"), float("nan")
    if np.ptp(scores) == 0:  # The interval of a constant is that constant.
        return float(scores[0]), float(scores[0])
    from scipy import stats

    interval = stats.bootstrap(
        (scores,),
        statistic,
        n_resamples=2000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def steps_to_solve(
    returns: np.ndarray, steps: np.ndarray, solved_return: float
) -> np.ndarray:
    """Training steps until each agent first reaches the solved return.

    Args:
      returns: `[num_agents, num_points]`, mean test return at each point of the grid.
      steps: `[num_points]`, training steps at each point; the last is the budget.
      solved_return: The threshold.

    Returns:
      `[num_agents]`; an agent that never reaches it counts as the whole budget.
    """
    reached = np.asarray(returns) >= solved_return
    first = np.asarray(steps)[np.argmax(reached, axis=1)]
    return np.where(reached.any(axis=1), first, steps[-1])
