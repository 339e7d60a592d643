"""What small networks do with an input before their hidden layers.

Convolutions are products of matrices, of windows with weights: a batch of networks is
then a batch of products, which a CPU does as fast as one.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from finetune.automl.text import NUM_BUCKETS

_MAX_STEPS = 128  # of a series, after the first layer
_SHARPNESS = 8.0  # of the maximum over places


def windows(x: jax.Array, size: int, stride: int = 1) -> jax.Array:
    """Neighbours along the first axis after the batch, side by side in the last one.

    Args:
        x: ``[n, length, ..., channels]``; zeros are put around it.
        size: Neighbours.
        stride: Of the centres.

    Returns:
        ``[n, ceil(length / stride), ..., size * channels]``.
    """
    before = (size - 1) // 2
    widths = [(0, 0)] * x.ndim
    widths[1] = before, size - 1 - before
    padded, end = jnp.pad(x, widths), x.shape[1]
    return jnp.concatenate([padded[:, i : i + end : stride] for i in range(size)], -1)


def pooled(x: jax.Array) -> jax.Array:
    """Mean and soft maximum over the middle axis, ``[n, p, c]`` to ``[n, 2 c]``.

    Not the maximum: its gradient looks for the value among its arguments, and where
    XLA computes these twice, with other roundings, it finds none and divides by 0.
    """
    soft = jax.nn.logsumexp(_SHARPNESS * x, 1) / _SHARPNESS
    return jnp.concatenate([x.mean(1), soft], -1)


class Columns(nn.Module):
    """Leaves columns as they are."""

    width: int

    @nn.compact
    def __call__(self, x):
        """The columns themselves, ``[n, d]``."""
        return x


class Tokens(nn.Module):
    """Sum of a vector per token, over the root of their number; 0 is no token."""

    width: int

    @nn.compact
    def __call__(self, x):
        """Tokens int32 ``[n, t]`` to ``[n, width]``."""
        is_there = (x > 0)[..., None]
        found = nn.Embed(NUM_BUCKETS, self.width)(x)
        count = jnp.maximum(is_there.sum(1), 1)
        return jnp.where(is_there, found, 0).sum(1) / jnp.sqrt(count)


class Series(nn.Module):
    """Three convolutions over time, then mean and soft maximum."""

    width: int

    @nn.compact
    def __call__(self, x):
        """Series ``[n, length, channels]`` to ``[n, 2 width]``."""
        stride = -(-x.shape[1] // _MAX_STEPS)
        x = nn.Dense(self.width)(windows(x, max(7, 2 * stride), stride))
        for size in (5, 3):
            change = nn.Dense(self.width)(windows(nn.relu(nn.LayerNorm()(x)), size))
            x = x + change
        return pooled(nn.relu(nn.LayerNorm()(x)))


class Image(nn.Module):
    """Three convolutions, each at half the side, then mean and soft maximum."""

    width: int

    @nn.compact
    def __call__(self, x):
        """Pictures ``[n, height, width, channels]`` to ``[n, 8 width]``."""
        for layer, factor in enumerate((1, 2, 4)):
            if layer and min(x.shape[1:3]) >= 4:
                x = nn.avg_pool(x, (2, 2), (2, 2))
            rows = windows(x, 3)
            both = jnp.swapaxes(windows(jnp.swapaxes(rows, 1, 2), 3), 1, 2)
            x = nn.relu(nn.LayerNorm()(nn.Dense(factor * self.width)(both)))
        return pooled(x.reshape(len(x), -1, x.shape[-1]))


BODIES = {"columns": Columns, "tokens": Tokens, "series": Series, "image": Image}


def move(reads: str, key: jax.Array, x: jax.Array) -> jax.Array:
    """Shift a minibatch of pictures by up to an eighth; leave others as they are."""
    if reads != "image":
        return x
    most = max(min(x.shape[1:3]) // 8, 1)
    widths = ((0, 0), (most, most), (most, most), (0, 0))
    corner = jax.random.randint(jax.random.fold_in(key, 7), (2,), 0, 2 * most + 1)
    start = (0, corner[0], corner[1], 0)
    return jax.lax.dynamic_slice(jnp.pad(x, widths, "edge"), start, x.shape)
