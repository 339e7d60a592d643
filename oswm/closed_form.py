"""World models that need no training: closed-form regression on the context's rows.

All predict the change of the observation and the reward, each column standardised, and
all report the exact residual of each row when that row is left out, so that models can
be compared inside a context. Everything is written for one context and is a pure
function of masked arrays: ``jax.vmap`` does the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl_runs import values
from jaxrl_runs.values import FLAG, SCALES, setting
from oswm.context import Context, Prediction, Scale, beyond, usual_of
from oswm.features import quadratic
from oswm.linalg import inverse_factor, matmul
from oswm.tails import Tails
from oswm.termination import Termination

LEAST_STD = 1e-12


@struct.dataclass
class Cache:
    """What a closed-form model keeps of a context.

    Attributes:
        fit: The regression's own.
        residual: float32 [N, S + 1], for each row the target minus its prediction by
            the fit to all other rows: of the change of each observation, then of the
            reward; 0 for padding.
        termination: When episodes end.
        tails: How rows that the fit does not know are spread around its predictions, in
            units of its deviations.
        usual: The deviation of nine in ten rows, as the others predict them, at most,
            float32 [S + 1].
    """

    fit: Any
    residual: jax.Array
    termination: Termination
    tails: Tails
    usual: jax.Array


class Fitted(NamedTuple):
    """A fit of the targets: the change of each observation, then the reward.

    Attributes:
        fit: What ``predict_targets`` needs.
        residual: Of each row as the others predict it, float32 [N, S + 1].
        std: Its standard deviation, float32 [N, S + 1].
        scores: Errors of rows that the fit does not know, over their deviations,
            float32 [N, S + 1].
    """

    fit: Any
    residual: jax.Array
    std: jax.Array
    scores: jax.Array


class Stage(NamedTuple):
    """A step of a fit, which `oswm.condition` compiles as a program of its own.

    Attributes:
        function: Of the context and of what the stages before it have returned.
        level: How far XLA optimises it, 0 to 3: a context is fitted once, so that most
            of a fit runs longer for less than it would take to compile.
    """

    function: Callable[..., Any]
    level: int = 0


class ClosedForm:
    """What closed-form world models share; subclasses are frozen dataclasses."""

    def fit_targets(self, context: Context) -> tuple[Any, jax.Array, jax.Array]:
        """Fit the change of the observation and the reward.

        Returns:
            What ``predict_targets`` needs, and for each row as the others predict it:
            the residuals and the standard deviations, [N, S + 1].
        """
        raise NotImplementedError

    def fit_scored(self, context: Context) -> Fitted:
        """Fit, and say how far off rows are that the fit does not know."""
        fit, residual, std = self.fit_targets(context)
        return Fitted(fit, residual, std, residual / jnp.maximum(std, LEAST_STD))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What `fit_scored` does, step by step; the last one returns what it does."""
        return (Stage(self.fit_scored),)

    @property
    def parts(self) -> tuple[ClosedForm, ...]:
        """Models that are fitted one by one before `read` puts them together."""
        return (self,)

    def fit(self, context: Context) -> Cache:
        """Compute all that depends on the context alone."""
        return self.read(context, [part.fit_scored(context) for part in self.parts])

    def read(self, context: Context, found: Sequence[Fitted]) -> Cache:
        """The cache, from the fits of all `parts`."""
        fitted = self._combined(context, found)
        residual = fitted.residual * context.mask[:, None]
        # Rows that are landmarks, or chose a kernel, flatter it.
        tails = Tails.fit(fitted.scores, context.mask).no_narrower()
        usual = usual_of(fitted.std, context.mask)
        return Cache(fitted.fit, residual, Termination.fit(context), tails, usual)

    def _combined(self, context: Context, found: Sequence[Fitted]) -> Fitted:
        """One fit, from those of all `parts`."""
        del context
        return found[0]

    def predict_targets(
        self, fit: Any, obs: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and standard deviation of the targets [S + 1] of one query."""
        raise NotImplementedError

    def predict(self, cache: Cache, obs: jax.Array, action: jax.Array) -> Prediction:
        """Predict one step.

        Args:
            cache: What ``fit`` returned.
            obs: Observation [S].
            action: Action as a vector [A], one-hot if discrete.
        """
        mean, std = self.predict_targets(cache.fit, obs, action)
        next_obs = obs + mean[:-1]
        return Prediction(
            next_obs_mean=next_obs,
            next_obs_std=std[:-1],
            reward_mean=mean[-1],
            reward_std=std[-1],
            terminated_prob=cache.termination.probability(next_obs, action),
            tails=cache.tails,
            unknown_std=beyond(std, cache.usual)[:-1],
            internal=(mean[-1], std[-1]),
        )

    def reward_at(
        self,
        fit: Any,
        obs: jax.Array,
        action: jax.Array,
        next_obs: jax.Array,
        predicted: tuple[jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array]:
        """Reward and its deviation where a step led to `next_obs` [S].

        Args:
            fit: As for `predict_targets`.
            obs: Observation [S].
            action: Action vector [A].
            next_obs: Where the step led.
            predicted: What `predict_targets` says of both, for models that do not look
                at the next observation.
        """
        del fit, obs, action, next_obs
        return predicted

    def outcome(
        self,
        cache: Cache,
        obs: jax.Array,
        action: jax.Array,
        next_obs: jax.Array,
        prediction: Prediction,
    ) -> tuple[jax.Array, jax.Array]:
        """See `oswm.world_model`."""
        said = prediction.internal or (prediction.reward_mean, prediction.reward_std)
        found, _ = self.reward_at(cache.fit, obs, action, next_obs, said)
        end = cache.termination.probability(next_obs, action)
        return found - said[0], cache.termination.chance(end)

    def sample(
        self, cache: Cache, obs: jax.Array, action: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draw next observation [S], reward and termination of one step."""
        return drawn_step(self, cache, obs, action, key)


def drawn_step(
    model: Any, cache: Any, obs: jax.Array, action: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`sample` of a model with `outcome`: reward and end are those of what is drawn."""
    key_value, key_end = jax.random.split(key)
    prediction = model.predict(cache, obs, action)
    next_obs, reward, _ = prediction.sample(key_value)
    shift, end = model.outcome(cache, obs, action, next_obs, prediction)
    return next_obs, reward + shift, jax.random.uniform(key_end) < end


def targets_of(context: Context) -> jax.Array:
    """Change of each observation and reward, [N, S + 1]."""
    change = context.next_obs - context.obs
    return jnp.concatenate([change, context.reward[:, None]], axis=1)


def root_mean_square(residual: jax.Array, mask: jax.Array) -> jax.Array:
    """Of each column [D] of the rows [N, D] in use."""
    rows = mask[:, None] / jnp.maximum(jnp.sum(mask), 1.0)
    return jnp.sqrt(jnp.sum(rows * jnp.square(residual), axis=0))


@dataclasses.dataclass(frozen=True)
class Persistence(ClosedForm):
    """Predicts that nothing changes, and the mean reward."""

    def fit_targets(self, context):
        """Only the mean reward has to be computed."""
        targets = targets_of(context)
        num_rows = jnp.maximum(jnp.sum(context.mask), 2.0)
        mean = jnp.sum(context.mask[:, None] * targets, axis=0) / num_rows
        mean = mean.at[:-1].set(0.0)
        residual = targets - mean
        # Without row i the mean of the others is off by residual_i / (N - 1) more.
        residual = residual.at[:, -1].multiply(num_rows / (num_rows - 1))
        std = root_mean_square(residual, context.mask)
        return (mean, std), residual, jnp.broadcast_to(std, residual.shape)

    def predict_targets(self, fit, obs, action):
        """The same for every query."""
        return fit


@struct.dataclass
class RidgeFit:
    """A fitted ridge regression.

    Attributes:
        input_scale: Of observation and action.
        feature_scale: Of the features.
        target_scale: Of the targets.
        weights: float32 [1 + D, S + 1], of standardised features and targets.
        half: float32 [L, 1 + D, 1 + D]; half.T @ half is the inverse of the penalised
            Gram matrix, for each penalty.
        choice: int32 [S + 1], the penalty that each target chose.
        noise: float32 [S + 1], standard deviation of a target's noise.
    """

    input_scale: Scale
    feature_scale: Scale
    target_scale: Scale
    weights: jax.Array
    half: jax.Array
    choice: jax.Array
    noise: jax.Array


@dataclasses.dataclass(frozen=True)
class Ridge(ClosedForm):
    """Ridge regression, linear in observation and action or with their products.

    Attributes:
        quadratic: Whether squares and products of all inputs are features too.
        penalties: Weights of the squared coefficients, per row; each target takes the
            one of the smallest leave-one-out error.
    """

    quadratic: bool = setting(False, FLAG)
    penalties: tuple[float, ...] = setting((1e-5, 1e-3, 1e-1), SCALES)

    def __post_init__(self):
        values.check(self)

    def _features(self, input_scale: Scale, obs, action) -> jax.Array:
        inputs = input_scale.normalize(jnp.concatenate([obs, action]))
        return quadratic(inputs) if self.quadratic else inputs

    def fit_targets(self, context):
        """Solve for all penalties, then let each target choose."""
        mask = context.mask
        inputs = jnp.concatenate([context.obs, context.action], axis=1)
        input_scale = Scale.of(inputs, mask)
        features = jax.vmap(self._features, (None, 0, 0))(
            input_scale, context.obs, context.action
        )
        feature_scale = Scale.of(features, mask)
        features = feature_scale.normalize(features)
        features = mask[:, None] * jnp.insert(features, 0, 1.0, axis=1)
        targets = targets_of(context)
        target_scale = Scale.of(targets, mask)
        targets = mask[:, None] * target_scale.normalize(targets)

        penalties = jnp.asarray(self.penalties) * jnp.maximum(jnp.sum(mask), 1.0)
        weights, half, inner, residual = jax.lax.map(
            lambda penalty: solve(features, targets, penalty), penalties
        )
        leverage = jnp.sum(jnp.square(matmul(features, jnp.swapaxes(half, 1, 2))), 2)
        choice = least(jnp.sum(jnp.square(residual), axis=1))
        weights, inner, residual = (
            jnp.take_along_axis(x, choice[None, None], axis=0)[0]
            for x in (weights, inner, residual)
        )
        noise = noise_of(inner, residual, mask)
        std = noise / jnp.sqrt(left_over(leverage[choice])).T
        fit = RidgeFit(
            input_scale,
            feature_scale,
            target_scale,
            weights,
            half,
            choice,
            target_scale.std * noise,
        )
        return fit, target_scale.std * residual, target_scale.std * std

    def predict_targets(self, fit, obs, action):
        """The standard deviation grows with the distance from the context."""
        features = self._features(fit.input_scale, obs, action)
        features = jnp.insert(fit.feature_scale.normalize(features), 0, 1.0)
        mean = fit.target_scale.restore(matmul(features, fit.weights))
        leverage = jnp.sum(jnp.square(matmul(fit.half, features)), axis=-1)
        return mean, fit.noise * jnp.sqrt(1.0 + leverage[fit.choice])


def solve(
    features: jax.Array, targets: jax.Array, penalty: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Ridge regression with exact leave-one-out residuals.

    Args:
        features: [N, D], 0 in rows that are not in use.
        targets: [N, O], likewise.
        penalty: Weight of the squared coefficients.

    Returns:
        Weights [D, O]; the inverse factor [D, D] of the penalised Gram matrix;
        residuals [N, O] of the fit, and the same with each row left out.
    """
    gram = matmul(features.T, features) + penalty * jnp.eye(features.shape[1])
    half = inverse_factor(gram)

    def correct(weights):
        gradient = matmul(features.T, targets - matmul(features, weights))
        gradient = gradient - penalty * weights
        return weights + matmul(half.T, matmul(half, gradient))

    # The second step removes what float32 lost in the first.
    weights = correct(correct(jnp.zeros((features.shape[1], targets.shape[1]))))
    leverage = jnp.sum(jnp.square(matmul(features, half.T)), axis=1)
    residual = targets - matmul(features, weights)
    return weights, half, residual, residual / left_over(leverage)[:, None]


def noise_of(residual: jax.Array, left_out: jax.Array, mask: jax.Array) -> jax.Array:
    """Standard deviation [O] of the noise, from residuals [N, O] of both kinds."""
    num_rows = jnp.maximum(jnp.sum(mask), 1.0)
    return jnp.sqrt(jnp.sum(residual * left_out, axis=0) / num_rows)


def least(errors: jax.Array) -> jax.Array:
    """Index of the least along the first axis, which NaN (a failed solve) is not."""
    return jnp.argmin(jnp.where(jnp.isnan(errors), jnp.inf, errors), axis=0)


def left_over(leverage: jax.Array) -> jax.Array:
    """One minus the leverage, away from 0: a row alone in its direction."""
    return jnp.maximum(1.0 - leverage, 1e-4)
