"""Logs of other programs as `Transitions`: one function, `read_transitions`.

Names that are understood, in files, mappings and tables alike:

| field | also called |
|---|---|
| `obs` | observation(s), state(s) |
| `action` | actions |
| `reward` | rewards |
| `next_obs` | next_observation(s), next_state(s), obs_next |
| `terminated` | termination(s), terminal(s) |
| `truncated` | truncation(s), timeout(s) |
| `episode` | episode_id, episode_index, trajectory, env_id, env |
| `step` | timestep, time_step: sorts the rows of each episode |

`done` (dones) beside `truncated` stands for "either of the two". In tables, a field of
several numbers is several columns, `obs_0, obs_1, ...` or `obs_x, obs_v, ...`.

Where there is no `next_obs` it is the observation of the next row; the last row of each
episode then has none and is left out, unless an episode has one observation more than
it has actions.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from envs.canonical import FIELDS
from envs.gymnasium_spaces import flatten_rows
from envs.log_files import read_csv, read_hdf5, read_npz
from envs.transitions import Transitions
from jaxrl_runs.weight_files import MAX_BYTES

NAMES = {
    "obs": ("obs", "observation", "observations", "state", "states"),
    "action": ("action", "actions"),
    "reward": ("reward", "rewards"),
    "next_obs": (
        "next_obs",
        "next_observation",
        "next_observations",
        "next_state",
        "next_states",
        "obs_next",
    ),
    "terminated": (
        "terminated",
        "termination",
        "terminations",
        "terminal",
        "terminals",
    ),
    "truncated": ("truncated", "truncation", "truncations", "timeout", "timeouts"),
    "episode": (
        "episode",
        "episode_id",
        "episode_index",
        "trajectory",
        "env_id",
        "env",
    ),
    "step": ("step", "timestep", "time_step"),
    "done": ("done", "dones"),
}

Columns = Mapping[str, str | Sequence[str]]


def read_transitions(
    source: Any,
    *,
    columns: Columns | None = None,
    observation_space: gymnasium.Space | None = None,
    max_bytes: int = MAX_BYTES,
) -> Transitions:
    """Read transitions from wherever they are.

    Args:
        source: One of

            * a path: ``.npz`` or HDF5 (``.h5``, ``.hdf5``) with one array per field, as
              D4RL and others lay them out; ``.csv`` with a header; the folder of a
              Minari dataset;
            * a mapping of arrays, a pandas DataFrame, a Minari dataset;
            * `Transitions`, which are checked.
        columns: Where each field is, if not under a usual name: ``{"obs": ["x", "v"],
            "action": "force"}``.
        observation_space: Gymnasium's, for observations that are mappings or tuples of
            arrays; they are flattened as its ``flatten_space`` says.
        max_bytes: Largest size of all arrays together; files announce theirs, which is
            compared before memory is asked for.

    Returns:
        Valid transitions of NumPy arrays.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If h5py or Minari is needed and not installed.
        TypeError: If the source is of none of these kinds.
        ValueError: Names the file, the field and what was expected.
    """
    if isinstance(source, Transitions):
        return source.validate()
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            return _read_path(path, columns, observation_space, max_bytes)
        except ValueError as error:
            if str(path) in str(error):
                raise
            raise ValueError(f"{path}: {error}") from error
    if hasattr(source, "iterate_episodes"):
        return Transitions.from_minari(source, max_bytes)
    if isinstance(source, Mapping):
        return read_fields(_named(source, columns, observation_space))
    if hasattr(source, "columns") and hasattr(source, "__getitem__"):
        return Transitions.from_dataframe(source, columns=columns)
    raise TypeError(
        "source must be a path, a mapping of arrays, a DataFrame, a Minari dataset "
        f"or Transitions, got {type(source).__name__}"
    )


def read_table(table: Mapping[str, np.ndarray], columns: Columns | None) -> Transitions:
    """Transitions from columns [N] by name."""
    return read_fields(_named(table, columns, None))


def read_fields(fields: Mapping[str, Any]) -> Transitions:
    """Transitions from arrays under the names of `NAMES`, the canonical ones."""
    fields = dict(fields)
    _split_done(fields)
    for name in ("obs", "action", "reward", "terminated"):
        if name not in fields:
            raise ValueError(
                f"lacks the field {name!r} (also called "
                f"{', '.join(NAMES[name][1:])}); it has {', '.join(fields) or 'none'}"
            )
    fields.setdefault("truncated", np.zeros(np.shape(fields["terminated"]), bool))
    fields = _in_order(fields)
    if "next_obs" not in fields:
        fields = _with_next_obs(fields)
    return Transitions(
        **{name: fields.get(name) for name in (*FIELDS, "episode")}
    ).validate()


def _read_path(
    path: Path, columns: Columns | None, space: Any, max_bytes: int
) -> Transitions:
    if path.is_dir():
        return Transitions.from_minari(os.fspath(path), max_bytes)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return read_table(read_csv(path, max_bytes), columns)
    if suffix in (".h5", ".hdf5"):
        return read_fields(_named(read_hdf5(path, max_bytes), columns, space))
    if suffix == ".npz" or path.exists():
        return read_fields(_named(read_npz(path, max_bytes), columns, space))
    raise FileNotFoundError(f"{path}: no such file")


def _named(
    given: Mapping[str, Any], columns: Columns | None, space: Any
) -> dict[str, Any]:
    """The fields that a mapping or a table has, by their canonical names."""
    columns = dict(columns or {})
    unknown = columns.keys() - NAMES.keys()
    if unknown:
        raise ValueError(
            f"columns must be fields among {', '.join(NAMES)}, got "
            f"{', '.join(sorted(unknown))}"
        )
    fields = {}
    for field, names in NAMES.items():
        if field in columns:
            fields[field] = _chosen(given, field, columns[field])
            continue
        found = [name for name in given if str(name).lower() in names]
        if field == "episode" and len(found) > 1:  # of an environment, of an episode
            fields[field] = np.stack([np.asarray(given[n]) for n in found], axis=1)
        elif len(found) > 1:
            raise ValueError(
                f"{field} must be one array, found {' and '.join(map(str, found))}; "
                "say which by columns"
            )
        elif found:
            fields[field] = _flattened(field, given[found[0]], space)
        elif field in FIELDS:
            parts = _parts(given, names)
            if parts:
                fields[field] = np.stack([np.asarray(given[n]) for n in parts], axis=1)
    return fields


def _chosen(given: Mapping[str, Any], field: str, names: str | Sequence[str]) -> Any:
    several = [names] if isinstance(names, str) else list(names)
    for name in several:
        if name not in given:
            raise ValueError(
                f"columns[{field!r}]: there is no {name!r}, but "
                f"{', '.join(map(str, given))}"
            )
    if isinstance(names, str):
        return given[names]
    return np.stack([np.asarray(given[name]) for name in several], axis=1)


def _parts(given: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Columns such as `obs_0`, `obs_1` (sorted by number) or `obs.x`, `obs.v`."""
    others = {name for other in NAMES.values() for name in other}
    pattern = re.compile(rf"({'|'.join(names)})[_.\[/](\w+)\]?", re.IGNORECASE)
    matches = {
        name: match[2]
        for name in given
        if str(name).lower() not in others and (match := pattern.fullmatch(str(name)))
    }
    if all(suffix.isdigit() for suffix in matches.values()):
        return sorted(matches, key=lambda name: int(matches[name]))
    return list(matches)


