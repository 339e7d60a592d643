"""Padded logs that say what is padding: a mask of rows, or the lengths of episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from envs.canonical import as_flags
from envs.log_axes import EPISODE, times_along_second

MASK, LENGTHS = "mask", "lengths"
_FLAGS = ("terminated", "truncated", "done")


def without_masked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields without the rows that a mask or lengths leave out.

    Args:
        fields: By their canonical names. ``mask`` is 1 in rows that are data, of the
            shape of the rewards ([E, T], [T, E] or [N]); ``lengths`` [E] says how many
            steps of each episode are. Of another shape they are something else (masks
            of actions, say), and are not used.

    Returns:
        The other fields. Those of padded arrays become rows [N, ...] with an
        ``episode``.

    Raises:
        ValueError: A mask is what `terminated` is, or has holes in padded arrays.
    """
    fields = dict(fields)
    mask, lengths = fields.pop(MASK, None), fields.pop(LENGTHS, None)
    shape = np.shape(fields.get("reward", ()))
    shape = shape[:-1] if len(shape) == 3 and shape[-1] == 1 else shape
    if lengths is not None:
        fields, found = _with_lengths(fields, np.asarray(lengths), shape)
        mask = found if mask is None or np.shape(mask) != shape else mask
    if mask is None or np.shape(mask) != shape or not shape:
        return fields
    valid = as_flags(MASK, mask)
    if valid.all():
        return fields
    if not valid.any():
        raise ValueError(f"{MASK} leaves out all rows: it must be 1 in those of data")
    _check_not_flags(fields, valid)
    if valid.ndim == 1:
        return _flat(fields, valid)
    return _unpadded(fields, valid)


def cut_to_length(fields: Mapping[str, Any]) -> dict[str, Any]:
    """One episode's fields without what comes after its `lengths`, one number."""
    fields = dict(fields)
    length = fields.pop(LENGTHS, None)
    if length is None or np.size(length) != 1:
        return fields
    number, total = int(np.reshape(length, ())), len(fields["action"])
    if not 0 < number < total:
        return fields
    return {
        name: array[: number + len(array) - total] if _is_long(array, total) else array
        for name, array in fields.items()
    }


def _is_long(array: Any, total: int) -> bool:
    return np.ndim(array) > 0 and len(array) in (total, total + 1)


def _with_lengths(
    fields: dict[str, Any], lengths: np.ndarray, shape: tuple[int, ...]
) -> tuple[dict[str, Any], np.ndarray | None]:
    """A mask for padded arrays; or episodes, where rows stand one after another."""
    if lengths.ndim != 1 or lengths.dtype.kind not in "iuf" or not lengths.size:
        return fields, None
    if len(shape) == 1:
        is_whole = lengths.sum() == shape[0] and (lengths > 0).all()
        if is_whole and len(lengths) < shape[0] and EPISODE not in fields:
            which = np.repeat(np.arange(len(lengths)), lengths.astype(int))
            fields[EPISODE] = which
        return fields, None
    axis = _axis_of(fields, len(lengths), shape)
    if axis is None:
        return fields, None
    if lengths.max() > shape[1 - axis]:
        raise ValueError(
            f"{LENGTHS} must be at most {shape[1 - axis]}, the steps of arrays "
            f"[{shape[0]}, {shape[1]}, ...], got {lengths.max():g}"
        )
    mask = np.arange(shape[1 - axis]) < lengths[:, None]
    return fields, mask if axis == 0 else mask.T


def _axis_of(
    fields: Mapping[str, Any], number: int, shape: tuple[int, ...]
) -> int | None:
    """The axis that counts episodes, of which there are so many."""
    fits = [axis for axis in (0, 1) if shape[axis] == number]
    if len(fits) < 2:
        return fits[0] if fits else None
    return 0 if times_along_second(fields) else 1


def _check_not_flags(fields: Mapping[str, Any], valid: np.ndarray) -> None:
    """Raises ValueError for a mask of what goes on, as old code calls 1 - done."""
    flags = [as_flags(n, fields[n]) for n in _FLAGS if fields.get(n) is not None]
    flags = [flag.reshape(valid.shape) for flag in flags if flag.size == valid.size]
    either = [np.logical_or.reduce(flags)] if flags else []
    if any(np.array_equal(~valid, flag) for flag in (*flags, *either)):
        raise ValueError(
            f"{MASK} is 0 exactly where episodes end, as if it was 1 - done: rows that "
            "are data have to be 1; leave it out"
        )


def _flat(fields: dict[str, Any], valid: np.ndarray) -> dict[str, Any]:
    """Rows [N]; where some are missing in between, the next one is not what follows."""
    kept = {name: np.asarray(array)[valid] for name, array in fields.items()}
    if "next_obs" in fields or "step" in fields:
        return kept
    runs = np.cumsum(np.diff(valid.astype(int), prepend=0) == 1)[valid]
    if EPISODE in kept:
        runs = np.column_stack([kept[EPISODE], runs.astype(str)])
    return {**kept, EPISODE: runs}


def _unpadded(fields: dict[str, Any], valid: np.ndarray) -> dict[str, Any]:
    """Arrays [E, T, ...], or [T, E, ...], as the rows of one episode after another."""
    by_axis = [bool((np.diff(valid.astype(int), axis=k) <= 0).all()) for k in (0, 1)]
    if not any(by_axis):
        raise ValueError(
            f"{MASK} leaves out {(~valid).sum()} of {valid.size} rows, and others come "
            "after them; give the rows that are meant, as [N] arrays with an episode"
        )
    time_is_second = times_along_second(fields) if all(by_axis) else by_axis[1]
    arrays = {name: np.asarray(array) for name, array in fields.items()}
    if not time_is_second:
        valid = valid.T
        arrays = {
            name: np.swapaxes(x, 0, 1) if x.ndim > 1 else x
            for name, x in arrays.items()
        }
    num_episodes, num_steps = valid.shape
    obs = arrays.get("obs", np.zeros(0))
    if obs.shape[:2] == (num_episodes, num_steps + 1) and "next_obs" not in arrays:
        arrays |= {"obs": obs[:, :-1], "next_obs": obs[:, 1:]}
    for name, array in arrays.items():
        if array.shape[:1] == (num_episodes,) and array.ndim == 1:
            array = np.broadcast_to(array[:, None], valid.shape)  # one per episode
        if array.shape[:2] != valid.shape:
            raise ValueError(
                f"{name} must be of shape [{num_episodes}, {num_steps}, ...] "
                f"(episodes, steps) to go with {MASK}, got {array.shape}"
            )
        arrays[name] = array[valid]
    which = np.nonzero(valid)[0]
    if EPISODE in arrays:
        which = np.column_stack([which.astype(str), arrays[EPISODE].astype(str)])
    return {**arrays, EPISODE: which}
