"""Blur, noise, sharpness, exchanged cells and holes: pictures `[S, S, 3]` in [0, 1]."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_runs.values import as_key

NUM_CELLS = 4  # of a side, for `grid_shuffle`
_RADIUS = 3


def gaussian_blur(image: jax.Array, sigma: jax.Array | float) -> jax.Array:
    """Blurred by a Gaussian of seven taps, the border mirrored.

    Args:
        image: float32 `[S, S, 3]`.
        sigma: Of the Gaussian, in pixels; 0 changes nothing.
    """
    size = image.shape[0]
    taps = jnp.arange(-_RADIUS, _RADIUS + 1)
    weights = jnp.exp(-0.5 * jnp.square(taps / jnp.maximum(sigma, 1e-3)))
    matrix = jnp.einsum("k,kij->ij", weights / weights.sum(), _mirrored(size))
    return jnp.einsum("ih,hwc,jw->ijc", matrix, image, matrix)


def _mirrored(size: int) -> np.ndarray:
    """Which pixel each tap reads, one-hot, `[2 * _RADIUS + 1, size, size]`."""
    taps = np.arange(-_RADIUS, _RADIUS + 1)[:, None]
    place = np.abs(np.arange(size) + taps)
    place = np.where(place > size - 1, 2 * (size - 1) - place, place)
    return (place[..., None] == np.arange(size)).astype(np.float32)


def gaussian_noise(
    key: jax.Array | int, image: jax.Array, std: jax.Array | float
) -> jax.Array:
    """Independent noise on every value, cut off at 0 and 1."""
    return jnp.clip(image + std * jax.random.normal(as_key(key), image.shape), 0.0, 1.0)


def sharpen(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blended with its smoothed self: 0 is smooth, 1 the picture, 2 sharp.

    Source: PIL's ImageEnhance.Sharpness; the border's pixels stay.
    """
    total = sum(jnp.roll(image, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1))
    smooth = (total + 4 * image) / 13
    smooth = image.at[1:-1, 1:-1].set(smooth[1:-1, 1:-1])
    return jnp.clip(smooth + factor * (image - smooth), 0.0, 1.0)


def grid_shuffle(key: jax.Array | int, image: jax.Array) -> jax.Array:
    """Cut into `NUM_CELLS` times `NUM_CELLS` cells, which exchange their places.

    Where the side is no multiple of `NUM_CELLS`, the last pixels are repeated until it
    is, and what then stands beyond the side is left out.
    """
    size = image.shape[0]
    side, number = -(-size // NUM_CELLS), NUM_CELLS**2
    padding = NUM_CELLS * side - size
    padded = jnp.pad(image, ((0, padding), (0, padding), (0, 0)), "edge")
    cells = padded.reshape(NUM_CELLS, side, NUM_CELLS, side, -1).swapaxes(1, 2)
    order = jnp.argsort(jax.random.uniform(as_key(key), (number,)))
    cells = cells.reshape(number, side, side, -1)[order]
    cells = cells.reshape(NUM_CELLS, NUM_CELLS, side, side, -1).swapaxes(1, 2)
    return cells.reshape(padded.shape)[:size, :size]


def cut_out(
    key: jax.Array | int,
    image: jax.Array,
    side: jax.Array | float = 0.25,
    num_holes: int = 4,
) -> jax.Array:
    """Black square holes at random places, also over the border.

    Args:
        key: A PRNG key, or a seed.
        image: float32 `[S, S, 3]`.
        side: Of a hole, as a share of the picture's.
        num_holes: How many; it fixes shapes.
    """
    size = image.shape[0]
    line = jnp.arange(size, dtype=jnp.float32)
    center = jax.random.uniform(as_key(key), (num_holes, 2, 1)) * size - 0.5
    inside = jnp.abs(line - center) < side * size / 2  # [holes, 2, S]
    hole = jnp.any(inside[:, 0, :, None] & inside[:, 1, None, :], axis=0)
    return jnp.where(hole[..., None], 0.0, image)
