"""Several closed-form models, of which each target takes its best in the context."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from oswm.closed_form import ClosedForm, Ridge
from oswm.kernel_ridge import KernelRidge
from oswm.nearest_neighbours import NearestNeighbours


@dataclasses.dataclass(frozen=True)
class LeaveOneOut(ClosedForm):
    """Predicts each target by the model of the smallest leave-one-out error.

    Attributes:
        models: The models to choose from.
    """

    models: tuple[ClosedForm, ...] = (
        Ridge(),
        Ridge(quadratic=True),
        KernelRidge(),
        NearestNeighbours(),
    )

    def fit_targets(self, context):
        """Fit all models; `choice` [K, S + 1] is one-hot."""
        fits, residuals = zip(
            *(model.fit_targets(context) for model in self.models), strict=True
        )
        stacked = context.mask[:, None] * jnp.stack(residuals)
        errors = jnp.sum(jnp.square(stacked), axis=1)
        choice = jax.nn.one_hot(jnp.argmin(errors, axis=0), len(fits), axis=0)
        return (fits, choice), jnp.sum(choice[:, None] * stacked, axis=0)

    def predict_targets(self, fit, obs, action):
        """Every model predicts; those not chosen weigh nothing."""
        fits, choice = fit
        outputs = [
            model.predict_targets(own, obs, action)
            for model, own in zip(self.models, fits, strict=True)
        ]
        means, stds = (jnp.stack(part) for part in zip(*outputs, strict=True))
        return jnp.sum(choice * means, axis=0), jnp.sum(choice * stds, axis=0)
