"""The place of each row in time: a column `step`, which counts or is a clock."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from envs.canonical import as_flags, check_known
from jaxrl_runs.warn import warn_user

_MOST_COLUMNS = 256  # Of a picture, as many pixels are looked at.
_LATE = 1.5  # Times the usual difference: others are missing in between.
_CLOSE = 0.1  # Of the usual difference, off which a clock may be.
_REGULAR = 0.9  # Of the differences of a clock that are the usual one.
_COUNTED = 0.1  # The same of a counter, of which more rows may be missing.
_FEWEST = 5  # Differences that show what is usual.


def in_order(fields: dict[str, Any]) -> dict[str, Any]:
    """Sorts rows by episode and step, where these say the place of each row."""
    if fields.get("episode") is not None:
        check_known("episode", fields["episode"])
        episode = np.asarray(fields["episode"]).astype(str)
        axis = 0 if episode.ndim > 1 else None  # of several columns
        _, first, number = np.unique(
            episode, return_index=True, return_inverse=True, axis=axis
        )
        # By first appearance, not by name: "10" comes before "9".
        fields["episode"] = np.argsort(np.argsort(first))[number.reshape(-1)]
    step = fields.get("step")
    if step is None:
        return fields
    step = np.asarray(step)
    if step.shape[1:] == (1,):
        step = fields["step"] = step[:, 0]
    if "episode" not in fields and (number := _in_turn(step, fields["obs"])) > 1:
        warn_user(
            f"step: each value stands in {number} rows one after another, whose "
            f"observations go on {number} rows later: they are taken for those of "
            f"{number} environments in turn; give env_id to say so yourself",
        )
        fields["episode"] = np.arange(len(step)) % number
    episode = fields.get("episode", np.zeros(step.shape, int))
    if step.ndim > 1:
        return fields
    order = np.lexsort((step, episode))
    if len(np.unique(np.stack([episode, step], axis=-1), axis=0)) < len(step):
        # Steps that start anew within an environment, say.
        order = np.argsort(episode, kind="stable")
    if (order == np.arange(len(step))).all():
        return fields
    return {name: np.asarray(array)[order] for name, array in fields.items()}


def places(step: Any) -> np.ndarray:
    """Numbers in the order of steps: of times, seconds; of names, their ranks."""
    step = np.asarray(step)
    if step.dtype.kind in "mM":
        return _seconds(step)
    if step.dtype.kind in "fi":
        return step
    if step.dtype.kind in "ub":
        return step.astype(np.int64)  # whose differences may be less than 0
    text = step.astype(str)
    try:
        return text.astype(np.float64)
    except ValueError:
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of time zones, which NumPy leaves out
            return _seconds(text.astype("datetime64[ns]"))
    except (ValueError, UserWarning, DeprecationWarning):
        return np.unique(text, return_inverse=True)[1].reshape(step.shape)


def _seconds(times: np.ndarray) -> np.ndarray:
    name = "datetime64[ns]" if times.dtype.kind == "M" else "timedelta64[ns]"
    nanoseconds = times.astype(name)
    return np.where(np.isnat(times), np.nan, nanoseconds.astype(np.int64) / 1e9)


def _in_turn(step: np.ndarray, obs: Any) -> int:
    """How many environments take turns, if each step stands there once for each.

    Times of a coarse clock repeat as well; there, neighbours are the closest rows.
    """
    obs = np.asarray(obs)
    if step.ndim != 1 or len(step) < 4 or len(obs) != len(step):
        return 1
    begins = np.flatnonzero(np.insert(step[1:] != step[:-1], 0, True))
    lengths = np.diff(np.append(begins, len(step)))
    number = int(lengths[0])
    if len(lengths) < 2 or np.ptp(lengths) > 0 or obs.dtype.kind not in "fiub":
        return 1
    columns = obs.reshape(len(obs), -1)[:, :_MOST_COLUMNS].astype(np.float64)
    near, far = (
        np.median(np.abs(columns[lag:] - columns[:-lag]).mean(axis=1))
        for lag in (1, number)
    )
    return number if far < near else 1


def missing_behind(step: Any, fields: dict[str, Any]) -> np.ndarray | None:
    """Rows behind which `step` does not go on, where it is regular everywhere else.

    Args:
        step: A number for each row, or None.
        fields: Of as many rows, in order. Where flags or `episode` end an episode, its
            last row is none of them.

    Returns:
        bool [N]; None where nothing is missing, or steps do not tell.

    Warns:
        UserWarning: Says how many, and the first one.
    """
    if step is None or np.size(step) != np.size(fields["reward"]):
        return None
    step = np.asarray(step).reshape(-1)
    goes_on = np.ones(len(step), bool)
    for name in ("terminated", "truncated"):
        flags = as_flags(name, np.asarray(fields[name]))
        if flags.shape not in (step.shape, (*step.shape, 1)):
            return None  # arrays [T, N]
        goes_on &= ~flags.reshape(-1)
    goes_on = goes_on[:-1]
    if "episode" in fields:
        goes_on &= np.diff(np.asarray(fields["episode"])) == 0
    change = np.diff(step)
    known = change[goes_on]
    usual = _usual(known, step)
    if usual is None:
        return None
    room = 0.0
    if (known == 0).any() and _is_whole(step):  # A clock that is rounded.
        room = float(np.gcd.reduce(known.astype(np.int64)))
    missing = goes_on & ((change <= -room) | (change > _LATE * usual + room))
    if not missing.any():
        return None
    row = int(missing.argmax())
    told = (
        f"behind {missing.sum()} of {len(step)} rows, first row {row} "
        f"({step[row]:.10g}, then {step[row + 1]:.10g})"
    )
    if (change[missing] < 0).all():
        told = f"step starts anew {told}: each is taken for the end of an episode"
    else:
        told = (
            f"step does not go on by {usual:.10g} {told}, as if others were missing "
            "there: each is taken for the end of an episode, so that where they start "
            "and how long they last is not known; give all rows, or max_steps and "
            "initial_obs where they are asked for"
        )
    warn_user(
        f"next_obs is missing, and {told}. What these rows led to is not known, and "
        "they are left out. If nothing is missing there, leave out the column of steps"
    )
    return np.append(missing, False)


def _usual(known: np.ndarray, step: np.ndarray) -> float | None:
    """By how much steps go on; None where they are not regular enough to tell.

    Of a counter, which starts from 0 or 1, any share of the rows may be missing; the
    differences of a clock also vary by themselves.
    """
    ahead = known[known > 0]
    if len(known) < _FEWEST or not len(ahead) or not np.isfinite(step).all():
        return None
    is_counter = _is_whole(step) and step.min() in (0, 1)
    values, counts = np.unique(ahead, return_counts=True)
    usual = float(values[counts.argmax()] if is_counter else np.median(ahead))
    share = (np.abs(known - usual) <= _CLOSE * usual).mean()
    is_odd = (known == 0).mean() > _CLOSE or (known < 0).mean() > 0.3
    if is_odd or share < (_COUNTED if is_counter else _REGULAR):
        return None
    return usual


def _is_whole(step: np.ndarray) -> bool:
    return bool((step == np.round(step)).all())
