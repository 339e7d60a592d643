"""Running statistics of observations, and policies that see them normalised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces

LIMIT = 10.0  # In deviations, as Stable-Baselines3's VecNormalize has it.


@struct.dataclass
class ObsStatistics:
    """Mean and spread of all observations so far.

    Attributes:
      count: float32, how many.
      mean: float32 `[*obs_shape]`.
      squares: float32 `[*obs_shape]`, the sum of squared distances from the mean.
    """

    count: jax.Array
    mean: jax.Array
    squares: jax.Array

    @classmethod
    def start(cls, spaces: Spaces) -> ObsStatistics:
        """Of no observation; `normalized` changes nothing but what is far from 0."""
        assert spaces.obs_shape is not None
        zeros = jnp.zeros(spaces.obs_shape, jnp.float32)
        return cls(jnp.float32(0.0), zeros, zeros)

    def seen(self, obs: jax.Array) -> ObsStatistics:
        """With further observations `[N, *obs_shape]` (Chan et al., 1979)."""
        count = self.count + obs.shape[0]
        mean = jnp.mean(obs, axis=0)
        shift = mean - self.mean
        squares = jnp.sum(jnp.square(obs - mean), axis=0)
        between = jnp.square(shift) * self.count * obs.shape[0] / count
        return ObsStatistics(
            count=count,
            mean=self.mean + shift * obs.shape[0] / count,
            squares=self.squares + squares + between,
        )

    def normalized(self, obs: jax.Array) -> jax.Array:
        """Observations `[..., *obs_shape]` in deviations from the mean, clipped.

        An entry that has never varied is only shifted.
        """
        variance = self.squares / jnp.maximum(self.count, 1.0)
        scale = jnp.where(variance > 0, jax.lax.rsqrt(variance + 1e-12), 1.0)
        return jnp.clip((obs - self.mean) * scale, -LIMIT, LIMIT)


def normalized(statistics: ObsStatistics | None, obs: jax.Array) -> jax.Array:
    """Observations as an agent's networks see them."""
    return obs if statistics is None else statistics.normalized(obs)


def with_statistics(weights: Any, statistics: ObsStatistics | None) -> Any:
    """Weights of a policy and what `policy_of` needs beside them, if anything."""
    if statistics is None:
        return weights
    return {"policy": weights, "observations": statistics}


def policy_of(make: Callable[[Any], Any], weights: Any, normalize: bool) -> Any:
    """The test policy of what `with_statistics` gave; `make` takes weights alone."""
    if not normalize:
        return make(weights)
    policy = make(weights["policy"])
    remembers = hasattr(policy, "start")
    kind = NormalizedRememberingPolicy if remembers else NormalizedPolicy
    return kind(policy, weights["observations"])


def can_normalize(spaces: Spaces) -> bool:
    """Whether observations are vectors of numbers, no pictures or numbered states."""
    is_vector = spaces.obs_shape is not None and len(spaces.obs_shape) == 1
    return is_vector and spaces.num_states is None


def check_observations(normalize: bool, spaces: Spaces) -> None:
    """Raises ValueError where observations cannot be normalised."""
    if normalize and not can_normalize(spaces):
        raise ValueError(
            "normalize_observations must be False for observations that are no "
            f"vectors of numbers, got {spaces}"
        )


@struct.dataclass(eq=False)
class NormalizedPolicy:
    """A policy that sees observations by the statistics it was trained with.

    Attributes:
      inner: The policy of normalised observations; leading axes make it a population.
      observations: The statistics, with the same leading axes.
    """

    inner: Any
    observations: ObsStatistics

    @property
    def spaces(self) -> Spaces | None:
        """The task's, where the policy knows them."""
        return getattr(self.inner, "spaces", None)

    def __call__(self, obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Returns an action for one observation."""
        return self.inner(self.observations.normalized(obs), key)


@struct.dataclass(eq=False)
class NormalizedRememberingPolicy:
    """A `NormalizedPolicy` that remembers; see `envs.RecurrentPolicy`."""

    inner: Any
    observations: ObsStatistics

    @property
    def spaces(self) -> Spaces:
        """The task's."""
        return self.inner.spaces

    def start(self) -> Any:
        """The memory at the start of an episode."""
        return self.inner.start()

    def step(
        self, memory: Any, obs: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        """Returns the action for one observation, and the memory after it."""
        return self.inner.step(memory, self.observations.normalized(obs), key)
