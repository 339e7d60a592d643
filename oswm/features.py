"""Features of closed-form fits: polynomials of degree 2, as terms or as a form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from oswm.linalg import matmul

_MOST_PRODUCTS = 300


def pairs(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `size` inputs are multiplied: all pairs, or squares if they are many."""
    first, second = np.triu_indices(size)
    if len(first) > _MOST_PRODUCTS:
        first = second = np.arange(size)
    return first, second


def quadratic(x: jax.Array) -> jax.Array:
    """``x`` [D], its squares, and while they are few (300) the products of pairs."""
    first, second = pairs(x.shape[-1])
    return jnp.concatenate([x, x[first] * x[second]])


def form_of(
    weights: jax.Array, num_inputs: int, first: np.ndarray, second: np.ndarray
) -> jax.Array:
    """Weights of terms as a bilinear form, which needs no terms to be gathered.

    Args:
        weights: Of the intercept, the D inputs and the products, [1 + P, ...].
        num_inputs: D.
        first: Input that is multiplied, of each product.
        second: With which.

    Returns:
        [1 + D, 1 + D, ...] for `apply_form`.
    """
    form = jnp.zeros((1 + num_inputs, 1 + num_inputs, *weights.shape[1:]))
    form = form.at[0].set(weights[: 1 + num_inputs])
    return form.at[1 + first, 1 + second].add(weights[1 + num_inputs :])


def apply_form(form: jax.Array, x: jax.Array) -> jax.Array:
    """Values [...] of a form [1 + D, 1 + D, ...] at ``x`` [D]."""
    x = jnp.concatenate([jnp.ones(1), x])
    half = matmul(x, form.reshape(len(x), -1)).reshape(form.shape[1:])
    return jnp.tensordot(x, half, 1, precision=jax.lax.Precision.HIGHEST)
