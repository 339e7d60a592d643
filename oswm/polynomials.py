"""Polynomials of inputs, and what they leave for a kernel to explain."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from oswm.closed_form import left_over, solve
from oswm.features import pairs
from oswm.linalg import inverse_factor, matmul

_PENALTY = 1e-5  # Per row; one-hot actions add up to a constant.
_BLOCK = 25  # Rows that are left out together.
_LEAST_LEFT = 1e-4


@struct.dataclass
class Polynomial:
    """Ridge regression on a polynomial's terms, all targets at once.

    Attributes:
        weights: float32 [1 + P, O].
        half: float32 [1 + P, 1 + P], inverse factor of the penalised Gram matrix; 0 for
            terms above the polynomial's degree.
        basis: Its terms made orthonormal, up to the penalty, float32 [N, 1 + P].
        residual: float32 [N, O].
        left_out: The same of each row by the fit to the others, float32 [N, O].
    """

    weights: jax.Array
    half: jax.Array
    basis: jax.Array
    residual: jax.Array
    left_out: jax.Array

    @property
    def leverage(self) -> jax.Array:
        """Of each row, [N]."""
        return jnp.sum(jnp.square(self.basis), axis=-1)

    def flatten(self, columns: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the polynomial leaves of columns [N, M], and its Gram matrix [M, M]."""
        flat = columns - matmul(self.basis, matmul(self.basis.T, columns))
        return flat, matmul(flat.T, flat)


def reward_features(inputs: jax.Array, obs_size: int) -> jax.Array:
    """All inputs, then products within observation and action, and within the next."""
    first, second = reward_pairs(len(inputs), obs_size)
    return jnp.concatenate([inputs, inputs[first] * inputs[second]])


def reward_pairs(num_inputs: int, obs_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Which inputs of the reward are multiplied."""
    num_before = num_inputs - obs_size
    before, after = pairs(num_before), pairs(obs_size)
    first, second = (
        np.concatenate([x, num_before + y]) for x, y in zip(before, after, strict=True)
    )
    return first, second


def fit_polynomials(features, targets, mask, allowed) -> Polynomial:
    """Ridge regressions on some of the terms, a leading axis [K].

    Args:
        features: Of an intercept and P terms, [N, 1 + P], 0 in rows not in use.
        targets: [N, O], likewise.
        mask: [N].
        allowed: Which terms each regression has, 0 or 1 [K, 1 + P].
    """
    penalty = _PENALTY * jnp.maximum(jnp.sum(mask), 1.0)

    def fit_terms(allowed):
        terms = allowed * features
        weights, half, residual, left_out = solve(terms, targets, penalty)
        return Polynomial(
            weights=weights,
            half=allowed * half,
            basis=matmul(terms, half.T),
            residual=residual,
            left_out=left_out,
        )

    return jax.lax.map(fit_terms, allowed)


@struct.dataclass
class Solution:
    """Of one penalty: weights [M, O], and for rows leverage [N], residuals [N, O]."""

    weights: jax.Array
    half: jax.Array
    leverage: jax.Array
    residual: jax.Array
    left_out: jax.Array


def solve_kernel(flat, residual, leverage, penalty) -> Solution:
    """Fit what a polynomial leaves by flat columns, given with their Gram matrix."""
    flat, gram = flat
    half = inverse_factor(gram + penalty * jnp.eye(len(gram)))
    shift = matmul(flat.T, residual)

    def correct(weights):
        gradient = shift - matmul(gram, weights) - penalty * weights
        return weights + matmul(half.T, matmul(half, gradient))

    weights = correct(correct(jnp.zeros_like(shift)))
    leverage = leverage + jnp.sum(jnp.square(matmul(flat, half.T)), axis=1)
    residual = residual - matmul(flat, weights)
    left_out = residual / left_over(leverage)[:, None]
    return Solution(weights, half, leverage, residual, left_out)


def blocks_left_out(
    rows: jax.Array, residual: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rows as all others but their neighbours in time predict them.

    What follows each other in an episode is alike: left out one by one, rows say little
    about what the kernel makes of places where no episode has been.

    Args:
        rows: [N, K], of which the products of pairs are what predictions weigh targets
            with; 0 for rows that are not in use.
        residual: Of the fit to all rows, [N].

    Returns:
        Residuals [N], and their variances over that of the noise [N].
    """
    number, missing = len(rows), -len(rows) % _BLOCK
    rows = jnp.pad(rows, ((0, missing), (0, 0))).reshape(-1, _BLOCK, rows.shape[1])
    residual = jnp.pad(residual, (0, missing)).reshape(-1, _BLOCK)

    def one_block(rows, residual):
        left = (1.0 + _LEAST_LEFT) * jnp.eye(_BLOCK) - matmul(rows, rows.T)
        half = inverse_factor(left)
        return matmul(half.T, matmul(half, residual)), jnp.sum(jnp.square(half), axis=0)

    found = jax.vmap(one_block)(rows, residual)
    residual, variance = (x.ravel()[:number] for x in found)
    return residual, variance
