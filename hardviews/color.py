"""What changes colours: one picture, float32 `[H, W, 3]` in [0, 1], strengths traced.

The meaning of each function is PIL's (which torchvision follows), without the rounding
to 256 levels: tests compare them. dm-pix was looked at and has other meanings: there,
brightness is added, contrast is taken about each channel's mean, and saturation is that
of HSV; augmax fixes strengths when a chain is built, so they cannot be searched in one
program.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl_runs.values import as_key

_LEVELS = 256
_GREY = (0.299, 0.587, 0.114)  # ITU-R 601, as PIL's conversion to "L"


def ranks(draw: jax.Array) -> jax.Array:
    """How many numbers are smaller, int32 `[N]`: a random order of N, if they are.

    Few lines of machine code, where a permutation sorts in several rounds.
    """
    return jnp.sum(draw[:, None] > draw, axis=1, dtype=jnp.int32)


def grey(image: jax.Array) -> jax.Array:
    """The picture without colours, `[H, W, 3]`, channels alike."""
    level = image @ jnp.asarray(_GREY, image.dtype)
    return jnp.broadcast_to(level[..., None], image.shape)


def adjust_brightness(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blended with black: 0 is black, 1 the picture."""
    return jnp.clip(image * factor, 0.0, 1.0)


def adjust_contrast(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blended with the mean of its grey levels: 0 is grey, 1 the picture."""
    return _blend(image, jnp.mean(grey(image)), factor)


def adjust_saturation(image: jax.Array, factor: jax.Array | float) -> jax.Array:
    """Blended with its grey picture: 0 has no colours, 1 is the picture."""
    return _blend(image, grey(image), factor)


def _blend(image, other, factor) -> jax.Array:
    return jnp.clip(other + factor * (image - other), 0.0, 1.0)


def adjust_hue(image: jax.Array, shift: jax.Array | float) -> jax.Array:
    """Hues turned by `shift` of the circle, -0.5 to 0.5; value and saturation stay.

    With value v, chroma c and hue h in sixths of the circle, each channel is
    `v - c * max(0, min(k, 4 - k, 1))`, where k is h plus 5, 3 or 1, modulo 6.
    """
    value = jnp.max(image, axis=-1)
    chroma = value - jnp.min(image, axis=-1)
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    safe = jnp.where(chroma > 0, chroma, 1.0)
    hue = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue + 6 * shift
    place = jnp.mod(hue[..., None] + jnp.array([5.0, 3.0, 1.0]), 6.0)
    part = jnp.clip(jnp.minimum(place, 4 - place), 0.0, 1.0)
    return value[..., None] - chroma[..., None] * part


def color_jitter(
    key: jax.Array | int,
    image: jax.Array,
    brightness: jax.Array | float = 0.4,
    contrast: jax.Array | float = 0.4,
    saturation: jax.Array | float = 0.4,
    hue: jax.Array | float = 0.1,
) -> jax.Array:
    """Brightness, contrast, saturation and hue changed, in random order.

    Source: torchvision's ColorJitter: factors are uniform in [max(0, 1 - s), 1 + s],
    the shift of the hue in [-hue, hue].
    """
    draw = jax.random.uniform(as_key(key), (8,))
    order = ranks(draw[4:])
    strength = jnp.stack([jnp.asarray(s) for s in (brightness, contrast, saturation)])
    low = jnp.maximum(0.0, 1 - strength)
    factor = low + (1 + strength - low) * draw[:3]
    shift = hue * (2 * draw[3] - 1)

    def apply(image, operation):
        # The first three are blends, with black, with a mean and with grey.
        level = grey(image)
        other = jnp.where(operation == 1, jnp.mean(level), level)
        other = jnp.where(operation == 0, 0.0, other)
        blended = _blend(image, other, factor[jnp.minimum(operation, 2)])
        return jnp.where(operation == 3, adjust_hue(image, shift), blended)

    for index in range(4):
        image = apply(image, order[index])
    return image


def solarise(image: jax.Array, threshold: jax.Array | float = 0.5) -> jax.Array:
    """Values of at least `threshold` are inverted."""
    return jnp.where(image >= threshold, 1 - image, image)


def posterise(image: jax.Array, bits: jax.Array | float) -> jax.Array:
    """Only the first `bits` of each value's eight stay."""
    step = jnp.exp2(8 - jnp.round(bits))
    return jnp.floor(_levels(image) / step) * step / (_LEVELS - 1)


def _levels(image: jax.Array) -> jax.Array:
    return jnp.round(image * (_LEVELS - 1))


def equalise(image: jax.Array) -> jax.Array:
    """Each channel's histogram made flat.

    Source: PIL's ImageOps.equalize: the table is (step / 2 + values below) / step in
    whole numbers, with step the number of pixels without the last level's over 255.
    """
    levels = _levels(image).astype(jnp.int32)
    return jax.vmap(_equalise_channel, in_axes=-1, out_axes=-1)(levels)


def _equalise_channel(levels: jax.Array) -> jax.Array:
    counts = jnp.zeros(_LEVELS, jnp.int32).at[levels.reshape(-1)].add(1)
    below = jnp.cumsum(counts) - counts
    step = (jnp.sum(counts) - counts[jnp.max(levels)]) // (_LEVELS - 1)
    table = jnp.clip((step // 2 + below) // jnp.maximum(step, 1), 0, _LEVELS - 1)
    table = jnp.where(step == 0, jnp.arange(_LEVELS), table)
    return table[levels] / jnp.float32(_LEVELS - 1)


def autocontrast(image: jax.Array) -> jax.Array:
    """Each channel stretched to the whole range."""
    low = jnp.min(image, axis=(0, 1), keepdims=True)
    width = jnp.max(image, axis=(0, 1), keepdims=True) - low
    stretched = (image - low) / jnp.where(width > 0, width, 1.0)
    return jnp.where(width > 0, stretched, image)


def shuffle_channels(key: jax.Array | int, image: jax.Array) -> jax.Array:
    """Red, green and blue in random order."""
    return image[..., ranks(jax.random.uniform(as_key(key), (3,)))]
