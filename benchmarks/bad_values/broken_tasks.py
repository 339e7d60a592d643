"""A tiny task, and the ways in which one can be wrong."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax.numpy as jnp
import numpy as np
from gymnax.environments import environment, spaces


class Corridor(environment.Environment):
    """Counts its steps up to its params, a number; nothing says a time limit."""

    @property
    def name(self) -> str:
        """Environment name."""
        return "corridor"

    @property
    def default_params(self) -> Any:
        """Steps of an episode."""
        return 3.0

    def reset_env(self, key, params) -> Any:
        """At 0."""
        return jnp.zeros(1), jnp.float32(0)

    def step_env(self, key, state, action, params) -> Any:
        """One further, which pays 1."""
        state = state + 1
        end = self.is_terminal(state, params)
        return state[None], state, jnp.float32(1), end, {}

    def is_terminal(self, state, params) -> Any:
        """At the end."""
        return state >= params

    def is_terminated(self, state, params) -> Any:
        """At the end."""
        return self.is_terminal(state, params)

    def is_truncated(self, state, params) -> Any:
        """Never."""
        return jnp.bool_(False)

    def observation_space(self, params) -> Any:
        """One number."""
        return spaces.Box(0.0, 9.0, (1,), jnp.float32)

    def action_space(self, params=None) -> Any:
        """Two actions."""
        return spaces.Discrete(2)


class IntegerEnds(Corridor):
    """Flags are integers."""

    def is_terminal(self, state, params) -> Any:
        """0 or 1."""
        return jnp.int32(state >= params)


class FloatLimit(Corridor):
    """Flags are floats."""

    def is_truncated(self, state, params) -> Any:
        """0."""
        return jnp.float32(0.0)


class LongerSpace(Corridor):
    """Observations are shorter than their space."""

    def observation_space(self, params) -> Any:
        """Two numbers."""
        return spaces.Box(0.0, 9.0, (2,), jnp.float32)


class GrowingObs(Corridor):
    """Observations of steps are longer than those of resets."""

    def step_env(self, key, state, action, params) -> Any:
        """A number more."""
        obs, *rest = super().step_env(key, state, action, params)
        return jnp.append(obs, 0.0), *rest


class IntegerState(Corridor):
    """The first state has another dtype."""

    def reset_env(self, key, params) -> Any:
        """At an integer."""
        return jnp.zeros(1), jnp.int32(0)

    def step_env(self, key, state, action, params) -> Any:
        """To a float."""
        return super().step_env(key, jnp.float32(state), action, params)


class TwoRewards(Corridor):
    """Rewards are vectors."""

    def step_env(self, key, state, action, params) -> Any:
        """Two of them."""
        obs, state, _, *rest = super().step_env(key, state, action, params)
        return obs, state, jnp.ones(2), *rest


class Branches(Corridor):
    """Python asks what is traced."""

    def reset_env(self, key, params) -> Any:
        """Of the params."""
        return (jnp.zeros(1) if params > 2 else jnp.ones(1)), jnp.float32(0)


class NanRewards(Corridor):
    """The second reward is NaN."""

    def step_env(self, key, state, action, params) -> Any:
        """NaN at 2."""
        obs, state, reward, end, info = super().step_env(key, state, action, params)
        return obs, state, jnp.where(state == 2, jnp.nan, reward), end, info


class NanObs(Corridor):
    """Observations but the first are NaN."""

    def step_env(self, key, state, action, params) -> Any:
        """To NaN."""
        obs, *rest = super().step_env(key, state, action, params)
        return obs * jnp.nan, *rest


BROKEN = (
    IntegerEnds,
    FloatLimit,
    LongerSpace,
    GrowingObs,
    IntegerState,
    TwoRewards,
    Branches,
)


class Endless(gymnasium.Env):
    """A task of Gymnasium's that never ends, and says no time limit."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None) -> Any:
        """At zeros."""
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action) -> Any:
        """Stays, which pays 1."""
        return np.zeros(2, np.float32), 1.0, False, False, {}
