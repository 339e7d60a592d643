"""Observations outside of the space that a task announces: said once, in words.

Gymnasium's own checks warn of the same. What is outside is played as it is: spaces are
often wrong, but whatever scales by their bounds (policies, networks) goes wrong then.
"""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np

_ROOM = 1e-5  # Programs round: relative to the bounds.


def outside(space: Any, obs: Any) -> str | None:
    """How observations leave a space, in words; None if they do not.

    Args:
        space: Of one observation, Gymnasium's Box or Discrete; of others nothing is
            said.
        obs: A batch [N, ...]. NaN is not looked at.
    """
    obs = np.asarray(obs)
    if isinstance(space, gymnasium.spaces.Discrete):
        wrong = (obs < space.start) | (obs >= space.start + space.n)
        if not wrong.any():
            return None
        return (
            f"must be one of {space.start} ... {space.start + space.n - 1}, got "
            f"{obs[wrong][0]}"
        )
    if not isinstance(space, gymnasium.spaces.Box) or obs.shape[1:] != space.shape:
        return None
    low, high = _bounds(space)
    wrong = (obs < low) | (obs > high)
    if not wrong.any():
        return None
    place = tuple(np.argwhere(wrong)[0])
    where = place[1:]
    index = f"[{', '.join(map(str, where))}]" if where else ""
    return (
        f"must be in [{space.low[where]:g}, {space.high[where]:g}], got "
        f"obs{index} = {obs[place]:g}"
    )


def _bounds(space: gymnasium.spaces.Box) -> tuple[np.ndarray, np.ndarray]:
    low, high = (np.asarray(x, np.float64) for x in (space.low, space.high))
    room = [_ROOM * (1 + np.abs(np.where(np.isfinite(x), x, 0))) for x in (low, high)]
    return low - room[0], high + room[1]


class ObsWatch:
    """Warns the first time that observations leave their space.

    Args:
        space: Of one observation, Gymnasium's.
        label: The task's name.
    """

    def __init__(self, space: Any, label: str):
        self._space, self._label = space, label
        self._is_said = False

    def look(self, obs: Any, stacklevel: int = 3) -> None:
        """Looks at a batch [N, ...]."""
        if self._is_said or not len(obs):
            return
        found = outside(self._space, obs)
        if found is not None:
            self._is_said = True
            warnings.warn(
                f"task {self._label!r}: observations leave the observation space that "
                f"it declares: {found}; mend the space or the observations "
                "(gymnasium.wrappers.ClipObservation, say)",
                stacklevel=stacklevel,
            )
