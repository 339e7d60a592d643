"""Training of agents in any gymnax environment, real or learned."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
from flax import struct

from jaxrl_se.parallel import map_agents
from jaxrl_se.spaces import Spaces


@struct.dataclass
class TrainResult:
    """Trained agents.

    Attributes:
      policy: The policy at the end of training, a pytree callable `(obs, key) ->
        action`; with a leading `[num_agents]` axis if several were trained.
      snapshots: Policies along the way, with leading axes `[num_snapshots]` or
        `[num_agents, num_snapshots]`; the last equals `policy`.
      steps: int array `[num_snapshots]`, environment steps at each snapshot.
    """

    policy: Any
    snapshots: Any
    steps: np.ndarray = struct.field(pytree_node=False)


def train(
    agent: Any,
    env: Any,
    params: Any,
    key: jax.Array,
    num_steps: int = 500,
    *,
    num_agents: int | None = None,
    num_snapshots: int = 1,
) -> TrainResult:
    """Trains fresh agents in one environment, compiled as a whole.

    Args:
      agent: An algorithm with its hyperparameters, such as `DDQN()`.
      env: A gymnax environment.
      params: Its params.
      key: A PRNG key.
      num_steps: Environment steps of each agent.
      num_agents: None for one agent, or how many independent ones to train at once
        on all local devices.
      num_snapshots: How many evenly spaced policies to keep; divides `num_steps`.

    Returns:
      A `TrainResult`.

    Raises:
      ValueError: A budget is not positive, `num_snapshots` does not divide
        `num_steps`, or the agent cannot act in the environment's spaces.
    """
    check_budget(num_steps, num_snapshots)
    if num_agents is not None and num_agents < 1:
        raise ValueError(f"num_agents must be at least 1, got {num_agents}")
    spaces = Spaces.of(env, params)
    agent.check(spaces)
    keys = jax.random.split(key, num_agents or 1)
    weights = _train(agent, params, keys, env, num_steps, num_snapshots)
    if num_agents is None:
        weights = jax.tree.map(lambda leaf: leaf[0], weights)
    last = jax.tree.map(
        lambda leaf: leaf[-1] if num_agents is None else leaf[:, -1], weights
    )
    return TrainResult(
        policy=agent.policy(spaces, last),
        snapshots=agent.policy(spaces, weights),
        steps=np.arange(1, num_snapshots + 1) * (num_steps // num_snapshots),
    )


def train_one(
    agent: Any,
    env: Any,
    params: Any,
    key: jax.Array,
    num_steps: int,
    num_snapshots: int = 1,
) -> Any:
    """Trains one agent: weights with a leading `[num_snapshots]` axis. Not jitted."""
    weights = agent.train_group(
        env,
        params,
        None,
        key,
        num_members=1,
        num_steps=num_steps,
        num_snapshots=num_snapshots,
    )
    return jax.tree.map(lambda leaf: leaf[:, 0], weights)


@partial(jax.jit, static_argnames=("env", "num_steps", "num_snapshots"))
def _train(agent, params, keys, env, num_steps, num_snapshots):
    def one(key, agent, params):
        return train_one(agent, env, params, key, num_steps, num_snapshots)

    return map_agents(one, keys, agent, params)


def check_budget(num_steps: int, num_snapshots: int = 1) -> None:
    """Raises ValueError for budgets that cannot be trained."""
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if num_snapshots < 1 or num_steps % num_snapshots:
        raise ValueError(
            "num_snapshots must be positive and divide num_steps "
            f"({num_steps}), got {num_snapshots}"
        )
