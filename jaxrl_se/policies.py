"""Policies as pytrees: callables `(obs, key) -> action` that jit, vmap and save.

They are equal to nothing but themselves, so that `jax.jit(policy)` takes them, which
compiles their weights in; a function that takes the policy as an argument,
`jax.jit(lambda policy, obs, key: policy(obs, key))`, compiles once for all weights.

A policy that remembers has two methods instead: `start() -> memory`, and
`step(memory, obs, key) -> (action, memory)`, where the memory is a pytree of arrays.
`with_memory` makes the two kinds one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces
from jaxrl_runs.values import Like
from jaxrl_se.networks import Weights

SPACES = Like("the task's Spaces, as Spaces.of(env, params) gives", kinds=(Spaces,))


class HoldsPolicy:
    """A base for what may be given in the place of the policy in its field `policy`."""

    policy: Any


@struct.dataclass(eq=False)
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
        check_size(self.network, obs)
        return jnp.argmax(self.network(self.weights, obs), axis=-1).astype(jnp.int32)


@struct.dataclass(eq=False)
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
        check_size(self.network, obs)
        return self.spaces.scaled_action(self.network(self.weights, obs))


@struct.dataclass(eq=False)
class SampledPolicy:
    """Draws an action from a categorical or a Gaussian distribution.

    Attributes:
      weights: Weights of `network`; leading axes make it a population of policies.
      log_std: float32 `[action_size]`, of a continuous action in units of half its
        range, as drawn before it is clipped to the bounds; None for discrete actions.
      network: Static; maps an observation to logits, or to the mean.
      spaces: Static; the task's spaces.
    """

    weights: Weights
    log_std: jax.Array | None
    network: Any = struct.field(pytree_node=False)
    spaces: Spaces = struct.field(pytree_node=False)

    def __call__(self, obs: jax.Array, key: jax.Array) -> jax.Array:
        """Returns an int32 action, or a float32 one `[action_size]`."""
        check_size(self.network, obs)
        outputs = self.network(self.weights, obs)
        if self.log_std is None:
            return jax.random.categorical(key, outputs).astype(jnp.int32)
        noise = jax.random.normal(key, outputs.shape)
        return self.spaces.scaled_action(outputs + jnp.exp(self.log_std) * noise)


@struct.dataclass(eq=False)
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
        check_size(self.network, obs)
        outputs = self.network(self.weights, obs)[..., : self.spaces.action_size]
        return self.spaces.scaled_action(jnp.tanh(outputs))


@struct.dataclass(eq=False)
class RandomPolicy:
    """Draws actions uniformly from the action space."""

    spaces: Spaces = struct.field(pytree_node=False)

    def __post_init__(self):
        SPACES.check("spaces", self.spaces)

    def __call__(self, obs: jax.Array, key: jax.Array) -> jax.Array:
        """Returns an action; the observation is not looked at."""
        return self.spaces.action_space().sample(key)


def check_size(network: Any, obs: Any) -> None:
    """Raises ValueError for an observation that a network does not take.

    Args:
      network: Of a policy; what is not known of its inputs is not compared.
      obs: `[..., *shape]`.
    """
    size = getattr(network, "in_size", None)
    if isinstance(size, int) and jnp.shape(obs)[-1:] != (size,):
        raise ValueError(
            f"obs must be of shape [{size}], as this policy was trained on, got "
            f"{list(jnp.shape(obs))}"
        )


def with_memory(policy: Any) -> tuple[Callable[[], Any], Callable[..., Any]]:
    """The functions `start` and `step` of any policy.

    Args:
      policy: A callable `(obs, key) -> action`, or an object with the methods `start`
        and `step`.

    Returns:
      `start() -> memory` at the beginning of an episode, and `step(memory, obs, key) ->
      (action, memory)`. The memory of a callable is empty.
    """
    if hasattr(policy, "start"):
        return policy.start, policy.step

    def step(memory, obs, key):
        return policy(obs, key), memory

    return tuple, step
