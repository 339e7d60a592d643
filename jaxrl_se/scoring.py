"""How a candidate of an evolution is scored: by what the agents that it trained did.

The return at the end of training is the score of a synthetic environment. A reward
network is to make agents learn in few steps, which the other rules measure (Ferreira
et al., 2022; `StepsToSolve` is the main one of their paper).

A return is what a task pays, a score is what a rule makes of it, and a candidate's
fitness is the mean of its scores, which the strategy maximises.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces
from jaxrl_runs import values
from jaxrl_runs.values import MANY, NOT_NEGATIVE, Like, Number, setting
from jaxrl_se.evaluation import Episodes
from jaxrl_se.networks import Weights
from jaxrl_se.task_tests import Record, TaskTest


@struct.dataclass
class Trial:
    """What one agent did, from the first training step to the last test episode.

    Attributes:
      episodes: Test episodes on the task after training, arrays `[E]`.
      steps: int32 scalar, training steps.
      is_finite: bool scalar, whether the weights of its policy are finite.
      tests: The tests that the rule asked for while it trained, or None.
    """

    episodes: Episodes
    steps: jax.Array
    is_finite: jax.Array
    tests: Record | None = None


SCORING = Like(
    "a scoring rule, such as jaxrl_se.FinalReturn()",
    ("for_task", "default_stop", "task_test", "policy", "scores", "validated"),
)


class Scoring(Protocol):
    """A scoring rule: frozen and hashable, its methods pure JAX. Higher is better.

    `ScoringRule` has the usual answers, so that a rule writes what is special to it.
    """

    def for_task(self, solved_return: float | None) -> Scoring:
        """The rule for a task with this registered threshold."""
        ...

    def default_stop(self, solved_return: float | None) -> float | None:
        """The score at which an evolution ends if its configuration names none."""
        ...

    def task_test(self, env: Any, params: Any) -> TaskTest | None:
        """The tests that agents take on a task while they train, if any.

        With tests every candidate is trained alone: agents end at different times.
        """
        ...

    def policy(self, agent: Any, spaces: Spaces, weights: Weights) -> Any:
        """The policy that is tested: an agent's greedy one, or one that samples."""
        ...

    def scores(self, trial: Trial) -> jax.Array:
        """Scores of one agent, float32 `[K]`; `K` is the rule's choice."""
        ...

    def validated(self, trial: Trial) -> jax.Array:
        """The same in the unit of `EvolutionConfig.stop_return`, float32 `[K]`."""
        ...


@dataclasses.dataclass(frozen=True)
class ScoringRule:
    """What most rules answer."""

    def for_task(self, solved_return: float | None) -> Scoring:
        """See `Scoring`; the rule as it is."""
        del solved_return
        return self

    def default_stop(self, solved_return: float | None) -> float | None:
        """See `Scoring`; none: scores are not returns."""
        del solved_return

    def task_test(self, env: Any, params: Any) -> TaskTest | None:
        """See `Scoring`; no tests before the end."""
        del env, params

    def policy(self, agent: Any, spaces: Spaces, weights: Weights) -> Any:
        """See `Scoring`; the agent's own test policy."""
        return agent.policy(spaces, weights)

    def scores(self, trial: Trial) -> jax.Array:
        """See `Scoring`."""
        raise NotImplementedError

    def validated(self, trial: Trial) -> jax.Array:
        """See `Scoring`; the scores themselves."""
        return self.scores(trial)


@dataclasses.dataclass(frozen=True)
class FinalReturn(ScoringRule):
    """The returns on the task after training, one score per test episode.

    Attributes:
      floor: Episodes with a return below it count as this. Where failing costs more the
        harder an agent tries (MountainCarContinuous), candidates that fail would be
        ordered by how little their agents do; with a floor of 0 they are tied.
    """

    floor: float = setting(-math.inf, Number(below=math.inf, infinite=True))

    def __post_init__(self):
        values.check(self)

    def default_stop(self, solved_return: float | None) -> float | None:
        """See `Scoring`; the task's threshold."""
        return solved_return

    def scores(self, trial: Trial) -> jax.Array:
        """See `Scoring`."""
        return jnp.maximum(trial.episodes.returns, self.floor)

    def validated(self, trial: Trial) -> jax.Array:
        """See `Scoring`; returns as the task paid them."""
        return trial.episodes.returns


@dataclasses.dataclass(frozen=True)
class StepsToSolve(ScoringRule):
    """Minus the steps until the task is solved, and what is missing in the end.

    With the mean return `R` of the trained policy, the score is `-steps -
    unsolved_penalty * max(0, solved_return - R)`: the "reward threshold" objective of
    Ferreira et al. (2022). Training ends when it is solved.

    Attributes:
      unsolved_penalty: Steps per unit of return that is missing in the end.
      solved_return: The threshold; None for the task's registered one.
      window: Consecutive tests, after one training episode each, whose mean has to
        reach it.
      test_episodes: Episodes per test.
    """

    unsolved_penalty: float = setting(100.0, NOT_NEGATIVE)
    solved_return: float | None = setting(None, Number(optional=True))
    window: int = setting(10, MANY)
    test_episodes: int = setting(1, MANY)

    def __post_init__(self):
        values.check(self)

    def for_task(self, solved_return: float | None) -> StepsToSolve:
        """See `Scoring`; a threshold of the rule's own goes first."""
        if self.solved_return is not None:
            return self
        if solved_return is None:
            raise ValueError(
                "solved_return must be given to StepsToSolve: the task has no "
                "registered one, got None"
            )
        return dataclasses.replace(self, solved_return=solved_return)

    def task_test(self, env: Any, params: Any) -> TaskTest:
        """See `Scoring`."""
        return TaskTest(
            params,
            self.solved_return,
            env,
            num_episodes=self.test_episodes,
            window=self.window,
        )

    def scores(self, trial: Trial) -> jax.Array:
        """See `Scoring`; one score."""
        assert self.solved_return is not None, "see for_task"
        final_return = jnp.mean(trial.episodes.returns)
        missing = jnp.maximum(self.solved_return - final_return, 0.0)
        score = -trial.steps.astype(jnp.float32) - self.unsolved_penalty * missing
        return jnp.where(trial.is_finite, score, jnp.nan)[None]


@dataclasses.dataclass(frozen=True)
class AreaUnderCurve(ScoringRule):
    """The mean test return over all training steps; nothing ends early.

    Ferreira et al. (2022) take the sum, which has the same order.

    Attributes:
      test_episodes: Episodes per test, after each training episode.
    """

    test_episodes: int = setting(1, MANY)

    def __post_init__(self):
        values.check(self)

    def task_test(self, env: Any, params: Any) -> TaskTest:
        """See `Scoring`."""
        return TaskTest(params, env=env, num_episodes=self.test_episodes, window=1)

    def scores(self, trial: Trial) -> jax.Array:
        """See `Scoring`; an unfinished last episode counts with the final return."""
        record = trial.tests
        assert record is not None, "the rule asks for tests"
        final_return = jnp.mean(trial.episodes.returns)
        rest = (trial.steps - record.step) * final_return
        score = (record.area + rest) / trial.steps
        return jnp.where(trial.is_finite, score, jnp.nan)[None]
