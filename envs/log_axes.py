"""Arrays of several environments in parallel, as one environment after another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrl_runs.warn import warn_user

EPISODE = "episode"
_ONE_PER_ROW = ("reward", "terminated", "truncated", EPISODE)
_FEWEST = 5  # Places along an axis that show whether they follow each other.
_MOST = 200  # Along each axis, and columns, that are looked at.


def environment_by_environment(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays [T, N, ...] as rows, of which "episode" says whose they are.

    Those that are rows [N, ...] already, with flags [N] or [N, 1], stay as they are.

    Warns:
        UserWarning: The axes are found to be the other way round.

    Raises:
        ValueError: An array has other first axes than the flags.
    """
    arrays = {name: _without_last_axis(name, array) for name, array in arrays.items()}
    flags = arrays["terminated"]
    if flags.ndim != 2:
        return arrays
    shape = flags.shape
    fits = all(array.shape[:2] == shape for array in arrays.values())
    if shape[1] == 1:
        if not fits or arrays["obs"].ndim < 3:  # rows with columns [N, 1]
            return arrays
        return {name: array[:, 0] for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.shape[:2] != shape:
            raise ValueError(
                f"{name} must be of shape [{shape[0]}, {shape[1]}, ...] (steps, "
                f"environments) to go with terminated, got {array.shape}"
            )
    if shape[1] >= _FEWEST and _is_swapped(arrays):
        warn_user(
            f"transitions: arrays [{shape[0]}, {shape[1]}, ...] should be [steps, "
            "environments, ...], but observations follow each other along the second "
            "axis: they are taken for [environments, steps, ...]",
        )
        arrays = {name: np.swapaxes(array, 0, 1) for name, array in arrays.items()}
    return _flattened(arrays)


def times_along_second(fields: Mapping[str, Any]) -> bool:
    """Whether time goes along the second axis of arrays [A, B, ...], as far as seen."""
    arrays = {k: np.asarray(fields[k]) for k in ("obs", "next_obs") if k in fields}
    if "obs" not in arrays or arrays["obs"].ndim < 2:
        return False
    return _is_swapped({"next_obs": arrays["obs"], **arrays})


def _without_last_axis(name: str, array: np.ndarray) -> np.ndarray:
    """[T, N] for [T, N, 1], where a field is one number."""
    is_number = name in _ONE_PER_ROW or (name == "action" and array.dtype.kind in "iub")
    return array[..., 0] if is_number and array.shape[2:] == (1,) else array


def _flattened(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    num_steps, num_envs = arrays["terminated"].shape
    result = {
        name: np.swapaxes(array, 0, 1).reshape(-1, *array.shape[2:])
        for name, array in arrays.items()
    }
    which = np.repeat(np.arange(num_envs), num_steps)
    if EPISODE in result:
        episode = np.unique(result[EPISODE], return_inverse=True)[1].reshape(-1)
        which = which * (episode.max() + 1) + episode
    return {**result, EPISODE: which}


def _is_swapped(arrays: dict[str, np.ndarray]) -> bool:
    """Whether time goes along the second axis."""
    if arrays["next_obs"] is not arrays["obs"]:
        return not _follow(arrays, 0) and _follow(arrays, 1)
    # There is no next_obs: neighbours in time are closer than those in another place.
    obs = arrays["obs"]
    if obs.dtype.kind not in "fiub" or min(obs.shape[:2]) < 2:
        return False
    obs = obs[:_MOST, :_MOST].astype(np.float64)
    obs = obs.reshape(*obs.shape[:2], -1)
    first, second = (np.median(np.abs(np.diff(obs, axis=axis))) for axis in (0, 1))
    return bool(second < 0.5 * first)


def _follow(arrays: dict[str, np.ndarray], axis: int) -> bool:
    """Whether most next observations are the next ones along an axis."""
    obs, next_obs = (np.moveaxis(arrays[k], axis, 0) for k in ("obs", "next_obs"))
    if obs.shape != next_obs.shape or obs.dtype.kind not in "fiub":
        return False  # which is said elsewhere
    cut = (slice(_MOST),) * 2
    obs, next_obs = (
        x[cut].reshape(*x[cut].shape[:2], -1)[..., :_MOST].astype(np.float64)
        for x in (obs, next_obs)
    )
    if len(obs) < 2:
        return False
    gaps = np.abs(next_obs[:-1] - obs[1:]).mean(axis=-1)
    steps = np.abs(next_obs - obs).mean(axis=-1)
    return bool((gaps <= 0.1 * np.median(steps)).mean() >= 0.5)
