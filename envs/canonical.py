"""What loggers write, turned into the one form that all else reads.

Only what loses nothing is converted; everything else is refused by the name of the
field, the row and the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import jax
import numpy as np

from envs.log_axes import environment_by_environment

FIELDS = ("obs", "action", "reward", "next_obs", "terminated", "truncated")
EPISODE = "episode"

_KINDS = {"obs": "fiub", "next_obs": "fiub", "action": "fiub", "reward": "fiub"}
_FLAGS = ("terminated", "truncated")
TRUE = ("true", "t", "yes", "y", "on", "1", "1.0")
FALSE = ("false", "f", "no", "n", "off", "0", "0.0")
_NOT_NUMBERS = (*_FLAGS, EPISODE, "step", "done", "mask")  # may be words
_MISSING = ("", "none", "null", "nan", "na", "n/a", "<na>", "nil", "missing", "-", "?")
_MOST_WORDS = 100  # Of which actions can be names.
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
    arrays = {name: array_of(name, fields[name]) for name in FIELDS}
    if fields.get(EPISODE) is not None:
        arrays[EPISODE] = array_of(EPISODE, fields[EPISODE])
    arrays = environment_by_environment(arrays)
    arrays = {name: _column(name, array) for name, array in arrays.items()}
    _check_rows(arrays)
    for name in _FLAGS:
        arrays[name] = as_flags(name, arrays[name])
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


def array_of(name: str, value: Any) -> np.ndarray:
    """A field as an array; one of objects only if it is "episode".

    Raises:
        ValueError: It is none, or holds what is no number, or has masked values.
    """
    if isinstance(value, Mapping):
        raise ValueError(
            f"{name} must be one array, got a mapping with "
            f"{', '.join(map(str, value))}; envs.read_transitions flattens it, given "
            "the observation_space"
        )
    if np.ma.is_masked(value):
        row = int(np.argwhere(np.ma.getmaskarray(value))[0, 0])
        raise ValueError(f"{name}: row {row} is masked; leave such rows out")
    if hasattr(value, "detach"):  # of PyTorch
        value = value.detach().cpu()
        value = value.float() if str(value.dtype).endswith("bfloat16") else value
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of different lengths
        raise ValueError(f"{name}: not readable as an array ({error})") from error
    if array.dtype.name == "bfloat16":  # of JAX, a kind of its own
        array = array.astype(np.float32)
    if array.dtype.kind in "mM" and name != EPISODE:
        raise ValueError(
            f"{name} must be numbers, got {array.dtype}: turn times into seconds since "
            "the first row, or leave them out"
        )
    if array.dtype.hasobject and name != EPISODE:
        array = _of_objects(name, array)
    if array.dtype.kind in "US" and name not in _NOT_NUMBERS:
        array = _of_text(name, array.astype(str))
    return array


def check_known(name: str, values: Any) -> None:
    """Raises ValueError, naming the row, where a label is missing."""
    for place, x in np.ndenumerate(np.asarray(values)):
        if x is None or x != x or str(x).strip() in ("", "<NA>", "NaT"):
            raise ValueError(
                f"{name} must be known for each row, got {x} in row {place[0]}"
            )


def _of_text(name: str, array: np.ndarray) -> np.ndarray:
    """Numbers that are written as text, as `csv.DictReader` gives them."""
    for kind in (np.int64, np.float64):
        try:
            return np.char.strip(array).astype(kind)
        except (ValueError, OverflowError):
            continue
    if array.ndim == 1 and (rows := _of_lists(array)) is not None:
        return rows
    for place, cell in np.ndenumerate(array):
        if not is_number(cell):
            raise ValueError(
                f"{name} must be numbers, got {str(cell)!r:.40} in row "
                f"{place[0] if place else 0}{remedy_for(name, cell, array)}"
            )
    raise ValueError(f"{name} must be numbers, got text")


def _of_lists(array: np.ndarray) -> np.ndarray | None:
    """Rows that are written as lists, "[0.1, 0.2]" or "[0.1 0.2]", as pandas does."""
    rows = []
    for cell in array:
        text = cell.strip()
        if not (text.startswith("[") and text.endswith("]")):
            return None
        words = text[1:-1].replace(",", " ").split()
        if not words or not all(map(is_number, words)):
            return None
        rows.append([float(word) for word in words])
    return np.array(rows) if len({len(row) for row in rows}) == 1 else None


def is_number(cell: str) -> bool:
    """Whether Python reads it as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def remedy_for(name: str, cell: str, cells: Any) -> str:
    """What to do about a cell that is no number, as the end of a message.

    Args:
        name: Of the field or column.
        cell: The first such one.
        cells: All of the column.
    """
    if str(cell).strip().lower() in _MISSING:
        return "; it stands for a missing value: leave such rows out"
    words = np.unique(np.asarray(cells).astype(str))
    if all(is_number(str(w).strip().rstrip("%").replace(",", "")) for w in words):
        return "; write plain numbers, without % and marks of thousands"
    is_action = "action" in name.lower() or name.lower().startswith("act")
    if any(map(is_number, words)) or len(words) > _MOST_WORDS or not is_action:
        return "; leave such rows out, or the column"
    number = "{" + ", ".join(f"{str(w)!r}: {i}" for i, w in enumerate(words[:8]))
    number += ", ...}" if len(words) > 8 else "}"
    return f"; number its {len(words)} words as you mean them, such as {number}"


