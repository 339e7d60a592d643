"""When an episode ends, learned from the context: a threshold, or logistic regression.

Most tasks end somewhere because one observation is too large or too small, and a
thousand rows may show that twice. So if one observation, or its square, tells all ends
from all other rows, a threshold halfway between the two kinds is the rule; by chance
that hardly happens. The next ones that are tried are distances, as between what hunts
and what is hunted. Logistic regression would want of the next end all that those two
have in common.

Otherwise the state that was reached left some region or entered another, so the
features are that state, its squares and products, and the action. A half-space, an
ellipsoid and a product of two observations are expressed exactly. Where ends of two
kinds pay differently (`oswm.ends`) each kind has its own classifier.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from oswm.context import Context, Scale
from oswm.end_rules import threshold
from oswm.features import apply_form, form_of, pairs, quadratic
from oswm.linalg import inverse_factor, matmul

# Weak, so that few ends among a thousand rows are separated sharply from the others.
_PENALTY = 1e-3
_STRONGER = (1e-1, 1.0)
_FAR_LIKELIER = 0.8  # Share of the deviance of rows left out.
_NUM_NEWTON_STEPS = 25
_STEP_SIZES = (1.0, 0.5, 0.1, 0.01)
_NEVER = -30.0  # The logit where the context holds no end at all.
NUM_KINDS = 2  # Of ends that pay differently.


@struct.dataclass
class Termination:
    """A fitted classifier, or one for each kind of end on a leading axis [K].

    Attributes:
        scale: Of next observation and action.
        form: Logit as a quadratic form of the standardised next observation and action,
            float32 [1 + D, 1 + D].
        seen: 1 if some row of the context ended its episode, else 0.
        is_rule: Whether it is a threshold of one observation or of a distance, bool
            scalar.
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
        """Fit to a context; each kind of end against the rows that go on."""
        if context.end_kind is None:
            return cls._fit(context)

        def of_kind(kind):
            is_other = (context.terminated > 0) & (context.end_kind != kind)
            mask = jnp.where(is_other, 0.0, context.mask)
            ends = jnp.where(is_other, 0.0, context.terminated)
            return cls._fit(dataclasses.replace(context, mask=mask, terminated=ends))

        return jax.vmap(of_kind)(jnp.arange(NUM_KINDS))

    @classmethod
    def _fit(cls, context: Context) -> Termination:
        """Of one kind of end, or of all together."""
        inputs = jnp.concatenate([context.next_obs, context.action], axis=1)
        scale = Scale.of(inputs, context.mask)
        features = jax.vmap(_features, (None, 0, None))(scale, inputs, context.obs_size)
        feature_scale = Scale.of(features, context.mask)
        features = jnp.insert(feature_scale.normalize(features), 0, 1.0, axis=1)
        features = features * context.mask[:, None]
        weights = _likeliest(features, context)
        seen = jnp.max(context.mask * context.terminated)
        form = _form(weights, feature_scale, context)
        rule, is_rule = threshold(scale, context)
        form = jnp.where(is_rule, rule, form)
        logits = jax.vmap(apply_form, (None, 0))(form, scale.normalize(inputs))
        is_right = ((logits > 0) == (context.terminated > 0)) | (context.mask == 0)
        return cls(scale, form, seen, is_rule, jnp.all(is_right))

    def logit(self, next_obs: jax.Array, action: jax.Array) -> jax.Array:
        """Of termination after one step, from vectors [S] and [A]."""
        return jnp.max(self.logits(next_obs, action))

    def logits(self, next_obs: jax.Array, action: jax.Array) -> jax.Array:
        """Of each kind of end, [K], or of any, a scalar."""
        if self.seen.ndim:
            each = jax.vmap(Termination._logit, (0, None, None))
            return each(self, next_obs, action)
        return self._logit(next_obs, action)

    def _logit(self, next_obs: jax.Array, action: jax.Array) -> jax.Array:
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
        is_certain = jnp.all(self.is_certain)
        return jnp.where(is_certain, 1.0 * (probability > 0.5), probability)


