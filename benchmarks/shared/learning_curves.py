"""Learning curves of the same agent in a learned environment and in the real task."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
import jaxrl_se
from jaxrl_runs.devices import map_agents
from jaxrl_runs.statistics import steps_to_solve
from jaxrl_se.evaluation import play

EPISODES = 10
_UNIT = 10  # Steps between snapshots; the finest the grid can be.


@dataclasses.dataclass(frozen=True)
class Curve:
    """Test returns of independent agents along their training.

    Attributes:
      returns: float `[num_agents, num_points]`, mean over `EPISODES` episodes.
      solved: bool `[num_agents]`, whether the solved return was ever reached.
      steps_to_solve: `[num_agents]`, the whole budget where it was not.
    """

    returns: np.ndarray
    solved: np.ndarray
    steps_to_solve: np.ndarray

    @property
    def median_steps(self) -> float:
        """Median over agents of the steps to solve."""
        return float(np.median(self.steps_to_solve))


@dataclasses.dataclass(frozen=True)
class Curves:
    """The two sides of a comparison on one grid.

    Attributes:
      steps: int `[num_points]`, training steps at each point.
      synthetic: Agents trained in the learned environment.
      real: Agents trained in the real task.
    """

    steps: np.ndarray
    synthetic: Curve
    real: Curve


def learning_curves(
    agent: Any,
    *,
    synthetic: tuple[Any, Any],
    real: tuple[Any, Any],
    test_task: str,
    solved_return: float,
    key: jax.Array,
    num_steps: int,
    num_agents: int,
) -> Curves:
    """Trains agents on both sides and tests snapshots of both on the real task.

    Args:
      agent: The agent algorithm, with the same hyperparameters on both sides.
      synthetic: The learned environment `(env, params)`.
      real: The real task `(env, params)`.
      test_task: Name of the task that is tested on.
      solved_return: The return on it that counts as solved.
      key: A PRNG key.
      num_steps: Training steps of each agent, the whole budget.
      num_agents: Independent agents per side.
    """
    num_snapshots = num_steps // _UNIT
    # Dense where agents of a learned environment learn, sparse where real ones do.
    grid = np.unique(np.geomspace(1, num_snapshots, 40).astype(int)) - 1
    steps = (grid + 1) * _UNIT
    key_synthetic, key_real, key_test = jax.random.split(key, 3)

    def trained(side):
        (env, params), side_key = side
        result = jaxrl_se.train(
            agent,
            env,
            params,
            side_key,
            num_steps,
            num_agents=num_agents,
            num_snapshots=num_snapshots,
        )
        return jax.tree.map(lambda leaf: leaf[:, grid], result.snapshots)

    def curve(policies) -> Curve:
        env, params = envs.make(test_task)
        returns = np.asarray(_test(policies, params, key_test, env), np.float64)
        return Curve(
            returns=returns,
            solved=np.any(returns >= solved_return, axis=1),
            steps_to_solve=steps_to_solve(returns, steps, solved_return),
        )

    # The two sides are two programs, compiled at the same time.
    with ThreadPoolExecutor(2) as pool:
        sides = ((synthetic, key_synthetic), (real, key_real))
        synthetic_policies, real_policies = pool.map(trained, sides)
    return Curves(steps, curve(synthetic_policies), curve(real_policies))


@partial(jax.jit, static_argnames="env")
def _test(policies, params, key, env) -> jax.Array:
    """Mean test return of policies `[num_agents, num_points]`."""

    def one_agent(agent, params):
        key, policies = agent
        return jax.lax.map(
            lambda policy: jnp.mean(play(policy, env, params, key, EPISODES).returns),
            policies,
            batch_size=8,
        )

    keys = jax.random.split(key, jax.tree.leaves(policies)[0].shape[0])
    return map_agents(one_agent, (keys, policies), params)