def _of_objects(name: str, array: np.ndarray) -> np.ndarray:
    """Numbers, or rows of arrays or lists, that stand in an array of objects."""
    first = array.flat[0] if array.size else 0.0
    if isinstance(first, np.ndarray | list | tuple) and array.ndim == 1:
        try:
            return array_of(name, np.stack([np.asarray(row) for row in array]))
        except ValueError as error:
            raise ValueError(f"{name}: not readable as an array ({error})") from error
    if array.size and all(isinstance(x, str) for x in array.flat):
        return array.astype(str)
    for place, x in np.ndenumerate(array):
        if not isinstance(x, Real | np.bool_):
            is_missing = x is None or type(x).__name__ in ("NAType", "NaTType")
            row = f" in row {place[0]}" if place else ""
            remedy = "; leave such rows out" if is_missing and place else ""
            if isinstance(x, str):
                remedy = remedy_for(name, x, [str(cell) for cell in array.flat])
            raise ValueError(
                f"{name} must be numbers, got {type(x).__name__} ({x!r:.40}){row}"
                + remedy
            )
    return array.astype(np.float64)


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
    _check_most(arrays)
    expected = {name: (num_rows,) for name in arrays}
    expected |= {
        "obs": obs.shape,
        "next_obs": obs.shape,
        "action": (num_rows, *arrays["action"].shape[1:]),
    }
    for name, shape in expected.items():
        found = arrays[name].shape
        if name == "next_obs" and found != shape and found[:1] == shape[:1]:
            raise ValueError(
                "obs and next_obs must be of the same shape, got "
                f"{obs.shape} and {found}"
            )
        if found != shape:
            raise ValueError(
                f"{name} must be of shape {shape} to go with obs of shape {obs.shape}, "
                f"got {found}"
            )


def _check_most(arrays: dict[str, np.ndarray]) -> None:
    """Raises ValueError where observations alone have other rows, or are turned."""
    obs = arrays["obs"].shape
    names = [name for name in arrays if name not in ("obs", "next_obs")]
    if arrays["next_obs"].shape != obs:
        names.append("next_obs")
    numbers = {len(arrays[name]) if arrays[name].ndim else 0 for name in names}
    if len(numbers) > 1 or numbers == {obs[0]}:
        return
    (number,) = numbers
    is_turned = len(obs) == 2 and obs[1] == number
    hint = f"; pass its transpose, [{number}, {obs[0]}]" if is_turned else ""
    raise ValueError(
        f"obs must have {number} rows, as {', '.join(names)} have, got an array of "
        f"shape {obs}{hint}"
    )


def as_flags(name: str, values: Any) -> np.ndarray:
    """Bools, of bools, 0 and 1, or words for them.

    Raises:
        ValueError: Something else is among them; names the first such row.
    """
    array = array_of(name, values)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind == "U":
        words = np.char.lower(np.char.strip(array))
        array = np.select([np.isin(words, FALSE), np.isin(words, TRUE)], [0, 1], 2)
        shown: Any = values if isinstance(values, np.ndarray) else np.asarray(values)
    elif array.dtype.kind in "iuf":
        shown = array
    else:
        raise ValueError(f"{name} must be of dtype bool or 0 and 1, got {array.dtype}")
    wrong = (array != 0) & (array != 1)
    if wrong.any():
        place = np.unravel_index(int(wrong.argmax()), wrong.shape)
        raise ValueError(
            f"{name} must be flags (bools, or 0 and 1), got {shown[place]} in row "
            f"{place[0]}"
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
            f"{len(array)} rows, first in row {bad.argmax()}{_where_bad(name, array)}"
        )


def _where_bad(name: str, array: np.ndarray) -> str:
    """In which columns, where there are several; and what it may stand for."""
    told = ""
    if array.ndim == 2 and array.shape[1] > 1:
        columns = np.flatnonzero(~np.isfinite(array).all(axis=0))
        if len(columns) < array.shape[1]:
            told = f" (column {', '.join(map(str, columns[:8]))})"
    if name == "next_obs":
        told += (
            "; if those are the last rows of episodes, whose next_obs is not known, "
            "leave them out, or next_obs: it is the obs of the next row then"
        )
    return told


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
