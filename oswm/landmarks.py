"""Kernels of several smoothnesses; their features on landmarks from a context's rows.

Gaussian kernels are of functions that are smooth to any order. A wrapped angle has a
kink and a contact is worse: a Matern kernel of 5/2, of functions with two derivatives,
does not pay for them everywhere (Rasmussen and Williams, 2006, section 4.2.1).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from oswm.linalg import matmul

_LEAST_PIVOT = 1e-5  # Share of the kernel's variance below which no landmark is added.

# In the distance r a kernel is exp(-(a r^2 + b r)) (1 + b r + c r^2), of a, b and c.
PROFILES = {
    "gaussian": (0.5, 0.0, 0.0),
    "matern52": (0.0, 5.0**0.5, 5.0 / 3.0),
}
_LEAST_SQUARE = 1e-12  # Where the root's derivative is cut off.


def radial(square: jax.Array, profile: jax.Array | None) -> jax.Array:
    """A kernel's value at squared distances [...].

    Args:
        square: In units of the length scale.
        profile: One of `PROFILES`, float32 [3]; None for the Gaussian.
    """
    if profile is None:
        return jnp.exp(-0.5 * square)
    slope = profile[1] * jnp.sqrt(jnp.maximum(square, _LEAST_SQUARE))
    decay = jnp.exp(-(profile[0] * square + slope))
    return decay * (1.0 + slope + profile[2] * square)


def radial_slope(square: jax.Array, profile: jax.Array) -> jax.Array:
    """Derivative of `radial` with respect to the squared distance, [...]."""
    a, b, c = profile
    root = jnp.sqrt(square)
    decay = jnp.exp(-(a * square + b * root))
    # What is over r cancels, as all of them are flat where r is 0.
    return decay * (c - a - b * b / 2 - (a * b + b * c / 2) * root - a * c * square)


def kernel(
    x: jax.Array,
    landmarks: jax.Array,
    used: jax.Array,
    additive: jax.Array | None,
    profile: jax.Array | None = None,
) -> jax.Array:
    """The kernel of one point [D] and each landmark, [M].

    Args:
        x: In units of the length scale times the root of the number of inputs used.
        landmarks: Likewise, [M, D].
        used: Whether the kernel sees an input, [D].
        additive: Share of the sum of one kernel per input; the rest is a kernel of
            them all. None for 0.
        profile: As for `radial`.
    """
    squares = jnp.square(x - landmarks)
    joint = radial(jnp.sum(squares, axis=-1), profile)
    if additive is None:
        return joint

    def with_sum():
        num_used = jnp.maximum(jnp.sum(used), 1.0)
        each = used * radial(num_used * squares, profile)
        return joint + additive * (jnp.sum(each, axis=-1) / num_used - joint)

    # As many exponentials as inputs, which kernels without a sum need not spend.
    return jax.lax.cond(jnp.asarray(additive) > 0, with_sum, lambda: joint)


def choose_landmarks(
    points: jax.Array,
    mask: jax.Array,
    num_landmarks: int,
    used: jax.Array,
    additive: jax.Array | None,
    profile: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Pivoted Cholesky factorisation of the kernel matrix, cut off early.

    Args:
        points: [N, D].
        mask: [N]; padding is never chosen.
        num_landmarks: M.
        used: As in `kernel`, like the next two.
        additive: Likewise.
        profile: Likewise.

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
        values = kernel(points[row], points, used, additive, profile)
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
