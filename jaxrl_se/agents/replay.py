"""A ring buffer of transitions."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

Shape = tuple[tuple[int, ...], Any]
"""Shape and dtype of a field, without the axis of rows."""

_FLOAT = jnp.dtype("float32")


@struct.dataclass
class Batch:
    """Transitions to learn from.

    Attributes:
      obs: `[B, ...]`, in the dtype in which it is stored, float32 for vectors.
      next_obs: Likewise, before any reset.
      action: float32 `[B, action_size]`, as the agent stored it.
      reward: float32 `[B]`.
      bootstrap_weight: float32 `[B]`, of the value of `next_obs` in a target.
      mask: float32 `[B]`, 1 for rows in use; their mean is the mean over the minibatch.
    """

    obs: jax.Array
    next_obs: jax.Array
    action: jax.Array
    reward: jax.Array
    bootstrap_weight: jax.Array
    mask: jax.Array

    def mean(self, values: jax.Array) -> jax.Array:
        """Mean of `[B]` values over the rows in use."""
        return jnp.sum(values * self.mask) / jnp.sum(self.mask)


@dataclasses.dataclass(frozen=True)
class Replay:
    """Where the fields of a transition lie in a buffer.

    Fields of float32 share one array of rows, `"packed"`: one in-place write and one
    gather per step instead of five each. A field of any other dtype (images in uint8)
    has an array of its own, in its own shape.

    Attributes:
      obs: Shape and dtype of an observation.
      action: Those of an action as the agent stores it.
    """

    obs: Shape
    action: Shape

    @classmethod
    def of_vectors(cls, obs_size: int, action_size: int) -> Replay:
        """For observations and actions that are float32 vectors."""
        return cls(((obs_size,), "float32"), ((action_size,), "float32"))

    @property
    def fields(self) -> dict[str, Shape]:
        """All fields, in the order in which they are packed."""
        scalar: Shape = ((), "float32")
        return {
            "obs": self.obs,
            "next_obs": self.obs,
            "action": self.action,
            "reward": scalar,
            "bootstrap_weight": scalar,
        }

    def init(self, capacity: int) -> dict[str, jax.Array]:
        """An empty buffer."""
        packed = [s for s, dtype in self.fields.values() if jnp.dtype(dtype) == _FLOAT]
        size = sum(map(math.prod, packed))
        own = {
            name: jnp.zeros((capacity, *shape), dtype)
            for name, (shape, dtype) in self.fields.items()
            if jnp.dtype(dtype) != _FLOAT
        }
        return {"packed": jnp.zeros((capacity, size), jnp.float32), **own}

    def write(
        self, buffer: dict[str, jax.Array], position: jax.Array, values: dict[str, Any]
    ) -> dict[str, jax.Array]:
        """Overwrites rows from `position` on.

        Args:
          buffer: The buffer's arrays.
          position: int32, below the capacity, where it goes round.
          values: Transitions `[N, ...]` by field.
        """
        count = values["reward"].shape[0]
        packed = [
            values[name].reshape(count, -1).astype(jnp.float32)
            for name in self.fields
            if name not in buffer
        ]
        rows = {"packed": jnp.concatenate(packed, axis=1)}
        rows |= {n: values[n].astype(buffer[n].dtype) for n in buffer if n in values}
        if count == 1:  # in place on a CPU, which a scatter is not always
            return {
                name: jax.lax.dynamic_update_slice_in_dim(
                    array, rows[name], position, axis=0
                )
                for name, array in buffer.items()
            }
        capacity = buffer["packed"].shape[0]
        positions = (position + jnp.arange(count)) % capacity
        return {n: array.at[positions].set(rows[n]) for n, array in buffer.items()}

    def read(
        self, buffer: dict[str, jax.Array], rows: jax.Array, mask: jax.Array
    ) -> Batch:
        """Gathers the given `[B]` rows."""
        packed = buffer["packed"][rows]
        found, start = {}, 0
        for name, (shape, _) in self.fields.items():
            if name in buffer:
                found[name] = buffer[name][rows]
                continue
            end = start + math.prod(shape)
            found[name] = packed[:, start:end].reshape(len(rows), *shape)
            start = end
        return Batch(**found, mask=mask)
