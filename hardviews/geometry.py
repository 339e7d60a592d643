"""Where the pixels of a view come from: crops, flips, rotations and distortions.

Everything here makes or changes *coordinates*, float32 `[S, S, 2]`: for each pixel of a
view the row and column that it shows, in pixels, centres at whole numbers. Several
changes are composed and the picture is read once, by `sample`, so it is blurred once.
Strengths are traced; functions take one picture and are meant for `jax.vmap`.

What leaves the picture is mirrored at its border, as albumentations does by default.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrl_runs.values import as_key, shown


def coordinates(size: int) -> jax.Array:
    """Coordinates that change nothing, float32 `[size, size, 2]`."""
    line = jnp.arange(size, dtype=jnp.float32)
    return jnp.stack(jnp.meshgrid(line, line, indexing="ij"), axis=-1)


def sample(image: jax.Array, where: jax.Array) -> jax.Array:
    """Reads a picture between its pixels, bilinearly.

    Args:
        image: float32 `[H, W, C]`.
        where: Coordinates, `[S, S, 2]`; beyond the border, the border's pixel is read.

    Returns:
        float32 `[S, S, C]`.
    """
    height, width, channels = image.shape
    flat = image.reshape(-1, channels)
    last = jnp.array([height - 1, width - 1], jnp.float32)
    where = jnp.clip(where, 0.0, last)
    low = jnp.floor(where)
    part = (where - low)[..., None]
    row, column = low[..., 0].astype(jnp.int32), low[..., 1].astype(jnp.int32)
    below = jnp.minimum(row + 1, height - 1)
    right = jnp.minimum(column + 1, width - 1)

    def line(row):
        start = row * width
        left_part = flat[start + column] * (1 - part[..., 1, :])
        return left_part + flat[start + right] * part[..., 1, :]

    return line(row) * (1 - part[..., 0, :]) + line(below) * part[..., 0, :]


def mirror(where: jax.Array, size: int) -> jax.Array:
    """Brings coordinates into `[0, size - 1]` by mirroring at the border's pixels."""
    period = 2.0 * (size - 1)
    where = jnp.mod(where, period)
    return jnp.where(where > size - 1, period - where, where)


# --------------------------------------------------------------------------- crops


def check_scales(low: Any, high: Any) -> None:
    """Compares shares of the area while they are numbers.

    Raises:
        ValueError: The least is above the largest.
    """
    is_traced = isinstance(low, Tracer) or isinstance(high, Tracer)
    if not is_traced and np.any(np.asarray(low) > np.asarray(high)):
        raise ValueError(
            f"scale_low must be at most scale_high, {shown(high)}, got {shown(low)}"
        )


def random_box(
    key: jax.Array | int,
    size: int,
    scale_low: jax.Array | float = 0.2,
    scale_high: jax.Array | float = 1.0,
    max_ratio: jax.Array | float = 4 / 3,
) -> jax.Array:
    """Draws a crop as torchvision's RandomResizedCrop does.

    Ten boxes are drawn and the first one that fits is taken; if none does, the whole
    picture.

    Args:
        key: A PRNG key, or a seed.
        size: Side of the square picture.
        scale_low: Least share of the area.
        scale_high: Largest share of the area.
        max_ratio: Largest ratio of the sides; the smallest one is its inverse.

    Returns:
        Top, left, height and width in whole pixels, float32 `[4]`.

    Raises:
        ValueError: `scale_low` is above `scale_high`.
    """
    check_scales(scale_low, scale_high)
    draw = jax.random.uniform(
        as_key(key), (22,)
    )  # at once: each call compiles for itself
    area = (scale_low + (scale_high - scale_low) * draw[:10]) * size * size
    ratio = jnp.exp(jnp.log(max_ratio) * (2 * draw[10:20] - 1))
    width = jnp.round(jnp.sqrt(area * ratio))
    height = jnp.round(jnp.sqrt(area / ratio))
    fits = (width > 0) & (width <= size) & (height > 0) & (height <= size)
    first = jnp.argmax(fits)
    sides = jnp.stack([height[first], width[first]])
    sides = jnp.where(jnp.any(fits), sides, float(size))
    corner = jnp.minimum(jnp.floor(draw[20:] * (size - sides + 1)), size - sides)
    return jnp.concatenate([corner, sides])


def through_box(where: jax.Array, box: jax.Array) -> jax.Array:
    """From coordinates of a view to those of the picture that it was cropped from.

    Args:
        where: Coordinates in the view, `[S, S, 2]`.
        box: What `random_box` returns.

    Returns:
        Coordinates in the picture; a view's border shows the border of the box.
    """
    size = where.shape[0]
    corner, sides = box[:2], box[2:]
    inside = (where + 0.5) * sides / size - 0.5
    return corner + jnp.clip(inside, 0.0, sides - 1)


