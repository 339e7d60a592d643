"""What happens by chance between states that can be counted.

The mean of several outcomes is none of them: who is served or not, with a half each,
is not half served, and a step that slips to either side does not stay. Where
observations are whole numbers, or on another grid, a step is therefore drawn, all
observations and the reward together: what the model predicts, plus what it was off by
in a row of the context nearby, or the change that happened in this row. If rows have
the same observation and action, one of these happens again.

Which of the two, and how near a row has to be, is chosen by how likely rows are under
what the others predict: in a table of few states it has to be the same state, in a long
queue half of the rows say what arrives. Rows of another discrete action say nothing.

Source: the bootstrap of residuals (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, section 9.4), with weights of a kernel.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from oswm.context import Context, Scale
from oswm.linalg import matmul
from oswm.support import Support

# How fast weights fall with squared distances of standardised observations and actions.
_SHARPNESS = (1e4, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
_APART = 0.03  # In place of the deviation of an action's ones and zeros.
_MOST_ASKED = 512  # Rows by which that is chosen.
_SAME = 1e-6  # Squared distance.
_SAME_PLACE = 1e-5
_ALL = 1 - 1e-6  # Of all weights, so that rounding leaves a row.
_NEGLIGIBLE = 5e-3  # Of a mean log-likelihood.
_FLOOR = 1e-2  # Probability of what no row shows.


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
        residual: What the model was off by, of next observations and rewards, float32
            [N, S + 1]; 0 for what is not drawn.
        change: From observations to the next ones, float32 [N, S].
        is_change: Whether that is drawn, and not the residual, bool scalar.
        next_obs: Where they led, float32 [N, S].
        terminated: float32 [N].
        mask: 1 for rows in use, float32 [N].
        sharpness: How fast weights fall with squared distances, float32 scalar.
    """

    scale: Scale
    points: jax.Array
    residual: jax.Array
    change: jax.Array
    is_change: jax.Array
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
        residual = jnp.where(is_drawn, context.next_obs - mean, 0.0)
        change = context.next_obs - context.obs
        of_reward = context.reward - reward
        of_reward = jnp.where(jnp.all(is_drawn), of_reward, 0.0)
        inputs = jnp.concatenate([context.obs, context.action], axis=1)
        scale = Scale.of(inputs, context.mask)
        if context.num_actions is not None:
            is_action = jnp.arange(inputs.shape[1]) >= context.obs_size
            scale = scale._replace(std=jnp.where(is_action, _APART, scale.std))
        points = scale.normalize(inputs)
        rows = jnp.argsort(-context.mask, stable=True)
        number = min(_MOST_ASKED, len(rows))
        place = jnp.arange(number) * jnp.sum(context.mask) / number
        asked = rows[place.astype(int)]
        sharpness = jnp.asarray(_SHARPNESS)

        def log_likelihood(row):
            """Of a row under all others, by residuals and changes, [2, sharpness]."""
            distance = jnp.sum(jnp.square(points - points[row]), axis=1)
            others = context.mask * (jnp.arange(len(points)) != row)
            weights = jax.vmap(lambda s: _weights(distance, others, s))(sharpness)
            found = jnp.stack([mean[row] + residual, context.obs[row] + change])
            off = jnp.abs(found - context.next_obs[row])
            is_same = jnp.all((off < 0.5 * support.step) | ~is_drawn, axis=2)
            likelihood = matmul(is_same.astype(weights.dtype), weights.T)
            return jnp.log(_FLOOR + (1 - _FLOOR) * likelihood)

        scores = jax.lax.map(log_likelihood, asked, batch_size=64).mean(axis=0)
        # The sharpest of those that are likely enough.
        is_enough = scores >= jnp.max(scores) - _NEGLIGIBLE
        sharpest = jnp.argmax(jnp.any(is_enough, axis=0))
        return cls(
            scale=scale,
            points=points,
            residual=jnp.concatenate([residual, of_reward[:, None]], axis=1),
            change=change,
            is_change=scores[1, sharpest] > scores[0, sharpest],
            next_obs=context.next_obs,
            terminated=context.terminated,
            mask=context.mask,
            sharpness=sharpness[sharpest],
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
        changed = jnp.where(support.step > 0, obs + self.change[row], next_obs)
        next_obs = next_obs + self.residual[row, :-1]
        next_obs = support.project(jnp.where(self.is_change, changed, next_obs))
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
    nearest = jnp.min(jnp.where(mask > 0, distance, jnp.inf))
    weights = mask / jnp.square(1.0 + sharpness * jnp.maximum(distance - nearest, 0.0))
    return weights / jnp.sum(weights)
