"""Cold start against random search and asynchronous halving."""

from __future__ import annotations

import numpy as np

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


def run_cold(problem, clock, config=None, seed=0):
    from finetune.cold import ColdConfig, ColdPolicy

    num, num_epochs = problem.told.shape
    policy = ColdPolicy(
        problem.space, problem.configs, num_epochs, seed, config or ColdConfig()
    )
    sign = 1 if problem.direction == "maximize" else -1
    curves = np.zeros((num, num_epochs))
    lengths = np.zeros(num, int)
    spent = np.full(num, np.nan)
    is_open = np.ones(num, bool)
    while not clock.is_over and is_open.any():
        run = policy.choose(curves, lengths, spent / np.maximum(lengths, 1), is_open)
        told, seconds = clock.train(run, lengths[run])
        policy.spent(seconds)
        if not np.isfinite(told):
            is_open[run] = False
            continue
        curves[run, lengths[run]] = sign * told
        spent[run] = np.nan_to_num(spent[run]) + seconds
        lengths[run] += 1
        is_open[run] = lengths[run] < num_epochs
