"""How errors are spread, in units of the deviations that are predicted.

Where a kink or a contact makes some errors large, a Gaussian of the right deviation
is too wide for most rows and too narrow for these: nine in ten of Pendulum's errors lie
in its central half. A narrow and a wide Gaussian around the same mean, fitted to what
rows left out are off by, say how often either happens.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax.scipy.special import ndtr

_NUM_ROUNDS = 40
# Rows that either Gaussian has seen before any other, with errors of its first scale.
_NUM_ASSUMED = 1.0
_FIRST_SCALES = (0.5, 2.0)
_LEAST_SCALE = 1e-3
_MOST = 10.0  # Where hardly anything varies deviations are next to nothing.


@struct.dataclass
class Tails:
    """A mixture of K Gaussians around 0 for each of T targets, in units of deviations.

    Attributes:
        weights: Of the Gaussians, float32 [T, K]; they add up to 1.
        scales: Their standard deviations over the predicted one, float32 [T, K].
    """

    weights: jax.Array
    scales: jax.Array

    @classmethod
    def fit(cls, scores: jax.Array, mask: jax.Array) -> Tails:
        """A narrow and a wide Gaussian around 0, by expectation maximisation.

        Args:
            scores: Errors over predicted deviations, float32 [N, T].
            mask: 1 for rows in use, float32 [N].
        """
        number = jnp.maximum(jnp.sum(mask), 1.0)
        scores = jnp.where(jnp.isfinite(scores), scores, 0.0)
        scores = jnp.clip(scores, -_MOST, _MOST)
        squares = jnp.square(scores)
        power = jnp.sum(mask[:, None] * squares, axis=0) / number  # [T]
        unit = jnp.where(power > 0, power, 1.0)
        squares = (squares / unit)[..., None]
        first = jnp.square(jnp.array(_FIRST_SCALES))

        def one_round(_, carry):
            weights, variances = carry
            logits = jnp.log(weights / jnp.sqrt(variances)) - 0.5 * squares / variances
            shares = mask[:, None, None] * jax.nn.softmax(logits)
            counts = jnp.sum(shares, axis=0)
            sums = jnp.sum(shares * squares, axis=0)
            weights = (counts + _NUM_ASSUMED) / (number + 2 * _NUM_ASSUMED)
            variances = (sums + _NUM_ASSUMED * first) / (counts + _NUM_ASSUMED)
            return weights, jnp.maximum(variances, _LEAST_SCALE**2)

        shape = (scores.shape[1], 2)
        start = jnp.full(shape, 0.5), jnp.broadcast_to(first, shape)
        weights, variances = jax.lax.fori_loop(0, _NUM_ROUNDS, one_round, start)
        scales = jnp.sqrt(unit[:, None] * variances)
        return cls(weights, scales)

    @classmethod
    def gaussian(cls, num_targets: int) -> Tails:
        """Of models that nothing was asked of: Gaussians of the predicted deviation."""
        half = jnp.full((num_targets, 2), 0.5)
        return cls(half, jnp.ones_like(half))

    @property
    def deviation(self) -> jax.Array:
        """Root mean square error over the predicted deviation, [T]."""
        return jnp.sqrt(jnp.sum(self.weights * jnp.square(self.scales), axis=-1))

    def standardised(self) -> tuple[Tails, jax.Array]:
        """The same with a deviation of 1, and what it was [T]."""
        deviation = self.deviation
        return Tails(self.weights, self.scales / deviation[..., None]), deviation

    def no_narrower(self) -> Tails:
        """The same, wider where errors are smaller than predicted."""
        narrow = jnp.minimum(self.deviation, 1.0)
        return Tails(self.weights, self.scales / narrow[..., None])

    def cdf(self, scores: jax.Array) -> jax.Array:
        """Probability of a smaller error than each of ``scores`` [T], [T]."""
        parts = ndtr(scores[..., None] / self.scales)
        return jnp.sum(self.weights * parts, axis=-1)

    def draw(self, key: jax.Array) -> jax.Array:
        """Errors over predicted deviations, [T]."""
        key_part, key_noise = jax.random.split(key)
        ends = jnp.cumsum(self.weights, axis=-1)[..., :-1]
        draw = jax.random.uniform(key_part, ends.shape[:-1])
        part = jnp.sum(draw[..., None] > ends, axis=-1)
        is_part = part[..., None] == jnp.arange(self.scales.shape[-1])
        scale = jnp.sum(jnp.where(is_part, self.scales, 0.0), axis=-1)
        return scale * jax.random.normal(key_noise, scale.shape)
