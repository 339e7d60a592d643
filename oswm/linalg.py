"""Small dense linear algebra that is safe under ``jax.vmap``, in float32.

Batched LAPACK calls may deadlock in the thread pool of a two-core CPU (seen with jaxlib
0.10), and accelerators round matrix products to bfloat16 or TF32 unless told not to.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

_LEAF = 32  # Below this size columns are eliminated one at a time.


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """A product of full float32 precision on every backend."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def inverse_factor(matrix: jax.Array) -> jax.Array:
    """The inverse of the lower Cholesky factor of a positive definite matrix [D, D].

    With ``half = inverse_factor(matrix)`` the inverse is ``half.T @ half``. The matrix
    is halved until columns are eliminated one at a time; all else are products.
    """
    size = len(matrix)
    if size <= _LEAF:
        return _eliminate(matrix)
    middle = size // 2
    first = inverse_factor(matrix[:middle, :middle])
    below = matmul(matrix[middle:, :middle], first.T)
    last = inverse_factor(matrix[middle:, middle:] - matmul(below, below.T))
    corner = -matmul(matmul(last, below), first)
    zeros = jnp.zeros((middle, size - middle), matrix.dtype)
    return jnp.block([[first, zeros], [corner, last]])


def _eliminate(matrix: jax.Array) -> jax.Array:
    """Cholesky of ``[matrix | identity]``, column by column."""
    size = len(matrix)
    rows = jnp.arange(size)
    both = jnp.concatenate([matrix, jnp.eye(size, dtype=matrix.dtype)], axis=1)

    def one_column(j, both):
        root = jnp.sqrt(jnp.maximum(both[j, j], jnp.finfo(matrix.dtype).tiny))
        row = both[j] / root
        below = jnp.where(rows > j, both[:, j] / root, 0.0)
        return (both - below[:, None] * row[None]).at[j].set(row)

    return jax.lax.fori_loop(0, size, one_column, both)[:, size:]
