"""What each run may still become, from the curves of this task alone.

The posterior of `finetune.curves` for runs that were begun; for untouched ones, the
levels that a Gaussian process over the hyperparameters foresees. It answers how good a
run will be and whether anything is worth another epoch; it does not choose.
"""

from __future__ import annotations

import numpy as np

from finetune.curves import CurveModel, gaussian_gain
from finetune.response import Response, unit_columns
from finetune.task_runs import TaskRuns


class Outlook:
    """Predictions of one task.

    Args:
        num_epochs: Budget of a run.
        seed: Of the particles of the Gaussian process.
        strength: Runs that the prior of shapes counts as.
        growth: The task is learned anew when its observations have grown by this
            factor.
        max_rows: Runs that the Gaussian process looks at, at most.
    """

    def __init__(
        self, num_epochs: int, seed: int, strength: float, growth: float, max_rows: int
    ):
        self.num_epochs, self._seed = num_epochs, seed
        self._growth, self._max_rows = growth, max_rows
        self._curves = CurveModel(num_epochs, strength)
        self._level: Response | None = None
        self._next_refresh, self._num_candidates = 0, 0

    def learn(self, runs: TaskRuns) -> None:
        """Learn what shapes and levels this task has, where there is enough new."""
        total = int(runs.lengths.sum())
        is_new = len(runs) != self._num_candidates
        if not is_new and total < self._next_refresh:
            return
        self._next_refresh = max(total + 1, int(self._growth * total))
        if is_new or self._level is None:
            columns, owner = unit_columns(runs.space, runs.configs)
            self._level = Response(columns, owner, self._seed)
            self._num_candidates = len(runs)
        begun = np.flatnonzero(runs.lengths)
        level, noise = self._curves.refresh(runs.scores[begun], runs.lengths[begun])
        kept = self._pick_rows(level, noise)
        rows, level, noise = begun[kept], level[kept], noise[kept]
        center, width = self._curves.level_mean, np.sqrt(self._curves.level_var)
        level, noise = (level - center) / width, noise / width**2
        mean, var = self._level.predict(rows, level, noise, 3)
        self._mean = center + width * np.clip(mean, -4, 4)
        self._var = width**2 * np.clip(var, 1e-3, 1.0)

    def _pick_rows(self, level: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """The runs that say most: the surest half, and the best of the others."""
        order = np.argsort(noise, kind="stable")
        half = self._max_rows // 2
        if len(order) <= 2 * half:
            return order
        rest = order[half:]
        return np.r_[order[:half], rest[np.argsort(-level[rest], kind="stable")][:half]]

    def predict(
        self, runs: TaskRuns, run: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Epochs, mean and standard deviation of a run's score there, ``[O]`` each."""
        self.learn(runs)
        length = min(int(runs.lengths[run]), self.num_epochs - 1)
        epochs = self._horizons(length)[-4:]
        if runs.lengths[run]:
            posterior = self._condition(runs, np.array([run]))
            mean, std = self._curves.moments(posterior, 0, epochs)
        else:
            mean, std = self._curves.moments_fresh(
                self._mean[run], self._var[run], epochs
            )
        unscale = self._curves.unscale
        width = (unscale(mean + std) - unscale(mean - std)) / 2
        return epochs, runs.sign * unscale(mean), width

    def order(self, runs: TaskRuns) -> np.ndarray:
        """All candidates, by the best score that is expected of each."""
        self.learn(runs)
        value = self._mean.copy()
        for run in np.flatnonzero(runs.lengths):
            _, mean, _ = self.predict(runs, int(run))
            value[run] = self._curves.scale_scores(runs.sign * mean).max()
        return np.argsort(-value, kind="stable")

    def largest_gain(self, runs: TaskRuns) -> float:
        """Largest expected improvement of the best, as a share of the scores' range."""
        self.learn(runs)
        seen = np.arange(self.num_epochs) < runs.lengths[:, None]
        best = np.where(seen, runs.scores, -np.inf).max()
        scaled = float(self._curves.scale_scores(best))
        is_open, is_begun = runs.is_open, runs.lengths > 0
        fresh = np.flatnonzero(is_open & ~is_begun)
        gain, _ = gaussian_gain(self._mean[fresh], np.sqrt(self._var[fresh]), scaled)
        largest = gain.max(initial=0.0)
        begun = np.flatnonzero(is_open & is_begun)
        if len(begun):
            posterior = self._condition(runs, begun)
            for i, run in enumerate(begun):
                epochs = self._horizons(int(runs.lengths[run]))
                gain, _ = self._curves.look_ahead(posterior, i, epochs, scaled)
                largest = max(largest, gain.max())
        return float(largest)

    def _horizons(self, length: int) -> np.ndarray:
        ahead = length + 2 ** np.arange(16)
        return np.r_[ahead[ahead < self.num_epochs], self.num_epochs]

    def _condition(self, runs: TaskRuns, rows: np.ndarray):
        return self._curves.condition(
            runs.scores[rows], runs.lengths[rows], self._mean[rows], self._var[rows]
        )
