"""When an episode ends, learned from the context: a threshold, or logistic regression.

Most tasks end somewhere because one observation is too large or too small, and a
thousand rows may show that twice. So if one observation, or its square, tells all ends
from all other rows, a threshold halfway between the two kinds is the rule; by chance
that hardly happens. Logistic regression would want of the next end all that those two
have in common.

Otherwise the state that was reached left some region or entered another, so the
features are that state, its squares and products, and the action. A half-space, an
ellipsoid and a product of two observations are expressed exactly.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from oswm.context import Context, Scale
from oswm.features import apply_form, form_of, pairs, quadratic
from oswm.linalg import inverse_factor, matmul

# Weak, so that few ends among a thousand rows are separated sharply from the others.
_PENALTY = 1e-3
_NUM_NEWTON_STEPS = 25
_STEP_SIZES = (1.0, 0.5, 0.1, 0.01)
_LEAST_GAP = 1e-4  # Between ends and other rows, in standard deviations.
_FARTHEST = 100.0  # Zero from the mean, in standard deviations; beyond, float32 ends.
_NEVER = -30.0  # The logit where the context holds no end at all.


@struct.dataclass
class Termination:
    """A fitted classifier.

    Attributes:
        scale: Of next observation and action.
        form: Logit as a quadratic form of the standardised next observation and action,
            float32 [1 + D, 1 + D].
        seen: 1 if some row of the context ended its episode, else 0.
        is_rule: Whether it is a threshold of one observation, bool scalar.
        is_certain: Whether it is right in all rows, so that ends know no chance, bool
            scalar.
    """

    scale: Scale
    form: jax.Array
    seen: jax.Array
    is_rule: jax.Array
    is_certain: jax.Array

    @classmethod
    def fit(cls, context: Context) -> Termination:
        """Fit to a context by Newton's method with step sizes that never climb."""
        inputs = jnp.concatenate([context.next_obs, context.action], axis=1)
        scale = Scale.of(inputs, context.mask)
        features = jax.vmap(_features, (None, 0, None))(scale, inputs, context.obs_size)
        feature_scale = Scale.of(features, context.mask)
        features = feature_scale.normalize(features)
        features = jnp.concatenate([jnp.ones((len(inputs), 1)), features], axis=1)
        features = features * context.mask[:, None]
        penalties = jnp.full(features.shape[1], _PENALTY).at[0].set(1e-6)

        def loss(weights):
            logits = matmul(features, weights)
            signs = 1.0 - 2.0 * context.terminated
            fit = jnp.sum(context.mask * jax.nn.softplus(signs * logits))
            return fit + 0.5 * jnp.sum(penalties * jnp.square(weights))

        def step(_, weights):
            probs = jax.nn.sigmoid(matmul(features, weights))
            gradient = matmul(features.T, context.mask * (probs - context.terminated))
            gradient = gradient + penalties * weights
            curvature = matmul(features.T * (probs * (1 - probs)), features)
            half = inverse_factor(curvature + jnp.diag(penalties))
            direction = matmul(half.T, matmul(half, gradient))
            sizes = jnp.asarray((*_STEP_SIZES, 0.0))
            tried = weights - sizes[:, None] * direction
            losses = jax.vmap(loss)(tried)
            return tried[jnp.argmin(jnp.where(jnp.isnan(losses), jnp.inf, losses))]

        start = jnp.zeros(features.shape[1])
        weights = jax.lax.fori_loop(0, _NUM_NEWTON_STEPS, step, start)
        seen = jnp.max(context.mask * context.terminated)
        form = _form(weights, feature_scale, context)
        rule, is_rule = _threshold(scale, context)
        form = jnp.where(is_rule, rule, form)
        logits = jax.vmap(apply_form, (None, 0))(form, scale.normalize(inputs))
        is_right = ((logits > 0) == (context.terminated > 0)) | (context.mask == 0)
        return cls(scale, form, seen, is_rule, jnp.all(is_right))

    def logit(self, next_obs: jax.Array, action: jax.Array) -> jax.Array:
        """Of termination after one step, from vectors [S] and [A]."""
        inputs = self.scale.normalize(jnp.concatenate([next_obs, action]))
        logit = apply_form(self.form, inputs)
        return jnp.where(self.seen > 0, logit, _NEVER)

    def probability(self, next_obs: jax.Array, action: jax.Array) -> jax.Array:
        """The same as a probability."""
        return jax.nn.sigmoid(self.logit(next_obs, action))

    def chance(self, probability: jax.Array) -> jax.Array:
        """How often an end happens that is believed with some probability.

        Where ends and other rows are told apart without a mistake, what is not known
        is on which side of the edge a state is, not what happens there; an agent that
        waited near it would else be sure to end at last.
        """
        return jnp.where(self.is_certain, 1.0 * (probability > 0.5), probability)


def _threshold(scale: Scale, context: Context) -> tuple[jax.Array, jax.Array]:
    """The form of the rule of one observation with the widest gap, and if there is one.

    The logit is 4 at the nearest end, -4 at the nearest other row.
    """
    size = context.obs_size
    mean, std = scale.mean[:size], scale.std[:size]
    x = scale.normalize(jnp.concatenate([context.next_obs, context.action], axis=1))[
        :, :size
    ]
    shift = jnp.clip(mean / std, -_FARTHEST, _FARTHEST)
    columns = jnp.concatenate([x, -x, jnp.square(x + shift)], axis=1)
    is_end = (context.terminated > 0) & (context.mask > 0)
    is_other = (context.terminated == 0) & (context.mask > 0)
    end = jnp.min(jnp.where(is_end[:, None], columns, jnp.inf), axis=0)
    other = jnp.max(jnp.where(is_other[:, None], columns, -jnp.inf), axis=0)
    gap = jnp.where(jnp.any(is_end) & jnp.any(is_other), end - other, -1.0)
    best = jnp.argmax(gap)
    slope = 8.0 / jnp.maximum(gap[best], _LEAST_GAP)
    middle = 0.5 * (end[best] + other[best])
    kind, place = jnp.divmod(best, size)
    # Of 1, x and x squared: x, -x, or x + shift squared.
    linear = jnp.array([1.0, -1.0, 0.0])[kind] + (kind == 2) * 2 * shift[place]
    constant = (kind == 2) * jnp.square(shift[place]) - middle
    form = jnp.zeros((1 + x.shape[1] + context.action_size,) * 2)
    form = form.at[0, 0].set(constant).at[0, 1 + place].set(linear)
    form = form.at[1 + place, 1 + place].set(1.0 * (kind == 2))
    return slope * form, gap[best] > _LEAST_GAP


def _features(scale: Scale, inputs: jax.Array, obs_size: int) -> jax.Array:
    inputs = scale.normalize(inputs)
    return jnp.concatenate([quadratic(inputs[:obs_size]), inputs[obs_size:]])


def _form(weights: jax.Array, scale: Scale, context: Context) -> jax.Array:
    """Weights [1 + P] of standardised features, of which some are products."""
    each = weights[1:] / scale.std
    intercept = weights[0] - jnp.sum(each * scale.mean)
    size = context.obs_size
    num_products = len(each) - size - context.action_size
    obs, products, action = jnp.split(each, [size, size + num_products])
    ordered = jnp.concatenate([intercept[None], obs, action, products])
    return form_of(ordered, size + context.action_size, *pairs(size))
