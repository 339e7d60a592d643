"""Exact Gaussian-process regression with a learned, finite-dimensional deep kernel.

The kernel is k(x, x') = sum_j ard_j phi_j(x) phi_j(x'), with phi a network and one
relevance ``ard_j`` per feature; the observation noise may differ from point to point.
With ``F`` features the posterior is held in weight space, as the precision ``[F, F]``
of the feature weights: exact at any history size, with one Cholesky of a fixed-size
matrix however long the history is, and no switch of method anywhere. Rows are padded
and masked, so that a growing history does not recompile.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006),
section 2.1.2 (weight-space view).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

_HIGHEST = jax.lax.Precision.HIGHEST


class Evidence(struct.PyTreeNode):
    """What a set of observations says about the feature weights.

    Evidence of independent observations adds up.

    Attributes:
        precision: Sum of phi phi^T / noise, ``[F, F]``.
        shift: Sum of phi residual / noise, ``[F]``.
    """

    precision: jax.Array
    shift: jax.Array

    def __add__(self, other: Evidence) -> Evidence:
        return jax.tree.map(jnp.add, self, other)


def gather_evidence(
    features: jax.Array, residual: jax.Array, noise: jax.Array, mask: jax.Array
) -> Evidence:
    """Collect the evidence of observations.

    Args:
        features: ``[n, F]``.
        residual: Observed value minus prior mean, ``[n]``.
        noise: Observation variances, ``[n]``.
        mask: Weight of each row, 0 for padding, ``[n]``.
    """
    weighted = features * (mask / noise)[:, None]
    return Evidence(
        jnp.matmul(weighted.T, features, precision=_HIGHEST),
        jnp.matmul(weighted.T, residual, precision=_HIGHEST),
    )


def _factor_inverse(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the inverse of the lower Cholesky factor, and the log-determinant.

    The right-looking Cholesky applied to ``[matrix | identity]``, one column at a
    time: for matrices this small as fast as LAPACK, whose batched calls may deadlock
    in the thread pool of a two-core CPU (seen with jaxlib 0.10).
    """
    size = len(matrix)
    rows = jnp.arange(size)
    both = jnp.concatenate([matrix, jnp.eye(size, dtype=matrix.dtype)], 1)

    def eliminate(j, carry):
        both, log_det = carry
        pivot = both[j, j]
        row = both[j] / jnp.sqrt(pivot)
        below = jnp.where(rows > j, both[:, j] / jnp.sqrt(pivot), 0.0)
        both = both - below[:, None] * row[None]
        return both.at[j].set(row), log_det + jnp.log(pivot)

    start = (both, jnp.zeros((), matrix.dtype))
    both, log_det = jax.lax.fori_loop(0, size, eliminate, start)
    return both[:, size:], log_det


@jax.custom_vjp
def inverse_and_log_det(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Invert a small symmetric positive definite matrix ``[F, F]`` by Cholesky."""
    half, log_det = _factor_inverse(matrix)
    return jnp.matmul(half.T, half, precision=_HIGHEST), log_det


def _inverse_forward(matrix):
    found = inverse_and_log_det(matrix)
    return found, found[0]


def _inverse_backward(inverse, gradients):
    product = jnp.matmul(gradients[0], inverse, precision=_HIGHEST)
    product = jnp.matmul(inverse, product, precision=_HIGHEST)
    return (gradients[1] * inverse - product,)


inverse_and_log_det.defvjp(_inverse_forward, _inverse_backward)


def predict(
    evidence: Evidence, ard: jax.Array, features: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Predict the residual given evidence, without observation noise.

    Args:
        evidence: Of everything observed.
        ard: Prior variance of each feature's weight, ``[F]``.
        features: Where to predict, ``[n, F]``.

    Returns:
        Mean ``[n]`` and variance ``[n]``.
    """
    covariance, _ = inverse_and_log_det(evidence.precision + jnp.diag(1 / ard))
    projected = jnp.matmul(features, covariance, precision=_HIGHEST)
    mean = jnp.matmul(projected, evidence.shift, precision=_HIGHEST)
    return mean, jnp.maximum(jnp.sum(projected * features, 1), 0)


def log_marginal(
    features: jax.Array,
    residual: jax.Array,
    noise: jax.Array,
    mask: jax.Array,
    ard: jax.Array,
) -> jax.Array:
    """Log marginal likelihood of the unmasked observations, a scalar.

    Arguments as in `gather_evidence` and `predict`.
    """
    evidence = gather_evidence(features, residual, noise, mask)
    precision = evidence.precision + jnp.diag(1 / ard)
    covariance, log_det = inverse_and_log_det(precision)
    fit = jnp.sum(mask * residual**2 / noise)
    fit = fit - evidence.shift @ covariance @ evidence.shift
    log_det = log_det + jnp.log(ard).sum() + jnp.sum(mask * jnp.log(noise))
    return -0.5 * (fit + log_det + jnp.sum(mask) * jnp.log(2 * jnp.pi))
