"""What an action led to, where a log does not hold it.

A model learns from the next observation where episodes end, so that a row that the task
ended is worth keeping: without any, a model never ends an episode; and with the last
observation in its place, which other rows have reached without an end, it ends them
late. Nothing bootstraps from what is estimated.
"""

from __future__ import annotations

import numpy as np

_MOST_COLUMNS = 256
_ROWS_PER_WEIGHT = 2


def estimated(
    obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, known: np.ndarray
) -> np.ndarray | None:
    """Next observations of all rows, by least squares on the moves of some.

    Args:
        obs: [N, ...].
        action: [N] or [N, A].
        next_obs: As `obs`; looked at where it is known.
        known: Where it is, bool [N].

    Returns:
        As `obs`; or None where least squares say nothing: of integers, of states by
        number (all zeros and ones), of pictures, and of too few rows.
    """
    columns = obs.reshape(len(obs), -1).astype(np.float64)
    if (
        action.ndim == 1
        and action.dtype.kind in "iu"
        and np.ptp(action) < _MOST_COLUMNS
    ):
        actions = np.eye(np.ptp(action) + 1)[action - action.min()]
    else:
        actions = action.reshape(len(action), -1).astype(np.float64)
    inputs = np.concatenate([np.ones((len(obs), 1)), columns, actions], axis=1)
    is_vector = obs.dtype.kind == "f" and columns.shape[1] <= _MOST_COLUMNS
    if not is_vector or np.isin(columns, (0, 1)).all():
        return None
    if known.sum() < _ROWS_PER_WEIGHT * inputs.shape[1]:
        return None
    moves = (next_obs.reshape(columns.shape) - columns)[known]
    weights = np.linalg.lstsq(inputs[known], moves, rcond=None)[0]
    return (columns + inputs @ weights).reshape(obs.shape).astype(obs.dtype)
