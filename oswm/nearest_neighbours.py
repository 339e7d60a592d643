"""Nearest neighbours inside a context."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from oswm.closed_form import ClosedForm, targets_of
from oswm.context import Scale

_LEAST_DISTANCE = 1e-6  # Of standardised inputs; equal inputs are averaged.
_FAR = 1e30


@struct.dataclass
class NeighbourFit:
    """The rows of a context, ready to be searched.

    Attributes:
        scale: Of observation and action.
        inputs: float32 [N, S + A], standardised.
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

    num_neighbours: int = 5

    def fit_targets(self, context):
        """Standardise, and predict each row from the others."""
        inputs = jnp.concatenate([context.obs, context.action], axis=1)
        scale = Scale.of(inputs, context.mask)
        targets = targets_of(context)
        fit = NeighbourFit(
            scale, scale.normalize(inputs), targets, targets, context.mask
        )

        def left_out(row):
            others = dataclasses.replace(fit, mask=fit.mask.at[row].set(0.0))
            return self._neighbours(others, fit.inputs[row])

        rows, weights = jax.vmap(left_out)(jnp.arange(len(inputs)))
        residual = targets - jnp.einsum("nk,nkt->nt", weights, targets[rows])
        residual = residual * context.mask[:, None]
        square = jnp.square(residual)[rows]
        std = jnp.sqrt(jnp.einsum("nk,nkt->nt", weights, square))
        return dataclasses.replace(fit, residual=residual), residual, std

    def _neighbours(self, fit: NeighbourFit, x: jax.Array):
        """Rows and weights of the nearest neighbours of standardised inputs."""
        distance = jnp.sqrt(jnp.sum(jnp.square(fit.inputs - x), axis=1))
        distance = jnp.where(fit.mask > 0, distance, _FAR)
        num_neighbours = min(self.num_neighbours, len(distance))
        nearest, rows = jax.lax.top_k(-distance, num_neighbours)
        weights = 1.0 / (_LEAST_DISTANCE - nearest)
        return rows, weights / jnp.sum(weights)

    def predict_targets(self, fit, obs, action):
        """One search for all targets."""
        x = fit.scale.normalize(jnp.concatenate([obs, action]))
        rows, weights = self._neighbours(fit, x)
        weights = weights[:, None]
        mean = jnp.sum(weights * fit.targets[rows], axis=0)
        variance = jnp.sum(weights * jnp.square(fit.residual[rows]), axis=0)
        return mean, jnp.sqrt(variance)
