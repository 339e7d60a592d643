"""Logs of other programs as `Transitions`: one function, `read_transitions`.

Names that are understood, in files, mappings and tables alike, in upper or lower case:

| field | also called |
|---|---|
| `obs` | observation(s), state(s) |
| `action` | actions, act(s) |
| `reward` | rewards, rew(s) |
| `next_obs` | any name of `obs` with "next" or "new" before or behind it |
| `terminated` | termination(s), terminal(s), term, is_terminal |
| `truncated` | truncation(s), trunc, timeout(s) |
| `episode` | episode_id, episode_index, trajectory, trajectory_id, env_id, env |
| `step` | timestep, time_step, timestamp: sorts the rows of each episode |
| `mask` | valid, padding_mask: 1 in rows that are data, 0 in padding |
| `lengths` | episode_lengths: of the episodes in padded arrays [E, T, ...] |

`done` (dones) beside `truncated` or `terminated` stands for "either of the two". In
tables, a field of several numbers is several columns, `obs_0, obs_1, ...`, `obs_x,
obs_v, ...`, or one of lists or arrays.

Where there is no `next_obs` it is the observation of the next row. The last row of each
episode then has none, unless an episode has one observation more than it has actions:
it is left out, or estimated from the other rows if the task ended the episode there.
So is a row behind which `step` says that others are missing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from envs.canonical import FIELDS, array_of, as_flags
from envs.episodes import only_steps
from envs.log_columns import Columns, field_of, lacks, named, named_columns
from envs.log_files import is_zip, read_csv, read_hdf5, read_npz
from envs.log_masks import without_masked
from envs.log_next_obs import with_next_obs
from envs.log_records import (
    by_name,
    episodes_in,
    from_records,
    is_records,
    without_last_steps,
)
from envs.log_steps import in_order, missing_behind, places
from envs.transitions import Transitions
from jaxrl_runs.warn import warn_user
from jaxrl_runs.weight_files import MAX_BYTES


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
              D4RL and others lay them out, or with one group of them per episode;
              ``.csv`` with a header, separated by commas, semicolons or tabs; the
              folder of a Minari dataset;
            * a mapping of arrays, a structured array, a pandas DataFrame, a Minari
              dataset;
            * a list of mappings, each of one row or of one episode, or of
              `Transitions`; named tuples count as mappings;
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
        return only_steps(source)
    source = by_name(source)
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
    if isinstance(source, np.ndarray) and source.dtype.names is not None:
        source = {name: source[name] for name in source.dtype.names}
    if isinstance(source, Mapping) or is_records(source):
        return _read_mapping(source, columns, observation_space)
    if hasattr(source, "columns") and hasattr(source, "__getitem__"):
        return Transitions.from_dataframe(source, columns=columns)
    raise TypeError(
        "source must be a path, a mapping of arrays, a list of mappings, a "
        f"DataFrame, a Minari dataset or Transitions, got {type(source).__name__}"
    )


def read_table(table: Mapping[str, np.ndarray], columns: Columns | None) -> Transitions:
    """Transitions from columns [N] by name."""
    return read_fields(named(table, columns), table, columns)


def _read_mapping(given: Any, columns: Columns | None, space: Any) -> Transitions:
    """Arrays by name; or rows or episodes, in a list or by name."""
    records = given if is_records(given) else episodes_in(given)
    if records:
        fields = from_records(records, columns, space)
        return read_fields(fields, fields)
    return read_fields(named(given, columns, space), given, columns)


def read_fields(
    fields: Mapping[str, Any],
    given: Mapping[Any, Any],
    columns: Columns | None = None,
) -> Transitions:
    """Transitions from arrays by their canonical names.

    Args:
        fields: Those that were found.
        given: All that there was, for messages.
        columns: Which of it was named for a field.
    """
    fields = without_masked(without_last_steps(fields, given))
    if "step" in fields:
        fields["step"] = places(fields["step"])
    fields = {name: x for name, x in fields.items() if x is not None}
    fields = {name: array_of(name, array) for name, array in fields.items()}
    _split_done(fields)
    for name in ("obs", "action", "reward"):
        if name not in fields:
            raise lacks(name, given)
    if "terminated" not in fields:
        read = named_columns(columns)
        tell_no_end([x for x in given if x not in read and field_of(x)[0] is None])
        fields["terminated"] = np.zeros(np.shape(fields["reward"]), bool)
    fields.setdefault("truncated", np.zeros(np.shape(fields["terminated"]), bool))
    fields = in_order(fields)
    step = fields.pop("step", None)
    if "next_obs" not in fields:
        fields = with_next_obs(fields, missing_behind(step, fields))
    return only_steps(
        Transitions(**{name: fields.get(name) for name in (*FIELDS, "episode")})
    )


def _read_path(
    path: Path, columns: Columns | None, space: Any, max_bytes: int
) -> Transitions:
    if path.is_dir():
        return Transitions.from_minari(os.fspath(path), max_bytes)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".txt"):
        return read_table(read_csv(path, max_bytes), columns)
    if suffix in (".h5", ".hdf5"):
        return _read_mapping(read_hdf5(path, max_bytes), columns, space)
    if suffix == ".npz" or is_zip(path):
        return _read_mapping(read_npz(path, max_bytes), columns, space)
    remedy = _REMEDIES.get(suffix, "turn it into one of these")
    raise ValueError(
        f"{path}: expected .npz, .h5, .hdf5, .csv, .tsv or the folder of a Minari "
        f"dataset; {remedy}"
    )


_REMEDIES = {
    ".json": "give what json.load returns",
    ".jsonl": "give the list [json.loads(line) for line in file]",
    ".parquet": "give what pandas.read_parquet returns",
    ".feather": "give what pandas.read_feather returns",
    ".gz": "unpack it",
    ".npy": "one array is not a log: write several with numpy.savez",
    ".pkl": "nothing is unpickled: open it yourself and give a mapping of arrays",
    ".pickle": "nothing is unpickled: open it yourself and give a mapping of arrays",
    ".pt": "nothing is unpickled: open it yourself and give a mapping of arrays",
}


def tell_no_end(others: Sequence[Any] = ()) -> None:
    """Warns that nothing says where the task ends episodes.

    Args:
        others: Columns that are not read.
    """
    unread = ", ".join(map(str, others[:10]))
    warn_user(
        "log: terminated is missing: no row is taken for one where the task ends the "
        "episode, and a model of it never ends one; give zeros to say so, or the flags "
        "(columns={'terminated': ...} names others)"
        + (f"; not read: {unread}" if unread else ""),
    )


def _split_done(fields: dict[str, Any]) -> None:
    done = fields.pop("done", None)
    if done is None or {"terminated", "truncated"} <= fields.keys():
        return
    if "terminated" in fields:
        fields["truncated"] = as_flags("done", done) & ~as_flags(
            "terminated", fields["terminated"]
        )
        return
    if "truncated" not in fields:
        raise ValueError(
            "done: it does not say whether the task ended the episode or a time limit "
            "did, which differ in what comes after; name it 'terminated' if only the "
            "task ends episodes, or give 'truncated' beside it"
        )
    truncated = as_flags("truncated", fields["truncated"])
    fields["terminated"] = as_flags("done", done) & ~truncated
