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

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from oswm.context import Context, Prediction, Scale
from oswm.support import Support

# How fast weights fall with squared distances of standardised observations and actions.
_SHARPNESS = (1e4, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
_MOST_ASKED = 512  # Rows by which that is chosen.
_SAME = 1e-6  # Squared distance.
_FLOOR = 1e-3  # Probability of what no row shows.


class Drawn(NamedTuple):
    """One step: next observation [S], reward, and what is known of its end.

    Attributes:
        next_obs: float32 [S].
        reward: float32 scalar.
        terminated: Probability that it ends the episode, float32 scalar.
    """

    next_obs: jax.Array
    reward: jax.Array
    terminated: jax.Array


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
    def fit(cls, context: Context, support: Support, predicted: Prediction) -> Noise:
        """From predictions of the context's own rows, with a leading axis [N].

        Observations that lie on a grid are drawn, and the reward if all of them do.
        """
        is_drawn = support.step > 0
        residual = context.next_obs - predicted.next_obs_mean
        of_reward = context.reward - predicted.reward_mean
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
            off = jnp.abs(
                predicted.next_obs_mean[row] + residual - context.next_obs[row]
            )
            is_same = jnp.all((off < 0.5 * support.step) | ~is_drawn, axis=1)
            weights = jax.vmap(lambda s: _weights(distance, others, s))(sharpness)
            return jnp.log(_FLOOR + (1 - _FLOOR) * jnp.sum(weights * is_same, axis=1))

        sharpness = jnp.asarray(_SHARPNESS)
        scores = jax.lax.map(log_likelihood, asked, batch_size=64)
        return cls(
            scale=scale,
            points=points,
            residual=jnp.concatenate([residual, of_reward[:, None]], axis=1),
            next_obs=context.next_obs,
            terminated=context.terminated,
            mask=context.mask,
            sharpness=sharpness[jnp.argmax(jnp.mean(scores, axis=0))],
        )

    def draw(
        self,
        support: Support,
        prediction: Prediction,
        obs: jax.Array,
        action: jax.Array,
        key: jax.Array,
    ) -> Drawn:
        """One step from an observation [S] and an action vector [A]."""
        point = self.scale.normalize(jnp.concatenate([obs, action]))
        distance = jnp.sum(jnp.square(self.points - point), axis=1)
        total = jnp.cumsum(_weights(distance, self.mask, self.sharpness))
        row = jnp.searchsorted(total, jax.random.uniform(key) * total[-1], "right")
        row = jnp.minimum(row, len(total) - 1)
        next_obs = prediction.next_obs_mean + self.residual[row, :-1]
        next_obs = support.project(next_obs)
        # Rows that led to the same place say whether it is an end.
        is_there = jnp.all(jnp.abs(self.next_obs - next_obs) < 1e-5, axis=1)
        there = self.mask * is_there
        number = jnp.sum(there)
        share = jnp.sum(there * self.terminated) / jnp.maximum(number, 1.0)
        end = jnp.where(number > 0, share, prediction.terminated_prob)
        end = jnp.where(distance[row] < _SAME, self.terminated[row], end)
        reward = prediction.reward_mean + self.residual[row, -1]
        return Drawn(next_obs, reward, end)


def is_noisy(context: Context, support: Support, predicted: Any) -> jax.Array:
    """Whether rounded predictions of the context's own rows are not what happened."""
    off = jnp.abs(context.next_obs - predicted.next_obs_mean) * context.mask[:, None]
    return jnp.any((off > 0.5 * support.step) & (support.step > 0))


def _weights(distance: jax.Array, mask: jax.Array, sharpness: jax.Array) -> jax.Array:
    """Of rows by squared distances [N], relative to the nearest; they add up to 1."""
    distance = jnp.where(mask > 0, distance, jnp.inf)
    weights = jnp.exp(-sharpness * (distance - jnp.min(distance)))
    return weights / jnp.sum(weights)
