"""Distributions made from the uniform numbers that the training loop draws ahead."""

from __future__ import annotations

import jax
import jax.numpy as jnp

_HALF_STEP = 2.0**-24  # float32 draws are multiples of 2^-23: this keeps 0 out.


def normals(uniform: jax.Array) -> jax.Array:
    """Standard normal numbers, one for each uniform number in [0, 1)."""
    return 2**0.5 * jax.lax.erf_inv(2 * (uniform + _HALF_STEP) - 1)


def gumbels(uniform: jax.Array) -> jax.Array:
    """Standard Gumbel numbers, one for each uniform number in [0, 1).

    The argmax of `logits + gumbels` is a draw from `softmax(logits)`.
    """
    return -jnp.log(-jnp.log(uniform + _HALF_STEP))
