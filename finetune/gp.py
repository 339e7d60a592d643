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


@struct.dataclass
class Evidence:
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


@struct.dataclass
class Posterior:
    """Distribution of the feature weights given evidence.

    Attributes:
        cholesky: Lower factor of the posterior precision, ``[F, F]``.
        mean: Posterior mean of the weights, ``[F]``.
    """

    cholesky: jax.Array
    mean: jax.Array


def condition(evidence: Evidence, ard: jax.Array) -> Posterior:
    """Condition the prior N(0, diag(ard)) on evidence by one Cholesky."""
    cholesky = jnp.linalg.cholesky(evidence.precision + jnp.diag(1 / ard))
    mean = jax.scipy.linalg.cho_solve((cholesky, True), evidence.shift)
    return Posterior(cholesky, mean)


def predict(posterior: Posterior, features: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Predict the residual, without observation noise.

    Args:
        posterior: From :func:`condition`.
        features: ``[n, F]``.

    Returns:
        Mean ``[n]`` and variance ``[n]``.
    """
    mean = jnp.matmul(features, posterior.mean, precision=_HIGHEST)
    half = jax.scipy.linalg.solve_triangular(
        posterior.cholesky, features.T, lower=True
    )
    return mean, jnp.sum(half**2, 0)
