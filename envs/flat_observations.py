"""Any task with its observations as float32 vectors, for perceptrons."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from envs.spaces import OneHot, Spaces
from envs.stepping import check_env, has_raw_step, step
from envs.wrapper import Wrapper


def flat_observations(env: Any, params: Any, known: Spaces | None = None) -> Any:
    """The task with observations flattened by `Spaces.flatten_obs`.

    Args:
        env: A gymnax environment of which an observation is one array or a state by
            number: pictures, grids, single numbers.
        params: Its params.
        known: The task's spaces, if they were read before.

    Returns:
        A gymnax environment for the same params; ``env`` itself if its observations
        are vectors already. Equal ones compare as equal.

    Raises:
        ValueError: If an observation is not one array.
    """
    check_env(env)
    known = known or Spaces.of(env, params)
    if known.are_vectors:
        return env
    return (FlatEnv if has_raw_step(env) else FlatSteppedEnv)(env, known)


class FlatEnv(Wrapper):
    """See `flat_observations`.

    Args:
        env: The environment, with gymnax's own ``step``.
        known: Its spaces.
    """

    def __init__(self, env: Any, known: Spaces):
        super().__init__(env, known)
        self._spaces = known

    def reset_env(self, key: jax.Array, params: Any) -> tuple[Any, Any]:
        """Draw an initial observation and state."""
        obs, state = self._env.reset_env(key, params)
        return self._spaces.flatten_obs(obs), state

    def step_env(self, key: jax.Array, state: Any, action: Any, params: Any):
        """Step the dynamics once, without a time limit and without a reset."""
        obs, *rest = self._env.step_env(key, state, action, params)
        return self._spaces.flatten_obs(obs), *rest

    def observation_space(self, params: Any = None) -> Any:
        """The same bounds, flattened; one-hot vectors for states by number."""
        space, size = self._env.observation_space(params), self._spaces.obs_size
        if self._spaces.num_states is not None:
            return OneHot(size)
        scale = 255 if space.dtype == jnp.uint8 and len(space.shape) > 1 else 1
        low, high = (
            np.broadcast_to(np.asarray(end, np.float32), space.shape).reshape(size)
            / scale
            for end in (space.low, space.high)
        )
        return spaces.Box(low, high, (size,), jnp.float32)  # type: ignore


class FlatSteppedEnv(FlatEnv):
    """The same over an environment with a ``step`` of its own."""

    def __init__(self, env: Any, known: Spaces):
        # Not the base's, which is for environments that have none.
        self._env, self._settings, self._spaces = env, known, known

    def reset(self, key: jax.Array, params: Any = None) -> tuple[Any, Any]:
        """Draw an initial observation and state."""
        obs, state = self._env.reset(key, params)
        return self._spaces.flatten_obs(obs), state

    def step(self, key: jax.Array, state: Any, action: Any, params: Any = None):
        """Step, and reset if the episode is over."""
        params = self.default_params if params is None else params
        taken = step(self._env, key, state, action, params)
        info = {
            **taken.info,
            "terminated": taken.terminated,
            "truncated": taken.truncated,
            "final_observation": self._spaces.flatten_obs(taken.next_obs),
        }
        obs = self._spaces.flatten_obs(taken.obs)
        flags = taken.terminated, taken.truncated
        return obs, taken.state, taken.reward, *flags, info
