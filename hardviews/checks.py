"""What comes in as pictures or labels, checked before anything compiles."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrl_runs.values import Integer, shown

SMALLEST = 8  # pixels of a side
# Classifiers have an output per class; and what is larger is no number of a class.
_LARGEST_LABEL = 2**20 - 1
_CLASSES = Integer(at_most=_LARGEST_LABEL + 1)


def check_labels(
    name: str, labels: Any, number: int, num_classes: int | None = None
) -> np.ndarray:
    """Checks numbers of classes.

    Args:
        name: The argument's name, for messages.
        labels: Whole numbers from 0, `[N]`, as a list or an array.
        number: How many there have to be.
        num_classes: They have to be below it.

    Returns:
        int32 `[N]`.

    Raises:
        ValueError: They are of another shape or dtype, or out of range.
    """
    try:
        found = np.asarray(labels)
    except ValueError:  # a ragged list
        found = np.empty(0, object)
    if found.shape != (number,) or found.dtype.kind not in "iu":
        advice = ""
        if found.dtype.kind in "OSU" and found.shape == (number,):
            advice = "; number names by np.unique(names, return_inverse=True)[1]"
        elif found.shape == (number, 1):
            advice = "; take the only column, labels[:, 0]"
        elif found.ndim == 2 and len(found) == number:
            advice = "; of one-hot rows take labels.argmax(axis=1)"
        elif found.dtype.kind == "f" and found.shape == (number,):
            advice = "; whole ones become such by labels.astype(int)"
        raise ValueError(
            f"{name} must be one whole number per picture, {(number,)}, got "
            f"an array of shape {found.shape} and dtype {found.dtype}{advice}"
        )
    if number and found.min() < 0:
        raise ValueError(f"{name} must be at least 0, got {found.min()}")
    largest = _LARGEST_LABEL if num_classes is None else num_classes - 1
    if number and found.max() > largest:
        what = "" if num_classes is None else f", for num_classes is {num_classes}"
        raise ValueError(f"{name} must be at most {largest}{what}, got {found.max()}")
    return found.astype(np.int32)


def check_num_classes(name: str, num_classes: Any) -> None:
    """Checks a number of classes.

    Raises:
        ValueError: It is no integer of at least 1, or far too large.
    """
    _CLASSES.check(name, num_classes)


def check_images(name: str, images: Any, *, batched: bool = False) -> Any:
    """Checks one picture or an array of them.

    Args:
        name: The argument's name, for messages.
        images: uint8 or floating point, `[..., S, S, 3]`.
        batched: Whether there has to be just one axis in front.

    Returns:
        The array.

    Raises:
        ValueError: They are grey, not square, too small, out of range or of another
            dtype, or lists of several sizes; ranges are not looked at inside a jitted
            program.
    """
    images = _as_array(name, images)
    _check_layout(name, images, batched)
    if images.dtype == np.uint8:
        return images
    if not jnp.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"{name} must be uint8 in 0..255 or floating point in [0, 1], got an array "
            f"of dtype {images.dtype}{_integers(images)}"
        )
    if not isinstance(images, Tracer):
        _check_range(name, np.asarray(images))
    return images


def _integers(images: Any) -> str:
    """What to do with whole numbers of another dtype."""
    if isinstance(images, Tracer) or not jnp.issubdtype(images.dtype, np.integer):
        return ""
    low, high = np.asarray(images).min(), np.asarray(images).max()
    if low >= 0 and high <= 255:
        return "; its values fit: images.astype(np.uint8)"
    return f" and values from {low} to {high}"


def _check_layout(name: str, images: Any, batched: bool) -> None:
    shape: Any = tuple(images.shape)
    found = f"got an array of shape {shape} and dtype {images.dtype}"
    has_channel = len(shape) >= 3 and shape[-1] == 1
    is_plain = len(shape) >= 2 and shape[-1] == shape[-2] >= SMALLEST  # [N, S, S]
    channels_first = len(shape) >= 3 and shape[-3] == 3 and shape[-1] != 3
    if has_channel or (is_plain and not channels_first):
        channel = "" if has_channel else "[..., None]"
        raise ValueError(
            f"{name} must have three channels, {found}; make grey ones by "
            f"np.repeat(images{channel}, 3, axis=-1)"
        )
    if len(shape) < 3 + batched or shape[-1] != 3 or (batched and len(shape) != 4):
        axes = "[N, S, S, 3]" if batched else "[..., S, S, 3]"
        advice = ""
        if len(shape) >= 3 and shape[-1] == 4:
            advice = "; leave transparency out by images[..., :3]"
        elif channels_first:
            advice = "; move channels by np.moveaxis(images, -3, -1)"
        elif batched and len(shape) == 3:
            advice = "; one picture is an array of one by images[None]"
        raise ValueError(f"{name} must be {axes}, channels last, {found}{advice}")
    if shape[-2] != shape[-3] or shape[-2] < SMALLEST:
        raise ValueError(
            f"{name} must be square, with sides of at least {SMALLEST} pixels, {found}"
        )
    if 0 in shape:
        raise ValueError(f"{name} must hold one picture or more, got none")


def _as_array(name: str, images: Any) -> Any:
    """An array of numbers from what can be one."""
    if isinstance(images, np.ndarray | jax.Array):
        return images
    if hasattr(images, "images"):  # Pictures
        raise ValueError(
            f"{name} must be an array, got Pictures; write pictures.images"
        )
    try:
        found = np.asarray(images)
    except ValueError:  # a ragged list
        found = np.empty(0, object)
    if found.dtype.kind not in "biuf":
        what = shown(images)
        if isinstance(images, list | tuple):
            what = f"a {type(images).__name__} of {len(images)} of several shapes"
        raise ValueError(
            f"{name} must be an array of numbers, all pictures of one size, got {what}"
        )
    return found


def _check_range(name: str, images: np.ndarray) -> None:
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):  # NaN too
        raise ValueError(
            f"{name} must be in [0, 1] where they are floating point, got values from "
            f"{low:g} to {high:g}; divide by 255, or give uint8"
        )
