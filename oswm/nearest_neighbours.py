"""Nearest neighbours inside a context."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl_runs import values
from jaxrl_runs.values import MANY, setting
from oswm.closed_form import ClosedForm, targets_of
from oswm.context import Scale

_LEAST_DISTANCE = 1e-6  # Of standardised inputs; equal inputs are averaged.
_FAR = 1e30
_GROUP = 8  # Rows that are searched by their least distance first.


@struct.dataclass
class NeighbourFit:
    """The rows of a context, ready to be searched.

    Attributes:
        scale: Of observation and action.
        inputs: float32 [S + A, N], standardised.
        targets: float32 [N, S + 1].
        residual: float32 [N, S + 1], of each row by its own neighbours.
        mask: float32 [N].
    """

    scale: Scale
    inputs: jax.Array
    targets: jax.Array
    residual: jax.Array
    mask: jax.Array


@dataclasses.dataclass(frozen=True)
class NearestNeighbours(ClosedForm):
    """The mean of the nearest rows' targets, weighted by the inverse distance.

    The standard deviation is that of the neighbours' own leave-one-out residuals.

    Attributes:
        num_neighbours: Rows in a mean.
    """

    num_neighbours: int = setting(5, MANY)

    def __post_init__(self):
        values.check(self)

    def fit_targets(self, context):
        """Standardise, and predict each row from the others."""
        inputs = jnp.concatenate([context.obs, context.action], axis=1)
        scale = Scale.of(inputs, context.mask)
        targets = targets_of(context)
        inputs = scale.normalize(inputs)
        fit = NeighbourFit(scale, inputs.T, targets, targets, context.mask)

        def left_out(row, x):
            others = dataclasses.replace(fit, mask=fit.mask.at[row].set(0.0))
            return self._neighbours(others, x)

        rows, weights = jax.vmap(left_out)(jnp.arange(len(inputs)), inputs)
        residual = targets - jnp.einsum("nk,nkt->nt", weights, targets[rows])
        residual = residual * context.mask[:, None]
        square = jnp.square(residual)[rows]
        std = jnp.sqrt(jnp.einsum("nk,nkt->nt", weights, square))
        return dataclasses.replace(fit, residual=residual), residual, std

    def _neighbours(self, fit: NeighbourFit, x: jax.Array):
        """Rows and weights of the nearest neighbours of standardised inputs."""
        distance = jnp.sum(jnp.square(fit.inputs - x[:, None]), axis=0)
        distance = jnp.where(fit.mask > 0, distance, _FAR)
        rows = least_rows(distance, min(self.num_neighbours, len(distance)))
        weights = 1.0 / (_LEAST_DISTANCE + jnp.sqrt(distance[rows]))
        return rows, weights / jnp.sum(weights)

    def predict_targets(self, fit, obs, action):
        """One search for all targets."""
        x = fit.scale.normalize(jnp.concatenate([obs, action]))
        rows, weights = self._neighbours(fit, x)
        weights = weights[:, None]
        mean = jnp.sum(weights * fit.targets[rows], axis=0)
        variance = jnp.sum(weights * jnp.square(fit.residual[rows]), axis=0)
        return mean, jnp.sqrt(variance)


def least_rows(values: jax.Array, number: int) -> jax.Array:
    """Rows [number] of the least of some values [N], from the least on.

    They are in as many groups of neighbouring rows at most, those of the least minima,
    so that two short searches take the place of a long one. Of equal values the first
    ones are taken, as in `jax.lax.top_k`.
    """
    if len(values) < 8 * number:
        return jax.lax.top_k(-values, number)[1]
    groups = jnp.pad(values, (0, -len(values) % _GROUP), constant_values=jnp.inf)
    groups = groups.reshape(-1, _GROUP)
    chosen = jnp.sort(jax.lax.top_k(-jnp.min(groups, axis=1), number)[1])
    rows = (chosen[:, None] * _GROUP + jnp.arange(_GROUP)).ravel()
    return rows[jax.lax.top_k(-groups[chosen].ravel(), number)[1]]
