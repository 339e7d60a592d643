"""Choices from the task's own runs alone: what a tuner does that knows no past.

Nothing is trained beforehand. The backbone is asynchronous halving: new configurations
start with one epoch, the best third at each rung goes on to the next. Two things are
better than there. Most new configurations are not drawn but chosen, by a model of which
hyperparameters did well at the highest rung that says something
(`finetune.rungs`), as soon as, and only while, it orders runs that it was not told of.
And until a run is finished, a small share of the seconds trains the best promoted one
straight on, so that something good is there early. Where the model finds nothing, what
is left is halving.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from finetune.outlook import Outlook
from finetune.rungs import RungModel, scores_at
from finetune.task_runs import TaskRuns
from jaxrl_runs import values
from jaxrl_runs.values import COUNT, FRACTION, POSITIVE, Integer, Number, setting


@dataclasses.dataclass(frozen=True)
class ColdConfig:
    """Settings of a cold start.

    Attributes:
        eta: Of halving: rungs are powers of it, one of so many is promoted.
        random_every: One of so many configurations that start is the next one as
            drawn, the others are chosen by the model; 1: all as drawn.
        straight_on: Share of the seconds, until a first run is finished, that trains on
            the best of those that were promoted once.
        min_runs: Runs at a rung before its model is asked.
        min_correlation: Rank correlation with runs it was not told of, below which a
            model of a rung is not used.
        strength: Runs that the prior of shapes counts as, in predictions.
        growth: Models are learned anew when what they learn from has grown by this
            factor.
        max_rows: Runs that a Gaussian process looks at, at most.
    """

    eta: int = setting(3, Integer(at_least=2))
    random_every: int = setting(3, COUNT)
    straight_on: float = setting(0.15, FRACTION)
    min_runs: int = setting(6, Integer(at_least=3))
    min_correlation: float = setting(0.15, FRACTION)
    strength: float = setting(3.0, POSITIVE)
    growth: float = setting(1.1, Number(above=1.0))
    max_rows: int = setting(100, Integer(at_least=4, at_most=2**16))

    def __post_init__(self):
        values.check(self)


class _Goal(NamedTuple):
    """Until which epoch a run is trained, on which account, and why."""

    until: int
    is_straight_on: bool
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
        config, seed = self.config, self.seed
        self._model = RungModel(
            self._rungs,
            seed + 1,
            config.min_runs,
            config.min_correlation,
            config.max_rows,
            config.growth,
        )
        self._outlook = Outlook(
            self.num_epochs, seed, config.strength, config.growth, config.max_rows
        )
        self._goals: dict[int, _Goal] = {}
        self._proposal: tuple[int, _Goal] | None = None
        self._owed = 0.0  # seconds for the best run that were not spent yet

    # ------------------------------------------------------------------- choices

    def choose(self, runs: TaskRuns, meta_features: object = None) -> int | None:
        """The candidate to train for one more epoch; None: none is open.

        Nothing changes until `follow` takes a choice over.
        """
        del meta_features
        is_open = runs.is_open
        if not is_open.any():
            return None
        self._proposal = None
        for run, goal in self._goals.items():
            if is_open[run] and runs.lengths[run] < goal.until:
                return run
        self._proposal = self._go_straight_on(runs, is_open)
        if self._proposal is None:
            self._proposal = self._halve(runs, is_open)
        return self._proposal[0]

    def reason(self, run: int) -> str:
        """Why a run was chosen last."""
        return self._goals[run].reason if run in self._goals else ""

    def follow(self, run: int, runs: TaskRuns) -> None:
        """Take over a choice: the one that `choose` made, or one made elsewhere."""
        if self._proposal is not None and self._proposal[0] == run:
            self._goals[run] = self._proposal[1]
        elif run not in self._goals or self._goals[run].until <= runs.lengths[run]:
            until = int(runs.lengths[run]) + 1
            self._goals[run] = _Goal(until, False, "chosen elsewhere")
        self._proposal = None

    def observe(self, run: int, seconds: float) -> None:
        """Book the seconds of an epoch of a run."""
        is_straight_on = run in self._goals and self._goals[run].is_straight_on
        self._owed += seconds * (self.config.straight_on - is_straight_on)

    def learn(self, runs: TaskRuns) -> None:
        """Bring the models up to date, after every epoch that was told.

        What is known then follows from what was told, not from what was asked in
        between, and a job that resumes makes the choices of one that was never stopped.
        """
        if runs.lengths.any():
            if self.config.random_every > 1:
                self._model.learn(runs)
            self._outlook.learn(runs)

    def _go_straight_on(
        self, runs: TaskRuns, is_open: np.ndarray
    ) -> tuple[int, _Goal] | None:
        """The best promoted run to its next rung, where seconds are owed to it."""
        if self._owed <= 0 or (runs.lengths >= self.num_epochs).any():
            return None
        begun = np.flatnonzero(is_open & (runs.lengths >= self._rungs[:2][-1]))
        if len(begun) == 0:
            return None
        seen = np.arange(self.num_epochs) < runs.lengths[begun, None]
        peak = np.where(seen, runs.scores[begun], -np.inf).max(1)
        run = int(begun[np.argmax(peak)])
        share = self.config.straight_on
        reason = f"the best promoted run, straight on: {share:.0%} of the seconds"
        return run, _Goal(self._next_rung(runs, run), True, reason)

    def _next_rung(self, runs: TaskRuns, run: int) -> int:
        return int(self._rungs[self._rungs > runs.lengths[run]][0])

    def _halve(self, runs: TaskRuns, is_open: np.ndarray) -> tuple[int, _Goal]:
        """Asynchronous halving over all runs: what to train, until which epoch.

        Source: Li et al., A System for Massively Parallel Hyperparameter Tuning (2020),
        Algorithm 2.
        """
        lengths, eta = runs.lengths, self.config.eta
        for k in range(len(self._rungs) - 2, -1, -1):
            rung, above = int(self._rungs[k]), int(self._rungs[k + 1])
            reached, peak = scores_at(runs, self._rungs, k)
            num = len(reached) // eta
            if num == 0:
                continue
            top = reached[np.argsort(-peak, kind="stable")[:num]]
            ready = top[(lengths[top] < above) & is_open[top]]
            if len(ready):
                reason = f"halving: in the best {num} of {len(reached)} at epoch {rung}"
                return int(ready[0]), _Goal(above, False, reason)
        fresh = np.flatnonzero(is_open & (lengths == 0))
        if len(fresh):
            return self._start(runs, fresh)
        rest = np.flatnonzero(is_open)
        reason = "halving: nothing new is left"
        longest = int(rest[np.argmax(lengths[rest])])
        return longest, _Goal(self.num_epochs, False, reason)

    def _start(self, runs: TaskRuns, fresh: np.ndarray) -> tuple[int, _Goal]:
        """A new configuration: the next one as drawn, or the model's first choice."""
        num_begun = int(((runs.lengths > 0) | runs.is_failed).sum())
        guess = self._model.best_guess()
        every = self.config.random_every
        if guess is None or num_begun % every == every - 1:
            return int(fresh[0]), _Goal(1, False, "halving: new, as drawn")
        known = fresh[fresh < len(guess.value)]  # the others were added this moment
        if len(known) == 0:
            return int(fresh[0]), _Goal(1, False, "halving: new, as drawn")
        value = guess.value[known] - guess.value.min()
        for run in runs.pending:  # other workers: look elsewhere meanwhile
            if runs.lengths[run] == 0:
                value = value * (1 - self._model.nearness(run)[known] ** 2)
        reason = (
            f"halving: new, guessed from {guess.num_runs} runs at epoch {guess.epoch} "
            f"(rank correlation {guess.correlation:.2f})"
        )
        return int(known[np.argmax(value)]), _Goal(1, False, reason)

    # --------------------------------------------------------------- predictions

    def recommend(self, runs: TaskRuns, meta_features: object = None) -> np.ndarray:
        """Order of the candidates, best first; as drawn before any observation."""
        del meta_features
        if not runs.lengths.any():
            return np.arange(len(runs))
        return self._outlook.order(runs)

    def largest_gain(self, runs: TaskRuns, meta_features: object = None) -> float:
        """The largest expected improvement, as a share of the range of scores."""
        del meta_features
        return self._outlook.largest_gain(runs)

    def predict(self, runs: TaskRuns, meta_features: object, run: int):
        """Epochs, mean and standard deviation of a candidate's score, ``[O]`` each.

        Raises:
            ValueError: Before any observation.
        """
        del meta_features
        if not runs.lengths.any():
            raise ValueError("a cold tuner predicts nothing before an observation")
        return self._outlook.predict(runs, run)
