"""Predictive distributions of one number: a mixture of Gaussians, or bars.

Both are about residuals in units of their root mean square: most lie within one unit,
some (a contact, a goal) many units away. A head is a frozen dataclass of pure functions
of its parameters ``[..., P]``.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians; parameters are logits, means and log scales.

    Attributes:
        num_parts: Of the mixture.
    """

    num_parts: int = 4
    _LEAST_SCALE = 1e-3

    @property
    def num_params(self) -> int:
        """Parameters of a distribution."""
        return 3 * self.num_parts

    def _split(self, params):
        logits, means, scales = jnp.split(params, 3, axis=-1)
        # Parameters of 0 are a narrow, a medium and wider parts around 0.
        start = jnp.log(jnp.geomspace(0.1, 3.0, self.num_parts))
        scales = self._LEAST_SCALE + jnp.exp(jnp.clip(start + scales, -8, 5))
        return jax.nn.log_softmax(logits, axis=-1), means, scales

    def log_prob(self, params: jax.Array, x: jax.Array) -> jax.Array:
        """Log density at ``x [...]``."""
        weights, means, scales = self._split(params)
        z = (x[..., None] - means) / scales
        parts = weights - 0.5 * jnp.square(z) - jnp.log(scales)
        return jax.nn.logsumexp(parts, axis=-1) - 0.5 * jnp.log(2 * jnp.pi)

    def mean(self, params: jax.Array) -> jax.Array:
        """Mean ``[...]``."""
        weights, means, _ = self._split(params)
        return jnp.sum(jnp.exp(weights) * means, axis=-1)

    def std(self, params: jax.Array) -> jax.Array:
        """Standard deviation ``[...]``."""
        weights, means, scales = self._split(params)
        weights = jnp.exp(weights)
        mean = jnp.sum(weights * means, axis=-1, keepdims=True)
        spread = jnp.square(means - mean) + jnp.square(scales)
        return jnp.sqrt(jnp.sum(weights * spread, axis=-1))

    def sample(self, params: jax.Array, key: jax.Array) -> jax.Array:
        """Draw ``[...]``."""
        part_key, noise_key = jax.random.split(key)
        weights, means, scales = self._split(params)
        part = jax.random.categorical(part_key, weights)[..., None]
        mean = jnp.take_along_axis(means, part, -1)[..., 0]
        scale = jnp.take_along_axis(scales, part, -1)[..., 0]
        return mean + scale * jax.random.normal(noise_key, mean.shape)


@dataclasses.dataclass(frozen=True)
class Bars:
    """A piecewise constant density with half-normal tails (Riemann distribution).

    Source: Müller et al., Transformers Can Do Bayesian Inference (2022), section 4. The
    outermost bars are half-normals with half of their mass within the bar's width.

    Attributes:
        num_bars: Their number; borders are denser around 0.
        largest: Innermost border of the two tails.
    """

    num_bars: int = 64
    largest: float = 10.0

    @property
    def num_params(self) -> int:
        """Parameters of a distribution."""
        return self.num_bars

    @property
    def borders(self) -> np.ndarray:
        """Borders of the bars, the tails' outer ones included, [num_bars + 1]."""
        inner = np.sinh(np.linspace(-1, 1, self.num_bars - 1) * np.arcsinh(30.0))
        inner = self.largest * inner / 30.0
        width = inner[-1] - inner[-2]
        return np.concatenate([[inner[0] - width], inner, [inner[-1] + width]])

    @property
    def _tail_scale(self) -> float:
        # Half of a half-normal's mass lies within 0.6745 scales.
        return float((self.borders[-1] - self.borders[-2]) / 0.67449)

    def _logits(self, params):
        # Parameters of 0 are about a standard normal.
        centres = (self.borders[1:] + self.borders[:-1]) / 2
        prior = -0.5 * np.square(centres) + np.log(np.diff(self.borders))
        return jax.nn.log_softmax(params + jnp.maximum(prior, -10.0), axis=-1)

    def log_prob(self, params: jax.Array, x: jax.Array) -> jax.Array:
        """Log density at ``x [...]``."""
        borders = jnp.asarray(self.borders, jnp.float32)
        bar = jnp.searchsorted(borders[1:-1], x)
        chosen = jnp.take_along_axis(self._logits(params), bar[..., None], -1)[..., 0]
        beyond = jnp.maximum(borders[1] - x, x - borders[-2])
        z = beyond / self._tail_scale
        tail = 0.5 * jnp.log(2 / jnp.pi) - np.log(self._tail_scale) - 0.5 * z**2
        flat = -jnp.log(jnp.diff(borders))[bar]
        return chosen + jnp.where(beyond > 0, tail, flat)

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and mean square of each bar."""
        low, high = self.borders[:-1].copy(), self.borders[1:].copy()
        mean = (low + high) / 2
        square = (low**2 + low * high + high**2) / 3
        inner, scale = self.borders[-2], self._tail_scale
        reach = scale * np.sqrt(2 / np.pi)
        mean[-1], mean[0] = inner + reach, -inner - reach
        square[[0, -1]] = inner**2 + 2 * inner * reach + scale**2
        return mean, square

    def mean(self, params: jax.Array) -> jax.Array:
        """Mean ``[...]``."""
        return jnp.exp(self._logits(params)) @ jnp.asarray(self._moments()[0], "f4")

    def std(self, params: jax.Array) -> jax.Array:
        """Standard deviation ``[...]``."""
        mean, square = (jnp.asarray(m, "f4") for m in self._moments())
        probs = jnp.exp(self._logits(params))
        return jnp.sqrt(jnp.maximum(probs @ square - jnp.square(probs @ mean), 1e-12))

    def sample(self, params: jax.Array, key: jax.Array) -> jax.Array:
        """Draw ``[...]``."""
        bar_key, place_key, tail_key = jax.random.split(key, 3)
        bar = jax.random.categorical(bar_key, self._logits(params))
        borders = jnp.asarray(self.borders, jnp.float32)
        u = jax.random.uniform(place_key, bar.shape)
        x = borders[bar] + u * (borders[bar + 1] - borders[bar])
        reach = self._tail_scale * jnp.abs(jax.random.normal(tail_key, bar.shape))
        x = jnp.where(bar == 0, borders[1] - reach, x)
        return jnp.where(bar == self.num_bars - 1, borders[-2] + reach, x)


HEADS = {"mixture": Mixture, "bars": Bars}
