"""Logs that are a list of rows, or of episodes, as one mapping of arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.canonical import as_flags
from envs.log_columns import Columns, field_of, has_fields, lacks, named
from envs.log_masks import cut_to_length
from envs.transitions import Transitions


def by_name(source: Any) -> Any:
    """A named tuple, or a list of them, as mappings; all else as it is."""
    if hasattr(source, "_asdict"):
        return source._asdict()
    if isinstance(source, str | bytes) or not isinstance(source, Sequence):
        return source
    rows: Any = source
    if len(rows) and all(hasattr(row, "_asdict") for row in rows):
        return [row._asdict() for row in rows]
    return source


def is_records(source: Any) -> bool:
    """Whether it is a list of mappings or of `Transitions`."""
    return (
        isinstance(source, Sequence)
        and len(source) > 0
        and all(isinstance(record, Mapping | Transitions) for record in source)
    )


def episodes_in(given: Mapping[Any, Any]) -> list[Any] | None:
    """The episodes of a mapping that holds nothing but mappings, by their numbers."""
    groups = {
        name: value
        for name, value in given.items()
        if isinstance(value, Mapping | Transitions)
    }
    if not groups or has_fields(given):
        return None
    order = sorted(groups, key=_number)
    episodes = [groups[name] for name in order]
    if len(episodes) == 1 and isinstance(episodes[0], Mapping):
        return episodes_in(episodes[0]) or episodes  # "data" of "demo_0", ...
    return episodes


def from_records(
    records: Sequence[Any], columns: Columns | None, space: Any
) -> dict[str, Any]:
    """The fields of rows, or of episodes, one after another.

    Args:
        records: Mappings of the fields of one row each, or of arrays of one episode
            each; or `Transitions`.
        columns: As for `envs.read_transitions`.
        space: Likewise, `observation_space`.

    Raises:
        ValueError: They differ in their fields.
    """
    first = records[0]
    if isinstance(first, Mapping):
        name = (columns or {}).get("reward") or next(
            (name for name in first if field_of(name) == ("reward", ())), None
        )
        if name not in first:
            raise lacks("reward", first)
        if np.ndim(first[name]) == 0:
            return named(_columns(records, space), columns, space)
    return _joined([_episode(record, columns, space) for record in records])


def without_last_steps(
    fields: Mapping[str, Any], given: Mapping[Any, Any]
) -> dict[str, Any]:
    """Rows of steps in RLDS's order (Ramos et al., 2021, arXiv 2111.02767).

    There the last step of an episode, `is_last`, holds its last observation and no
    action that was taken. Fields of logs without such steps are returned as they are.

    Raises:
        ValueError: The marks do not fit together.
    """
    fields = dict(fields)
    marks = [np.asarray(given[name], bool) for name in _MARKS if name in given]
    if len(marks) < 2 or "next_obs" in fields or "truncated" in fields:
        return fields
    is_first, is_last = marks
    if is_first.ndim != 1 or not is_last[-1] or (is_first[1:] != is_last[:-1]).any():
        raise ValueError(
            "is_first must be true in the first row and after each is_last, in flat "
            "arrays [N]"
        )
    kept = np.flatnonzero(~is_last)
    ends, obs = is_last[kept + 1], np.asarray(fields["obs"])
    terminal = np.asarray(fields.get("terminated", np.zeros(len(obs))), bool)[kept + 1]
    rows = {name: np.asarray(array)[kept] for name, array in fields.items()}
    return rows | {
        "next_obs": obs[kept + 1],
        "terminated": ends & terminal,
        "truncated": ends & ~terminal,
        "episode": np.cumsum(is_first)[kept] - 1,
    }


_MARKS = ("is_first", "is_last")


def _columns(records: Sequence[Mapping[Any, Any]], space: Any) -> dict[Any, Any]:
    first = records[0]
    for row, record in enumerate(records):
        if record.keys() != first.keys():
            odd = sorted(map(str, record.keys() ^ first.keys()))
            raise ValueError(
                f"rows must have the same fields, but only one of row 0 and row {row} "
                f"has {', '.join(odd)}"
            )
    is_tuple = isinstance(space, gymnasium.spaces.Tuple)
    return {
        name: _stacked([record[name] for record in records], is_tuple) for name in first
    }


def _stacked(values: list[Any], is_tuple: bool) -> Any:
    """Observations that are mappings or tuples, as a mapping or tuple of lists."""
    first = values[0]
    if isinstance(first, Mapping):
        return {k: _stacked([value[k] for value in values], is_tuple) for k in first}
    if isinstance(first, tuple) and is_tuple:
        return tuple(
            _stacked(list(part), is_tuple) for part in zip(*values, strict=True)
        )
    return np.asarray(values) if np.ndim(first) else values


def _episode(record: Any, columns: Columns | None, space: Any) -> dict[str, Any]:
    if isinstance(record, Transitions):
        rows = record.validate()
        fields = {k: v for k, v in vars(rows).items() if v is not None}
    else:
        fields = named(record, columns, space)
    for name in ("obs", "action"):
        if name not in fields:
            raise lacks(name, fields)
    fields = _spread(cut_to_length(fields))
    obs = np.asarray(fields["obs"])
    if "next_obs" not in fields and len(obs) == len(fields["action"]) + 1:
        fields = {**fields, "obs": obs[:-1], "next_obs": obs[1:]}
    return fields


def _spread(fields: dict[str, Any]) -> dict[str, Any]:
    """One episode's fields, of which flags and labels may be one for all of it.

    A flag is then that of the last row; a label (`episode`) each row's.
    """
    number = len(fields["action"])
    for name in ("terminated", "truncated", "done"):
        if name in fields and np.size(fields[name]) == 1:
            is_last = np.arange(number) == number - 1
            fields[name] = is_last & as_flags(name, np.reshape(fields[name], 1))
    if "episode" in fields and np.ndim(fields["episode"]) == 0:
        fields["episode"] = np.full(number, fields["episode"])
    for name, array in fields.items():
        if np.ndim(array) == 0:
            raise ValueError(
                f"{name} must have one entry for each of an episode's {number} rows, "
                f"got {array!r:.40}"
            )
    return fields


def _joined(episodes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = episodes[0]
    numbers = []
    for number, episode in enumerate(episodes):
        if episode.keys() != first.keys():
            odd = sorted(episode.keys() ^ first.keys())
            raise ValueError(
                f"episodes must have the same fields, but only one of episode 0 and "
                f"episode {number} has {', '.join(odd)}"
            )
        numbers.append(np.full(len(episode["action"]), number))
    joined = {
        name: np.concatenate([np.asarray(episode[name]) for episode in episodes])
        for name in first
    }
    which = np.concatenate(numbers)
    if "episode" in joined:  # of several in one record
        labels = joined["episode"].reshape(len(which), -1).astype(str)
        which = np.column_stack([which.astype(str), labels])
    return {**joined, "episode": which}


def _number(name: Any) -> tuple[Any, ...]:
    """Sorts "demo_10" behind "demo_9"."""
    return tuple(
        (1, int(part), "") if part.isdigit() else (0, 0, part)
        for part in re.findall(r"\d+|\D+", str(name))
    )