def overlap(first: jax.Array, second: jax.Array) -> jax.Array:
    """Intersection over union of two boxes `[..., 4]`, float32 `[...]` in [0, 1]."""
    low = jnp.maximum(first[..., :2], second[..., :2])
    ends = jnp.minimum(
        first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:]
    )
    both = jnp.prod(jnp.maximum(ends - low, 0.0), axis=-1)
    areas = jnp.prod(first[..., 2:], axis=-1) + jnp.prod(second[..., 2:], axis=-1)
    return both / (areas - both)


# -------------------------------------------------------------- rigid changes


def flip(where: jax.Array) -> jax.Array:
    """Left and right exchanged."""
    last = where.shape[1] - 1
    return where.at[..., 1].set(last - where[..., 1])


def affine(where: jax.Array, matrix: jax.Array, shift: jax.Array) -> jax.Array:
    """Turned, sheared or scaled about the centre, then shifted.

    Args:
        where: Coordinates `[S, S, 2]`.
        matrix: From view to picture, `[2, 2]`.
        shift: Added to the coordinates, in pixels, `[2]`.
    """
    center = (where.shape[0] - 1) / 2
    return (where - center) @ matrix.T + center + shift


def rotation(angle: jax.Array) -> jax.Array:
    """Matrix for `affine`; the picture turns anticlockwise by `angle` radians."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, sin]), jnp.stack([-sin, cos])])


def shift_scale_rotate(
    key: jax.Array | int,
    where: jax.Array,
    shift: jax.Array | float = 0.0625,
    scale: jax.Array | float = 0.1,
    angle: jax.Array | float = 45.0,
) -> jax.Array:
    """Shifted by up to a share of the side, scaled and turned by random amounts.

    Args:
        key: A PRNG key, or a seed.
        where: Coordinates `[S, S, 2]`.
        shift: Largest shift, as a share of the side.
        scale: Largest change of scale, as a share of it.
        angle: Largest rotation, in degrees.
    """
    size = where.shape[0]
    draw = jax.random.uniform(as_key(key), (4,), minval=-1.0)
    matrix = rotation(jnp.deg2rad(angle) * draw[0]) / (1 + scale * draw[1])
    moved = affine(where, matrix, shift * size * draw[2:])
    return mirror(moved, size)


# ---------------------------------------------------------- changes that are not


def elastic(
    key: jax.Array | int,
    where: jax.Array,
    alpha: jax.Array | float = 20.0,
    sigma: jax.Array | float = 4.0,
) -> jax.Array:
    """Every pixel displaced by smooth noise (Simard et al., 2003).

    Args:
        key: A PRNG key, or a seed.
        where: Coordinates `[S, S, 2]`.
        alpha: Factor of the displacement, in pixels, before smoothing.
        sigma: Of the Gaussian that smooths it, in pixels, above 0.
    """
    size = where.shape[0]
    line = jnp.arange(size, dtype=jnp.float32)
    kernel = jnp.exp(-0.5 * jnp.square((line[:, None] - line) / sigma))
    kernel = kernel / kernel.sum(axis=1, keepdims=True)
    noise = jax.random.uniform(as_key(key), (2, size, size), minval=-1.0)
    moves = jnp.moveaxis(kernel @ noise @ kernel.T, 0, -1)
    return mirror(where + alpha * moves, size)


def grid_distortion(
    key: jax.Array | int,
    where: jax.Array,
    limit: jax.Array | float = 0.3,
    num_cells: int = 5,
) -> jax.Array:
    """Rows and columns of a grid made wider or narrower.

    Args:
        key: A PRNG key, or a seed.
        where: Coordinates `[S, S, 2]`.
        limit: Largest change of a cell's side, as a share of it.
        num_cells: Cells along a side; it fixes shapes.
    """
    size = where.shape[0]
    spread = jax.random.uniform(as_key(key), (2, num_cells), minval=-1.0)
    widths = jnp.maximum(1 + limit * spread, 1e-3)
    widths = widths / widths.sum(axis=1, keepdims=True)
    knots = jnp.pad(jnp.cumsum(widths, axis=1), ((0, 0), (1, 0))) * (size - 1)
    even = jnp.linspace(0.0, size - 1, num_cells + 1)
    line = jnp.stack([where[..., axis] for axis in range(2)])
    bent = jax.vmap(lambda x, ends: jnp.interp(x, even, ends))(line, knots)
    return jnp.moveaxis(bent, 0, -1)


def optical_distortion(
    key: jax.Array | int,
    where: jax.Array,
    limit: jax.Array | float = 0.5,
    shift: jax.Array | float = 0.05,
) -> jax.Array:
    """A barrel or a pincushion: points move with the square of their distance.

    Args:
        key: A PRNG key, or a seed.
        where: Coordinates `[S, S, 2]`.
        limit: Largest distortion at half a side from the centre, as a share.
        shift: Largest shift of the lens's centre, as a share of the side.
    """
    size = where.shape[0]
    draw = jax.random.uniform(as_key(key), (3,), minval=-1.0)
    center = (size - 1) / 2 + shift * size * draw[1:]
    away = where - center
    distance = jnp.sum(jnp.square(away / (size / 2)), axis=-1, keepdims=True)
    return mirror(center + away * (1 + limit * draw[0] * distance), size)
