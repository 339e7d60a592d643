"""Choices from the task's own runs alone: what a tuner does that knows no past."""

from __future__ import annotations

import dataclasses

import numpy as np

from finetune.curves import CurveModel, gaussian_gain
from finetune.response import Response, unit_columns
from finetune.space import Config, SearchSpace


@dataclasses.dataclass(frozen=True)
class ColdConfig:
    """Settings of a cold start."""

    halving_share: float = 0.25
    eta: int = 3
    strength: float = 3.0
    given_up: float = 0.3
    shortlist: int = 24
    growth: float = 1.15
    max_rows: int = 80
    cost_power: float = 1.0


class ColdPolicy:
    """Chooses the run to train next."""

    def __init__(
        self,
        space: SearchSpace,
        configs: list[Config],
        num_epochs: int,
        seed: int = 0,
        config: ColdConfig = ColdConfig(),
    ):
        self.config = config
        self.num_epochs = num_epochs
        columns, owner = unit_columns(space, configs)
        self.curves = CurveModel(num_epochs, config.strength)
        self.level = Response(columns, owner, seed)
        self.cost = Response(columns, owner, seed + 1)
        rungs = [config.eta**k for k in range(20) if config.eta**k < num_epochs]
        self.rungs = np.array([*rungs, num_epochs])
        self.halving_seconds = 0.0
        self.total_seconds = 0.0
        self.goal = (-1, 0, False)
        self._next_refresh = 0
        self._best = -np.inf
        self._score = np.full(len(configs), -np.inf)
        self._scored = np.zeros(len(configs), int)  # length at which it was scored
        self.decisions = 0

    def choose(self, curves, lengths, seconds, is_open) -> int:
        run, until, _ = self.goal
        if run >= 0 and is_open[run] and lengths[run] < until:
            return run
        due = self.halving_seconds < self.config.halving_share * self.total_seconds
        if due or not (lengths > 0).any():
            run, until = self.halve(curves, lengths, is_open)
        else:
            self.decisions += 1
            score = self.scores(curves, lengths, seconds, is_open)
            run = int(np.argmax(score))
            n = lengths[run]
            until = n + 1 if n < 6 else int(np.ceil(1.2 * n))
        self.goal = (run, until, due)
        return run

    def spent(self, seconds):
        self.total_seconds += seconds
        if self.goal[2]:
            self.halving_seconds += seconds

    def halve(self, curves, lengths, is_open):
        for level in range(len(self.rungs) - 2, -1, -1):
            rung = self.rungs[level]
            at = np.flatnonzero(lengths >= rung)
            if len(at) < self.config.eta:
                continue
            peak = curves[at, :rung].max(1)
            top = at[np.argsort(-peak, kind="stable")[: len(at) // self.config.eta]]
            ready = [
                r for r in top if lengths[r] < self.rungs[level + 1] and is_open[r]
            ]
            if ready:
                return int(ready[0]), int(self.rungs[level + 1])
        fresh = np.flatnonzero((lengths == 0) & is_open)
        if len(fresh):
            return int(fresh[0]), 1
        rest = np.flatnonzero(is_open)
        return int(rest[np.argmax(lengths[rest])]), self.num_epochs

    def scores(self, curves, lengths, seconds, is_open):
        total = int(lengths.sum())
        seen = np.arange(self.num_epochs) < lengths[:, None]
        best = np.where(seen, curves, -np.inf).max()
        stale = best > self._best
        self._best = best
        if total >= self._next_refresh:
            self._refresh(curves, lengths, seconds)
            self._next_refresh = max(total + 1, int(self.config.growth * total))
            stale = True
        model = self.curves
        scaled_best = model.scale_scores(best)
        if stale:
            self._scored[:] = -1
        todo = np.flatnonzero(is_open & (self._scored != lengths))
        fresh = todo[lengths[todo] == 0]
        begun = todo[lengths[todo] > 0]
        if len(fresh):
            self._score_fresh(fresh, scaled_best)
        if len(begun):
            prior = self._mean[begun], self._var[begun]
            posterior = model.condition(curves[begun], lengths[begun], *prior)
            for i, run in enumerate(begun):
                ahead = self._horizons(lengths[run])
                gain, chance = model.look_ahead(posterior, i, ahead, scaled_best)
                own = seconds[run]
                rate = self._rate(gain, chance, ahead - lengths[run], own)
                self._score[run] = rate.max()
        self._scored[todo] = lengths[todo]
        return np.where(is_open, self._score, -np.inf)

    def _score_fresh(self, fresh, best):
        c, model = self.config, self.curves
        mean, var, seconds = self._mean[fresh], self._var[fresh], self._seconds[fresh]
        gain, _ = gaussian_gain(mean, np.sqrt(var), best)
        self._score[fresh] = -1.0
        order = np.argsort(-gain / seconds, kind="stable")[: c.shortlist]
        ahead = self._horizons(0)
        gain, chance = model.look_ahead_fresh(mean[order], var[order], ahead, best)
        rate = self._rate(gain, chance, ahead, seconds[order][:, None])
        self._score[fresh[order]] = rate.max(1)

    def _refresh(self, curves, lengths, seconds):
        started = np.flatnonzero(lengths > 0)
        mean, noise = self.curves.refresh(curves[started], lengths[started])
        order = np.argsort(noise, kind="stable")
        if len(order) > self.config.max_rows:
            # the surest half, and the best of the rest
            half = self.config.max_rows // 2
            rest = order[half:]
            order = np.r_[order[:half], rest[np.argsort(-mean[rest])][:half]]
        rows = started[order]
        mu, sd = self.curves.level_mean, np.sqrt(self.curves.level_var)
        z, noise = (mean[order] - mu) / sd, noise[order] / sd**2
        found, var = self.level.predict(rows, z, noise, 3)
        # without what the run itself says, which comes in again by its curve
        v = np.minimum(var[rows], 0.999 * noise)
        cavity = 1 / (1 / v - 1 / noise)
        found[rows] = cavity * (found[rows] / v - z / noise)
        var[rows] = cavity
        self._mean = mu + sd * np.clip(found, -4, 4)
        self._var = sd**2 * np.clip(var, 1e-3, 1.0)
        log = np.log(seconds[rows])
        center, width = log.mean(), max(log.std(), 0.1)
        found = np.zeros(len(lengths))
        if len(rows) > 2:
            found, _ = self.cost.predict(
                rows, (log - center) / width, np.full(len(rows), 1e-2), 1
            )
        self._seconds = np.exp(center + width * found)

    def _horizons(self, n):
        ahead = n + np.array([1, 2, 4, 8, 16, 32, 64])
        return np.r_[ahead[ahead < self.num_epochs], self.num_epochs]

    def _rate(self, gain, chance, ahead, seconds):
        c = self.config
        share = c.given_up + (1 - c.given_up) * chance
        return gain / (seconds**c.cost_power * (1 + (ahead - 1) * share))
