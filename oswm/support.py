"""What a context shows about the form of its states, and keeping predictions to it.

A world model that feeds on its own predictions leaves the states that the task can be
in, little by little, and agents are quick to make use of it. Three properties of a
context's observations are kept up: the range of each column, columns on a grid (whole
numbers, or tenths), of which several may say by ones and zeros which state it is, and
pairs of columns on a circle (the cosine and the sine of an angle), which range over all
of it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from oswm.context import Context, Scale

_TOLERANCE = 1e-3  # Relative deviation of a radius.
# Of a grid that is not of whole numbers: more steps may be a rounded measurement.
_MOST_STEPS = 64
_LEAST_VALUES = 3
_OFF_GRID = 1e-2  # Of a step.


@struct.dataclass
class Support:
    """Where the observations and rewards of a context are.

    Attributes:
        low: Smallest value of each observation, minus the margin, or that of the whole
            circle, float32 [S].
        high: Largest value, likewise, float32 [S].
        std: Standard deviation of each observation, 1 for constants, float32 [S].
        step: Of the grid that a column is on, 1 for whole numbers, 0 without one,
            float32 [S].
        origin: A place of that grid, float32 [S].
        is_one_hot: Whether the column is one of all those of ones and zeros, of which
            always one is 1, bool [S].
        partner: The column with which each is on a circle, or itself, int32 [S].
        radius: Radius of that circle, 0 without one, float32 [S].
        reward_low: Smallest reward of a step, float32 scalar.
        reward_high: Largest reward, likewise.
        reward_unit: Size of a typical reward, float32 scalar: its standard deviation,
            or its mean absolute value where that is larger.
    """

    low: jax.Array
    high: jax.Array
    std: jax.Array
    step: jax.Array
    origin: jax.Array
    is_one_hot: jax.Array
    partner: jax.Array
    radius: jax.Array
    reward_low: jax.Array
    reward_high: jax.Array
    reward_unit: jax.Array

    @classmethod
    def of(cls, context: Context, margin: float | jax.Array) -> Support:
        """Read a context.

        Args:
            context: Transitions.
            margin: What is added to each end of a range, as a share of the range.
        """
        used = jnp.tile(context.mask > 0, 2)[:, None]
        obs = jnp.concatenate([context.obs, context.next_obs])
        low = jnp.min(jnp.where(used, obs, jnp.inf), axis=0)
        high = jnp.max(jnp.where(used, obs, -jnp.inf), axis=0)
        step, origin = _grids(obs, used, low, high)
        on_grid = step > 0
        partner, radius = _circles(obs, used)
        # Grids have no room at the ends of their range, and who has seen a part of a
        # circle knows where the rest of it is.
        margin = jnp.where(on_grid, 0.0, margin) * (high - low)
        is_round = (radius > 0) & ~on_grid  # One of two kinds is on a circle, too.
        low = jnp.where(is_round, -radius, low - margin)
        high = jnp.where(is_round, radius, high + margin)
        rows = context.mask / jnp.maximum(jnp.sum(context.mask), 1.0)
        paid = context.reward
        paid = paid if context.end_pay is None else paid + context.end_pay
        mean = jnp.sum(rows * paid)
        spread = jnp.sqrt(jnp.sum(rows * jnp.square(paid - mean)))
        size = jnp.sum(rows * jnp.abs(paid))
        return cls(
            low=low,
            high=high,
            std=Scale.of(obs, used[:, 0].astype(jnp.float32)).std,
            step=step,
            origin=origin,
            is_one_hot=_one_hot(obs, used),
            partner=partner,
            radius=radius,
            reward_low=jnp.min(jnp.where(context.mask > 0, context.reward, jnp.inf)),
            reward_high=jnp.max(jnp.where(context.mask > 0, context.reward, -jnp.inf)),
            reward_unit=jnp.maximum(spread, size),
        )

    def including(self, obs: np.ndarray) -> Support:
        """With ranges that hold further observations [K, S] too.

        By numpy: each other K would be compiled anew.
        """
        low = jnp.minimum(self.low, np.min(obs, axis=0))
        high = jnp.maximum(self.high, np.max(obs, axis=0))
        return dataclasses.replace(self, low=low, high=high)

    def contains(self, obs: jax.Array) -> jax.Array:
        """Whether an observation [S] is within all ranges, circles left aside."""
        inside = (obs >= self.low) & (obs <= self.high)
        return jnp.all(inside | (self.radius > 0) | (self.step > 0))

    def project(self, obs: jax.Array) -> jax.Array:
        """The observation [S] in the form of the context's."""
        norm = jnp.sqrt(jnp.square(obs) + jnp.square(obs[self.partner]))
        on_circle = obs * self.radius / jnp.maximum(norm, 1e-6)
        obs = jnp.where(self.radius > 0, on_circle, obs)
        step = jnp.where(self.step > 0, self.step, 1.0)
        on_grid = self.origin + step * jnp.round((obs - self.origin) / step)
        largest = jnp.argmax(jnp.where(self.is_one_hot, obs, -jnp.inf))
        obs = jnp.where(self.step > 0, on_grid, obs)
        obs = jnp.where(self.is_one_hot, jnp.arange(len(obs)) == largest, obs)
        return jnp.clip(obs, self.low, self.high)

    def clip_reward(self, reward: jax.Array) -> jax.Array:
        """Into the range of the context's rewards."""
        return jnp.clip(reward, self.reward_low, self.reward_high)


