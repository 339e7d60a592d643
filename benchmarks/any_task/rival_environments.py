"""synthetic-gymnax's published one-step environments, from a file of their arrays.

Keys are `TASK/NETWORK/LAYER/kernel|bias`, with the networks `initial_state`
and `reward` of two dense layers each, relu between them (keraJLi/synthetic-gymnax).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

import envs
from envs.spaces import Spaces


@struct.dataclass
class RivalState(environment.EnvState):
    """The observation, float32 `[obs_size]`, and the time, int32."""

    obs: jax.Array
    time: jax.Array


@struct.dataclass
class RivalParams(environment.EnvParams):
    """Weights `{network: ({"kernel", "bias"}, ...)}`."""

    weights: Any = None
    max_steps_in_episode: int = 1


class RivalEnv(environment.Environment):
    """Episodes of one step: an initial state network and a reward network.

    Args:
      spaces: Spaces of the task that it stands for.
    """

    def __init__(self, spaces: Spaces):
        self.spaces = spaces

    def __eq__(self, other):
        return isinstance(other, RivalEnv) and self.spaces == other.spaces

    def __hash__(self):
        return hash(self.spaces)

    def reset_env(self, key, params):
        """An image of standard normal noise."""
        noise = jax.random.normal(key, (self.spaces.obs_size,))
        obs = _network(params.weights["initial_state"], noise)
        return obs, RivalState(obs=obs, time=jnp.int32(0))

    def step_env(self, key, state, action, params):
        """Pays for the action and ends."""
        inputs = jnp.concatenate([state.obs, self.spaces.action_vector(action)])
        reward = _network(params.weights["reward"], inputs)[0]
        state = state.replace(time=state.time + 1)
        return state.obs, state, reward, jnp.bool_(True), {}

    def is_terminated(self, state, params):
        """After every step."""
        return state.time > 0

    def is_truncated(self, state, params):
        """Never."""
        return jnp.bool_(False)

    def action_space(self, params=None):
        """The task's."""
        return self.spaces.action_space()

    def observation_space(self, params=None):
        """Unbounded vectors."""
        return spaces.Box(-jnp.inf, jnp.inf, (self.spaces.obs_size,), jnp.float32)


def load_rival(path: str | Path, task: str) -> tuple[RivalEnv, RivalParams]:
    """Reads one of the environments.

    Args:
      path: The npz file.
      task: A task's name, such as "CartPole-v1".

    Returns:
      A gymnax pair `(env, params)`.

    Raises:
      ValueError: The file has no environment for the task.
    """
    spaces_of_task = Spaces.of(*envs.make(task))
    with np.load(path, allow_pickle=False) as file:
        arrays = {n: file[n] for n in file.files if n.startswith(task + "/")}
    if not arrays:
        raise ValueError(f"path: {path} has no environment for {task!r}")
    weights = {
        network: tuple(
            {
                part: jnp.asarray(arrays[f"{task}/{network}/Dense_{layer}/{part}"])
                for part in ("kernel", "bias")
            }
            for layer in range(2)
        )
        for network in ("initial_state", "reward")
    }
    return RivalEnv(spaces_of_task), RivalParams(weights=weights)


def _network(layers: Any, x: jax.Array) -> jax.Array:
    first, last = layers
    hidden = jax.nn.relu(x @ first["kernel"] + first["bias"])
    return hidden @ last["kernel"] + last["bias"]
