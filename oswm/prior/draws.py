"""Many random numbers out of one draw.

A synthetic task has hundreds of constants. Drawn one by one they take minutes to
compile, as each draw inlines the random generator; drawn at once they take a second.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri


class Draws:
    """Hands out the parts of one uniform draw, each number once, while tracing.

    Args:
        key: Random key.
        number: How many numbers there are to hand out.
    """

    def __init__(self, key: jax.Array, number: int):
        self._numbers = jax.random.uniform(key, (number,))
        self._used = 0

    def uniform(self, low=0.0, high=1.0, shape: tuple[int, ...] = ()) -> jax.Array:
        """Uniform numbers.

        Raises:
            ValueError: If there are not as many left.
        """
        size = math.prod(shape)
        if self._used + size > len(self._numbers):
            raise ValueError(
                f"number: {len(self._numbers)} random numbers are too few, "
                f"{self._used + size} are asked for"
            )
        u = self._numbers[self._used : self._used + size].reshape(shape)
        self._used += size
        return low + (high - low) * u

    def log_uniform(self, low: float, high: float, shape=()) -> jax.Array:
        """Numbers whose logarithm is uniform."""
        return jnp.exp(self.uniform(math.log(low), math.log(high), shape))

    def normal(self, shape=()) -> jax.Array:
        """Standard normal numbers."""
        return ndtri(self.uniform(1e-6, 1 - 1e-6, shape))

    def chance(self, probability, shape=()) -> jax.Array:
        """True with a probability."""
        return self.uniform(shape=shape) < probability

    def below(self, number, shape=()) -> jax.Array:
        """Whole numbers from 0 to ``number - 1``."""
        return jnp.floor(number * self.uniform(shape=shape)).astype(jnp.int32)

    def choice(self, probabilities: tuple[float, ...]) -> jax.Array:
        """An index, with these probabilities."""
        bounds = jnp.cumsum(jnp.asarray(probabilities))[:-1]
        return jnp.sum(self.uniform() >= bounds)

    def one_of(self, allowed: jax.Array, shape=()) -> jax.Array:
        """Indices of true elements of ``allowed`` [D]."""
        u = self.uniform(shape=(*shape, *allowed.shape))
        return jnp.argmax(jnp.where(allowed, u, -1.0), axis=-1)

    def order(self, size: int) -> jax.Array:
        """A permutation of 0 ... size - 1."""
        return jnp.argsort(self.uniform(shape=(size,)))