def _grids(obs, used, low, high) -> tuple[jax.Array, jax.Array]:
    """Of each column the step of its grid, 0 without one, and a place on it, [S]."""
    is_whole = jnp.all(jnp.where(used, obs == jnp.round(obs), True), axis=0)
    apart = jnp.diff(jnp.sort(jnp.where(used, obs, low), axis=0), axis=0)
    is_apart = apart > 1e-4 * (high - low)
    step = jnp.min(jnp.where(is_apart, apart, jnp.inf), axis=0)
    number = 1 + jnp.sum(is_apart, axis=0)
    steps = (obs - low) / step
    is_grid = jnp.all((jnp.abs(steps - jnp.round(steps)) < _OFF_GRID) | ~used, axis=0)
    is_grid &= (high - low < (_MOST_STEPS + 0.5) * step) & (number >= _LEAST_VALUES)
    is_grid &= 4 * number <= jnp.sum(used)
    step = jnp.where(is_whole, 1.0, jnp.where(is_grid, step, 0.0))
    return step, jnp.where(is_whole, 0.0, low)


def _one_hot(obs: jax.Array, used: jax.Array) -> jax.Array:
    """Which columns together say which of several states it is, bool [S]."""
    is_binary = jnp.all((obs == 0) | (obs == 1) | ~used, axis=0)
    number = jnp.sum(is_binary * obs, axis=1)
    return is_binary & jnp.all((number == 1) | ~used[:, 0]) & (jnp.sum(is_binary) > 1)


def _circles(obs: jax.Array, used: jax.Array) -> tuple[jax.Array, jax.Array]:
    """For each column its partner, or itself, and the radius, or 0."""
    size = obs.shape[1]
    squares = jnp.square(obs)
    sums = squares[:, :, None] + squares[:, None, :]
    low = jnp.min(jnp.where(used[..., None], sums, jnp.inf), axis=0)
    high = jnp.max(jnp.where(used[..., None], sums, -jnp.inf), axis=0)
    is_circle = (high - low <= _TOLERANCE * high) & ~jnp.eye(size, dtype=bool)
    # Two constants are on a circle too, but need none.
    std = jnp.std(obs, axis=0, where=used)
    varies = jnp.minimum(std[:, None], std[None, :]) > _TOLERANCE * jnp.sqrt(high)
    is_circle = is_circle & varies
    has_partner = jnp.any(is_circle, axis=1)
    partner = jnp.where(has_partner, jnp.argmax(is_circle, axis=1), jnp.arange(size))
    radius = jnp.sqrt(0.5 * (low + high))[jnp.arange(size), partner]
    return partner, jnp.where(has_partner, radius, 0.0)