def _likeliest(features: jax.Array, context: Context) -> jax.Array:
    """Weights [1 + P] of the regression: on all features, or on two observations alone.

    A dozen ends are few for thirty features. Two observations are believed if rows left
    out are likelier by far under them than under all, whatever the penalty of these.
    (With stronger penalties rows left out are likelier, but edges are soft, at which
    agents wait for an end by chance: in one of ten models of Acrobot.)
    """
    rows = context.terminated, context.mask
    weights, deviance = jax.lax.map(
        lambda penalty: _logistic(features, penalty, *rows),
        jnp.asarray((_PENALTY, *_STRONGER)),
    )
    weights, deviance = weights[0], jnp.nanmin(deviance)
    columns = _columns_of_pairs(context.obs_size)
    if len(columns):
        regress = jax.vmap(_logistic, (1, None, None, None))
        few, others = regress(features[:, columns], jnp.float32(_PENALTY), *rows)
        best = jnp.nanargmin(others)
        found = jnp.zeros_like(weights).at[jnp.asarray(columns)[best]].set(few[best])
        is_likelier = others[best] < _FAR_LIKELIER * deviance
        weights = jnp.where(is_likelier, found, weights)
    return weights


def _logistic(
    features: jax.Array, penalty: jax.Array, terminated: jax.Array, mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Weights [F], and the deviance of rows that are left out.

    By Newton's method with step sizes that never climb; the logits of rows left out are
    those of one more step without them.

    Source: Rad and Maleki, A scalable estimate of the out-of-sample prediction error
    via approximate leave-one-out cross-validation (2020).
    """
    penalties = jnp.full(features.shape[1], penalty).at[0].set(1e-6)
    signs = 1.0 - 2.0 * terminated

    def loss(weights):
        fit = jnp.sum(mask * jax.nn.softplus(signs * matmul(features, weights)))
        return fit + 0.5 * jnp.sum(penalties * jnp.square(weights))

    def curve(weights):
        probs = jax.nn.sigmoid(matmul(features, weights))
        curvature = matmul(features.T * (probs * (1 - probs)), features)
        return probs, inverse_factor(curvature + jnp.diag(penalties))

    def step(_, weights):
        probs, half = curve(weights)
        gradient = matmul(features.T, mask * (probs - terminated))
        direction = matmul(half.T, matmul(half, gradient + penalties * weights))
        sizes = jnp.asarray((*_STEP_SIZES, 0.0))
        tried = weights - sizes[:, None] * direction
        losses = jax.vmap(loss)(tried)
        return tried[jnp.argmin(jnp.where(jnp.isnan(losses), jnp.inf, losses))]

    weights = jnp.zeros(features.shape[1])
    weights = jax.lax.fori_loop(0, _NUM_NEWTON_STEPS, step, weights)
    probs, half = curve(weights)
    leverage = jnp.sum(jnp.square(matmul(features, half.T)), axis=1)
    left = jnp.maximum(1.0 - probs * (1 - probs) * leverage, 1e-4)
    logits = matmul(features, weights) + leverage * (probs - terminated) / left
    return weights, jnp.sum(mask * jax.nn.softplus(signs * logits))


def _columns_of_pairs(size: int) -> np.ndarray:
    """Features of each pair of observations: 1, both, squares and product, [Q, 6]."""
    first, second = pairs(size)
    if len(first) != size * (size + 1) // 2:
        return np.zeros((0, 6), int)
    place = np.zeros((size, size), int)
    place[first, second] = 1 + size + np.arange(len(first))
    return np.array(
        [
            [0, 1 + i, 1 + j, place[i, i], place[i, j], place[j, j]]
            for i, j in zip(*np.triu_indices(size, 1), strict=True)
        ]
    ).reshape(-1, 6)


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
