"""Policies as pytrees: callables `(obs, key) -> action` that jit, vmap and save."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces
from jaxrl_se.networks import Weights


@struct.dataclass
class GreedyPolicy:
    """Takes the discrete action of the highest network output.

    Attributes:
      weights: Weights of `network`; leading axes make it a population of policies.
      network: Static; maps an observation to one value per action.
    """

    weights: Weights
    network: Any = struct.field(pytree_node=False)

    def __call__(self, obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Returns an int32 action for one observation `[obs_size]`."""
        return jnp.argmax(self.network(self.weights, obs), axis=-1).astype(jnp.int32)


@struct.dataclass
class MeanPolicy:
    """Takes the network's output, clipped to [-1, 1] and scaled to the bounds.

    Attributes:
      weights: Weights of `network`; leading axes make it a population of policies.
      network: Static; maps an observation to the mean of an action's distribution.
      spaces: Static; the task's spaces.
    """

    weights: Weights
    network: Any = struct.field(pytree_node=False)
    spaces: Spaces = struct.field(pytree_node=False)

    def __call__(self, obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Returns a float32 action `[action_size]` for one observation."""
        return self.spaces.scaled_action(self.network(self.weights, obs))


@struct.dataclass
class DeterministicPolicy:
    """Takes the tanh of the network's output, scaled to the action bounds.

    Attributes:
      weights: Weights of `network`; leading axes make it a population of policies.
      network: Static; maps an observation to the action before its tanh. Further
        outputs, such as the spread of a Gaussian whose mode this is, are left out.
      spaces: Static; the task's spaces.
    """

    weights: Weights
    network: Any = struct.field(pytree_node=False)
    spaces: Spaces = struct.field(pytree_node=False)

    def __call__(self, obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Returns a float32 action `[action_size]` for one observation."""
        outputs = self.network(self.weights, obs)[..., : self.spaces.action_size]
        return self.spaces.scaled_action(jnp.tanh(outputs))


@struct.dataclass
class RandomPolicy:
    """Draws actions uniformly from the action space."""

    spaces: Spaces = struct.field(pytree_node=False)

    def __call__(self, obs: jax.Array, key: jax.Array) -> jax.Array:
        """Returns an action; the observation is not looked at."""
        return self.spaces.action_space().sample(key)
