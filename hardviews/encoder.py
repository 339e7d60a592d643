"""What pretraining leaves: a function from pictures to features, saved and loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct, traverse_util

from hardviews.networks import ResNet, ResNetConfig
from hardviews.pictures import as_float, check_images, standardise
from jaxrl_runs.values import MANY
from jaxrl_runs.weight_files import (
    WeightFileError,
    check_arrays,
    read_weights,
    write_weights,
)

FORMAT_VERSION = 1
_WHAT = "an encoder of pictures"


@struct.dataclass
class Encoder:
    """A network that reads pictures; a pytree that `jax.jit` and `jax.vmap` take.

    >>> encoder = hardviews.load_encoder("encoder.npz")  # doctest: +SKIP
    >>> encoder(images).shape  # [..., 32, 32, 3] in; doctest: +SKIP

    Attributes:
        params: Of the network.
        stats: Moving averages of its batch norm.
        mean: Of the pictures that it was trained on, float32 `[3]`.
        std: The same.
        config: Sizes of the network.
    """

    params: Any
    stats: Any
    mean: jax.Array
    std: jax.Array
    config: ResNetConfig = struct.field(pytree_node=False)

    @property
    def num_features(self) -> int:
        """How many features it gives."""
        return self.config.num_features

    def __call__(self, images: Any) -> jax.Array:
        """Features of pictures.

        Args:
            images: uint8, or floating point in [0, 1], `[..., S, S, 3]`; any side of
                at least 8 pixels.

        Returns:
            float32 `[..., num_features]`.

        Raises:
            ValueError: They are grey, not square, out of range or of another dtype.
        """
        images = check_images("images", images)
        batch = images.reshape(-1, *images.shape[-3:])
        features = _apply(self, jnp.asarray(batch))
        return features.reshape(*images.shape[:-3], self.num_features)

    def in_batches(self, images: Any, batch_size: int = 500) -> jax.Array:
        """As a call, without holding all layers of all pictures in memory.

        Args:
            images: As of a call, `[N, S, S, 3]`.
            batch_size: Pictures at a time.

        Returns:
            float32 `[N, num_features]`.
        """
        MANY.check("batch_size", batch_size)
        images = jnp.asarray(check_images("images", images, batched=True))
        size = min(batch_size, len(images))
        padding = -len(images) % size  # for one program
        padded = jnp.pad(images, ((0, padding), (0, 0), (0, 0), (0, 0)))
        # No loop inside a program: see `hardviews.training.steps_per_call`.
        parts = [_apply(self, part) for part in jnp.split(padded, len(padded) // size)]
        return jnp.concatenate(parts)[: len(images)]


@jax.jit
def _apply(encoder: Encoder, images: jax.Array) -> jax.Array:
    standard = standardise(as_float(images), encoder.mean, encoder.std)
    variables = {"params": encoder.params, "batch_stats": encoder.stats}
    features: Any = ResNet(encoder.config).apply(variables, standard, False)
    return features


def save_encoder(
    path: str | Path, encoder: Encoder, card: dict[str, Any] | None = None
) -> Path:
    """Writes an encoder as one npz file.

    Args:
        path: The file.
        encoder: The encoder.
        card: How and how well it was trained; what JSON can hold.

    Returns:
        The path written.
    """
    metadata = {
        "format_version": FORMAT_VERSION,
        "network": dataclasses.asdict(encoder.config),
        "card": card or {},
    }
    return write_weights(path, _arrays(encoder), metadata, compressed=True)


def _arrays(encoder: Encoder) -> dict[str, Any]:
    tree = {
        "params": encoder.params,
        "stats": encoder.stats,
        "mean": encoder.mean,
        "std": encoder.std,
    }
    return traverse_util.flatten_dict(tree, sep="/")


def load_encoder(path: str | Path) -> Encoder:
    """Reads an encoder.

    Args:
        path: A file that `save_encoder` wrote, or the folder of a pretraining.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is damaged, foreign or of another format version.
    """
    path = Path(path)
    path = path / "encoder.npz" if path.is_dir() else path
    metadata, arrays = read_weights(path, what=_WHAT, format_version=FORMAT_VERSION)
    try:
        network = dict(metadata["network"])
        config = ResNetConfig(**{**network, "blocks": tuple(network["blocks"])})
    except (KeyError, TypeError, ValueError) as error:
        raise WeightFileError(f"{path}: not readable as {_WHAT} ({error})") from error
    shapes = jax.eval_shape(lambda: random_encoder(jax.random.key(0), config))
    check_arrays(path, arrays, _arrays(shapes))
    tree = traverse_util.unflatten_dict(
        {name: jnp.asarray(array) for name, array in arrays.items()}, sep="/"
    )
    return Encoder(config=config, **tree)


def read_card(path: str | Path) -> dict[str, Any]:
    """What was written down about an encoder.

    Args:
        path: As of `load_encoder`.
    """
    path = Path(path)
    path = path / "encoder.npz" if path.is_dir() else path
    metadata, _ = read_weights(path, what=_WHAT, format_version=FORMAT_VERSION)
    return dict(metadata.get("card", {}))


def random_encoder(
    key: jax.Array,
    config: ResNetConfig,
    mean: Any = (0.5, 0.5, 0.5),
    std: Any = (0.25, 0.25, 0.25),
) -> Encoder:
    """An encoder before any training: what pretraining has to be better than.

    Args:
        key: A PRNG key.
        config: Sizes of the network.
        mean: Of the pictures, `[3]`.
        std: The same.
    """
    variables = ResNet(config).init(key, jnp.zeros((2, 32, 32, 3)), False)
    return Encoder(
        params=variables["params"],
        stats=variables["batch_stats"],
        mean=jnp.asarray(mean, np.float32),
        std=jnp.asarray(std, np.float32),
        config=config,
    )
