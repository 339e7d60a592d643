"""Training states as files: an agent in the middle of its training, with all it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_runs.values import PATH
from jaxrl_runs.weight_files import (
    WeightFileError,
    check_arrays,
    read_weights,
    write_weights,
)
from jaxrl_se.loop import STATE
from jaxrl_se.rounds import TrainState

_FORMAT_VERSION = 1


def save_state(path: str | Path, state: TrainState) -> Path:
    """Writes a training state: learner, optimiser, replay buffer, environments, keys.

    Args:
      path: The file, an npz archive.
      state: What `start` or `advance` gave.

    Returns:
      The path written.

    Raises:
      OSError: The disk is full, read-only, ...
    """
    PATH.check("path", path)
    STATE.check("state", state)
    arrays = {name: np.asarray(_raw(leaf)) for name, leaf in _named(state).items()}
    metadata = {
        "format_version": _FORMAT_VERSION,
        "num_steps": state.num_steps,
        "chunk": state.chunk,
        "spaces": repr(state.spaces),
    }
    return write_weights(path, arrays, metadata)


def load_state(path: str | Path, like: TrainState) -> TrainState:
    """Reads a training state.

    Args:
      path: The file that `save_state` wrote.
      like: A state of the same agent in the same environment, as `start` gives it; its
        arrays are replaced. Nothing in the file is executed.

    Returns:
      The state, from which `advance` goes on to the same bits.

    Raises:
      FileNotFoundError: No such file.
      WeightFileError: It is damaged, or of another agent, environment or budget.
    """
    PATH.check("path", path)
    STATE.check("like", like)
    metadata, arrays = read_weights(
        path, what="a training state", format_version=_FORMAT_VERSION
    )
    for name in ("num_steps", "chunk", "spaces"):
        wanted = getattr(like, name)
        wanted = repr(wanted) if name == "spaces" else wanted
        if metadata.get(name) != wanted:
            raise WeightFileError(
                f"{path}: {name} must be {wanted}, got {metadata.get(name)}"
            )
    expected = {name: _raw(leaf) for name, leaf in _named(like).items()}
    check_arrays(path, arrays, expected, finite=False)
    leaves = []
    for name, leaf in _named(like).items():
        found = jnp.asarray(arrays[name], expected[name].dtype)
        if _is_key(leaf):
            found = jax.random.wrap_key_data(found, impl=jax.random.key_impl(leaf))
        leaves.append(found)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(state: TrainState) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): jnp.asarray(leaf) for path, leaf in leaves}


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf
