"""What a context shows about the form of its states, and keeping predictions to it.

A world model that feeds on its own predictions leaves the states that the task can be
in, little by little, and agents are quick to make use of it. Three properties of a
context's observations are kept up: the range of each column, columns of whole numbers,
and pairs of columns on a circle (the cosine and the sine of an angle), which range over
all of it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from oswm.context import Context, Scale

_TOLERANCE = 1e-3  # Relative deviation of a radius.


@struct.dataclass
class Support:
    """Where the observations and rewards of a context are.

    Attributes:
        low: Smallest value of each observation, minus the margin, or that of the whole
            circle, float32 [S].
        high: Largest value, likewise, float32 [S].
        std: Standard deviation of each observation, 1 for constants, float32 [S].
        is_whole: Whether a column holds whole numbers only, bool [S].
        partner: The column with which each is on a circle, or itself, int32 [S].
        radius: Radius of that circle, 0 without one, float32 [S].
        reward_low: Smallest reward of steps that do not end the episode, and of those
            that do, float32 [2]. Both are that of all steps unless one kind pays more
            than the other always does, as for a goal.
        reward_high: Largest rewards likewise, float32 [2].
        reward_unit: Size of a typical reward, float32 scalar: its standard deviation,
            or its mean absolute value where that is larger.
    """

    low: jax.Array
    high: jax.Array
    std: jax.Array
    is_whole: jax.Array
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
        is_whole = jnp.all(jnp.where(used, obs == jnp.round(obs), True), axis=0)
        partner, radius = _circles(obs, used)
        # Whole numbers have no room at the ends of their range, and who has seen a part
        # of a circle knows where the rest of it is.
        margin = jnp.where(is_whole, 0.0, margin) * (high - low)
        is_round = (radius > 0) & ~is_whole  # One of two kinds is on a circle, too.
        low = jnp.where(is_round, -radius, low - margin)
        high = jnp.where(is_round, radius, high + margin)
        reward_low, reward_high = _reward_ranges(context)
        rows = context.mask / jnp.maximum(jnp.sum(context.mask), 1.0)
        mean = jnp.sum(rows * context.reward)
        spread = jnp.sqrt(jnp.sum(rows * jnp.square(context.reward - mean)))
        size = jnp.sum(rows * jnp.abs(context.reward))
        return cls(
            low=low,
            high=high,
            std=Scale.of(obs, used[:, 0].astype(jnp.float32)).std,
            is_whole=is_whole,
            partner=partner,
            radius=radius,
            reward_low=reward_low,
            reward_high=reward_high,
            reward_unit=jnp.maximum(spread, size),
        )

    def including(self, obs: jax.Array) -> Support:
        """With ranges that hold further observations [K, S] too."""
        low = jnp.minimum(self.low, jnp.min(obs, axis=0))
        high = jnp.maximum(self.high, jnp.max(obs, axis=0))
        return dataclasses.replace(self, low=low, high=high)

    def contains(self, obs: jax.Array) -> jax.Array:
        """Whether an observation [S] is within all ranges, circles left aside."""
        inside = (obs >= self.low) & (obs <= self.high)
        return jnp.all(inside | (self.radius > 0) | self.is_whole)

    def project(self, obs: jax.Array) -> jax.Array:
        """The observation [S] in the form of the context's."""
        norm = jnp.sqrt(jnp.square(obs) + jnp.square(obs[self.partner]))
        on_circle = obs * self.radius / jnp.maximum(norm, 1e-6)
        obs = jnp.where(self.radius > 0, on_circle, obs)
        obs = jnp.where(self.is_whole, jnp.round(obs), obs)
        return jnp.clip(obs, self.low, self.high)

    def clip_reward(self, reward: jax.Array, terminated: jax.Array) -> jax.Array:
        """Into the range of the context's rewards, of steps that end or that do not."""
        kind = jnp.asarray(terminated).reshape(()).astype(int)
        return jnp.clip(reward, self.reward_low[kind], self.reward_high[kind])


def _reward_ranges(context: Context) -> tuple[jax.Array, jax.Array]:
    """Lowest and highest rewards [2], see `Support`.

    A model smooths what a goal pays over the states before it. Where the goal alone
    pays so much, and ends the episode, an agent could stay there and be paid for ever.
    """
    ends = context.terminated > 0
    used = jnp.stack([~ends, ends]) & (context.mask > 0)
    low = jnp.min(jnp.where(used, context.reward, jnp.inf), axis=1)
    high = jnp.max(jnp.where(used, context.reward, -jnp.inf), axis=1)
    is_apart = (jnp.max(low) > jnp.min(high)) & jnp.all(jnp.any(used, axis=1))
    return (
        jnp.where(is_apart, low, jnp.min(low)),
        jnp.where(is_apart, high, jnp.max(high)),
    )


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
