"""No base at all: the mean of a target over the context, for comparisons.

With it the transformer has to predict by itself: the change of each observation, or, as
in the paper, the next observation.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from oswm.closed_form import ClosedForm, root_mean_square, targets_of


@dataclasses.dataclass(frozen=True)
class Unconditional(ClosedForm):
    """Predicts the mean over the context.

    Attributes:
        absolute: The mean next observation, not that of the change.
    """

    absolute: bool = False

    def fit_targets(self, context):
        """The mean, and how far it is off without the row itself."""
        targets = targets_of(context)
        if self.absolute:
            targets = targets.at[:, :-1].set(context.next_obs)
        mask = context.mask[:, None]
        number = jnp.maximum(jnp.sum(mask), 2.0)
        mean = jnp.sum(mask * targets, axis=0) / number
        residual = (targets - mean) * number / (number - 1)
        std = root_mean_square(residual, context.mask)
        return (mean, std), residual, jnp.broadcast_to(std, residual.shape)

    def predict_targets(self, fit, obs, action):
        """The same for each query, minus where it is if that is absolute."""
        mean, std = fit
        return mean.at[:-1].add(-obs) if self.absolute else mean, std
