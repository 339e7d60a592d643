"""Small dense linear algebra that is safe under ``jax.vmap``, in float32.

LAPACK is not called: of many matrices at once it may deadlock in the thread pool of a
two-core CPU (seen with jaxlib 0.10), and of one its threads spin on every core.
Accelerators round matrix products to bfloat16 or TF32 unless told not to.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

_BLOCK = 32  # Columns that are eliminated one at a time.


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """A product of full float32 precision on every backend."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


@jax.custom_jvp
def inverse_factor(matrix: jax.Array) -> jax.Array:
    """The inverse of the lower Cholesky factor of a positive definite matrix [D, D].

    With ``half = inverse_factor(matrix)`` the inverse is ``half.T @ half``. A block of
    rows after the other is eliminated from ``[matrix | identity]``, in a loop, so that
    the program is as small for large matrices; all but the blocks are products.
    """
    size = len(matrix)
    if size <= _BLOCK:
        return _eliminate(matrix)
    missing = -size % _BLOCK
    full = size + missing
    rows = jnp.arange(full)
    filled = jnp.pad(matrix, (0, missing)) + jnp.diag((rows >= size) * 1.0)
    both = jnp.concatenate([filled, jnp.eye(full)], axis=1).astype(matrix.dtype)

    def one_block(block, both):
        start = block * _BLOCK
        panel = jax.lax.dynamic_slice_in_dim(both, start, _BLOCK)
        pivot = jax.lax.dynamic_slice_in_dim(panel, start, _BLOCK, axis=1)
        panel = matmul(_eliminate(pivot), panel)
        below = jnp.where(rows >= start + _BLOCK, panel[:, :full], 0.0)
        both = both - matmul(below.T, panel)
        return jax.lax.dynamic_update_slice_in_dim(both, panel, start, axis=0)

    both = jax.lax.fori_loop(0, full // _BLOCK, one_block, both)
    return both[:size, full : full + size]


@inverse_factor.defjvp
def _derivative(primals, tangents):
    """Murray (2016), Differentiation of the Cholesky decomposition."""
    half = inverse_factor(*primals)
    change = matmul(matmul(half, tangents[0]), half.T)
    change = jnp.tril(change) - 0.5 * jnp.diag(jnp.diag(change))
    return half, -matmul(change, half)


def independent_factor(features: jax.Array, tolerance: jax.Array) -> jax.Array:
    """What makes columns orthonormal, one after the other, float32 [D, D].

    Args:
        features: [N, D].
        tolerance: Share of a column's square that those before it have to leave of it,
            [D].

    Returns:
        `half`, of which `features @ half.T` has orthonormal columns, and 0 for those
        that are next to combinations of the ones before them.
    """
    half = jnp.eye(features.shape[1], dtype=features.dtype)
    # The second time removes what float32 lost in the first.
    for _ in range(2):
        columns = matmul(features, half.T)
        half = matmul(_eliminate(matmul(columns.T, columns), tolerance), half)
    return half


def _eliminate(matrix: jax.Array, tolerance: jax.Array | None = None) -> jax.Array:
    """Cholesky of ``[matrix | identity]``, column by column.

    Args:
        matrix: [D, D].
        tolerance: Of a diagonal element, the share below which its row is left out,
            [D].
    """
    size = len(matrix)
    rows, diagonal = jnp.arange(size), jnp.diag(matrix)
    both = jnp.concatenate([matrix, jnp.eye(size, dtype=matrix.dtype)], axis=1)
    least = None if tolerance is None else tolerance * diagonal

    def one_column(j, both):
        left = jnp.maximum(both[j, j], jnp.finfo(matrix.dtype).tiny)
        scale = jax.lax.rsqrt(left)
        if least is not None:
            scale = jnp.where(both[j, j] > least[j], scale, 0.0)
        row = scale * both[j]
        below = jnp.where(rows > j, scale * both[:, j], 0.0)
        return (both - below[:, None] * row[None]).at[j].set(row)

    return jax.lax.fori_loop(0, size, one_column, both)[:, size:]
