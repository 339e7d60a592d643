"""What the actions of a log are: which numbers, of how many, within which bounds."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnax.environments import spaces as gymnax_spaces

from jaxrl_runs.warn import warn_user

_MOST_GUESSED = 1000  # Actions that integers without a space are taken for.
_WIDE = 5.0  # Times the log's range: a space that is wider leads where no row was.


def num_discrete_actions(action: Any, action_space: Any = None) -> int | None:
    """The number of discrete actions, or None for continuous ones.

    Raises:
        ValueError: If actions and space are of different kinds, or the space is neither
            discrete nor a box.
    """
    action = np.asarray(action)
    is_whole = action.dtype.kind in "iub" or bool((action == np.round(action)).all())
    if action_space is None:
        return _guess_num_actions(action, is_whole)
    if isinstance(action_space, gymnasium.spaces.Discrete | gymnax_spaces.Discrete):
        if not is_whole or action.size != len(action):
            raise ValueError(
                "action must be integers [N] to go with the discrete action_space, "
                f"got {action.dtype} of shape {action.shape}"
                + _remedy_of_one_hot(action)
            )
        start = int(getattr(action_space, "start", 0))
        if start != 0:
            raise ValueError(
                "action_space must have discrete actions that start at 0, got "
                f"{action_space}; subtract {start} from the actions, and give "
                f"Discrete({action_space.n})"
            )
        return int(action_space.n)
    if isinstance(action_space, gymnasium.spaces.Box | gymnax_spaces.Box):
        return None
    several = gymnasium.spaces.MultiDiscrete | gymnasium.spaces.MultiBinary
    if isinstance(action_space, several):
        raise ValueError(f"action_space: {_NO_FACTORS}")
    raise ValueError(
        "action_space must be a Discrete or a Box of gymnax or Gymnasium, got "
        f"{type(action_space).__name__}"
    )


_NO_FACTORS = (
    "MultiDiscrete and MultiBinary actions (several integers at once) are not "
    "supported; number their combinations, action = numpy.ravel_multi_index(action.T, "
    "nvec), and give the action_space Discrete(prod(nvec))"
)


def _remedy_of_one_hot(action: np.ndarray) -> str:
    flat = action.reshape(len(action), -1)
    is_one_hot = np.isin(flat, (0, 1)).all() and (flat.sum(axis=1) == 1).all()
    is_one_hot = is_one_hot and flat.shape[1] > 1
    remedy = "; the rows are one-hot: action.argmax(axis=1) has discrete actions"
    return remedy if is_one_hot else ""


def _guess_num_actions(action: np.ndarray, is_whole: bool) -> int | None:
    """What actions without a space are, where it is plain."""
    if action.dtype.kind in "iub":
        if action.ndim != 1:
            raise ValueError(
                f"action: got integers of shape {action.shape}"
                f"{_remedy_of_one_hot(action)}. {_NO_FACTORS}"
            )
        low, high = int(action.min()), int(action.max())
        if low < 0 or high >= _MOST_GUESSED:
            raise ValueError(
                f"action: got integers from {low} to {high}, but discrete actions are "
                "numbered from 0: numpy.unique(action, return_inverse=True)[1] numbers "
                "those that occur; or give the action_space"
            )
        return high + 1
    if is_whole and len(np.unique(action)) > 1:
        raise ValueError(
            f"action: got floats that are whole numbers, {action.min():g} to "
            f"{action.max():g}, which may be discrete actions or continuous ones; "
            f"give the action_space, Discrete or Box{_remedy_of_one_hot(action)}"
        )
    return None


def check_bounds(action: np.ndarray, action_space: Any) -> None:
    """Continuous actions [N, A] against their space.

    Warns:
        UserWarning: A column never varies, or leaves its bounds.

    Raises:
        ValueError: A column never varies and no space says what it could be.
    """
    constant = np.flatnonzero(np.ptp(action, axis=0) == 0)
    if constant.size:
        column = int(constant[0])
        told = (
            f"action: column {column} is {action[0, column]:g} in all "
            f"{len(action):,} rows, so that what it does is not known"
        )
        if action_space is None:
            raise ValueError(f"{told}; leave it out, or give the action_space")
        warn_user(told)
    if not isinstance(action_space, gymnasium.spaces.Box | gymnax_spaces.Box):
        return
    low, high = (
        np.broadcast_to(np.asarray(x).reshape(-1), action.shape[1:])
        for x in (action_space.low, action_space.high)
    )
    room = 1e-6 * np.maximum(np.abs(low), np.abs(high))
    outside = ((action < low - room) | (action > high + room)).any(axis=1)
    if outside.any():
        row = int(outside.argmax())
        beyond = np.maximum(action - high, low - action) > room
        column = int(beyond.any(axis=0).argmax())
        seen = action[:, column].min(), action[:, column].max()
        warn_user(
            f"action: {outside.sum()} of {len(action)} rows are outside the bounds "
            f"of action_space, first row {row} ({action[row].tolist()}): dimension "
            f"{column} is {seen[0]:g} to {seen[1]:g} in the log, and {low[column]:g} "
            f"to {high[column]:g} in the space; if the task clips them, clip them in "
            "the log too; if units differ, give both in the same ones",
        )


def say_wide(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Warns where agents may act far outside of what the log has seen.

    Args:
        action: The log's continuous actions [N, A].
        low: Lower bounds of agents' actions, [A].
        high: Upper bounds.
    """
    least, most = action.min(axis=0), action.max(axis=0)
    seen = (most - least).astype(np.float64)
    wide = (seen > 0) & (high.astype(np.float64) - low > _WIDE * seen)
    if not wide.any():  # What never varies is said elsewhere.
        return
    column = int(wide.argmax())
    more = wide.sum() - 1
    others = f" ({more} more of {len(wide)} dimensions are alike)" if more else ""
    warn_user(
        f"action_space: in dimension {column} agents may act from {low[column]:g} to "
        f"{high[column]:g}, but the log's actions are all within {least[column]:g} and "
        f"{most[column]:g}{others}: beyond these the model guesses. If units differ, "
        "give both in the same ones; else a space near the log's actions, or rows "
        "that use all of it",
    )


def check_discrete(action: Any, num_actions: int) -> np.ndarray:
    """The actions, if they are in 0 ... num_actions - 1.

    Warns:
        UserWarning: Some of these never occur.

    Raises:
        ValueError: Otherwise.
    """
    action = np.asarray(action).reshape(-1).astype(np.int64)
    if action.min() < 0 or action.max() >= num_actions:
        wrong = action.min() if action.min() < 0 else action.max()
        raise ValueError(
            f"action must be discrete actions in 0 ... {num_actions - 1}, got {wrong}"
        )
    if num_actions == 1:
        warn_user(
            "action: the log never takes another action than 0, so that there is "
            "nothing to choose from; give the action_space if the task has more",
        )
    unseen = np.setdiff1d(np.arange(num_actions), action)
    if unseen.size:
        some = ", ".join(map(str, unseen[:10])) + ", ..." * (unseen.size > 10)
        warn_user(
            f"action: of the actions 0 ... {num_actions - 1} the log never takes "
            f"{some}, so that what they do is not known. If the others are numbered "
            "with gaps, number them by numpy.unique(action, return_inverse=True)[1]",
        )
    return action
