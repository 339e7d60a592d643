"""What pretraining leaves: a function from pictures to features, saved and loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct, traverse_util
from jax.core import Tracer

from hardviews.checks import check_images
from hardviews.networks import ResNet, ResNetConfig
from hardviews.pictures import as_float, standardise
from jaxrl_runs.run_folder import holds_run
from jaxrl_runs.values import MANY, PATH, Like, as_key, shown
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

    def __repr__(self) -> str:
        return f"Encoder({self.config})"

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


ENCODER = Like("an Encoder", kinds=(Encoder,))
_CONFIG = Like("a ResNetConfig", kinds=(ResNetConfig,))


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
        card: How and how well it was trained; what JSON can hold, and numbers and
            arrays of NumPy.

    Returns:
        The path written.

    Raises:
        TypeError: `encoder` is none, or `path` is no path.
        ValueError: The card is no dictionary, or holds what JSON cannot.
    """
    PATH.check("path", path)
    ENCODER.check("encoder", encoder)
    if not isinstance(card, dict | None):
        raise ValueError(f"card must be a dictionary or None, got {shown(card)}")
    metadata = {
        "format_version": FORMAT_VERSION,
        "network": dataclasses.asdict(encoder.config),
        "card": _plain(card or {}),
    }
    return write_weights(path, _arrays(encoder), metadata, compressed=True)


def _plain(value: Any) -> Any:
    """Numbers and arrays as JSON has them."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    is_array = isinstance(value, np.generic | np.ndarray | jax.Array)
    return np.asarray(value).tolist() if is_array else value


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
        FileNotFoundError: No such file, or a pretraining that has not ended.
        ValueError: It is damaged, foreign or of another format version.
    """
    path, metadata, arrays = _read(path)
    try:
        network: dict[str, Any] = dict(metadata["network"])
        network["blocks"] = tuple(network["blocks"])
        config = ResNetConfig(**network)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightFileError(f"{path}: not readable as {_WHAT} ({error})") from error
    shapes = jax.eval_shape(lambda: random_encoder(jax.random.key(0), config))
    check_arrays(path, arrays, _arrays(shapes))
    tree = traverse_util.unflatten_dict(
        {name: jnp.asarray(array) for name, array in arrays.items()}, sep="/"
    )
    return Encoder(config=config, **tree)


def _read(path: Any) -> tuple[Path, dict[str, Any], dict[str, np.ndarray]]:
    """The file, its metadata and arrays."""
    PATH.check("path", path)
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    folder, path = path, path / "encoder.npz" if path.is_dir() else path
    if not path.exists() and holds_run(folder):
        raise FileNotFoundError(
            f"{folder}: the pretraining has not ended, so there is no encoder yet; go "
            "on with pretrain(..., resume=True) (--resume)"
        )
    if not path.exists():
        raise FileNotFoundError(f"{folder}: holds no encoder.npz, as pretrain leaves")
    metadata, arrays = read_weights(path, what=_WHAT)
    if "format_version" not in metadata:
        found = ", ".join(sorted(arrays)[:4]) or "none"
        advice = ""
        if any(name.endswith("images") for name in arrays):
            advice = "; read_pictures reads pictures"
        raise WeightFileError(
            f"{path}: not readable as {_WHAT} (found the arrays {found}){advice}"
        )
    version = metadata["format_version"]
    if version != FORMAT_VERSION:
        raise WeightFileError(
            f"{path}: format version {version!r}, this version reads {FORMAT_VERSION}"
        )
    return path, metadata, arrays


def read_card(path: str | Path) -> dict[str, Any]:
    """What was written down about an encoder.

    Args:
        path: As of `load_encoder`.
    """
    _, metadata, _ = _read(path)
    return dict(metadata.get("card", {}))


def random_encoder(
    key: jax.Array | int,
    config: ResNetConfig,
    mean: Any = (0.5, 0.5, 0.5),
    std: Any = (0.25, 0.25, 0.25),
) -> Encoder:
    """An encoder before any training: what pretraining has to be better than.

    Args:
        key: A PRNG key, or a seed.
        config: Sizes of the network.
        mean: Of the pictures, `[3]`.
        std: The same, above 0.

    Raises:
        TypeError: `config` is no ResNetConfig.
        ValueError: The key is none, or moments are not one number per channel.
    """
    _CONFIG.check("config", config)
    key = as_key(key)
    for name, moment in (("mean", mean), ("std", std)):
        if isinstance(moment, Tracer):
            continue
        if np.shape(moment) != (3,) or not np.isfinite(moment).all():
            raise ValueError(
                f"{name} must be one number per channel, [3], got {shown(moment)}"
            )
        if name == "std" and not np.all(np.asarray(moment) > 0):
            raise ValueError(f"std must be above 0, got {shown(moment)}")
    variables = ResNet(config).init(key, jnp.zeros((2, 32, 32, 3)), False)
    return Encoder(
        params=variables["params"],
        stats=variables["batch_stats"],
        mean=jnp.asarray(mean, np.float32),
        std=jnp.asarray(std, np.float32),
        config=config,
    )
