"""Rules that tell ends of episodes from other rows without a mistake."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from oswm.context import Context, Scale
from oswm.linalg import matmul

_LEAST_GAP = 1e-4  # Between ends and other rows, in standard deviations.
_FARTHEST = 100.0  # Zero from the mean, in standard deviations; beyond, float32 ends.
_FEWEST_ENDS = 3  # For rules of which there are many.
_MOST_PAIRED = 24  # Observations among which pairs are looked at,
_MOST_PAIRED_TWICE = 8  # and pairs of pairs.


def threshold(scale: Scale, context: Context) -> tuple[jax.Array, jax.Array]:
    """The form of the rule with the widest gap, and if there is one.

    The logit is 4 at the nearest end, -4 at the nearest other row.
    """
    rules = _Rules.of(scale, context)
    is_end = (context.terminated > 0) & (context.mask > 0)
    is_other = (context.terminated == 0) & (context.mask > 0)
    end = jnp.min(jnp.where(is_end[:, None], rules.values, jnp.inf), axis=0)
    other = jnp.max(jnp.where(is_other[:, None], rules.values, -jnp.inf), axis=0)
    gap = jnp.where(jnp.any(is_end) & jnp.any(is_other), end - other, -1.0)
    # Of many rules one tells a single end from other rows by chance.
    is_enough = jnp.sum(is_end) >= _FEWEST_ENDS
    gap = jnp.where(rules.is_simple | is_enough, gap, -1.0)
    is_simple = jnp.any((gap > _LEAST_GAP) & rules.is_simple)
    gap = jnp.where(is_simple & ~rules.is_simple, -1.0, gap)
    best = jnp.argmax(gap)
    slope = 8.0 / jnp.maximum(gap[best], _LEAST_GAP)
    form = rules.form(best).at[0, 0].add(-0.5 * (end[best] + other[best]))
    return slope * form, gap[best] > _LEAST_GAP


class _Rules(NamedTuple):
    """What may be too large where an episode ends.

    One observation, or its square, for the simple rules. For the others the square of
    one that is too small, that of a difference or a distance of two in a plane: from
    the origin, or from each other, as where something is reached or caught.

    Attributes:
        values: In each row, in standard deviations, float32 [N, R].
        is_simple: bool [R].
        lines: Linear forms of 1 and standardised inputs, float32 [L, 1 + D].
        linear: Weights of the lines in each rule, float32 [R, L].
        squares: Weights of their squares, float32 [R, L].
    """

    values: jax.Array
    is_simple: jax.Array
    lines: jax.Array
    linear: jax.Array
    squares: jax.Array

    @classmethod
    def of(cls, scale: Scale, context: Context) -> _Rules:
        """In the rows of a context."""
        inputs = jnp.concatenate([context.next_obs, context.action], axis=1)
        size, width = context.obs_size, inputs.shape[1]
        std = scale.std[:size]
        mean = std * jnp.clip(scale.mean[:size] / std, -_FARTHEST, _FARTHEST)
        each = jnp.eye(1 + width)[1 : 1 + size] * std[:, None]
        each = each.at[:, 0].set(mean)
        first, second = _pairs(size)
        lines = jnp.concatenate([each, each[first] - each[second]])
        linear, squares, is_simple = map(jnp.asarray, _combinations(size))
        values = matmul(lines, jnp.insert(scale.normalize(inputs), 0, 1.0, axis=1).T).T
        values = matmul(values, linear.T) + matmul(jnp.square(values), squares.T)
        unit = Scale.of(values, context.mask).std
        simple = jnp.concatenate([std, std, jnp.square(std)])
        unit = unit.at[: len(simple)].set(simple)[:, None]
        linear, squares = linear / unit, squares / unit
        return cls(values / unit.T, is_simple, lines, linear, squares)

    def form(self, rule: jax.Array) -> jax.Array:
        """A rule as a quadratic form, [1 + D, 1 + D]."""
        form = matmul((self.lines * self.squares[rule][:, None]).T, self.lines)
        return form.at[0].add(matmul(self.linear[rule], self.lines))


def _pairs(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Two observations each; none if there are too many of them."""
    return np.triu_indices(size if size <= _MOST_PAIRED else 0, 1)


@functools.cache
def _combinations(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of lines and of their squares in each rule, and which are simple.

    Lines are the observations, then the differences of pairs of them.
    """
    first, second = _pairs(size)
    places = [np.array(x) for x in zip(first, second, strict=True)]
    number = size + len(places)
    eye = np.eye(number, dtype=np.float32)
    one, difference = eye[:size], eye[size:]
    planes = one[first] + one[second]
    if size <= _MOST_PAIRED_TWICE:
        a, b = np.triu_indices(len(places), 1)
        both = zip(a, b, strict=True)
        is_apart = [not np.isin(places[i], places[j]).any() for i, j in both]
        pairs = difference[a] + difference[b]
        planes = np.concatenate([planes, pairs[np.array(is_apart, bool)]])
    planes = np.concatenate([planes, difference])
    squares = np.concatenate([0 * one, 0 * one, one, -one, planes, -planes])
    linear = np.zeros_like(squares)
    linear[:size], linear[size : 2 * size] = one, -one
    return linear, squares, np.arange(len(squares)) < 3 * size
