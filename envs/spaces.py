"""The spaces of a task as hashable numbers, which networks are sized by."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import environment, spaces


class OneHot(spaces.Box):
    """One-hot float32 vectors, which stand for the numbers below ``n``.

    A task whose observations are states by number has them in this space: for a network
    they are vectors, and an agent with a table knows that it can look them up.

    Args:
        n: The size of the vectors.
    """

    def __init__(self, n: int):
        super().__init__(0.0, 1.0, (n,), jnp.float32)
        self.n = n

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw one of the ``n`` vectors."""
        return jax.nn.one_hot(jax.random.randint(key, (), 0, self.n), self.n)

    def contains(self, x: jax.Array) -> jax.Array:
        """Whether one entry is 1 and all others are 0."""
        return jnp.all((x == 0) | (x == 1)) & (jnp.sum(x) == 1)


@dataclasses.dataclass(frozen=True)
class Spaces:
    """The observation and action space that an agent meets, as hashable numbers.

    Attributes:
      obs_size: Observations are float32 vectors of this size.
      num_actions: Number of discrete actions, or None for continuous ones.
      action_low: Lower bound per action dimension, empty for discrete actions.
      action_high: Upper bound per action dimension, empty for discrete actions.
      num_states: Number of states where observations are one-hot vectors of them
        (`envs.OneHot`), None otherwise.
    """

    obs_size: int
    num_actions: int | None = None
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    num_states: int | None = None

    @classmethod
    def of(cls, env: environment.Environment, params: Any) -> Spaces:
        """Reads the spaces of a gymnax environment.

        Raises:
          ValueError: The observation is not a vector, or the action is neither
            `Discrete` nor a vector `Box`.
        """
        obs_space = env.observation_space(params)
        action_space = env.action_space(params)
        obs_shape = getattr(obs_space, "shape", None)
        if obs_shape is None or len(obs_shape) != 1:
            raise ValueError(
                f"task {env.name!r}: observations must be vectors, got the space "
                f"{type(obs_space).__name__} of shape {obs_shape}; wrap the task with "
                "gymnax.wrappers.FlattenObservationWrapper"
            )
        obs_size = int(obs_shape[0])
        num_states = obs_size if isinstance(obs_space, OneHot) else None
        if hasattr(action_space, "n"):
            return cls(obs_size, int(action_space.n), num_states=num_states)
        shape = getattr(action_space, "shape", None)
        if shape is None or len(shape) > 1:
            raise ValueError(
                f"task {env.name!r}: actions must be Discrete or a vector Box, got "
                f"{type(action_space).__name__} of shape {shape}"
            )
        size = int(shape[0]) if shape else 1
        try:
            low, high = (
                np.broadcast_to(np.asarray(bound, np.float32), (size,)).tolist()
                for bound in (action_space.low, action_space.high)
            )
        except jax.errors.TracerArrayConversionError as error:
            raise ValueError(
                f"task {env.name!r}: its params are traced and its action bounds "
                "depend on them; pass spaces=Spaces.of(env, params), read before"
            ) from error
        return cls(obs_size, None, tuple(low), tuple(high), num_states)

    @property
    def action_size(self) -> int:
        """Size of an action as a network input (one-hot if discrete)."""
        return len(self.action_low) if self.num_actions is None else self.num_actions

    def action_vector(self, action: Any) -> jax.Array:
        """An action as a float32 vector `[action_size]` for a network."""
        if self.num_actions is None:
            return jnp.reshape(action, (self.action_size,)).astype(jnp.float32)
        return jax.nn.one_hot(action, self.num_actions, dtype=jnp.float32)

    def normalized_action(self, action: Any) -> jax.Array:
        """A continuous action as a vector in [-1, 1], clipped to its bounds."""
        low, high = jnp.asarray(self.action_low), jnp.asarray(self.action_high)
        unit = 2 * (self.action_vector(action) - low) / (high - low) - 1
        return jnp.clip(unit, -1.0, 1.0)

    def scaled_action(self, unit: jax.Array) -> jax.Array:
        """The action of vectors `[..., action_size]`, clipped to [-1, 1]."""
        low, high = jnp.asarray(self.action_low), jnp.asarray(self.action_high)
        return low + (high - low) * (jnp.clip(unit, -1.0, 1.0) + 1) / 2

    def action_space(self) -> Any:
        """The gymnax action space."""
        if self.num_actions is not None:
            return spaces.Discrete(self.num_actions)
        # numpy's, so that they are concrete while a program is traced.
        low: Any = np.asarray(self.action_low, np.float32)
        high: Any = np.asarray(self.action_high, np.float32)
        return spaces.Box(low, high, (self.action_size,), jnp.float32)


def obs_range(env: Any, params: Any) -> tuple[tuple[float, float], ...]:
    """The ends of the observation space; [-1, 1] where they are infinite."""
    space = env.observation_space(params)
    low, high = (
        np.broadcast_to(np.asarray(end, np.float64), space.shape)
        for end in (space.low, space.high)
    )
    # gymnax writes infinity as the largest float in some tasks.
    finite = (np.abs(low) < 1e30) & (np.abs(high) < 1e30) & (high > low)
    return tuple(
        (float(a), float(b)) if ok else (-1.0, 1.0)
        for a, b, ok in zip(low, high, finite, strict=True)
    )
