"""Logs without `next_obs`: it is the observation of the next row, where there is one.

The last row of an episode has none. What the task ended is kept all the same, as a
model of it would never end otherwise: its `next_obs` is then estimated, from rows that
are known, by least squares. Nothing bootstraps from it; but a model learns from it
where episodes end, and the last observation itself, which other rows have reached
without an end, would say the opposite.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.canonical import as_flags
from envs.log_estimates import estimated
from envs.log_padding import without_padding
from envs.transitions import Transitions
from jaxrl_runs.warn import warn_user

_MOST_COLUMNS = 256  # Of a picture, as many pixels are looked at.
_FEWEST = 20  # Rows that tell whether they are in order.
_KEPT = "kept"  # A column that goes along with those of the log.


def with_next_obs(
    fields: dict[str, Any], missing: np.ndarray | None = None
) -> dict[str, Any]:
    """Takes each next observation from the next row, in the same episode.

    Args:
        fields: By their canonical names, in order.
        missing: Rows behind which others are missing, bool [N], or None.
    """
    arrays = {name: np.asarray(array) for name, array in fields.items()}
    if len(arrays["obs"]) == len(arrays["action"]) + 1:
        found = _with_last_obs(
            arrays if missing is None else arrays | {_KEPT: ~missing}
        )
        kept = found.pop(_KEPT, slice(None))
        return {name: array[kept] for name, array in found.items()}
    has_episode, parts = "episode" in arrays, 1
    if missing is not None:
        arrays["episode"], parts = _split(arrays.get("episode", 0), missing)
    rows = Transitions(**{**arrays, "next_obs": arrays["obs"]}).validate()
    rows = without_padding(rows.replace(next_obs=rows.obs))  # type: ignore
    terminated, truncated = np.asarray(rows.terminated), np.asarray(rows.truncated)
    ended, lost = terminated | truncated, np.zeros(len(rows), bool)
    if rows.episode is not None:
        part = np.asarray(rows.episode)
        ended = ended | np.append(np.diff(part // parts) != 0, has_episode)
        lost = np.append(np.diff(part) != 0, False) & ~ended
    if not (has_episode or rows.episode is not None or ended.any()):
        warn_user(
            "next_obs is missing and no row ends an episode: all rows are taken for "
            "one episode",
        )
    ended[-1] = True
    if rows.episode is None:
        _tell_disorder(np.asarray(rows.obs), ended)
    _tell_late(np.asarray(rows.obs), terminated, ended)
    marked, ended = ended, ended | lost
    obs, action = np.asarray(rows.obs), np.asarray(rows.action)
    next_obs = np.roll(obs, -1, axis=0)
    guess = estimated(obs, action, next_obs, ~ended) if terminated.any() else None
    if guess is None:
        kept = ~ended
    else:
        kept = ~ended | terminated
        next_obs[terminated] = guess[terminated]
    _tell_left_out(marked, terminated, truncated, guess is not None)
    after = truncated & ~kept  # of rows that are left out
    return {
        "obs": obs[kept],
        "action": action[kept],
        "reward": np.asarray(rows.reward)[kept],
        "next_obs": next_obs[kept],
        "terminated": terminated[kept],
        "truncated": np.where(ended, truncated, np.roll(after, -1))[kept],
        "episode": np.cumsum(np.insert(ended[:-1], 0, False))[kept],
    }


def _split(episode: Any, missing: np.ndarray) -> tuple[np.ndarray, int]:
    """Numbers of parts of episodes, in the order of rows, and how many one can have."""
    part = np.cumsum(np.append(False, missing[:-1]))
    number = int(part[-1]) + 1
    return np.asarray(episode) * number + part, number


def _tell_late(obs: np.ndarray, terminated: np.ndarray, ended: np.ndarray) -> None:
    """Warns where flags stand one row too late: beside an episode's first observation.

    Collectors that keep the flag of the step before write this (CleanRL's `dones`).
    """
    columns = obs.reshape(len(obs), -1)[:, :_MOST_COLUMNS].astype(np.float64)
    spread = columns.std(axis=0)
    moves = np.abs(np.diff(columns, axis=0)) / np.where(spread > 0, spread, 1.0)
    moves = moves.mean(axis=1)
    inside = np.flatnonzero(terminated[1:-1]) + 1
    inside = inside[~ended[inside - 1]]
    if len(inside) < 3 or ended.mean() > 0.5:
        return
    usual = np.quantile(moves[~ended[:-1]], 0.8)
    is_late = (moves[inside - 1] > usual) & (moves[inside] < moves[inside - 1])
    if is_late.mean() > 0.8:
        warn_user(
            f"terminated: {is_late.sum()} of {len(inside)} flags stand where "
            "observations have just jumped, at the first row of an episode rather "
            "than the last one (CleanRL's dones do): move them up by one row then, "
            "numpy.roll(terminated, -1, axis=0)",
        )


def _with_last_obs(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same with one observation more than actions, `[T + 1, ...]`.

    Where an episode ends before the last row, the observation behind it is that of a
    reset: such rows are left out.
    """
    obs = arrays.pop("obs")
    arrays = {**arrays, "obs": obs[:-1], "next_obs": obs[1:]}
    flags = [as_flags(name, arrays[name]) for name in ("terminated", "truncated")]
    ended = flags[0] | flags[1]
    if ended.ndim > 2 or not ended[:-1].any():
        return arrays
    inside = ended & ended[:-1].any(axis=0)
    if ended.ndim == 1:
        ended, inside = ended[:, None], inside[:, None]
        arrays = {name: array[:, None] for name, array in arrays.items()}
    episode = np.cumsum(np.roll(inside, 1, axis=0), axis=0)
    episode = episode + (episode.max() + 1) * np.arange(episode.shape[1])
    warn_user(
        f"next_obs is missing: {inside.sum()} rows that end episodes are left out, as "
        "the observation behind them is that of a reset; episodes are one step shorter "
        "than they were: give max_steps",
    )
    kept = ~inside.T
    rows = {name: np.swapaxes(array, 0, 1)[kept] for name, array in arrays.items()}
    return {**rows, "episode": episode.T[kept]}


def _tell_disorder(obs: np.ndarray, ended: np.ndarray) -> None:
    """Warns where a row is no closer to the next one than to any other."""
    columns = obs.reshape(len(obs), -1)[:, :_MOST_COLUMNS].astype(np.float64)
    other = np.random.default_rng(0).permutation(len(columns))
    follows = np.abs(np.diff(columns, axis=0))[~ended[:-1]].mean(axis=1)
    anywhere = np.abs(columns - columns[other]).mean(axis=1)
    is_one_hot = np.isin(columns, (0, 1)).all()  # as far from any other
    if len(follows) < _FEWEST or is_one_hot:
        return
    if np.median(follows) < 0.7 * np.median(anywhere):
        return
    warn_user(
        "next_obs is missing, and a row's observation is no closer to the next row's "
        "than to any other's: rows seem to be shuffled or of several environments; "
        "give the columns step or env_id (columns={'episode': ...} names others), or "
        "next_obs",
    )


def _tell_left_out(
    ended: np.ndarray, terminated: Any, truncated: Any, is_estimated: bool
) -> None:
    out = ended & ~terminated if is_estimated else ended
    told = []
    if out.sum() > 1 or (out.any() and (terminated.any() or truncated.any())):
        told.append(f"the last rows of {out.sum()} episodes are left out")
    if terminated.any() and not is_estimated:
        told.append(f"with them all {terminated.sum()} terminations")
    if (out & ~terminated).sum() > 1 or (truncated & out).any():
        told.append("episodes are one step shorter than they were: give max_steps")
    if is_estimated:
        told.append(
            f"what followed {terminated.sum()} terminations is estimated from the "
            "other rows, by least squares: give the final observations if there are any"
        )
    if told:
        warn_user("next_obs is missing: " + ", and ".join(told))
