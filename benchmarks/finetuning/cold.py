"""Cold start against random search and asynchronous halving."""

from __future__ import annotations

import numpy as np

import finetune

MARKS = np.geomspace(1, 20, 10)


def _spend(problem, order, horizon):
    """Best value so far at the end of each epoch of a schedule of (run, epoch)."""


class Clock:
    """Best value so far over simulated time."""

    def __init__(self, problem, budget):
        self.problem, self.budget = problem, budget
        self.now, self.best = 0.0, 0.0
        self.times, self.bests = [0.0], [0.0]

    def train(self, run: int, epoch: int) -> tuple[float, float]:
        """Train epoch (from 0); returns what is told and the seconds."""
        seconds = self.problem.seconds[run, epoch]
        told, value = self.problem.told[run, epoch], self.problem.value[run, epoch]
        self.now += seconds
        if np.isfinite(value) and value > self.best:
            self.best = float(value)
            self.times.append(self.now)
            self.bests.append(self.best)
        return told, seconds

    @property
    def is_over(self):
        return self.now >= self.budget

    def at(self, times):
        return np.array(self.bests)[np.searchsorted(self.times, times, "right") - 1]


def run_random(problem, clock):
    for run in range(len(problem.configs)):
        for epoch in range(problem.told.shape[1]):
            if clock.is_over:
                return
            told, _ = clock.train(run, epoch)
            if not np.isfinite(told):
                break


def run_halving(problem, clock, eta=3):
    """ASHA with one worker: rungs at 1, 3, 9, 27, ... epochs."""
    num_epochs = problem.told.shape[1]
    rungs = [eta**k for k in range(10) if eta**k < num_epochs] + [num_epochs]
    sign = 1 if problem.direction == "maximize" else -1
    peak = {}  # run -> best so far
    reached = [dict() for _ in rungs]  # rung -> {run: value}
    promoted = [set() for _ in rungs]
    fresh = iter(range(len(problem.configs)))
    while not clock.is_over:
        job = None
        for level in range(len(rungs) - 2, -1, -1):
            values = reached[level]
            top = sorted(values, key=values.get, reverse=True)[: len(values) // eta]
            ready = [r for r in top if r not in promoted[level] and values[r] > -np.inf]
            if ready:
                job = (ready[0], level + 1)
                promoted[level].add(ready[0])
                break
        if job is None:
            run = next(fresh, None)
            if run is None:
                return
            job = (run, 0)
        run, level = job
        for epoch in range(0 if level == 0 else rungs[level - 1], rungs[level]):
            if clock.is_over:
                return
            told, _ = clock.train(run, epoch)
            if not np.isfinite(told):
                peak[run] = -np.inf
                break
            peak[run] = max(peak.get(run, -np.inf), sign * told)
        reached[level][run] = peak[run]


def run_tuner(problem, clock, seed=0, cold=None):
    """A cold tuner, asked and told as a user would."""
    tuner = finetune.Tuner(
        problem.space,
        candidates=problem.configs,
        num_epochs=problem.told.shape[1],
        direction=problem.direction,
        seed=seed,
        cold=cold or finetune.ColdConfig(),
    )
    while not clock.is_over:
        try:
            trial = tuner.suggest()
        except RuntimeError:  # the pool is used up
            return
        told, seconds = clock.train(trial.id, trial.epoch - 1)
        if np.isfinite(told):
            tuner.observe(trial, float(told), float(seconds))
        else:
            tuner.observe_failure(trial, float(seconds))
