"""Fields of a log that hold something else than their names say."""

from __future__ import annotations

import warnings

import jax
import numpy as np

from envs.log_trace import Trace
from envs.transitions import Transitions

_MOST = 0.8
_FEWEST = 10  # Rows that show it.
_MOST_SEEN = 20_000  # Rows that are looked at.


def tell_mistakes(rows: Transitions) -> None:
    """Looks for fields that were mixed up.

    Args:
        rows: Valid ones.

    Warns:
        UserWarning: `terminated` looks inverted, or `next_obs` holds `obs`.

    Raises:
        ValueError: `next_obs` holds the change of `obs`.
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
    is_often = terminated.mean() > 0.5 and moves.mean() > _MOST
    if is_often and follows[terminated[:-1]].mean() > _MOST:
        warnings.warn(
            f"terminated: it is set in {terminated.sum()} of {len(ended)} rows, and "
            "the rows go on after it, as if it was inverted (not_done, a mask of what "
            "goes on); give 1 - terminated then",
            stacklevel=4,
        )
    if (goes_on & moves).sum() <= _FEWEST or follows[goes_on].mean() > 1 - _MOST:
        return
    same = (np.abs(trace.next_obs - trace.obs) <= trace.precision).all(axis=1)
    if same.all():
        warnings.warn(
            "next_obs is obs in all rows, while obs changes from row to row: it was "
            "kept without a copy (numpy.array(obs)), or before the step; leave it out, "
            "and it is the obs of the next row",
            stacklevel=4,
        )
    obs, change = np.asarray(rows.obs), np.asarray(rows.next_obs)
    if obs.dtype.kind != "f" or obs.ndim != 2:
        return
    gaps = np.abs(obs[:-1] + change[:-1] - obs[1:])
    if (gaps <= 1e-5 * (1 + np.abs(obs[1:]))).all(axis=1)[goes_on].mean() > _MOST:
        raise ValueError(
            "next_obs holds the change of obs, not what was observed next; give obs + "
            "next_obs"
        )
