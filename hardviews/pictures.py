"""Pictures on the device, checked where they come in.

A picture is uint8 `[S, S, 3]` in 0..255, or floating point in [0, 1]; arrays of them
have an axis in front.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer

from jaxrl_runs.weight_files import read_weights

_SMALLEST = 8
_CIFAR10_ROW = 1 + 3 * 32 * 32


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
            rows: Indices or a mask, `[M]`.
        """
        rows = np.asarray(rows)
        labels = None if self.labels is None else self.labels[rows]
        return self.replace(images=self.images[rows], labels=labels)  # type: ignore[attr-defined]


def make_pictures(images: Any, labels: Any = None) -> Pictures:
    """Checks pictures and puts them on the device.

    Args:
        images: uint8 `[N, S, S, 3]`, or floating point in [0, 1], which is rounded to
            256 levels.
        labels: Whole numbers of at least 0, `[N]`, or None.

    Raises:
        ValueError: They are grey, not square, too small, out of range or of another
            dtype; or the labels do not fit them.
    """
    images = as_uint8(check_images("images", images, batched=True))
    if labels is not None:
        labels = np.asarray(labels)
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels must be one whole number per picture, {(len(images),)}, got "
                f"an array of shape {labels.shape} and dtype {labels.dtype}"
            )
        if labels.min() < 0:
            raise ValueError(f"labels must be at least 0, got {labels.min()}")
        labels = jnp.asarray(labels, jnp.int32)
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


def read_pictures(path: str | Path) -> tuple[Pictures, Pictures]:
    """Reads training and test pictures.

    Args:
        path: An npz file, or a folder with one npz file in it, with the arrays
            `train_images`, `test_images` and, where there are labels, `train_labels`,
            `test_labels`; or the folder of CIFAR-10's binary version, with
            `data_batch_1.bin` and so on.

    Returns:
        Training and test pictures; both are standardised by the training pictures.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, foreign, or holds no such pictures.
    """
    path = Path(path)
    if path.is_dir() and any(path.glob("data_batch_*.bin")):
        arrays = _read_cifar10(path)
    else:
        path = _only_npz(path)
        arrays = read_weights(path, what="pictures")[1]
    missing = sorted({"train_images", "test_images"} - arrays.keys())
    if missing:
        raise ValueError(f"{path}: {', '.join(missing)} is missing")
    try:
        train, test = (
            make_pictures(arrays[f"{part}_images"], arrays.get(f"{part}_labels"))
            for part in ("train", "test")
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return train, test.replace(mean=train.mean, std=train.std)  # type: ignore[attr-defined]


def _only_npz(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.npz"))
    if len(found) != 1:
        raise FileNotFoundError(
            f"{path}: expected one npz file with pictures, or CIFAR-10's "
            f"data_batch_*.bin, found {len(found)} npz files"
        )
    return found[0]


def _read_cifar10(folder: Path) -> dict[str, np.ndarray]:
    """CIFAR-10's binary version: rows of a label and 3 x 32 x 32 values."""
    arrays: dict[str, np.ndarray] = {}
    for part, pattern in (("train", "data_batch_*.bin"), ("test", "test_batch.bin")):
        paths = sorted(folder.glob(pattern))
        if not paths:
            continue
        rows = np.concatenate([_read_rows(path) for path in paths])
        arrays[f"{part}_labels"] = rows[:, 0]
        images = rows[:, 1:].reshape(-1, 3, 32, 32)
        arrays[f"{part}_images"] = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return arrays


def _read_rows(path: Path) -> np.ndarray:
    content = np.frombuffer(path.read_bytes(), np.uint8)
    if content.size == 0 or content.size % _CIFAR10_ROW:
        raise ValueError(
            f"{path}: must hold rows of {_CIFAR10_ROW} bytes, got {content.size} bytes"
        )
    return content.reshape(-1, _CIFAR10_ROW)


def need_labels(pictures: Pictures, name: str = "pictures") -> jax.Array:
    """The labels.

    Raises:
        ValueError: There are none.
    """
    if pictures.labels is None:
        raise ValueError(f"{name} must have labels, got pictures without")
    return pictures.labels


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
            dtype; ranges are not looked at inside a jitted program.
    """
    if not isinstance(images, np.ndarray | jax.Array):
        images = np.asarray(images)
    shape: Any = tuple(images.shape)
    found = f"got an array of shape {shape} and dtype {images.dtype}"
    if batched and len(shape) == 3 and shape[1] == shape[2]:
        shape = (*shape, 1)  # [N, S, S]
    if len(shape) >= 3 and shape[-1] == 1:
        raise ValueError(
            f"{name} must have three channels, {found}; make grey ones by "
            "np.repeat(images[..., None], 3, axis=-1)"
        )
    if len(shape) < 3 + batched or shape[-1] != 3 or (batched and len(shape) != 4):
        axes = "[N, S, S, 3]" if batched else "[..., S, S, 3]"
        raise ValueError(f"{name} must be {axes}, channels last, {found}")
    if shape[-2] != shape[-3] or shape[-2] < _SMALLEST:
        raise ValueError(
            f"{name} must be square, with sides of at least {_SMALLEST} pixels, {found}"
        )
    if batched and shape[0] == 0:
        raise ValueError(f"{name} must hold one picture or more, got none")
    if images.dtype == np.uint8:
        return images
    if not jnp.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"{name} must be uint8 in 0..255 or floating point in [0, 1], {found}"
        )
    if not isinstance(images, Tracer):
        _check_range(name, np.asarray(images))
    return images


def _check_range(name: str, images: np.ndarray) -> None:
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):  # NaN too
        raise ValueError(
            f"{name} must be in [0, 1] where they are floating point, got values from "
            f"{low:g} to {high:g}; divide by 255, or give uint8"
        )


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
