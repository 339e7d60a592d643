"""Augmentations as objects: strengths are leaves, a call makes one view of a picture.

    view, box = CropAndJitter()(key, image, size)

An augmentation is a pytree, so one compiled program takes any strengths and `jax.vmap`
gives a population of them. `key` is one PRNG key or a seed, `image` one picture
`[S, S, 3]`, uint8 or floating point in [0, 1], `size` the view's side, 8 to 1024; the
view is float32 `[size, size, 3]` in [0, 1], and `box` the crop that it shows, float32
`[4]`: top, left, height and width. `jax.vmap` takes a batch. Strengths are compared
with their ranges when a view is made or a `PretrainConfig` is.

To write one of your own, write a `flax.struct` dataclass with such a `__call__`; it is
given float32. Without a crop, its box is the whole picture, `[0, 0, S, S]`.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hardviews import color, geometry, quality
from hardviews.checks import SMALLEST, check_images
from hardviews.pictures import as_float
from jaxrl_runs import values
from jaxrl_runs.values import (
    FRACTION,
    NOT_NEGATIVE,
    Integer,
    Like,
    Number,
    as_key,
    static,
    traced,
)

VIEW_SIZE = Integer(at_least=SMALLEST, at_most=1024)
_SCALE = Number(above=0.0, at_most=1.0)
# A pytree: functions have no `replace`, and are no arguments of jitted ones.
AUGMENTATION = Like(
    "an augmentation, such as CropAndJitter() or a flax.struct dataclass of your own",
    methods=("__call__", "replace"),
)


@runtime_checkable
class Augmentation(Protocol):
    """What makes views; see this module's beginning."""

    def __call__(self, key: jax.Array, image: Any, size: int) -> tuple[Any, Any]:
        """Makes one view and tells its box."""
        ...


def check_strengths(augmentation: Any) -> None:
    """Compares strengths with their ranges, and those of a pair with each other.

    Raises:
        ValueError: One is out of its range; the message names it.
    """
    values.check(augmentation)
    low, high = (getattr(augmentation, f"scale_{end}", None) for end in ("low", "high"))
    if low is not None and high is not None:
        geometry.check_scales(low, high)


def check_call(augmentation: Any, key: Any, image: Any, size: Any):
    """Checks what an augmentation of this package is called with.

    Returns:
        The key, and the picture as float32 `[S, S, 3]`.

    Raises:
        ValueError: The key is none, the picture is grey or a batch, the size is no
            integer from 8 to 1024, or a strength is out of its range.
    """
    check_strengths(augmentation)
    key = as_key(key)
    VIEW_SIZE.check("size", size)
    image = check_images("image", image)
    if image.ndim != 3:
        raise ValueError(
            f"image must be one picture [S, S, 3], got an array of shape "
            f"{tuple(image.shape)}; jax.vmap takes a batch, with a key for each"
        )
    return key, as_float(image)


def make_view(augmentation: Augmentation, key: Any, image: Any, size: int):
    """Calls any augmentation, and checks what it returns.

    Args:
        augmentation: The augmentation.
        key: A PRNG key.
        image: float32 `[S, S, 3]`.
        size: The view's side.

    Returns:
        View, float32 `[size, size, 3]`, and box, float32 `[4]`.

    Raises:
        ValueError: It returns something else.
    """
    found: Any = augmentation(key, image, size)
    name = type(augmentation).__name__
    what = f"{name} must return a view [{size}, {size}, 3] and its box [4]"
    if not isinstance(found, tuple | list) or len(found) != 2:
        got = f"{len(found)} values" if isinstance(found, tuple | list) else "one value"
        raise ValueError(
            f"{what}, got {got}; without a crop the box is the whole picture, "
            "jnp.array([0, 0, S, S])"
        )
    for part, wanted in zip(found, ((size, size, 3), (4,)), strict=True):
        if not hasattr(part, "dtype") or part.shape != wanted:
            raise ValueError(
                f"{what}, got one of shape {np.shape(part)} for {wanted}; the view's "
                "side is `size`, PretrainConfig.view_size"
            )
    view, box = found
    if not jnp.issubdtype(view.dtype, jnp.floating):
        raise ValueError(f"{what}, floating point in [0, 1], got {view.dtype}")
    return view.astype(jnp.float32), box.astype(jnp.float32)


