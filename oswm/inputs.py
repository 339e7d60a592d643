"""What `condition` takes for a log, read as `envs.Transitions`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs import Transitions, read_transitions
from envs.log_records import by_name, is_records
from envs.readers import tell_no_end
from jaxrl_runs.values import shown
from jaxrl_runs.warn import warn_user

Log = Transitions | Mapping[str, Any] | Sequence[Any] | str | os.PathLike[str] | Any
_FIELDS = ("obs", "action", "reward", "next_obs", "terminated", "truncated")


_MOST_STATES = 10_000  # Larger integers are no states by number.


def read_log(log: Log) -> Transitions:
    """Valid transitions.

    Args:
        log: Transitions; a mapping, a list of mappings, a DataFrame or a path, as
            `envs.read_transitions` takes them; or a tuple of arrays in the order
            of the fields of `Transitions`, of which `terminated` and `truncated` may be
            missing: no row then ends its episode. A list of arrays is taken like a
            tuple.

    Raises:
        FileNotFoundError: There is no file at the path.
        TypeError: It is none of these.
        ValueError: Names the field that does not fit.
    """
    log = by_name(log)
    if isinstance(log, tuple | list) and not is_records(log):
        return _of_arrays(log)
    kinds = Transitions | Mapping | str | os.PathLike | tuple | list
    is_known = isinstance(log, kinds) or (
        isinstance(log, np.ndarray) and log.dtype.names is not None
    )
    if not (is_known or hasattr(log, "iterate_episodes") or hasattr(log, "columns")):
        raise TypeError(
            "log must be transitions, a mapping of arrays, a list of mappings, a "
            "DataFrame, a Minari dataset, a tuple of arrays or a path, got "
            f"{shown(log)}"
        )
    return read_transitions(log)


def say_numbered(obs: Any) -> None:
    """Warns where observations look like states by number, which here are a scale."""
    obs = np.asarray(obs)
    if obs.dtype.kind not in "iu" or obs.size != len(obs):
        return
    low, high = int(obs.min()), int(obs.max())
    if low >= 0 and high < _MOST_STATES:
        warn_user(
            f"obs: integers from {low} to {high} are taken for a number on a scale, "
            "float32 [1], of which 3 is close to 4. If they are states by number, make "
            f"them one-hot, in obs and next_obs: numpy.eye({high + 1})[obs]",
        )


def say_constant(obs: Any) -> None:
    """Warns where all observations are the same one."""
    obs = np.asarray(obs)
    if len(obs) > 1 and (obs == obs[:1]).all():
        warn_user(
            f"obs: all {len(obs)} rows are the same. If the task shows more, one array "
            "was kept that is changed in place: keep copies, numpy.array(obs)",
        )


def _of_arrays(arrays: Sequence[Any]) -> Transitions:
    if not 4 <= len(arrays) <= len(_FIELDS):
        raise ValueError(
            f"log must be {', '.join(_FIELDS)}, of which the last two may be missing, "
            f"got {len(arrays)} arrays; rows in a list have to be mappings"
        )
    given = zip(_FIELDS, arrays, strict=False)
    fields = {name: np.asarray(array) for name, array in given if array is not None}
    if "terminated" not in fields:
        tell_no_end()
    for name in _FIELDS[4:]:
        if name not in fields and "reward" in fields:
            fields[name] = np.zeros(np.shape(fields["reward"]), bool)
    for name in _FIELDS:
        if name not in fields:
            raise ValueError(f"log: {name} must be an array, got None")
    return read_transitions(Transitions(**fields))
