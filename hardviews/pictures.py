"""Pictures on the device, checked where they come in.

A picture is uint8 `[S, S, 3]` in 0..255, or floating point in [0, 1]; arrays of them
have an axis in front.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer

from hardviews.checks import check_images, check_labels
from jaxrl_runs.values import Like, shown


@struct.dataclass
class Pictures:
    """Pictures with what they show.

    Legend: `N` pictures of side `S`.

    Attributes:
        images: uint8 `[N, S, S, 3]`.
        labels: int32 `[N]`, or None: pretraining needs none.
        mean: Of each channel in [0, 1], float32 `[3]`.
        std: The same.
    """

    images: jax.Array
    labels: jax.Array | None
    mean: jax.Array
    std: jax.Array

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        shape = tuple(getattr(self.images, "shape", ()))
        labels = "without labels" if self.labels is None else "with labels"
        return f"Pictures(images {shape}, {labels})"

    @property
    def size(self) -> int:
        """Side of the pictures, in pixels."""
        return self.images.shape[1]

    @property
    def num_classes(self) -> int:
        """Number of classes.

        Raises:
            ValueError: There are no labels.
        """
        return int(np.max(need_labels(self))) + 1

    def take(self, rows: Any) -> Pictures:
        """Some of the pictures, standardised as before.

        Args:
            rows: Indices `[M]`, or a mask `[N]`.

        Raises:
            ValueError: They are none of these, choose nothing, or are out of range.
        """
        rows = _rows(rows, len(self))
        labels = None if self.labels is None else self.labels[rows]
        return self.replace(images=self.images[rows], labels=labels)  # type: ignore[attr-defined]


def _rows(rows: Any, number: int) -> np.ndarray:
    """Indices from indices or a mask; JAX would clip those that are out of range."""
    rows = np.asarray(rows)
    if rows.dtype == bool and rows.shape == (number,):
        rows = np.flatnonzero(rows)
    if rows.ndim != 1 or (len(rows) and rows.dtype.kind not in "iu"):
        raise ValueError(
            f"rows must be indices [M] or a mask of all {number} pictures, got "
            f"{shown(rows)}"
        )
    if not len(rows):
        raise ValueError("rows must choose one picture or more, got none")
    if rows.min() < -number or rows.max() >= number:
        raise ValueError(
            f"rows must be indices of {number} pictures, got {rows.min()} to "
            f"{rows.max()}"
        )
    return rows


def make_pictures(images: Any, labels: Any = None) -> Pictures:
    """Checks pictures and puts them on the device.

    Args:
        images: uint8 `[N, S, S, 3]`, or floating point in [0, 1], which is rounded to
            256 levels.
        labels: Numbers of classes, whole and from 0, `[N]`, or None.

    Raises:
        ValueError: They are grey, not square, too small, out of range or of another
            dtype; or the labels do not fit them.
    """
    images = as_uint8(check_images("images", images, batched=True))
    if labels is not None:
        labels = jnp.asarray(check_labels("labels", labels, len(images)))
    # In whole numbers: a float32 mean of ten million values loses digits.
    levels = images.reshape(-1, 3).astype(np.int64)
    mean = levels.mean(0) / 255
    std = np.sqrt(np.maximum(np.square(levels).mean(0) / 255**2 - mean**2, 1e-8))
    return Pictures(
        images=jnp.asarray(images),
        labels=labels,
        mean=jnp.asarray(mean, jnp.float32),
        std=jnp.asarray(std, jnp.float32),
    )


def need_labels(pictures: Pictures, name: str = "pictures") -> jax.Array:
    """The labels.

    Raises:
        ValueError: There are none, or they do not fit the pictures.
    """
    if pictures.labels is None:
        raise ValueError(f"{name} must have labels, got pictures without")
    if not isinstance(pictures.labels, Tracer):
        check_labels(f"{name}.labels", pictures.labels, len(pictures))
    return pictures.labels


_PICTURES = Like("Pictures, as make_pictures gives them", kinds=(Pictures,))


def _check_no_pair(name: str, pictures: Any) -> None:
    is_pair = isinstance(pictures, tuple | list)
    if is_pair and any(isinstance(part, Pictures) for part in pictures):
        raise TypeError(
            f"{name} must be Pictures, got a {type(pictures).__name__} of "
            f"{len(pictures)}; read_pictures gives two, training and test pictures: "
            "write train, test = read_pictures(...)"
        )


def check_pictures(name: str, pictures: Any) -> None:
    """Checks what a function was given as pictures.

    Raises:
        TypeError: It is an array, a pair of training and test pictures, ...
        ValueError: Its arrays do not fit together, as after `replace`.
    """
    _check_no_pair(name, pictures)
    _PICTURES.check(name, pictures)
    if isinstance(pictures.images, Tracer):
        return
    check_images(f"{name}.images", pictures.images, batched=True)
    if pictures.images.dtype != np.uint8:
        raise ValueError(
            f"{name}.images must be uint8, got {pictures.images.dtype}; make_pictures "
            "takes both"
        )
    for what in ("mean", "std"):
        shape = np.shape(getattr(pictures, what))
        if shape != (3,):
            raise ValueError(
                f"{name}.{what} must be one number per channel, [3], got shape {shape}"
            )
    if pictures.labels is not None:
        check_labels(f"{name}.labels", pictures.labels, len(pictures))


def as_uint8(images: Any) -> np.ndarray:
    """Pictures that were checked, in 256 levels."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    return np.round(images * 255).astype(np.uint8)


def as_float(images: Any) -> jax.Array:
    """Pictures that were checked, float32 in [0, 1]."""
    images = jnp.asarray(images)
    if images.dtype == jnp.uint8:
        return images.astype(jnp.float32) / 255
    return images.astype(jnp.float32)


def standardise(images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Channels of mean 0 and variance 1."""
    return (images - mean) / std