def _flattened(field: str, values: Any, space: Any) -> Any:
    """Observations that are mappings or tuples of arrays, as Gymnasium does it."""
    is_tuple = isinstance(space, gymnasium.spaces.Tuple)
    if field not in ("obs", "next_obs") or not (
        isinstance(values, Mapping) or (is_tuple and isinstance(values, tuple))
    ):
        return values
    if space is None:
        raise ValueError(
            f"{field} must be one array, got a mapping with {', '.join(values)}; "
            "give the observation_space by which to flatten it"
        )
    return flatten_rows(space, values)


def _in_order(fields: dict[str, Any]) -> dict[str, Any]:
    """Sorts rows by episode and step, where these say the place of each row."""
    if fields.get("episode") is not None:
        episode = np.asarray(fields["episode"]).astype(str)
        axis = 0 if episode.ndim > 1 else None  # of several columns
        _, first, number = np.unique(
            episode, return_index=True, return_inverse=True, axis=axis
        )
        # By first appearance, not by name: "10" comes before "9".
        fields["episode"] = np.argsort(np.argsort(first))[number.reshape(-1)]
    step = fields.pop("step", None)
    if step is None:
        return fields
    step = np.asarray(step)
    episode = fields.get("episode", np.zeros(step.shape, int))
    places = np.stack([episode, step], axis=-1)
    if step.ndim > 1 or len(np.unique(places, axis=0)) < len(step):
        return fields  # Steps that start anew within an environment, say.
    order = np.lexsort((step, episode))
    return {name: np.asarray(array)[order] for name, array in fields.items()}


def _split_done(fields: dict[str, Any]) -> None:
    done = fields.pop("done", None)
    if done is None or "terminated" in fields:
        return
    if "truncated" not in fields:
        raise ValueError(
            "done: it does not say whether the task ended the episode or a time limit "
            "did, which differ in what comes after; name it 'terminated' if only the "
            "task ends episodes, or give 'truncated' beside it"
        )
    truncated = np.asarray(fields["truncated"]).astype(bool)
    fields["terminated"] = np.asarray(done).astype(bool) & ~truncated


def _with_next_obs(fields: dict[str, Any]) -> dict[str, Any]:
    """Takes each next observation from the next row, in the same episode."""
    arrays = {name: np.asarray(array) for name, array in fields.items()}
    if len(arrays["obs"]) == len(arrays["action"]) + 1:  # of a single episode
        obs = arrays.pop("obs")
        return {**arrays, "obs": obs[:-1], "next_obs": obs[1:]}
    rows = Transitions(**{**arrays, "next_obs": arrays["obs"]}).validate()
    terminated, truncated = np.asarray(rows.terminated), np.asarray(rows.truncated)
    ended = terminated | truncated
    if rows.episode is not None:
        ended = ended | np.append(np.diff(np.asarray(rows.episode)) != 0, True)
    elif not ended.any():
        warnings.warn(
            "next_obs is missing and no row ends an episode: all rows are taken for "
            "one episode",
            stacklevel=4,
        )
    ended[-1] = True
    if terminated.any():
        warnings.warn(
            f"next_obs is missing: the last rows of {ended.sum()} episodes are left "
            f"out, and with them all {terminated.sum()} terminations",
            stacklevel=4,
        )
    kept = np.flatnonzero(~ended)
    return {
        "obs": np.asarray(rows.obs)[kept],
        "action": np.asarray(rows.action)[kept],
        "reward": np.asarray(rows.reward)[kept],
        "next_obs": np.asarray(rows.obs)[kept + 1],
        "terminated": np.zeros(len(kept), bool),
        "truncated": truncated[kept + 1],
        "episode": np.cumsum(np.insert(ended[:-1], 0, False))[kept],
    }
