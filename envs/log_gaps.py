"""Rows that do not lead to the next one, where a log marks no end of an episode.

Numbers show ends that nobody marks: time limits, in logs without flags for them, whose
`episode` may number environments as well. But they also show rows that are wrong.
"""

from __future__ import annotations

import numpy as np

from envs.log_trace import Trace, size_of
from envs.transitions import Transitions
from jaxrl_runs.warn import warn_user

_LEAP = 5.0  # Times a typical move.
_BACK = 0.25  # Of a leap: how far the way goes on without it.
_FEWEST = 3  # Rows that leap by themselves.


def tell_gaps(
    rows: Transitions, trace: Trace, breaks: np.ndarray, gaps: np.ndarray
) -> None:
    """Warns where ends of episodes that only numbers show look like something else.

    Args:
        rows: N rows.
        trace: Theirs.
        breaks: Ends that the log marks, bool [N - 1].
        gaps: Other rows that do not lead to the next one, bool [N - 1].
    """
    odd, why = gaps, "though the log marks where episodes end"
    if not _marks_all_ends(rows, breaks, gaps):
        odd = gaps & leaps(trace)
        why = "but in one of the two leaps away from where the other rows go on"
        if odd.sum() < _FEWEST:
            return
    if not odd.any():
        return
    ends = np.append(breaks | gaps, True)
    longest = int(np.diff(np.flatnonzero(ends), prepend=-1).max())
    warn_user(
        f"transitions: {odd.sum()} of {(~breaks).sum()} rows inside of episodes do not "
        f"have the obs of the next row as next_obs, first row {int(odd.argmax())}, "
        f"{why}: each is taken for the end of an episode, so that there are "
        f"{ends.sum()} instead of {ends.sum() - odd.sum()}, and the longest has "
        f"{longest} steps. Look at these rows: one of the two may be wrong, or rows "
        "are missing; or leave next_obs out, and it is the obs of the next row, and "
        "give max_steps where it is asked for",
    )


def _marks_all_ends(rows: Transitions, breaks: np.ndarray, gaps: np.ndarray) -> bool:
    """Whether no end of an episode is left for numbers to show.

    They are where time limits are not marked, and `episode` numbers environments:
    episodes then end inside of what it calls one. Logs that were cut and put together
    have an end without a mark in each of their parts.
    """
    ended = (np.asarray(rows.terminated) | np.asarray(rows.truncated))[:-1]
    has_limits = bool(np.asarray(rows.truncated).any())
    if rows.episode is None:
        return has_limits and bool(gaps.sum() > breaks.sum())
    changes = np.diff(np.asarray(rows.episode)) != 0
    numbers_episodes = (
        ended.any()
        and not (ended & ~changes).any()
        and ended.sum() >= 0.5 * changes.sum()
    )
    return has_limits or bool(numbers_episodes)


def leaps(trace: Trace) -> np.ndarray:
    """Whether a row's `next_obs`, or the next row's `obs`, leaps off the way, [N - 1].

    A reset leaps, too; but then neither of the two rows goes far, and the way does not
    go on where it was.
    """
    moves = size_of((trace.next_obs - trace.obs) / trace.spread)
    far = _LEAP * np.median(moves)
    before = size_of(np.diff(trace.obs, axis=0) / trace.spread)
    after = size_of(np.diff(trace.next_obs, axis=0) / trace.spread)
    return ((moves[:-1] > far) & (before < _BACK * moves[:-1])) | (
        (moves[1:] > far) & (after < _BACK * moves[1:])
    )
