"""Least squares and the like on rows: a few thousand steps of Adam, in one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

_BATCH, _LEARNING_RATE = 256, 3e-3


def fitted(
    loss: Callable[[Any, tuple[jax.Array, ...]], jax.Array],
    weights: Any,
    rows: tuple[jax.Array, ...],
    num_steps: int,
    key: jax.Array,
) -> Any:
    """Weights after `num_steps` steps, of 256 rows each, drawn with replacement.

    Args:
      loss: `(weights, rows) -> scalar`.
      weights: Where the search begins, a pytree.
      rows: Arrays with a leading axis `[N]`.
      num_steps: Gradient steps; the learning rate falls to 0 along a cosine.
      key: A PRNG key.
    """
    schedule = optax.cosine_decay_schedule(_LEARNING_RATE, num_steps)
    optimizer = optax.adam(schedule)

    @jax.jit
    def fit(weights, rows, key):
        def step(carry, key):
            weights, state = carry
            drawn = jax.random.randint(key, (_BATCH,), 0, len(rows[0]))
            gradient = jax.grad(loss)(weights, tuple(x[drawn] for x in rows))
            updates, state = optimizer.update(gradient, state, weights)
            return (optax.apply_updates(weights, updates), state), None

        keys = jax.random.split(key, num_steps)
        (weights, _), _ = jax.lax.scan(step, (weights, optimizer.init(weights)), keys)
        return weights

    return fit(weights, rows, key)
