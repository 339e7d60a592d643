"""Which array or column of a log is which field of `Transitions`, told by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.canonical import FIELDS, array_of
from envs.gymnasium_spaces import flatten_rows

NAMES = {
    "obs": ("obs", "observation", "observations", "state", "states"),
    "action": ("action", "actions", "act", "acts"),
    "reward": ("reward", "rewards", "rew", "rews"),
    "next_obs": ("next_obs", "new_obs", "obs_next"),
    "terminated": (
        "terminated",
        "termination",
        "terminations",
        "terminal",
        "terminals",
        "term",
        "is_terminal",
    ),
    "truncated": (
        "truncated",
        "truncation",
        "truncations",
        "trunc",
        "timeout",
        "timeouts",
        "time_out",
    ),
    "episode": (
        "episode",
        "episode_id",
        "episode_index",
        "episode_number",
        "trajectory",
        "trajectory_id",
        "ep",
        "ep_id",
        "episode_num",
        "traj",
        "traj_id",
        "run",
        "run_id",
        "env_id",
        "env",
        "env_index",
        "env_idx",
        "env_num",
        "environment",
        "worker",
        "worker_id",
        "actor_id",
        "agent_id",
        "rank",
    ),
    "step": ("step", "timestep", "time_step", "step_index", "timestamp"),
    "done": ("done", "dones"),
    "mask": ("mask", "masks", "valid", "valid_mask", "padding_mask"),
    "lengths": (
        "lengths",
        "length",
        "episode_lengths",
        "episode_length",
        "ep_lengths",
        "traj_lengths",
        "seq_lengths",
    ),
}
_ABOUT_ROWS = ("mask", "lengths")  # no fields of their own
_NEXT = ("next", "new")

Columns = Mapping[str, str | Sequence[str]]
_Words = tuple[str, ...]


def named_columns(columns: Columns | None) -> set[str]:
    """The columns that are named for a field."""
    every = (columns or {}).values()
    return {
        x for names in every for x in ([names] if isinstance(names, str) else names)
    }


def named(
    given: Mapping[Any, Any], columns: Columns | None = None, space: Any = None
) -> dict[str, Any]:
    """The fields that a mapping or a table has, by their canonical names.

    Args:
        given: Arrays or columns by name.
        columns: Where each field is, if its name does not tell.
        space: Gymnasium's, to flatten observations that are mappings or tuples.

    Raises:
        ValueError: A field is there twice, or a column that is named is not there.
    """
    columns = dict(columns or {})
    unknown = columns.keys() - NAMES.keys()
    if unknown:
        raise ValueError(
            f"columns must be fields among {', '.join(NAMES)}, got "
            f"{', '.join(sorted(unknown))}"
        )
    whole, parts = _by_name(given)
    fields = {}
    for field in NAMES:
        found = whole.get(field, [])
        if field in columns:
            fields[field] = _chosen(given, field, columns[field])
        elif field == "episode" and len(found) > 1:  # of an environment, of an episode
            fields[field] = np.stack([np.asarray(given[n]) for n in found], axis=1)
        elif len(found) > 1:
            raise ValueError(
                f"{field} must be one array, found {' and '.join(map(str, found))}; "
                "say which by columns"
            )
        elif found:
            fields[field] = _flattened(field, given[found[0]], space)
        elif field in parts and field in FIELDS:
            chosen = _in_order(field, parts)
            fields[field] = _stacked(given, chosen)
    return fields


def has_fields(given: Mapping[Any, Any]) -> bool:
    """Whether any name is that of a field."""
    return any(
        field is not None and not rest and field not in _ABOUT_ROWS
        for field, rest in map(field_of, given)
    )


def lacks(field: str, given: Mapping[Any, Any]) -> ValueError:
    """The error that says which field there is none of, and what there is instead."""
    found = list(map(str, given))
    shown = ", ".join(found[:30]) + (", ..." if len(found) > 30 else "")
    example = f'{{"{field}": "NAME"}}'
    remedy = f"; else say where: envs.read_transitions(log, columns={example})"
    if field in ("obs", "next_obs", "action"):
        remedy += ", or a list of names for several columns"
    return ValueError(
        f"lacks the field {field!r} (also called {', '.join(NAMES[field][1:])}); it "
        f"has {shown or 'none'}{remedy}"
    )


def _by_name(
    given: Mapping[Any, Any],
) -> tuple[dict[str, list[Any]], dict[str, dict[_Words, Any]]]:
    """Names that stand for a whole field, and those of its parts by what follows."""
    whole: dict[str, list[Any]] = {}
    parts: dict[str, dict[_Words, Any]] = {}
    for name in given:
        field, rest = field_of(name)
        if field is None:
            continue
        if rest:
            parts.setdefault(field, {})[rest] = name
        else:
            whole.setdefault(field, []).append(name)
    return whole, parts


def field_of(name: Any) -> tuple[str | None, _Words]:
    """`next_obs`, and what is left of the name: (`"x"`,) of "next_obs_x"."""
    words = tuple(re.findall(r"[^\W\d_]+|\d+", str(name).lower()))
    is_next = sum(word in _NEXT for word in words) == 1
    if is_next:
        words = tuple(word for word in words if word not in _NEXT)
    for length in range(len(words), 0, -1):
        field = _PHRASES.get(words[:length])
        if field == "obs" and is_next:
            return "next_obs", words[length:]
        if field is not None and not is_next:
            return field, words[length:]
    return None, ()


_PHRASES = {
    tuple(name.split("_")): field
    for field, names in NAMES.items()
    if field != "next_obs"  # "next" or "new" beside a name of `obs`
    for name in names
}


def _in_order(field: str, parts: Mapping[str, Mapping[_Words, Any]]) -> list[Any]:
    """Columns such as `obs_0`, `obs_1` by number, `obs_x`, `obs_v` as they stand.

    Those of `next_obs` are in the order of the same ones of `obs`.
    """
    own = parts[field]
    if field == "next_obs" and "obs" in parts:
        others = parts["obs"]
        if own.keys() != others.keys():
            odd = sorted(map("_".join, own.keys() ^ others.keys()))
            raise ValueError(
                "next_obs must have the same columns as obs, but only one of them has "
                f"{', '.join(odd)}"
            )
        return [own[rest] for rest in _sorted(others)]
    return [own[rest] for rest in _sorted(own)]


def _sorted(parts: Mapping[_Words, Any]) -> list[_Words]:
    if all(word.isdigit() for rest in parts for word in rest):
        _check_gaps(parts)
        return sorted(parts, key=lambda rest: tuple(map(int, rest)))
    return list(parts)


def _check_gaps(parts: Mapping[_Words, Any]) -> None:
    """Raises ValueError where a number is left out, or stands there twice."""
    if any(len(rest) != 1 for rest in parts):
        return
    numbers = sorted(int(rest[0]) for rest in parts)
    shown = ", ".join(str(name) for name in list(parts.values())[:10])
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"columns must have numbers that differ, got {shown}")
    absent = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if absent and len(absent) <= len(numbers):
        one = next(iter(parts.items()))
        names = [
            str(one[1])[: str(one[1]).rindex(one[0][0])] + str(number)
            for number in absent[:10]
        ]
        raise ValueError(
            f"columns must be numbered without a gap, but {', '.join(names)} "
            f"{'are' if len(names) > 1 else 'is'} missing beside {shown}; if that is "
            "meant, name the columns by columns={...}"
        )


def _chosen(given: Mapping[Any, Any], field: str, names: str | Sequence[str]) -> Any:
    several = [names] if isinstance(names, str) else list(names)
    for name in several:
        if name not in given:
            raise ValueError(
                f"columns[{field!r}]: there is no {name!r}, but "
                f"{', '.join(map(str, given))}"
            )
    if isinstance(names, str):
        return given[names]
    return _stacked(given, several)


def _stacked(given: Mapping[Any, Any], names: Sequence[Any]) -> np.ndarray:
    return np.stack([array_of(str(name), given[name]) for name in names], axis=1)


def _flattened(field: str, values: Any, space: Any) -> Any:
    """Observations that are mappings or tuples of arrays, as Gymnasium does it."""
    is_tuple = isinstance(space, gymnasium.spaces.Tuple)
    if field not in ("obs", "next_obs") or not (
        isinstance(values, Mapping) or (is_tuple and isinstance(values, tuple))
    ):
        return values
    if space is None:
        raise ValueError(
            f"{field} must be one array, got a mapping with "
            f"{', '.join(map(str, values))}; give the observation_space by which to "
            "flatten it"
        )
    return flatten_rows(space, values)