@struct.dataclass
class Crop:
    """A random resized crop and nothing else.

    Attributes:
        scale_low: Least share of the picture's area.
        scale_high: Largest share of it.
    """

    scale_low: jax.Array | float = traced(0.2, _SCALE)
    scale_high: jax.Array | float = traced(1.0, _SCALE)

    def __call__(self, key: Any, image: Any, size: int):
        """Makes one view; see this module's beginning."""
        key, image = check_call(self, key, image, size)
        box = geometry.random_box(key, image.shape[0], self.scale_low, self.scale_high)
        where = geometry.through_box(geometry.coordinates(size), box)
        return geometry.sample(image, where), box


@struct.dataclass
class CropAndJitter:
    """The views of SimSiam and its kin on small pictures (Chen and He, 2021).

    A random resized crop, mirrored with `flip`, colours jittered with `jitter`, made
    grey with `grey`, blurred with `blur`, solarised with `solarise`.

    Attributes:
        scale_low: Least share of the picture's area.
        scale_high: Largest share of it.
        flip: Probability.
        jitter: Probability of the four changes of colour together.
        brightness: Strength, as of `color.color_jitter`.
        contrast: The same.
        saturation: The same.
        hue: The same, as a share of the circle.
        grey: Probability.
        blur: Probability; its sigma is uniform in [0.1, 2] pixels.
        solarise: Probability.
    """

    scale_low: jax.Array | float = traced(0.2, _SCALE)
    scale_high: jax.Array | float = traced(1.0, _SCALE)
    flip: jax.Array | float = traced(0.5, FRACTION)
    jitter: jax.Array | float = traced(0.8, FRACTION)
    brightness: jax.Array | float = traced(0.4, NOT_NEGATIVE)
    contrast: jax.Array | float = traced(0.4, NOT_NEGATIVE)
    saturation: jax.Array | float = traced(0.4, NOT_NEGATIVE)
    hue: jax.Array | float = traced(0.1, Number(at_least=0.0, at_most=0.5))
    grey: jax.Array | float = traced(0.2, FRACTION)
    blur: jax.Array | float = traced(0.0, FRACTION)
    solarise: jax.Array | float = traced(0.0, FRACTION)

    def __call__(self, key: Any, image: Any, size: int):
        """Makes one view; see this module's beginning."""
        key, image = check_call(self, key, image, size)
        keys = jax.random.split(key, 4)
        draw = jax.random.uniform(keys[0], (6,))
        box = geometry.random_box(
            keys[1], image.shape[0], self.scale_low, self.scale_high
        )
        where = geometry.coordinates(size)
        where = jnp.where(draw[0] < self.flip, geometry.flip(where), where)
        view = geometry.sample(image, geometry.through_box(where, box))
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        jittered = color.color_jitter(keys[2], view, *strengths)
        view = jnp.where(draw[1] < self.jitter, jittered, view)
        view = jnp.where(draw[2] < self.grey, color.grey(view), view)
        sigma = 0.1 + 1.9 * draw[5]
        blurred = quality.gaussian_blur(view, sigma)
        view = jnp.where(draw[3] < self.blur, blurred, view)
        view = jnp.where(draw[4] < self.solarise, color.solarise(view), view)
        return view, box


# ------------------------------------------------- one strength for all operations

_NUM_AFFINE = 5  # of the operations below
OPERATIONS = (
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "identity",
    "autocontrast",
    "equalise",
    "solarise",
    "posterise",
    "brightness",
    "contrast",
    "saturation",
    "sharpness",
)
_WIDE = (135.0, 0.99, 0.99, 1.0, 1.0)  # largest strengths of TrivialAugment
_USUAL = (30.0, 0.3, 0.3, 0.45, 0.45)  # of RandAugment


