"""How a candidate of an evolution is scored: functions of what its agents did.

The return at the end of training is the score of a synthetic environment. A reward
network is to make agents learn in few steps, which the other rules measure (Ferreira
et al., 2022; `StepsToSolve` is the main one of their paper).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jaxrl_se.task_tests import Record, TaskTest


class Scoring(Protocol):
    """A scoring rule; higher is better."""

    def for_task(self, solved_return: float | None) -> Scoring:
        """The rule for a task with this registered threshold."""
        ...

    def task_test(self, env: Any, params: Any) -> TaskTest | None:
        """The tests that agents take on a task while they train, if any."""
        ...

    def __call__(
        self, record: Record, steps: jax.Array, final_return: jax.Array
    ) -> jax.Array:
        """The score of one training.

        Args:
          record: The tests that were taken.
          steps: int32, training steps until the end.
          final_return: float32, mean return of the trained policy on the real task.
        """
        ...


@dataclasses.dataclass(frozen=True)
class FinalReturn:
    """The mean return on the real task after training.

    Attributes:
      floor: Episodes with a return below it count as this. Where failing costs more the
        harder an agent tries (MountainCarContinuous), candidates that fail would be
        ordered by how little their agents do; with a floor of 0 they are tied.
    """

    floor: float = -math.inf

    def for_task(self, solved_return: float | None) -> FinalReturn:
        """See `Scoring`."""
        del solved_return
        return self

    def floored(self, returns: jax.Array) -> jax.Array:
        """Returns of episodes as they count."""
        return jnp.maximum(returns, self.floor)

    def task_test(self, env: Any, params: Any) -> None:
        """No tests before the end."""

    def __call__(self, record, steps, final_return) -> jax.Array:
        """See `Scoring`; of episodes that are `floored` already."""
        del record, steps
        return final_return


@dataclasses.dataclass(frozen=True)
class StepsToSolve:
    """Minus the training steps until the task is solved, and a penalty if it is not.

    `-steps - unsolved_penalty * max(0, solved_return - final_return)`: the "reward
    threshold" objective of Ferreira et al. (2022). Training ends when it is solved.

    Attributes:
      unsolved_penalty: Steps per unit of return that is missing in the end.
      solved_return: The threshold; None for the task's registered one.
      window: Consecutive tests, after one training episode each, whose mean has to
        reach it.
      test_episodes: Episodes per test.
    """

    unsolved_penalty: float = 100.0
    solved_return: float | None = None
    window: int = 10
    test_episodes: int = 1

    def for_task(self, solved_return: float | None) -> StepsToSolve:
        """See `Scoring`; a threshold of the rule's own goes first."""
        if self.solved_return is not None:
            return self
        if solved_return is None:
            raise ValueError(
                "solved_return: the task has no registered one, give StepsToSolve one"
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

    def __call__(self, record, steps, final_return) -> jax.Array:
        """See `Scoring`."""
        del record
        missing = jnp.maximum(self.solved_return - final_return, 0.0)
        return -steps.astype(jnp.float32) - self.unsolved_penalty * missing


@dataclasses.dataclass(frozen=True)
class AreaUnderCurve:
    """The mean test return over all training steps; nothing ends early.

    Ferreira et al. (2022) take the sum, which has the same order.

    Attributes:
      test_episodes: Episodes per test, after each training episode.
    """

    test_episodes: int = 1

    def for_task(self, solved_return: float | None) -> AreaUnderCurve:
        """See `Scoring`."""
        del solved_return
        return self

    def task_test(self, env: Any, params: Any) -> TaskTest:
        """See `Scoring`."""
        return TaskTest(params, env=env, num_episodes=self.test_episodes, window=1)

    def __call__(self, record, steps, final_return) -> jax.Array:
        """See `Scoring`; an unfinished last episode counts with the final return."""
        return (record.area + (steps - record.step) * final_return) / steps
