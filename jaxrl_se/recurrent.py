"""Networks and policies that remember: a GRU (Cho et al., 2014) and linear heads."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces
from jaxrl_se.networks import MLP, Weights


class GRUTorso(nn.Module):
    """A hidden layer (tanh), then a GRU.

    Attributes:
      size: Width of both, and size of the memory.
    """

    size: int

    @nn.compact
    def __call__(
        self, memory: jax.Array, inputs: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Of `[..., size]` and `[..., in_size]`: the next memory, and features."""
        units = nn.tanh(nn.Dense(self.size)(inputs))
        return nn.GRUCell(self.size)(memory, units)


@dataclasses.dataclass(frozen=True)
class RecurrentNetwork:
    """Features that remember, and one linear head of them for each purpose.

    Attributes:
      spaces: The task's spaces; observations are flattened.
      size: Size of the memory.
      actor_size: Size of the actor's output; the critic's is 1.
    """

    spaces: Spaces
    size: int
    actor_size: int

    def init(self, key: jax.Array) -> dict[str, Weights]:
        """Draws `{"torso", "actor", "critic"}`; the actor starts close to uniform."""
        key_torso, key_actor, key_critic = jax.random.split(key, 3)
        inputs = jnp.zeros(self.spaces.obs_size, jnp.float32)
        actor = self.head("actor").init(key_actor)
        return {
            "torso": GRUTorso(self.size).init(key_torso, self.fresh(), inputs),
            "actor": self.head("actor").scale_output(actor, 0.01),
            "critic": self.head("critic").init(key_critic),
        }

    def fresh(self, *batch: int) -> jax.Array:
        """The memory at the start of an episode, zeros `[*batch, size]`."""
        return jnp.zeros((*batch, self.size), jnp.float32)

    def step(
        self, weights: dict[str, Weights], memory: jax.Array, obs: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The memory after observations `[..., *obs_shape]`, and features of them."""
        memory = _updated(weights["torso"], memory, self._gates(weights, obs))
        return memory, memory

    def remember(
        self,
        weights: dict[str, Weights],
        memory: jax.Array,
        first: jax.Array,
        obs: jax.Array,
    ) -> jax.Array:
        """Features along sequences; what does not depend on memory is computed at once.

        Args:
          weights: As `init` gives them.
          memory: `[B, size]`, before the first step.
          first: bool `[T, B]`, whether an episode begins.
          obs: `[T, B, *obs_shape]`.

        Returns:
          `[T, B, size]`, the features, which are the memory after each step.
        """

        def one_step(memory, x):
            first, gates = x
            memory = jnp.where(first[:, None], 0.0, memory)
            memory = _updated(weights["torso"], memory, gates)
            return memory, memory

        gates = self._gates(weights, obs)
        return jax.lax.scan(one_step, memory, (first, gates))[1]

    def _gates(self, weights: dict[str, Weights], obs: jax.Array) -> jax.Array:
        """The observations' part of reset, update and candidate, `[..., 3 * size]`."""
        torso: Any = weights["torso"]["params"]  # type: ignore
        dense, cell = torso["Dense_0"], torso["GRUCell_0"]
        units = self.spaces.flatten_obs(obs) @ dense["kernel"] + dense["bias"]
        kernel, bias = (
            jnp.concatenate([cell[name][part] for name in ("ir", "iz", "in")], axis=-1)
            for part in ("kernel", "bias")
        )
        return jnp.tanh(units) @ kernel + bias

    def outputs(self, weights: dict[str, Weights], name: str, features: jax.Array):
        """Of the head of that name, `[..., its size]`."""
        return self.head(name)(weights[name], features)

    def head(self, name: str) -> MLP:
        """A linear head, "actor" or "critic"."""
        return MLP(self.size, (), self.actor_size if name == "actor" else 1)


def _updated(torso: Any, memory: jax.Array, gates: jax.Array) -> jax.Array:
    """A step of flax's `GRUCell`, in one matrix product instead of six.

    Args:
      torso: Parameters of a `GRUTorso`.
      memory: `[..., size]`.
      gates: `[..., 3 * size]`, the inputs' part of reset, update and candidate.
    """
    cell = torso["params"]["GRUCell_0"]
    names = ("hr", "hz", "hn")
    kernel = jnp.concatenate([cell[name]["kernel"] for name in names], axis=-1)
    hidden = jnp.split(memory @ kernel, 3, axis=-1)
    gates_r, gates_z, gates_n = jnp.split(gates, 3, axis=-1)
    reset = jax.nn.sigmoid(gates_r + hidden[0])
    update = jax.nn.sigmoid(gates_z + hidden[1])
    new = jnp.tanh(gates_n + reset * (hidden[2] + cell["hn"]["bias"]))
    return (1 - update) * new + update * memory


@struct.dataclass(eq=False)
class RememberingPolicy:
    """The mode of an actor that remembers; see `envs.RecurrentPolicy`.

    Attributes:
      weights: `{"torso", "actor"}` of `network`.
      network: Static; a `RecurrentNetwork`.
    """

    weights: Any
    network: RecurrentNetwork = struct.field(pytree_node=False)

    @property
    def spaces(self) -> Spaces:
        """The task's spaces."""
        return self.network.spaces

    def start(self) -> jax.Array:
        """The memory at the start of an episode, float32 `[size]`."""
        return self.network.fresh()

    def step(
        self, memory: jax.Array, obs: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the action for one observation, and the memory after it."""
        del key
        memory, features = self.network.step(self.weights, memory, obs)
        outputs = self.network.outputs(self.weights, "actor", features)
        if self.spaces.num_actions is not None:
            return jnp.argmax(outputs, axis=-1).astype(jnp.int32), memory
        return self.spaces.scaled_action(outputs), memory
