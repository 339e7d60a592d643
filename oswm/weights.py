"""Models on disk: one npz file with the network's arrays, sizes and card in it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from jaxrl_runs.weight_files import (
    WeightFileError,
    check_arrays,
    read_weights,
    write_weights,
)
from oswm.model import TransformerModel
from oswm.network import NetworkConfig, init_weights

FORMAT_VERSION = 4
PRETRAINED = Path(__file__).parent / "pretrained"
_WHAT = "a world model"


def save_model(
    folder: str | Path, weights: Any, config: NetworkConfig, card: dict
) -> Path:
    """Write `weights.npz` (float16, with sizes and card in its metadata).

    Args:
        folder: Made if it is missing.
        weights: Of the network.
        config: Its sizes.
        card: On what, how long and how well it was trained; JSON-serialisable.

    Returns:
        The path of the file.
    """
    flat = traverse_util.flatten_dict(weights, sep="/")
    arrays: dict[str, Any] = {k: np.asarray(v, np.float16) for k, v in flat.items()}
    metadata = {
        "format_version": FORMAT_VERSION,
        "network": dataclasses.asdict(dataclasses.replace(config, dtype="float32")),
        "card": card,
    }
    path = Path(folder) / "weights.npz"
    return write_weights(path, arrays, metadata, compressed=True)


def load_model(folder: str | Path | None = None, **settings: Any) -> TransformerModel:
    """Read a trained model.

    Args:
        folder: What `save_model` or `python -m oswm.train` wrote; by default the model
            that ships with the package.
        **settings: Passed to `TransformerModel`, such as `num_folds`.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If the files are damaged or of another format version.
    """
    path, metadata, arrays = _read(folder)
    try:
        config = NetworkConfig(**metadata["network"])
    except (KeyError, TypeError) as error:
        raise WeightFileError(f"{path}: not readable as {_WHAT} ({error})") from error
    wanted = jax.eval_shape(lambda: init_weights(jax.random.key(0), config))
    check_arrays(path, arrays, traverse_util.flatten_dict(wanted, sep="/"))
    arrays = {name: np.asarray(x, np.float32) for name, x in arrays.items()}
    weights = traverse_util.unflatten_dict(arrays, sep="/")
    return TransformerModel(weights, config, **settings)


def read_card(folder: str | Path | None = None) -> dict[str, Any]:
    """What a model's file says about it: `format_version`, `network` and `card`.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If it is damaged or of another format version.
    """
    return _read(folder)[1]


def _read(folder: str | Path | None) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    folder = PRETRAINED if folder is None else Path(folder)
    path = folder / "weights.npz"
    if not path.exists():
        raise FileNotFoundError(
            f"{folder}: no weights.npz there; train a model with "
            "`python -m oswm.train --out DIR`"
        )
    metadata, arrays = read_weights(path, what=_WHAT)
    if not metadata:  # Written before the description moved into the file.
        metadata = _read_separate_card(folder / "card.json")
    found = metadata.get("format_version")
    if found != FORMAT_VERSION:
        raise WeightFileError(
            f"{path}: format version {found!r}, this version reads {FORMAT_VERSION}; "
            "train again with `python -m oswm.train`"
        )
    return path, metadata, arrays


def _read_separate_card(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"{path.parent}: no card.json beside weights.npz")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise WeightFileError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise WeightFileError(f"{path}: not a JSON object")
    return content
