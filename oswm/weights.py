"""Weights on disk: arrays in an npz file, sizes and card in json, nothing pickled."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util

from oswm.model import TransformerModel
from oswm.network import NetworkConfig

FORMAT_VERSION = 3
PRETRAINED = Path(__file__).parent / "pretrained"


def save_model(
    folder: str | Path, weights: Any, config: NetworkConfig, card: dict
) -> None:
    """Write `weights.npz` (float16) and `card.json`.

    Args:
        folder: Made if it is missing.
        weights: Of the network.
        config: Its sizes.
        card: On what, how long and how well it was trained; JSON-serialisable.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    flat = traverse_util.flatten_dict(weights, sep="/")
    arrays: dict[str, Any] = {k: np.asarray(v, np.float16) for k, v in flat.items()}
    np.savez_compressed(folder / "weights.npz", **arrays)
    content = {
        "format_version": FORMAT_VERSION,
        "network": dataclasses.asdict(dataclasses.replace(config, dtype="float32")),
        "card": card,
    }
    (folder / "card.json").write_text(json.dumps(content, indent=2) + "\n")


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
    folder = PRETRAINED if folder is None else Path(folder)
    for name in ("card.json", "weights.npz"):
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{folder}: no {name} there; train a model with "
                "`python -m oswm.train --out DIR`"
            )
    content = read_card(folder)
    try:
        config = NetworkConfig(**content["network"])
        with np.load(folder / "weights.npz", allow_pickle=False) as file:
            flat = {name: np.asarray(file[name], np.float32) for name in file}
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{folder}: not a readable model ({error})") from error
    weights = traverse_util.unflatten_dict(flat, sep="/")
    _check_shapes(folder, weights, config)
    return TransformerModel(weights, config, **settings)


def read_card(folder: str | Path | None = None) -> dict[str, Any]:
    """What `card.json` says.

    Raises:
        ValueError: If it is damaged or of another format version.
    """
    path = (PRETRAINED if folder is None else Path(folder)) / "card.json"
    try:
        content = json.loads(path.read_text())
        version = content["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a model's card ({error!r})") from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format version {version!r}, this version of oswm reads "
            f"{FORMAT_VERSION}; train again with `python -m oswm.train`"
        )
    return content


def _check_shapes(folder: Path, weights: Any, config: NetworkConfig) -> None:
    import jax

    from oswm.network import init_weights

    wanted = jax.eval_shape(lambda: init_weights(jax.random.key(0), config))
    found_flat: Any = traverse_util.flatten_dict(weights, sep="/")
    wanted_flat: Any = traverse_util.flatten_dict(wanted, sep="/")
    for name in sorted(found_flat.keys() | wanted_flat.keys()):
        found, expected = found_flat.get(name), wanted_flat.get(name)
        if found is None or expected is None or found.shape != expected.shape:
            raise ValueError(
                f"{folder / 'weights.npz'}: {name}: expected shape "
                f"{None if expected is None else expected.shape}, found "
                f"{None if found is None else found.shape}"
            )
