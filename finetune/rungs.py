"""Which untouched configurations look good, judged by the scores at the rungs.

Halving compares runs at a few epochs only, its rungs, and there all that counts is
their order. So a Gaussian process (`finetune.response`) learns, at each rung, the
order of the runs that reached it, from their hyperparameters; what it is worth shows in
how it orders runs that it was not told of (leaving each out in turn). The highest rung
at which that is worth something decides: the order after one epoch is quickly known and
may say little of the last.

Source: the idea of a model at the highest rung with enough runs is of Falkner et al.,
BOHB (2018), section 4.2.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.special import ndtri

from finetune.response import Response, unit_columns
from finetune.task_runs import TaskRuns

_NOISE = 0.05  # of a score at a rung, in variances
_NUM_STEPS = 5  # of the particles, at each refit


@dataclasses.dataclass(frozen=True)
class RungGuess:
    """What the runs at one rung say.

    Attributes:
        epoch: Of the rung.
        num_runs: That were learned from.
        correlation: Of the guessed and the real order of these runs, each left out of
            its own guess; Spearman's, -1 to 1.
        value: Guessed score, in standard deviations of the order, ``[C]``.
    """

    epoch: int
    num_runs: int
    correlation: float
    value: np.ndarray


class RungModel:
    """One model of the order of the runs for each rung.

    Args:
        rungs: Epochs at which runs are compared, the last one is the budget.
        seed: Of the particles.
        min_runs: Fewer runs at a rung say nothing.
        min_correlation: A guess that orders unseen runs worse than this is not used.
        max_rows: Runs that are looked at, at most.
        growth: A rung is learned anew when its runs have grown by this factor.
    """

    def __init__(
        self,
        rungs: np.ndarray,
        seed: int,
        min_runs: int,
        min_correlation: float,
        max_rows: int,
        growth: float,
    ):
        self.rungs = rungs
        self._seed, self._min_runs = seed, min_runs
        self._min_correlation = min_correlation
        self._max_rows, self._growth = max_rows, growth
        self._num_candidates = 0
        self._models: list[Response] = []
        self._guesses: dict[int, RungGuess] = {}

    def learn(self, runs: TaskRuns) -> None:
        """Learn from the runs, at each rung that has enough new ones."""
        if len(runs) != self._num_candidates:
            columns, owner = unit_columns(runs.space, runs.configs)
            self._models = [
                Response(columns, owner, self._seed + k) for k in range(len(self.rungs))
            ]
            self._num_candidates, self._guesses = len(runs), {}
        for k in range(len(self.rungs)):
            rows, scores = scores_at(runs, self.rungs, k)
            known = self._guesses.get(k)
            wanted = max(self._min_runs, 1)
            if known is not None:
                wanted = max(known.num_runs + 1, self._growth * known.num_runs)
            if len(rows) >= wanted:
                self._guesses[k] = self._guess(k, rows, scores)

    def _guess(self, k: int, rows: np.ndarray, scores: np.ndarray) -> RungGuess:
        from scipy.stats import rankdata  # takes a second to import

        num = len(rows)
        value = ndtri((rankdata(scores) - 0.5) / num)
        value = (value - value.mean()) / max(value.std(), 1e-6)
        if num > self._max_rows:  # the best, and an even choice of the others
            order = np.argsort(-value, kind="stable")
            half = self._max_rows // 2
            others = np.linspace(half, num - 1, self._max_rows - half).astype(int)
            kept = np.sort(order[np.r_[np.arange(half), others]])
            rows, value = rows[kept], value[kept]
        noise = np.full(len(rows), _NOISE)
        mean, _ = self._models[k].predict(rows, value, noise, _NUM_STEPS)
        correlation = _rank_correlation(mean[rows], value)
        return RungGuess(int(self.rungs[k]), num, correlation, mean)

    def best_guess(self) -> RungGuess | None:
        """The guess at the highest rung where it is worth something."""
        for k in sorted(self._guesses, reverse=True):
            if self._guesses[k].correlation >= self._min_correlation:
                return self._guesses[k]
        return None

    def nearness(self, run: int) -> np.ndarray:
        """Prior correlation of all candidates with one of them, ``[C]``."""
        return self._models[0].correlation(run)


def scores_at(
    runs: TaskRuns, rungs: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Runs that have come to rung ``k``, and the best score of each until there.

    A run that failed on the way from the rung before counts as the worst.
    """
    before = rungs[k - 1] if k else 0
    has_reached = runs.lengths >= rungs[k]
    has_failed = runs.is_failed & (runs.lengths >= before) & ~has_reached
    rows = np.flatnonzero(has_reached | has_failed)
    peak = runs.scores[rows, : rungs[k]].max(1, initial=-np.inf)
    return rows, np.where(has_failed[rows], -np.inf, peak)


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's; 0 where either is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
