"""Observations in units of their ranges, as evolved networks see them.

Ranges are params, float32 `[obs_size, 2]`: they can differ between candidates or change
during an evolution, and nothing is compiled for one of them.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from envs.spaces import obs_range
from jaxrl_runs.values import ANY_NUMBER, shown

Ranges = tuple[tuple[float, float], ...] | Literal["task", "running"] | None
"""Low and high of each observation, or where to read them; None for no ranges."""


def check_ranges(ranges: Any) -> None:
    """Raises ValueError unless these are `Ranges`, whatever the task."""
    if ranges is None or (isinstance(ranges, str) and ranges in ("task", "running")):
        return
    pairs = ranges if isinstance(ranges, tuple) else ()
    if not pairs or not all(_is_range(pair) for pair in pairs):
        raise ValueError(
            "obs_range must be a tuple of pairs (low, high) of numbers with low < "
            f"high, 'task', 'running' or None, got {shown(ranges)}"
        )


def _is_range(pair: Any) -> bool:
    if not (isinstance(pair, tuple) and len(pair) == 2):
        return False
    try:
        for end in pair:
            ANY_NUMBER.check("obs_range", end)
    except ValueError:
        return False
    return pair[0] < pair[1]


def ranges_of(ranges: Ranges | str, env: Any, params: Any) -> np.ndarray | None:
    """Ranges as params.

    Args:
      ranges: Pairs of low and high; "task" for the ends of the task's observation
        space, [-1, 1] where they are infinite; or None.
      env: The task's environment.
      params: Its params.

    Returns:
      float32 `[obs_size, 2]`, or None.

    Raises:
      ValueError: There is not one pair per observation, or a range is empty.
    """
    if ranges is None:
        return None
    size = int(env.observation_space(params).shape[0])
    if isinstance(ranges, str):
        if ranges != "task":
            raise ValueError(
                "obs_range must be pairs, 'task' or None ('running' only where a task "
                f"outside JAX is evolved on), got {ranges!r}"
            )
        ranges = obs_range(env, params)
    return checked(ranges, size)


def checked(ranges: Any, size: int) -> np.ndarray:
    """Pairs as an array `[size, 2]`; raises ValueError, see `ranges_of`."""
    try:
        array = np.asarray(ranges, np.float32)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (size, 2):
        raise ValueError(
            f"obs_range must have {size} pairs of low and high, one per observation, "
            f"got {ranges!r}"
        )
    if not (array[:, 0] < array[:, 1]).all() or not np.isfinite(array).all():
        raise ValueError(
            "obs_range must have a low below its high in every pair, both finite, got "
            f"{ranges!r}"
        )
    return array


def to_unit(ranges: Any, obs: jax.Array) -> jax.Array:
    """Observations `[..., obs_size]` with their ranges as [-1, 1]."""
    if ranges is None:
        return obs
    low, high = jnp.asarray(ranges, jnp.float32).T
    return (2 * obs - low - high) / (high - low)


def from_unit(ranges: Any, obs: jax.Array) -> jax.Array:
    """The inverse of `to_unit`."""
    if ranges is None:
        return obs
    low, high = jnp.asarray(ranges, jnp.float32).T
    return (low + high + obs * (high - low)) / 2
