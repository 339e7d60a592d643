"""Tests on the real task while an agent trains: learning curves and an early end."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.task import as_pair
from jaxrl_runs import values
from jaxrl_runs.values import MANY, THRESHOLD, static, traced
from jaxrl_se.evaluation import play


@struct.dataclass
class Record:
    """The tests of one training run so far.

    Attributes:
      curve: float32 `[num_points]`, the test return at each point of an even grid of
        training steps: that of the test after the episode which the step belongs to.
        Steps after the last test have its return.
      area: float32, the sum over training episodes of test return times steps.
      recent: float32 `[window]`, the last test returns, newest first.
      num_tests: int32.
      step: int32, training steps at the last test.
      real_steps: int32, steps that tests took in the real task.
    """

    curve: jax.Array
    area: jax.Array
    recent: jax.Array
    num_tests: jax.Array
    step: jax.Array
    real_steps: jax.Array


@struct.dataclass
class TaskTest:
    """Tests the policy on the real task after every training episode.

    Ferreira et al. (2022) train agents with reward networks like this, and end a
    training when the mean return of the last tests counts as solved. An agent that
    learns in iterations over several environments (PPO) is tested after each of these.

    Attributes:
      params: Params of the real task.
      solved_return: Training ends when the mean of the last `window` tests reaches it;
        infinity to never end. Fewer tests than `window` do not count.
      env: Static; the real task's environment.
      num_episodes: Static; test episodes, of which the mean return counts.
      window: Static; tests in the mean.
      num_points: Static; points of the learning curve, which divide the training steps.
    """

    params: Any
    solved_return: Any = traced(jnp.inf, THRESHOLD)
    env: Any = struct.field(pytree_node=False, default=None)
    num_episodes: int = static(1, MANY)
    window: int = static(10, MANY)
    num_points: int = static(1, MANY)

    @classmethod
    def of(cls, task: Any, **options: Any) -> TaskTest:
        """Tests on a task.

        Args:
          task: Whatever `envs.open_task` takes, inside JAX.
          **options: Other attributes.

        Raises:
          TypeError: The task is outside JAX, where a training cannot stop to test.
          ValueError: An option is out of its range.
        """
        env, params = as_pair(task, argument="task")
        test = cls(params=params, env=env, **options)
        values.check(test)
        return test

    def check(self, num_steps: int) -> None:
        """Raises ValueError for sizes that cannot be tested with.

        Raises:
          TypeError: The task is outside JAX.
        """
        as_pair(self.env, self.params, "test.env")
        values.check(self)
        if num_steps % self.num_points:
            raise ValueError(
                f"num_points must divide num_steps ({num_steps}), got {self.num_points}"
            )

    def init(self) -> Record:
        """Before the first step."""
        return Record(
            curve=jnp.zeros(self.num_points, jnp.float32),
            area=jnp.float32(0.0),
            recent=jnp.zeros(self.window, jnp.float32),
            num_tests=jnp.int32(0),
            step=jnp.int32(0),
            real_steps=jnp.int32(0),
        )

    def after_step(
        self,
        record: Record,
        policy: Any,
        key: jax.Array,
        step: jax.Array,
        done: jax.Array,
        num_steps: int,
    ) -> Record:
        """Tests the policy if the step ended an episode.

        Args:
          record: The tests so far.
          policy: The agent's test policy.
          key: One key for the whole training.
          step: int32, training steps including this one.
          done: bool, whether it ended an episode.
          num_steps: The training's whole budget, the end of the curve.
        """

        def test(record):
            # `done` again: under `jax.vmap` both branches run for all members, and
            # those that do not test must not play either.
            episodes = play(
                policy,
                self.env,
                self.params,
                jax.random.fold_in(key, record.num_tests),
                self.num_episodes,
                active=done,
            )
            result = jnp.mean(episodes.returns)
            grid = jnp.arange(1, self.num_points + 1) * (num_steps // self.num_points)
            return Record(
                curve=jnp.where(grid > record.step, result, record.curve),
                area=record.area + result * (step - record.step),
                recent=jnp.concatenate([result[None], record.recent[:-1]]),
                num_tests=record.num_tests + 1,
                step=step,
                real_steps=record.real_steps + jnp.sum(episodes.lengths),
            )

        return jax.lax.cond(done, test, lambda record: record, record)

    def solved(self, record: Record) -> jax.Array:
        """Whether training ends."""
        enough = record.num_tests >= self.window
        return enough & (jnp.mean(record.recent) >= self.solved_return)
