"""Rows of a log that are no rows: what fills arrays up to a common length."""

from __future__ import annotations

import dataclasses

import numpy as np

from envs.log_trace import Trace, size_of
from envs.transitions import Transitions
from jaxrl_runs.warn import warn_user

_FEWEST = 2  # Rows of padding that are told from a coincidence.
_JUMP = 3.0  # Times a typical step.
_MOST = 20_000  # Rows before a repetition that are looked at.
_FIELDS = ("obs", "action", "reward", "next_obs")


def without_padding(rows: Transitions) -> Transitions:
    """The rows without those that only fill arrays up.

    Padding are rows of zeros in all fields that do not continue the row before them
    (or come after the end of an episode), and repetitions of the last row at the end
    of an environment or an episode.

    Args:
        rows: Valid ones. Where `next_obs` is not known yet, it is `obs`.

    Returns:
        The rows themselves if there is no padding.

    Warns:
        UserWarning: Rows are left out; says how many, and where the first one is.
    """
    fields = [np.asarray(getattr(rows, name)) for name in _FIELDS]
    flat = [x.reshape(len(x), -1) for x in fields]
    zero = np.logical_and.reduce([(x == 0).all(axis=1) for x in flat])
    same = np.zeros(len(rows), bool)
    same[1:] = np.logical_and.reduce([(x[1:] == x[:-1]).all(axis=1) for x in flat])
    starts = np.zeros(len(rows), bool)  # of environments or episodes
    starts[0] = True
    if rows.episode is not None:
        starts[1:] |= np.diff(np.asarray(rows.episode)) != 0
    same &= ~starts
    if zero.sum() + same.sum() < _FEWEST:
        return rows
    padding = _zeros(rows, zero, starts) | _repeated(rows, same, starts)
    if padding.sum() < _FEWEST or padding.all():
        return rows
    warn_user(
        f"transitions: {padding.sum()} of {len(rows)} rows, first row "
        f"{int(padding.argmax())}, are zeros in all fields after an episode's end, or "
        "repeat its last row: they are taken for padding and left out; give a mask "
        "or the rows that are meant to say so yourself",
    )
    kept = ~padding
    given = {f.name: getattr(rows, f.name) for f in dataclasses.fields(rows)}
    return Transitions(
        **{k: None if x is None else np.asarray(x)[kept] for k, x in given.items()}
    )


def _zeros(rows: Transitions, zero: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Zeros up to the end of each environment that do not continue what was before.

    A task can rest where all is zero (the first state, numbered 0, the action 0 that
    leads nowhere): then such rows stand elsewhere as well.
    """
    none = np.zeros(len(zero), bool)
    first = _first_of_last_run(zero, starts)
    tail = zero & (np.arange(len(zero)) >= first)
    places, lengths = np.unique(first[tail], return_counts=True)
    places = places[(lengths >= _FEWEST) & ~starts[places]]
    if (zero & ~tail).any() or not len(places):
        return none
    ended = (np.asarray(rows.terminated) | np.asarray(rows.truncated))[places - 1]
    trace = Trace.of(rows)
    if rows.next_obs is rows.obs:
        steps = size_of(np.diff(trace.obs[~zero], axis=0) / trace.spread)
        gap = size_of((trace.obs[places] - trace.obs[places - 1]) / trace.spread)
        jumps = gap > _JUMP * np.median(steps) if len(steps) else ended
    else:
        gap = np.abs(trace.obs[places] - trace.next_obs[places - 1])
        jumps = (gap > trace.precision).any(axis=1)
    return tail & np.isin(first, places[ended | jumps])


def _first_of_last_run(inside: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """For each row, where the last run of its environment begins that reaches its end.

    Args:
        inside: Which rows runs are of, bool [N].
        starts: First rows of environments, bool [N].

    Returns:
        Row numbers [N]; the one behind the environment where there is no such run.
    """
    place = np.arange(len(inside))
    group = np.cumsum(starts) - 1
    behind = np.where(inside, 0, place + 1)
    last = np.append(starts[1:], True)
    begin = np.maximum(np.maximum.accumulate(behind)[last], place[starts])
    return begin[group]


def _repeated(rows: Transitions, same: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Repetitions of a row up to the end of its environment or episode.

    An environment can rest, where every row is like the one before; a row that moved
    cannot be followed by itself, nor one that ended the episode, but where states are
    numbered and the same few steps come again and again.
    """
    first = _first_of_last_run(same, starts)
    found = same & (np.arange(len(same)) >= first)
    if not found.any():
        return found
    obs, next_obs = (
        np.asarray(x).reshape(len(same), -1) for x in (rows.obs, rows.next_obs)
    )
    table = np.concatenate([obs, next_obs], axis=1)
    moved = (obs != next_obs).any(axis=1)
    ended = np.asarray(rows.terminated) | np.asarray(rows.truncated)
    wrong, whole = [], []
    for place in np.unique(first[found]):
        head = place - 1  # which is repeated
        again = (table[max(0, head - _MOST) : head] == table[head]).all(axis=1).any()
        if again or not (moved[head] or ended[head]):
            wrong.append(place)
        elif starts[head]:
            whole.append(place)
    found &= ~np.isin(first, wrong)
    alone = np.isin(first, whole)  # episodes of one step, where others are longer
    return found if (found & ~alone).any() else found & ~alone
