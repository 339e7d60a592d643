"""Fields of a log that hold something else than their names say."""

from __future__ import annotations

import jax
import numpy as np

from envs.log_trace import Trace, size_of
from envs.transitions import Transitions
from jaxrl_runs.warn import warn_user

_MOST = 0.8
_FEWEST = 10  # Rows that show it.
_LEAP = 5.0  # Times a typical move.
_SMALL = 0.5  # Of the spread of all observations.
_FEWEST_LEAPS = 3
_FEWEST_AT_LIMIT = 3
_FEWEST_SUMS = 50
_MOST_COLUMNS = 64
_MOST_SEEN = 20_000  # Rows that are looked at.


def tell_mistakes(rows: Transitions) -> None:
    """Looks for fields that were mixed up.

    Args:
        rows: Valid ones.

    Warns:
        UserWarning: `terminated` looks inverted, `next_obs` holds `obs`, `reward` looks
            like a sum, or rows are missing between nearly all others.

    Raises:
        ValueError: `next_obs` holds the change of `obs`, or its columns in another
            order.
    """
    rows = jax.tree.map(lambda x: np.asarray(x)[:_MOST_SEEN], rows)
    terminated, truncated = np.asarray(rows.terminated), np.asarray(rows.truncated)
    ended = terminated | truncated
    if len(rows) <= _FEWEST:
        return
    trace = Trace.of(rows)
    follows = trace.same_numbers(1)
    moves = (np.abs(np.diff(trace.obs, axis=0)) > trace.precision).any(axis=1)
    goes_on = ~ended[:-1]
    if rows.episode is not None:
        goes_on &= np.diff(np.asarray(rows.episode)) == 0
    _tell_sums(rows, goes_on)
    if not ended.any():
        _tell_unmarked_resets(trace, goes_on & follows)
    is_often = terminated.mean() > 0.5 and moves.mean() > _MOST
    if is_often and follows[terminated[:-1]].mean() > _MOST:
        warn_user(
            f"terminated: it is set in {terminated.sum()} of {len(ended)} rows, and "
            "the rows go on after it, as if it was inverted (not_done, a mask of what "
            "goes on); give 1 - terminated then",
        )
    if (goes_on & moves).sum() <= _FEWEST or follows[goes_on].mean() > 1 - _MOST:
        return
    same = (np.abs(trace.next_obs - trace.obs) <= trace.precision).all(axis=1)
    if same.all():
        warn_user(
            "next_obs is obs in all rows, while obs changes from row to row: it was "
            "kept without a copy (numpy.array(obs)), or before the step; leave it out, "
            "and it is the obs of the next row",
        )
    if trace.lacks_rows(goes_on):
        _tell_missing(trace, goes_on)
    obs, change = np.asarray(rows.obs), np.asarray(rows.next_obs)
    if obs.dtype.kind != "f" or obs.ndim != 2:
        return
    gaps = np.abs(obs[:-1] + change[:-1] - obs[1:])
    is_change = np.all(gaps <= 1e-5 * (1 + np.abs(obs[1:])), axis=1)
    if np.mean(np.asarray(is_change)[goes_on]) > _MOST:
        raise ValueError(
            "next_obs holds the change of obs, not what was observed next; give obs + "
            "next_obs"
        )
    _check_columns(obs, change, goes_on, trace.precision)


def _tell_missing(trace: Trace, goes_on: np.ndarray) -> None:
    follows = int((trace.follows(1) & goes_on).sum())
    row = int((goes_on & ~trace.follows(1)).argmax())
    warn_user(
        "transitions: rows are missing between nearly all others. The next_obs of a "
        f"row should be the obs of the next row, and is in {follows} of the "
        f"{goes_on.sum()} rows that end no episode (first not in row {row}): each next "
        "one is a few steps further. As steps they are right, but where episodes start "
        "and how long they last is not known, nor are the ends that are missing: give "
        "all rows, or where it is asked for max_steps and initial_obs",
    )


