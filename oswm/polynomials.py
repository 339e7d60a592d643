"""Polynomials of inputs, and what they leave for a kernel to explain."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from oswm.closed_form import left_over
from oswm.features import pairs
from oswm.linalg import independent_factor, inverse_factor, matmul

# Share of a term's variance that terms before it must leave, of inputs and of products:
# where rows are next to a line, a product's coefficient says nothing of places off it.
_LEAST_REST, _LEAST_REST_OF_PRODUCT = 1e-4, 1e-2
_BLOCK = 25  # Rows that are left out together.
_LEAST_LEFT = 1e-4


@struct.dataclass
class Polynomial:
    """Least squares on a polynomial's terms, all targets at once.

    Attributes:
        weights: float32 [1 + P, O].
        half: float32 [1 + P, 1 + P], from terms to the basis.
        basis: Its terms made orthonormal, 0 for those that it does not have and for
            combinations of others, float32 [N, 1 + P].
        residual: float32 [N, O].
        left_out: The same of each row by the fit to the others, float32 [N, O].
    """

    weights: jax.Array
    half: jax.Array
    basis: jax.Array
    residual: jax.Array
    left_out: jax.Array

    def of_target(self, target: jax.Array) -> Polynomial:
        """With one target alone."""
        weights, residual, left_out = (
            x[:, target, None] for x in (self.weights, self.residual, self.left_out)
        )
        return dataclasses.replace(
            self, weights=weights, residual=residual, left_out=left_out
        )

    @property
    def leverage(self) -> jax.Array:
        """Of each row, [N]."""
        return jnp.sum(jnp.square(self.basis), axis=-1)

    def flatten(self, columns: jax.Array) -> Flat:
        """What the polynomial leaves of columns [N, M]."""
        flat = _project(self.basis, columns)
        return Flat(flat, matmul(flat.T, flat), matmul(flat.T, self.residual))


def _project(basis: jax.Array, columns: jax.Array) -> jax.Array:
    """What is orthogonal to a basis of columns."""
    return columns - matmul(basis, matmul(basis.T, columns))


@struct.dataclass
class Flat:
    """Columns rid of a polynomial.

    Attributes:
        columns: float32 [N, M].
        gram: Their products, float32 [M, M].
        shift: And those with the targets, float32 [M, O].
    """

    columns: jax.Array
    gram: jax.Array
    shift: jax.Array


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


def fit_polynomials(features, targets, allowed, num_inputs: int) -> Polynomial:
    """Least squares on some of the terms, a leading axis [K].

    A penalty would shrink them, which a task that is all but a polynomial shows, and
    leave no projection where terms are alike, as those before and after a step are:
    terms that others make up but for a rest are left out.

    Args:
        features: Of an intercept and P terms, [N, 1 + P], 0 in rows not in use.
        targets: [N, O], likewise.
        allowed: Which terms each regression has, 0 or 1 [K, 1 + P].
        num_inputs: How many of the terms are inputs; products follow.
    """
    is_product = jnp.arange(features.shape[1]) > num_inputs
    tolerance = jnp.where(is_product, _LEAST_REST_OF_PRODUCT, _LEAST_REST)

    def fit_terms(allowed):
        terms = allowed * features
        half = independent_factor(terms, tolerance)
        basis = matmul(terms, half.T)
        inner = matmul(basis.T, targets)
        residual = targets - matmul(basis, inner)
        # The second step removes what float32 lost in the first.
        more = matmul(basis.T, residual)
        residual = residual - matmul(basis, more)
        leverage = jnp.sum(jnp.square(basis), axis=1)
        return Polynomial(
            weights=matmul(half.T, inner + more),
            half=half,
            basis=basis,
            residual=residual,
            left_out=residual / left_over(leverage)[:, None],
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


def solve_kernel(flat: Flat, polynomial: Polynomial, penalty: jax.Array) -> Solution:
    """Fit what a polynomial leaves by columns that it has flattened."""
    gram, shift = flat.gram, flat.shift
    half = inverse_factor(gram + penalty * jnp.eye(len(gram)))

    def correct(weights):
        gradient = shift - matmul(gram, weights) - penalty * weights
        return weights + matmul(half.T, matmul(half, gradient))

    weights = correct(correct(jnp.zeros_like(shift)))
    leverage = jnp.sum(jnp.square(matmul(flat.columns, half.T)), axis=1)
    leverage = polynomial.leverage + leverage
    residual = polynomial.residual - matmul(flat.columns, weights)
    left_out = residual / left_over(leverage)[:, None]
    return Solution(weights, half, leverage, residual, left_out)


def blocks_left_out(
    rows: jax.Array, residual: jax.Array, size: int = _BLOCK
) -> tuple[jax.Array, jax.Array]:
    """Rows as all others but their neighbours in time predict them.

    What follows each other in an episode is alike: left out one by one, rows say little
    about what the kernel makes of places where no episode has been.

    Args:
        rows: [N, K], of which the products of pairs are what predictions weigh targets
            with; 0 for rows that are not in use.
        residual: Of the fit to all rows, [N].
        size: Rows of a block.

    Returns:
        Residuals [N], and their variances over that of the noise [N].
    """
    number, missing = len(rows), -len(rows) % size
    rows = jnp.pad(rows, ((0, missing), (0, 0))).reshape(-1, size, rows.shape[1])
    residual = jnp.pad(residual, (0, missing)).reshape(-1, size)

    def one_block(rows, residual):
        left = (1.0 + _LEAST_LEFT) * jnp.eye(size) - matmul(rows, rows.T)
        half = inverse_factor(left)
        return matmul(half.T, matmul(half, residual)), jnp.sum(jnp.square(half), axis=0)

    found = jax.vmap(one_block)(rows, residual)
    residual, variance = (x.ravel()[:number] for x in found)
    return residual, variance
