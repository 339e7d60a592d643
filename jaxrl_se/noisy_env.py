"""Noise on what an environment shows, to see what its agents live on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment

from envs.wrapper import Wrapper


@struct.dataclass
class NoisyState(environment.EnvState):
    """What a `NoisyEnv` remembers.

    Attributes:
      time: int32 scalar, the inner environment's.
      state: The inner environment's state.
      obs: The observation as it was shown, with its noise.
    """

    time: jax.Array
    state: Any
    obs: jax.Array


@struct.dataclass
class NoisyParams(environment.EnvParams):
    """Parameters of a `NoisyEnv`; all of them are traced.

    Attributes:
      params: The inner environment's params.
      obs_std: float32 `[obs_size]`, standard deviation of the noise per observation.
      reward_std: float32 scalar, that of the noise on the reward.
    """

    params: Any = None
    obs_std: Any = 0.0
    reward_std: Any = 0.0


class NoisyEnv(Wrapper):
    """Adds independent Gaussian noise to observations and rewards at every step.

    Noise is on the outputs alone: the inner environment goes on from its own state, and
    pays for the state that it is in, not for the one that is shown. In a synthetic
    environment of one-step episodes this is noise on its initial states and its reward
    (Ferreira et al., 2022, add noise to one output of an environment at a time).

    Environments that are equal wrap to equal ones, so that nothing compiles twice.

    Args:
      env: A gymnax environment with vector observations that does not wrap another.

    Raises:
      ValueError: The environment has a `step` of its own, whose resets this would
        leave out.
    """

    @property
    def name(self) -> str:
        """Environment name."""
        return f"Noisy-{self._env.name}"

    @property
    def default_params(self) -> NoisyParams:
        """The inner environment's, without noise."""
        return NoisyParams(params=self._env.default_params)

    def inner_params(self, params: NoisyParams) -> Any:
        """The inner environment's params."""
        return params.params

    def inner_state(self, state: NoisyState) -> Any:
        """The inner environment's state."""
        return state.state

    def reset_env(self, key, params):
        """Resets the inner environment."""
        key_reset, key_noise = jax.random.split(key)
        obs, state = self._env.reset_env(key_reset, params.params)
        obs = _noisy(key_noise, obs, params.obs_std)
        return obs, NoisyState(time=state.time, state=state, obs=obs)

    def step_env(self, key, state, action, params):
        """Steps the inner environment."""
        key_step, key_obs, key_reward = jax.random.split(key, 3)
        obs, inner, reward, terminated, info = self._env.step_env(
            key_step, state.state, action, params.params
        )
        obs = _noisy(key_obs, obs, params.obs_std)
        reward = _noisy(key_reward, reward, params.reward_std)
        state = NoisyState(time=inner.time, state=inner, obs=obs)
        return obs, state, reward, terminated, info

    def observe(self, key, state, action, params):
        """What was shown last."""
        del key, action, params
        return state.obs


def _noisy(key, value, std):
    value = jnp.asarray(value, jnp.float32)
    return value + std * jax.random.normal(key, value.shape)