def _check_columns(
    obs: np.ndarray, next_obs: np.ndarray, goes_on: np.ndarray, precision: np.ndarray
) -> None:
    """Raises ValueError where columns of `next_obs` follow others than their own."""
    size = obs.shape[1]
    if not 1 < size <= _MOST_COLUMNS:
        return
    before, after = next_obs[:-1][goes_on], obs[1:][goes_on]
    gaps = np.abs(before[:, :, None].astype(np.float64) - after[:, None, :])
    share = np.mean(gaps <= precision, axis=0)  # [column of next_obs, column of obs]
    found = share.argmax(axis=0)
    is_other = (share.max(axis=0) > _MOST) & (share.diagonal() < 1 - _MOST)
    if not is_other.any() or len(set(found.tolist())) < size:
        return
    column = int(is_other.argmax())
    raise ValueError(
        "next_obs has its columns in another order than obs: the next row's column "
        f"{column} of obs is column {found[column]} of next_obs; give both in one "
        f"order (of next_obs, the columns {', '.join(map(str, found))})"
    )


def _tell_unmarked_resets(trace: Trace, goes_on: np.ndarray) -> None:
    """Warns where no end is marked, and some rows leap to one small region."""
    moves = size_of((trace.next_obs - trace.obs) / trace.spread)[:-1]
    if not goes_on.any():
        return
    leaps = goes_on & (moves > _LEAP * np.median(moves[goes_on]))
    if leaps.sum() < _FEWEST_LEAPS or leaps.mean() > 1 - _MOST:
        return
    goals = (trace.next_obs[:-1] / trace.spread)[leaps]
    if size_of(goals.std(axis=0)[None])[0] > _SMALL:
        return
    warn_user(
        f"transitions: no row ends an episode, but {leaps.sum()} of {len(leaps)} go "
        f"much further than all others, first row {int(leaps.argmax())}, and to one "
        "small region, as resets do; if they are that, leave them out and mark the "
        "rows before them as ends: a model learns them as steps of the task",
    )


def tell_odd_lengths(
    lengths: np.ndarray, terminated: np.ndarray, truncated: np.ndarray
) -> None:
    """Warns where flags look like those of the other kind.

    Args:
        lengths: Of episodes, int [E].
        terminated: Whether the task ended them, bool [E].
        truncated: Whether a time limit is marked at their ends, bool [E].
    """
    truncated = truncated & ~terminated
    at_most = terminated & (lengths == lengths.max(initial=0))
    if at_most.sum() < _FEWEST_AT_LIMIT or lengths.max() < _FEWEST:
        return
    longest = f"{at_most.sum()} episodes with exactly {lengths.max()} steps, the most"
    number = len(np.unique(lengths[truncated]))
    if number > 2 and at_most.sum() == terminated.sum():
        warn_user(
            f"transitions: terminated is set at the end of all {longest}, and "
            f"truncated after {number} other numbers of steps, as if the two were "
            "swapped",
        )
    elif not truncated.any():
        warn_user(
            f"transitions: terminated is set at the end of {longest}, as a time limit "
            "does; if it is one, mark these rows by truncated instead, as the task "
            "would go on",
        )


def _tell_sums(rows: Transitions, goes_on: np.ndarray) -> None:
    """Warns where rewards look like the return so far, which only grows."""
    change = np.diff(np.asarray(rows.reward, np.float64))[goes_on]
    if len(change) < _FEWEST_SUMS or (change != 0).mean() < 0.5:
        return
    paid = np.asarray(rows.reward)[np.append(goes_on, False)]
    if not paid.any():  # Only last rows are, as where a game is won or lost.
        return
    if (change >= 0).all() or (change <= 0).all():
        way = "grows" if change.max() > 0 else "falls"
        warn_user(
            f"reward: within episodes it only {way}, row after row, in all "
            f"{len(change)} of them, as the sum of all rewards so far does; if it is "
            "that, give its differences",
        )
