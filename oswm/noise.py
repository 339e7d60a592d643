"""What happens by chance between states that can be counted.

The mean of several outcomes is none of them: who is served or not, with a half each,
is not half served, and a step that slips to either side does not stay. Where
observations are whole numbers, or on another grid, a step is therefore drawn: what the
model predicts, plus what it was off by in a row of the context nearby, all observations
and the reward together. If rows have the same observation and action, one of these
happens again.

How near a row has to be is chosen by how likely rows are under what the others predict:
in a table of few states it has to be the same state, in a long queue half of the rows
say what arrives.

Source: the bootstrap of residuals (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, section 9.4), with weights of a kernel.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from oswm.context import Context, Scale
from oswm.support import Support

# How fast weights fall with squared distances of standardised observations and actions.
_SHARPNESS = (1e4, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
_MOST_ASKED = 512  # Rows by which that is chosen.
_SAME = 1e-6  # Squared distance.
_SAME_PLACE = 1e-5
_ALL = 1 - 1e-6  # Of all weights, so that rounding leaves a row.
_NEGLIGIBLE = 5e-3  # Of a mean log-likelihood.
_FLOOR = 1e-3  # Probability of what no row shows.


class Drawn(NamedTuple):
    """What a row that was drawn says of one step.

    Attributes:
        next_obs: float32 [S].
        reward: What is added to what the model says of the reward, float32 scalar.
        terminated: Probability of an end, float32 scalar.
        is_known: Whether rows with the same observation and action, or that led to the
            same place, say so, bool scalar.
    """

    next_obs: jax.Array
    reward: jax.Array
    terminated: jax.Array
    is_known: jax.Array


@struct.dataclass
class Noise:
    """Rows of a context and what a model was off by.

    Attributes:
        scale: Of observations and actions.
        points: These, standardised, float32 [N, S + A].
        residual: Of next observations and rewards, float32 [N, S + 1]; 0 for what is
            not drawn.
        next_obs: Where they led, float32 [N, S].
        terminated: float32 [N].
        mask: 1 for rows in use, float32 [N].
        sharpness: How fast weights fall with squared distances, float32 scalar.
    """

    scale: Scale
    points: jax.Array
    residual: jax.Array
    next_obs: jax.Array
    terminated: jax.Array
    mask: jax.Array
    sharpness: jax.Array

    @classmethod
    def fit(
        cls, context: Context, support: Support, mean: jax.Array, reward: jax.Array
    ) -> Noise:
        """From what a model says of the context's own rows.

        Observations that lie on a grid are drawn, and the reward if all of them do.

        Args:
            context: The rows.
            support: Their form.
            mean: Predicted next observations [N, S].
            reward: Predicted rewards, given the next observations of the rows, [N].
        """
        is_drawn = support.step > 0
        residual = context.next_obs - mean
        of_reward = context.reward - reward
        of_reward = jnp.where(jnp.all(is_drawn), of_reward, 0.0)
        residual = jnp.where(is_drawn, residual, 0.0)
        inputs = jnp.concatenate([context.obs, context.action], axis=1)
        scale = Scale.of(inputs, context.mask)
        points = scale.normalize(inputs)
        rows = jnp.argsort(-context.mask, stable=True)
        number = min(_MOST_ASKED, len(rows))
        place = jnp.arange(number) * jnp.sum(context.mask) / number
        asked = rows[place.astype(int)]

        def log_likelihood(row):
            """Of a row under all others, for each sharpness."""
            distance = jnp.sum(jnp.square(points - points[row]), axis=1)
            others = context.mask * (jnp.arange(len(points)) != row)
            off = jnp.abs(mean[row] + residual - context.next_obs[row])
            is_same = jnp.all((off < 0.5 * support.step) | ~is_drawn, axis=1)
            weights = jax.vmap(lambda s: _weights(distance, others, s))(sharpness)
            return jnp.log(_FLOOR + (1 - _FLOOR) * jnp.sum(weights * is_same, axis=1))

        sharpness = jnp.asarray(_SHARPNESS)
        scores = jax.lax.map(log_likelihood, asked, batch_size=64).mean(axis=0)
        is_enough = scores >= jnp.max(scores) - _NEGLIGIBLE
        return cls(
            scale=scale,
            points=points,
            residual=jnp.concatenate([residual, of_reward[:, None]], axis=1),
            next_obs=context.next_obs,
            terminated=context.terminated,
            mask=context.mask,
            sharpness=sharpness[jnp.argmax(is_enough)],  # The sharpest of these.
        )

    def draw(
        self,
        support: Support,
        next_obs: jax.Array,
        obs: jax.Array,
        action: jax.Array,
        key: jax.Array,
    ) -> Drawn:
        """One step.

        Args:
            support: The form of the context's observations.
            next_obs: What the model predicts, [S].
            obs: From which observation, [S].
            action: By which action vector, [A].
            key: A PRNG key.
        """
        point = self.scale.normalize(jnp.concatenate([obs, action]))
        distance = jnp.sum(jnp.square(self.points - point), axis=1)
        weights = _weights(distance, self.mask, self.sharpness)
        total = jnp.cumsum(weights)  # Rounded, and not monotonic to the last bit.
        share = jax.random.uniform(key, maxval=_ALL)
        row = jnp.argmax((total > share * total[-1]) & (weights > 0))
        next_obs = support.project(next_obs + self.residual[row, :-1])
        is_there = jnp.all(jnp.abs(self.next_obs - next_obs) < _SAME_PLACE, axis=1)
        there = self.mask * is_there
        number = jnp.sum(there)
        end = jnp.sum(there * self.terminated) / jnp.maximum(number, 1.0)
        is_same = distance[row] < _SAME
        return Drawn(
            next_obs=next_obs,
            reward=self.residual[row, -1],
            terminated=jnp.where(is_same, self.terminated[row], end),
            is_known=is_same | (number > 0),
        )


def is_noisy(context: Context, support: Support, mean: jax.Array) -> jax.Array:
    """Whether some row went elsewhere than predicted, [N, S] and rounded."""
    off = jnp.abs(context.next_obs - mean) * context.mask[:, None]
    return jnp.any((off > 0.5 * support.step) & (support.step > 0))


def _weights(distance: jax.Array, mask: jax.Array, sharpness: jax.Array) -> jax.Array:
    """Of rows by squared distances [N], relative to the nearest; they add up to 1."""
    distance = jnp.where(mask > 0, distance, jnp.inf)
    weights = jnp.exp(-sharpness * (distance - jnp.min(distance)))
    return weights / jnp.sum(weights)
