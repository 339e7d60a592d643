"""Choices from the task's own runs alone: what a tuner does that knows no past.

Nothing is trained beforehand. What a curve may become comes from a wide prior of shapes
(`finetune.curves`) whose frequencies are learned from this task's curves; what an
untouched configuration may reach, and cost, from Gaussian processes on this task's runs
(`finetune.response`). The choice is the expected improvement per second, as with
meta-learned surrogates, with one difference: a run that disappoints will be given up,
so the seconds that lie far ahead count by the chance that they are spent at all. A
share of the seconds follows asynchronous halving, whatever the model believes, so that
a task that fits none of its assumptions is tuned nearly as well as by halving alone.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from finetune.curves import CurveModel, gaussian_gain
from finetune.response import Response, unit_columns
from finetune.task_runs import TaskRuns
from finetune.trust import Trust
from jaxrl_runs import values
from jaxrl_runs.values import (
    COUNT,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    Integer,
    Number,
    setting,
)


@dataclasses.dataclass(frozen=True)
class ColdConfig:
    """Settings of a cold start.

    Attributes:
        most_share: Share of the seconds that follows a model whose claims come true;
            the rest follows asynchronous halving.
        least_share: The share of one whose claims never do.
        first_trust: Share of its claims that is believed before any evidence.
        patience: Claimed gain that this counts as, in ranges of the scores.
        memory: Full runs of epochs after which a claim counts 1/e.
        eta: Of halving: rungs are powers of it, one of so many is promoted.
        random_every: One of so many configurations that halving starts is the next one
            as drawn, the others are chosen by the model.
        strength: Runs that the prior of shapes counts as.
        given_up: Share of the seconds ahead that is spent even on a run that will
            disappoint.
        shortlist: Untouched configurations that are looked at closely.
        growth: The task's model is learned anew when the observations have grown by
            this factor.
        max_rows: Runs that the Gaussian processes look at, at most.
        pause: A run that was chosen is trained without a new look until its length has
            grown by this factor.
    """

    most_share: float = setting(0.1, FRACTION)
    least_share: float = setting(0.0, FRACTION)
    first_trust: float = setting(0.5, FRACTION)
    patience: float = setting(0.5, POSITIVE)
    memory: float = setting(5.0, POSITIVE)
    eta: int = setting(3, Integer(at_least=2))
    random_every: int = setting(2, COUNT)
    strength: float = setting(3.0, POSITIVE)
    given_up: float = setting(0.3, NOT_NEGATIVE)
    shortlist: int = setting(24, COUNT)
    growth: float = setting(1.15, Number(above=1.0))
    max_rows: int = setting(80, Integer(at_least=2, at_most=2**16))
    pause: float = setting(1.2, Number(at_least=1.0))

    def __post_init__(self):
        values.check(self)
        if self.least_share > self.most_share:
            raise ValueError(
                f"least_share must be at most most_share, {self.most_share}, got "
                f"{self.least_share}"
            )


class _Goal(NamedTuple):
    """Until which epoch a run is trained, whether the model wants it, and why."""

    until: int
    by_model: bool
    reason: str


class ColdPolicy:
    """Chooses by what the task's own runs show.

    Args:
        runs: The task; candidates may be added to it later.
        seed: Of the particles of the Gaussian processes.
        config: Settings.
    """

    def __init__(
        self, runs: TaskRuns, seed: int = 0, config: ColdConfig = ColdConfig()
    ):
        self.config = config
        self.seed = seed
        self.num_epochs = runs.num_epochs
        rungs = [config.eta**k for k in range(64) if config.eta**k < runs.num_epochs]
        self._rungs = np.array([*rungs, runs.num_epochs])
        self.reset()

    def reset(self) -> None:
        """Forget the task."""
        config = self.config
        self._curves = CurveModel(self.num_epochs, config.strength)
        self._level: Response | None = None
        self._goals: dict[int, _Goal] = {}
        memory = config.memory * self.num_epochs
        self.trust = Trust(config.first_trust, config.patience, memory)
        self._owed = 0.0  # seconds that the model may spend, and has not
        self._told: tuple[int, float] | None = None
        self._next_refresh, self._num_candidates = 0, 0
        self._score = np.zeros(0)
        self._best = -np.inf

    # ------------------------------------------------------------------- choices

    def choose(self, runs: TaskRuns, meta_features: object = None) -> int | None:
        """The candidate to train for one more epoch; None: none is open."""
        del meta_features
        is_open = runs.is_open
        if not is_open.any():
            return None
        for run, goal in self._goals.items():
            if is_open[run] and runs.lengths[run] < goal.until:
                return run
        if self._owed > 0 and runs.lengths.any():
            run, goal = self._follow_model(runs, is_open)
        else:
            run, goal = self._halve(runs, is_open)
        self._goals[run] = goal
        return run

    def reason(self, run: int) -> str:
        """Why a run was chosen last."""
        return self._goals[run].reason if run in self._goals else ""

    def follow(self, run: int, runs: TaskRuns) -> None:
        """Take over a choice that was made elsewhere."""
        if run not in self._goals or self._goals[run].until <= runs.lengths[run]:
            until = int(runs.lengths[run]) + 1
            self._goals[run] = _Goal(until, False, "chosen elsewhere")

    def observe(self, run: int, seconds: float) -> None:
        """Remember an epoch of a run until `learn` books it."""
        self._told = run, seconds

    def learn(self, runs: TaskRuns) -> None:
        """Bring accounts and model up to date, after every epoch that was told.

        What is known then follows from what was told, not from what was asked in
        between, and a job that resumes makes the choices of one that was never stopped.
        """
        if not runs.lengths.any():
            return
        before, told = self._best, self._told
        claims = self._score.copy()
        self._scores(runs, runs.is_open)
        self._told = None
        if told is None or not np.isfinite(before):
            return
        run, seconds = told
        gain = 0.0
        if self._best > before:
            old, new = self._curves.scale_scores(np.array([before, self._best]))
            gain = float(new - old)
        by_model = run in self._goals and self._goals[run].by_model
        if run < len(claims) and (by_model or runs.lengths[run] > 1):
            self.trust.book(float(claims[run] * seconds), gain)
        self._owed += seconds * (self._share() - by_model)

    def _share(self) -> float:
        """Share of the seconds that follows the model."""
        low, high = self.config.least_share, self.config.most_share
        return float(np.clip(high * self.trust.ratio, low, high))

    def _follow_model(self, runs: TaskRuns, is_open: np.ndarray) -> tuple[int, _Goal]:
        run = int(np.argmax(self._scores(runs, is_open)))
        length = int(runs.lengths[run])
        until = int(max(length + 1, self.config.pause * length))
        reason = (
            f"model, {self._share():.0%} of the seconds: gains most per second, "
            f"{self._gain[run]:.2g} of the range"
        )
        return run, _Goal(until, True, reason)

    def _halve(self, runs: TaskRuns, is_open: np.ndarray) -> tuple[int, _Goal]:
        """Asynchronous halving over all runs: what to train, until which epoch.

        Source: Li et al., A System for Massively Parallel Hyperparameter Tuning (2020),
        Algorithm 2.
        """
        lengths, eta = runs.lengths, self.config.eta
        for rung, above in zip(self._rungs[-2::-1], self._rungs[:0:-1], strict=True):
            reached = np.flatnonzero(lengths >= rung)
            num = len(reached) // eta
            if num == 0:
                continue
            peak = runs.scores[reached, :rung].max(1)
            top = reached[np.argsort(-peak, kind="stable")[:num]]
            ready = top[(lengths[top] < above) & is_open[top]]
            if len(ready):
                reason = f"halving: in the best {num} of {len(reached)} at epoch {rung}"
                return int(ready[0]), _Goal(int(above), False, reason)
        fresh = np.flatnonzero(is_open & (lengths == 0))
        if len(fresh):
            num_begun = int((lengths > 0).sum())
            if num_begun < eta or num_begun % self.config.random_every == 0:
                return int(fresh[0]), _Goal(1, False, "halving: new, as drawn")
            score = self._scores(runs, is_open)[fresh]
            reason = "halving: new, the model's first choice"
            return int(fresh[np.argmax(score)]), _Goal(1, False, reason)
        rest = np.flatnonzero(is_open)
        reason = "halving: nothing new is left"
        longest = int(rest[np.argmax(lengths[rest])])
        return longest, _Goal(self.num_epochs, False, reason)

    def recommend(self, runs: TaskRuns, meta_features: object = None) -> np.ndarray:
        """Order of the candidates, best first; as drawn before any observation."""
        del meta_features
        if not runs.lengths.any():
            return np.arange(len(runs))
        self._scores(runs, runs.is_open)
        value = self._mean.copy()
        for run in np.flatnonzero(runs.lengths):
            value[run] = self.predict(runs, None, int(run))[1].max()
        return np.argsort(-value, kind="stable")

    def largest_gain(self, runs: TaskRuns, meta_features: object = None) -> float:
        """The largest expected improvement, as a share of the range of scores."""
        del meta_features
        is_open = runs.is_open
        self._scores(runs, is_open)
        return float(self._gain[is_open].max())

    def predict(self, runs: TaskRuns, meta_features: object, run: int):
        """Epochs, mean and standard deviation of a candidate's score, ``[O]`` each.

        Raises:
            ValueError: Before any observation.
        """
        del meta_features
        if not runs.lengths.any():
            raise ValueError("a cold tuner predicts nothing before an observation")
        self._scores(runs, runs.is_open)
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

    # --------------------------------------------------------------------- model

    def _scores(self, runs: TaskRuns, is_open: np.ndarray) -> np.ndarray:
        """Expected improvement per second of each candidate, ``[C]``.

        A score is computed again only when the run, the best value or the model of the
        task has changed.
        """
        lengths, total = runs.lengths, int(runs.lengths.sum())
        seen = np.arange(self.num_epochs) < lengths[:, None]
        best = np.where(seen, runs.scores, -np.inf).max()
        is_new = len(runs) != self._num_candidates
        if is_new or total >= self._next_refresh:
            self._refresh(runs)
            self._next_refresh = max(total + 1, int(self.config.growth * total))
        elif best <= self._best:
            self._is_stale[:] = lengths != self._scored
        else:
            self._is_stale[:] = True
        self._best = best
        todo = np.flatnonzero(is_open & self._is_stale)
        scaled = float(self._curves.scale_scores(best))
        self._score_fresh(todo[lengths[todo] == 0], scaled)
        self._score_begun(runs, todo[lengths[todo] > 0], scaled)
        self._scored[todo] = lengths[todo]
        self._is_stale[todo] = False
        score = np.where(is_open, self._score, -np.inf)
        for run in runs.pending:  # other workers: look elsewhere meanwhile
            if lengths[run] == 0 and self._level is not None:
                near = self._level.correlation(run)
                score = np.where(lengths == 0, score * (1 - near**2), score)
        return score

    def _score_begun(self, runs: TaskRuns, begun: np.ndarray, best: float) -> None:
        if len(begun) == 0:
            return
        posterior = self._condition(runs, begun)
        seconds = runs.mean_seconds
        for i, run in enumerate(begun):
            length = int(runs.lengths[run])
            epochs = self._horizons(length)
            gain, chance = self._curves.look_ahead(posterior, i, epochs, best)
            self._gain[run] = gain.max()
            rate = self._rate(gain, chance, epochs - length)
            self._score[run] = rate.max() / seconds[run]

    def _score_fresh(self, fresh: np.ndarray, best: float) -> None:
        """Look closely at those that would gain most if all levels were reached."""
        if len(fresh) == 0:
            return
        mean, var, seconds = (
            self._mean[fresh],
            self._var[fresh],
            self._seconds_of[fresh],
        )
        gain, _ = gaussian_gain(mean, np.sqrt(var), best)
        self._gain[fresh], self._score[fresh] = 0.0, 0.0
        order = np.argsort(-gain / seconds, kind="stable")[: self.config.shortlist]
        epochs = self._horizons(0)
        gain, chance = self._curves.look_ahead_fresh(
            mean[order], var[order], epochs, best
        )
        self._gain[fresh[order]] = gain.max(1)
        rate = self._rate(gain, chance, epochs)
        self._score[fresh[order]] = rate.max(1) / seconds[order]

    def _rate(self, gain, chance, ahead):
        """Gain per epoch that will be spent."""
        given_up = self.config.given_up
        share = given_up + (1 - given_up) * chance
        return gain / (1 + (ahead - 1) * share)

    def _horizons(self, length: int) -> np.ndarray:
        ahead = length + 2 ** np.arange(16)
        return np.r_[ahead[ahead < self.num_epochs], self.num_epochs]

    def _condition(self, runs: TaskRuns, rows: np.ndarray):
        return self._curves.condition(
            runs.scores[rows], runs.lengths[rows], self._mean[rows], self._var[rows]
        )

    def _refresh(self, runs: TaskRuns) -> None:
        """Learn from all runs what shapes, levels and costs this task has."""
        if len(runs) != self._num_candidates or self._level is None:
            columns, owner = unit_columns(runs.space, runs.configs)
            self._level = Response(columns, owner, self.seed)
            self._cost = Response(columns, owner, self.seed + 1)
            self._num_candidates = len(runs)
        self._score, self._gain = np.zeros(len(runs)), np.zeros(len(runs))
        self._scored = np.zeros(len(runs), int)
        self._is_stale = np.ones(len(runs), bool)
        begun = np.flatnonzero(runs.lengths)
        level, noise = self._curves.refresh(runs.scores[begun], runs.lengths[begun])
        kept = self._pick_rows(level, noise)
        rows, level, noise = begun[kept], level[kept], noise[kept]
        center, width = self._curves.level_mean, np.sqrt(self._curves.level_var)
        level, noise = (level - center) / width, noise / width**2
        mean, var = self._level.predict(rows, level, noise, 3)
        self._mean = center + width * np.clip(mean, -4, 4)
        self._var = width**2 * np.clip(var, 1e-3, 1.0)
        self._seconds_of = self._predict_seconds(rows, np.log(runs.mean_seconds[rows]))

    def _pick_rows(self, level: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """The runs that say most: the surest half, and the best of the others."""
        order = np.argsort(noise, kind="stable")
        half = self.config.max_rows // 2
        if len(order) <= 2 * half:
            return order
        rest = order[half:]
        return np.r_[order[:half], rest[np.argsort(-level[rest], kind="stable")][:half]]

    def _predict_seconds(self, rows: np.ndarray, log_seconds: np.ndarray) -> np.ndarray:
        """Seconds of an epoch of each candidate, ``[C]``."""
        center, width = log_seconds.mean(), max(log_seconds.std(), 0.1)
        mean = np.zeros(self._num_candidates)
        if len(rows) > 2:
            noise = np.full(len(rows), 1e-2)
            mean, _ = self._cost.predict(rows, (log_seconds - center) / width, noise, 1)
        return np.exp(center + width * mean)
