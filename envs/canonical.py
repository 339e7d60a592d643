"""What loggers write, turned into the one form that all else reads.

Only what loses nothing is converted; everything else is refused by the name of the
field, the row and the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

FIELDS = ("obs", "action", "reward", "next_obs", "terminated", "truncated")
EPISODE = "episode"

_KINDS = {"obs": "fiub", "next_obs": "fiub", "action": "fiub", "reward": "fiub"}
_FLAGS = ("terminated", "truncated")
_FLOAT32_WHOLE = 2**24  # Up to here float32 holds every whole number.


def canonical(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Transitions` in their canonical form.

    Args:
        fields: By name, anything that NumPy reads as arrays; "episode" may be missing
            or None.

    Returns:
        The same names. A field that was canonical already is the very same object.

    Raises:
        ValueError: Names the field that does not fit, and what was expected.
    """
    arrays = {name: _array(name, fields[name]) for name in FIELDS}
    if fields.get(EPISODE) is not None:
        arrays[EPISODE] = _array(EPISODE, fields[EPISODE])
    if arrays["terminated"].ndim == 2 and arrays["terminated"].shape[1] > 1:
        arrays = _environment_by_environment(arrays)
    arrays = {name: _column(name, array) for name, array in arrays.items()}
    _check_rows(arrays)
    for name in _FLAGS:
        arrays[name] = _flags(name, arrays[name])
    for name, kinds in _KINDS.items():
        if arrays[name].dtype.kind not in kinds:
            raise ValueError(
                f"{name} must be of dtype float, int, unsigned int or bool, got "
                f"{arrays[name].dtype}"
            )
    arrays["reward"] = _floats(arrays["reward"])
    if arrays["action"].dtype.kind == "b":
        arrays["action"] = arrays["action"].astype(np.int32)
    dtype = np.result_type(arrays["obs"], arrays["next_obs"])
    for name in ("obs", "next_obs"):
        arrays[name] = arrays[name].astype(dtype, copy=False)
    for name in FIELDS:
        _check_finite(name, arrays[name])
    if EPISODE in arrays:
        arrays = _one_after_another(arrays)
    return {name: _as_it_was(fields[name], array) for name, array in arrays.items()}


def _array(name: str, value: Any) -> np.ndarray:
    if isinstance(value, Mapping):
        raise ValueError(
            f"{name} must be one array, got a mapping with "
            f"{', '.join(map(str, value))}; envs.read_transitions flattens it, given "
            "the observation_space"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name}: not readable as an array ({error})") from error
    if array.dtype.name == "bfloat16":  # of JAX, a kind of its own
        array = array.astype(np.float32)
    if array.dtype.hasobject and name != EPISODE:
        found = next(
            (x for x in array.flat if not isinstance(x, bool | int | float)), 0
        )
        if not isinstance(found, bool | int | float):
            raise ValueError(
                f"{name} must be numbers, got {type(found).__name__} ({found!r:.40})"
            )
        array = array.astype(np.float64)
    return array


def _environment_by_environment(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays [T, N, ...] of N environments in parallel, one environment after another.

    Each is a sequence of its own; the field "episode" says so.
    """
    shape = arrays["terminated"].shape
    for name, array in arrays.items():
        if array.shape[:2] != shape:
            raise ValueError(
                f"{name} must be of shape [{shape[0]}, {shape[1]}, ...] (steps, "
                f"environments) to go with terminated, got {array.shape}"
            )
    num_rows = shape[0] * shape[1]
    result = {
        name: np.swapaxes(array, 0, 1).reshape(num_rows, *array.shape[2:])
        for name, array in arrays.items()
    }
    which = np.repeat(np.arange(shape[1]), shape[0])
    if EPISODE in result:
        episode = np.unique(result[EPISODE], return_inverse=True)[1].reshape(-1)
        which = which * (episode.max() + 1) + episode
    return {**result, EPISODE: which}


def _column(name: str, array: np.ndarray) -> np.ndarray:
    """One number per row as [N], where a field can only be that."""
    is_integer_action = name == "action" and array.dtype.kind in "iub"
    if name in ("obs", "next_obs") or (name == "action" and not is_integer_action):
        return array
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    return array


def _check_rows(arrays: dict[str, np.ndarray]) -> None:
    obs = arrays["obs"]
    if obs.ndim == 0 or len(obs) == 0:
        raise ValueError(
            f"obs must be at least one row, got an array of shape {obs.shape}"
        )
    next_obs = arrays["next_obs"]
    if next_obs.shape == (*obs.shape, 1):
        arrays["next_obs"] = next_obs[..., 0]
    elif obs.shape == (*next_obs.shape, 1):
        arrays["next_obs"] = next_obs[..., None]
    num_rows = len(obs)
    expected = {name: (num_rows,) for name in arrays}
    expected |= {
        "obs": obs.shape,
        "next_obs": obs.shape,
        "action": (num_rows, *arrays["action"].shape[1:]),
    }
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(
                f"{name} must be of shape {shape} to go with obs of shape {obs.shape}, "
                f"got {arrays[name].shape}"
            )


def _flags(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be of dtype bool or 0 and 1, got {array.dtype}")
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{name} must be flags (bools, or 0 and 1), got {array[row]} in row {row}"
        )
    return array.astype(bool)


def _floats(reward: np.ndarray) -> np.ndarray:
    if reward.dtype.kind == "f":
        return reward
    is_exact = reward.dtype.kind == "b" or np.abs(reward).max() <= _FLOAT32_WHOLE
    return reward.astype(np.float32 if is_exact else np.float64)


def _check_finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{name} must be finite numbers, found NaN or infinity in {bad.sum()} of "
            f"{len(array)} rows, first in row {bad.argmax()}"
        )


def _one_after_another(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of one episode next to each other, in the order that they had."""
    _, first, number = np.unique(
        arrays[EPISODE], return_index=True, return_inverse=True
    )
    ranks = np.argsort(np.argsort(first))  # by first appearance
    number = ranks[number.reshape(-1)].astype(np.int32)
    if (np.diff(number) >= 0).all():
        if arrays[EPISODE].dtype.kind not in "iu":
            arrays[EPISODE] = number
        return arrays
    order = np.argsort(number, kind="stable")
    return {name: array[order] for name, array in (arrays | {EPISODE: number}).items()}


def _as_it_was(given: Any, array: np.ndarray) -> Any:
    """The array that was given (JAX's, say), where nothing changed."""
    unchanged = (
        isinstance(given, np.ndarray | jax.Array)
        and given.dtype == array.dtype
        and given.shape == array.shape
        and (array is given or np.array_equal(np.asarray(given), array))
    )
    return given if unchanged else array
