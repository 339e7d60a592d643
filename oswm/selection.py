"""Several closed-form models, of which each target takes its best in the context."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from oswm.closed_form import LEAST_STD, ClosedForm, Fitted, Ridge, least
from oswm.context import Context
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

    @property
    def parts(self):
        """The models, which are fitted one by one."""
        return self.models

    def fit_each(self, context) -> tuple[Any, jax.Array, jax.Array]:
        """Fit all models.

        Returns:
            What `predict_each` needs, and leave-one-out residuals and standard
            deviations [K, N, S + 1], 0 in rows that are not in use.
        """
        return gather(context, [model.fit_scored(context) for model in self.models])

    def predict_each(self, fits, obs, action) -> tuple[jax.Array, jax.Array]:
        """Means and standard deviations of all models, [K, S + 1]."""
        found = [
            model.predict_targets(fit, obs, action)
            for model, fit in zip(self.models, fits, strict=True)
        ]
        means, stds = zip(*found, strict=True)
        return jnp.stack(means), jnp.stack(stds)

    def fit_targets(self, context):
        """Fit all models and choose."""
        found = [model.fit_scored(context) for model in self.models]
        return self._combined(context, found)[:3]

    def _combined(self, context, found):
        """Of each target the model of the least error."""
        fits, residuals, stds = gather(context, found)
        choice = choose(residuals)
        residual, std = (jnp.sum(choice[:, None] * x, 0) for x in (residuals, stds))
        scores = residual / jnp.maximum(std, LEAST_STD)
        return Fitted((fits, choice), residual, std, scores)

    def predict_targets(self, fit, obs, action):
        """Every model predicts; those not chosen weigh nothing."""
        fits, choice = fit
        means, stds = self.predict_each(fits, obs, action)
        return jnp.sum(choice * means, axis=0), jnp.sum(choice * stds, axis=0)

    def reward_at(self, fit, obs, action, next_obs, predicted):
        """By the model that the reward chose."""
        fits, choice = fit
        for model, part, chosen in zip(self.models, fits, choice[:, -1], strict=True):
            found = model.reward_at(part, obs, action, next_obs, predicted)
            predicted = jax.tree.map(
                lambda new, old, chosen=chosen: jnp.where(chosen > 0, new, old),
                found,
                predicted,
            )
        return predicted


def gather(
    context: Context, found: Iterable[Fitted]
) -> tuple[Any, jax.Array, jax.Array]:
    """What `LeaveOneOut.fit_each` returns, from the fits of all models."""
    fits, residuals, stds, _ = zip(*found, strict=True)
    mask = context.mask[:, None]
    return fits, mask * jnp.stack(residuals), mask * jnp.stack(stds)


def choose(residuals: jax.Array) -> jax.Array:
    """The best model of each target, one-hot [K, S + 1], by residuals [K, N, S + 1]."""
    errors = jnp.sum(jnp.square(residuals), axis=1)
    return jax.nn.one_hot(least(errors), len(errors), axis=0)
