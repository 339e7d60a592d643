"""A ring buffer of transitions."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Batch:
    """Transitions to learn from.

    Attributes:
      obs: float32 `[B, obs_size]`.
      next_obs: float32 `[B, obs_size]`.
      action: float32 `[B, action_size]`, as the agent stored it.
      reward: float32 `[B]`.
      terminated: float32 `[B]`; the bootstrap is weighted by `1 - terminated`.
      mask: float32 `[B]`, 1 for rows in use; their mean is the mean over the minibatch.
    """

    obs: jax.Array
    next_obs: jax.Array
    action: jax.Array
    reward: jax.Array
    terminated: jax.Array
    mask: jax.Array

    def mean(self, values: jax.Array) -> jax.Array:
        """Mean of `[B]` values over the rows in use."""
        return jnp.sum(values * self.mask) / jnp.sum(self.mask)


@dataclasses.dataclass(frozen=True)
class Replay:
    """Packed float32 rows `[capacity, obs + next_obs + action + 2]`.

    One packed array means one in-place write and one gather per step.

    Attributes:
      obs_size: Size of an observation.
      action_size: Size of a stored action.
    """

    obs_size: int
    action_size: int

    def init(self, capacity: int) -> jax.Array:
        """An empty buffer."""
        row_size = 2 * self.obs_size + self.action_size + 2
        return jnp.zeros((capacity, row_size), jnp.float32)

    def write(
        self, buffer, position, obs, action, reward, next_obs, terminated
    ) -> jax.Array:
        """Overwrites the row at `position`."""
        parts = (obs, next_obs, action, reward, terminated)
        row = jnp.concatenate([jnp.ravel(x).astype(jnp.float32) for x in parts])
        return jax.lax.dynamic_update_slice(buffer, row[None], (position, 0))

    def read(self, buffer: jax.Array, rows: jax.Array, mask: jax.Array) -> Batch:
        """Gathers the given `[B]` rows."""
        batch = buffer[rows]
        size, action_end = self.obs_size, 2 * self.obs_size + self.action_size
        return Batch(
            obs=batch[:, :size],
            next_obs=batch[:, size : 2 * size],
            action=batch[:, 2 * size : action_end],
            reward=batch[:, action_end],
            terminated=batch[:, action_end + 1],
            mask=mask,
        )
