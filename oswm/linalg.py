"""Small dense linear algebra that is safe under ``jax.vmap``, in float32.

Batched LAPACK calls may deadlock in the thread pool of a two-core CPU (seen with jaxlib
0.10), so that LAPACK is called for one matrix at a time; accelerators round matrix
products to bfloat16 or TF32 unless told not to.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.scipy.linalg import solve_triangular

_LEAF = 32  # Below this size columns are eliminated one at a time.


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """A product of full float32 precision on every backend."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


@jax.custom_jvp
def inverse_factor(matrix: jax.Array) -> jax.Array:
    """The inverse of the lower Cholesky factor of a positive definite matrix [D, D].

    With ``half = inverse_factor(matrix)`` the inverse is ``half.T @ half``. One matrix
    on a CPU is left to LAPACK, which takes a tenth of the time to compile; many at once
    and accelerators take products of halves.
    """
    return _one(matrix)


@inverse_factor.defjvp
def _derivative(primals, tangents):
    """Murray (2016), Differentiation of the Cholesky decomposition."""
    half = inverse_factor(*primals)
    change = matmul(matmul(half, tangents[0]), half.T)
    change = jnp.tril(change) - 0.5 * jnp.diag(jnp.diag(change))
    return half, -matmul(change, half)


@custom_vmap
def _one(matrix: jax.Array) -> jax.Array:
    return jax.lax.platform_dependent(matrix, cpu=_lapack, default=_halved)


@_one.def_vmap
def _many(axis_size, is_batched, matrix):
    del axis_size, is_batched
    return jax.vmap(_halved)(matrix), True


def _lapack(matrix: jax.Array) -> jax.Array:
    factor = jnp.linalg.cholesky(matrix)
    return solve_triangular(
        factor, jnp.eye(len(matrix), dtype=matrix.dtype), lower=True
    )


def _halved(matrix: jax.Array) -> jax.Array:
    """Halves it until columns are eliminated one at a time; all else are products."""
    size = len(matrix)
    if size <= _LEAF:
        return _eliminate(matrix)
    middle = size // 2
    first = _halved(matrix[:middle, :middle])
    below = matmul(matrix[middle:, :middle], first.T)
    last = _halved(matrix[middle:, middle:] - matmul(below, below.T))
    corner = -matmul(matmul(last, below), first)
    zeros = jnp.zeros((middle, size - middle), matrix.dtype)
    return jnp.block([[first, zeros], [corner, last]])


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