def apply_operation(
    view: jax.Array,
    operation: jax.Array | int,
    strength: jax.Array | float,
    ranges: tuple[float, ...] = _WIDE,
    factor: float = 0.99,
    min_bits: float = 2.0,
) -> jax.Array:
    """One of `OPERATIONS`.

    Args:
        view: float32 `[S, S, 3]` in [0, 1].
        operation: Its place in `OPERATIONS`.
        strength: In [-1, 1]; where it has no direction, its size counts.
        ranges: The first five operations at strength 1: degrees, tangents, shares of
            the side.
        factor: How far blends go at strength 1: their factor is 1 + factor * strength.
        min_bits: Bits that `posterise` keeps at strength 1.
    """
    size = view.shape[0]
    amount = strength * jnp.asarray(ranges)
    angle = jnp.where(operation == 0, jnp.deg2rad(amount[0]), 0.0)
    along_x = jnp.where(operation == 1, amount[1], 0.0)
    along_y = jnp.where(operation == 2, amount[2], 0.0)
    shear = jnp.stack([jnp.stack([1.0, along_y]), jnp.stack([along_x, 1.0])])
    shift = jnp.where(jnp.arange(3, 5) == operation, amount[3:], 0.0)[::-1] * size
    where = geometry.coordinates(size)
    moved = geometry.affine(where, geometry.rotation(angle) @ shear, shift)
    rounded = jnp.round(moved)
    inside = jnp.all((rounded >= 0) & (rounded <= size - 1), axis=-1, keepdims=True)
    placed = jnp.where(inside, geometry.sample(view, moved), 0.0)
    size_of = jnp.abs(strength)
    blend = 1 + factor * strength
    changed = (
        view,
        color.autocontrast(view),
        color.equalise(view),
        color.solarise(view, 1 - size_of),
        color.posterise(view, 8 - (8 - min_bits) * size_of),
        color.adjust_brightness(view, blend),
        color.adjust_contrast(view, blend),
        color.adjust_saturation(view, blend),
        quality.sharpen(view, blend),
    )
    result = placed
    for index, other in enumerate(changed):
        result = jnp.where(operation == _NUM_AFFINE + index, other, result)
    return result


def _cropped(keys: jax.Array, image: jax.Array, size: int):
    """A random resized crop, mirrored every other time."""
    box = geometry.random_box(keys[0], image.shape[0])
    where = geometry.coordinates(size)
    where = jnp.where(jax.random.bernoulli(keys[1]), geometry.flip(where), where)
    return geometry.sample(image, geometry.through_box(where, box)), box


@struct.dataclass
class TrivialAugment:
    """A crop, a flip, and one operation of random strength (Müller and Hutter, 2021).

    Attributes:
        strength: Largest strength; 1 is the published wide space.
    """

    strength: jax.Array | float = traced(1.0, FRACTION)

    def __call__(self, key: Any, image: Any, size: int):
        """Makes one view; see this module's beginning."""
        key, image = check_call(self, key, image, size)
        *keys, operation_key, strength_key = jax.random.split(key, 4)
        view, box = _cropped(jnp.stack(keys), image, size)
        operation = jax.random.randint(operation_key, (), 0, len(OPERATIONS))
        strength = jax.random.uniform(strength_key, minval=-1.0) * self.strength
        return apply_operation(view, operation, strength), box


@struct.dataclass
class RandAugment:
    """A crop, a flip, and several operations of one strength (Cubuk et al., 2020).

    Attributes:
        magnitude: Strength of all of them, of 30.
        num_operations: How many.
    """

    magnitude: jax.Array | float = traced(9.0, Number(at_least=0.0, at_most=30.0))
    num_operations: int = static(2, Integer(at_most=8))

    def __call__(self, key: Any, image: Any, size: int):
        """Makes one view; see this module's beginning."""
        key, image = check_call(self, key, image, size)
        *keys, operation_key, sign_key = jax.random.split(key, 4)
        view, box = _cropped(jnp.stack(keys), image, size)
        number = (self.num_operations,)
        operations = jax.random.randint(operation_key, number, 0, len(OPERATIONS))
        signs = jax.random.rademacher(sign_key, number, jnp.float32)
        for operation, sign in zip(operations, signs, strict=True):
            strength = sign * self.magnitude / 30
            view = apply_operation(view, operation, strength, _USUAL, 0.9, 4.0)
        return view, box
