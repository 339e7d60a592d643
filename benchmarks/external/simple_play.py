"""What agents are compared to that have learned nothing: random play, doing nothing."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

import envs
import jaxrl_se


@struct.dataclass
class Constant:
    """Takes one action, whatever it sees.

    Attributes:
      action: The action, as policies give them: discrete ones count from 0.
    """

    action: jax.Array

    def __call__(self, obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Returns the action; the observation `[obs_size]` is not looked at."""
        del obs, key
        return self.action


def doing_nothing(space: Any) -> Constant:
    """Action 0 of discrete ones, the middle of continuous ones: no force at all."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return Constant(jnp.int32(0))
    middle = (np.asarray(space.low) + np.asarray(space.high)) / 2
    return Constant(jnp.asarray(middle, jnp.float32))


def simple_returns(
    task: envs.ExternalTask, key: jax.Array, num_episodes: int
) -> dict[str, np.ndarray]:
    """Returns of both, float64 `[num_episodes]` each."""
    policies: dict[str, Any] = {
        "random": jaxrl_se.RandomPolicy(task.spaces),
        "doing nothing": doing_nothing(task.action_space()),
    }
    returns = {}
    for place, (name, policy) in enumerate(policies.items()):
        key_play = jax.random.fold_in(key, place)
        episodes, _ = task.play(policy, key_play, num_episodes, num_axes=0)
        returns[name] = np.asarray(episodes.returns, np.float64)
    return returns
