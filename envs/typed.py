"""What every environment of this package adds to a gymnax environment."""

from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import environment


class TypedEnvironment(environment.Environment):
    """Mixin: strongly typed outputs, and equality by configuration.

    Put it before a gymnax environment among the bases of a class. It changes no
    dynamics, but two things that matter inside jitted training loops:

    * gymnax computes the reward and ``state.time`` from Python numbers, so JAX
      marks them as weakly typed; the same loop then compiles once for a state that
      came out of ``reset`` and again for one that came out of a checkpoint, and a
      reward takes on the type of whatever it meets. Here they are float32 and int32
      (float64 and int64 where x64 is enabled).
    * gymnax jits ``reset`` and ``step`` with the environment as a static argument
      that hashes by identity, so a second or a deep-copied environment compiles
      everything again. Here two environments of one class and one configuration are
      equal.
    """

    def step_env(
        self, key: jax.Array, state: Any, action: Any, params: Any
    ) -> tuple[Any, Any, jax.Array, jax.Array, dict[Any, Any]]:
        """Step the dynamics once, without a time limit and without a reset."""
        return jax.tree.map(_strong, super().step_env(key, state, action, params))

    def reset_env(self, key: jax.Array, params: Any) -> tuple[Any, Any]:
        """Draw an initial observation and state."""
        return jax.tree.map(_strong, super().reset_env(key, params))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *sorted(vars(self).items())))


def _strong(x: Any) -> jax.Array:
    return jnp.asarray(x, dtype=jnp.result_type(x))
