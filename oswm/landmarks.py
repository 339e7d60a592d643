"""A Gaussian kernel's features, on landmarks chosen from a context's rows."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from oswm.linalg import matmul

_LEAST_PIVOT = 1e-5  # Share of the kernel's variance below which no landmark is added.


def kernel(
    x: jax.Array, landmarks: jax.Array, used: jax.Array, additive: jax.Array | None
) -> jax.Array:
    """The kernel of one point [D] and each landmark, [M].

    Args:
        x: In units of the length scale times the root of the number of inputs used.
        landmarks: Likewise, [M, D].
        used: Whether the kernel sees an input, [D].
        additive: Share of the sum of one Gaussian per input; the rest is a Gaussian of
            them all. None for 0.
    """
    squares = jnp.square(x - landmarks)
    joint = jnp.exp(-0.5 * jnp.sum(squares, axis=-1))
    if additive is None:
        return joint
    num_used = jnp.maximum(jnp.sum(used), 1.0)
    each = jnp.sum(used * jnp.exp(-0.5 * num_used * squares), axis=-1) / num_used
    return joint + additive * (each - joint)


def choose_landmarks(
    points: jax.Array,
    mask: jax.Array,
    num_landmarks: int,
    used: jax.Array,
    additive: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """Pivoted Cholesky factorisation of the kernel matrix, cut off early.

    Args:
        points: [N, D].
        mask: [N]; padding is never chosen.
        num_landmarks: M.
        used: As in `kernel`, like the next.
        additive: Likewise.

    Returns:
        Rows of the landmarks, int32 [M], in order of what they explain, and the matrix
        [M, M] that takes kernel values at the landmarks to orthonormal features, whose
        rows are 0 once nothing is left to explain.
    """
    # All are alike at first; the order of rows must not matter.
    distance = jnp.sum(jnp.square(points), axis=1)
    most_central = jnp.argmin(jnp.where(mask > 0, distance, jnp.inf))

    def one_landmark(j, carry):
        rows, whitening, features, left = carry
        row = jnp.where(j == 0, most_central, jnp.argmax(left))
        is_needed = left[row] > _LEAST_PIVOT
        values = kernel(points[row], points, used, additive)
        scale = jnp.where(is_needed, jax.lax.rsqrt(jnp.maximum(left[row], 1e-30)), 0.0)
        mine = features[row]
        column = scale * mask * (values - matmul(features, mine))
        combination = -scale * matmul(mine, whitening)
        rows = rows.at[j].set(row)
        whitening = whitening.at[j].set(combination.at[j].set(scale))
        features = features.at[:, j].set(column)
        left = jnp.maximum(left - jnp.square(column), 0.0).at[row].set(0.0)
        return rows, whitening, features, left

    start = (
        jnp.zeros(num_landmarks, jnp.int32),
        jnp.zeros((num_landmarks, num_landmarks)),
        jnp.zeros((len(points), num_landmarks)),
        mask.astype(points.dtype),
    )
    rows, whitening, *_ = jax.lax.fori_loop(0, num_landmarks, one_landmark, start)
    return rows, whitening
