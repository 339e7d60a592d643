"""Between gymnax's spaces and JAX arrays and Gymnasium's spaces and NumPy arrays."""

from typing import Any

import gymnasium
import numpy as np
from gymnax.environments import spaces as gymnax_spaces


def to_gymnasium(space: gymnax_spaces.Space) -> gymnasium.Space:
    """Convert a gymnax space.

    Bounds at the largest float32, gymnax's way to say unbounded, become infinite, as
    in Gymnasium's own tasks (and so that ``sample`` does not overflow).

    Raises:
        TypeError: If the space is of a kind that gymnax 1.x does not have.
    """
    if isinstance(space, gymnax_spaces.Discrete):
        return gymnasium.spaces.Discrete(int(space.n))
    if isinstance(space, gymnax_spaces.Box):
        dtype = np.dtype(space.dtype)
        low, high = (
            np.broadcast_to(_unbounded(np.asarray(bound), dtype), space.shape)
            for bound in (space.low, space.high)
        )
        return gymnasium.spaces.Box(low, high, dtype=dtype.type)
    if isinstance(space, gymnax_spaces.Dict):
        return gymnasium.spaces.Dict(
            {name: to_gymnasium(child) for name, child in space.spaces.items()}
        )
    if isinstance(space, gymnax_spaces.Tuple):
        return gymnasium.spaces.Tuple([to_gymnasium(child) for child in space.spaces])
    raise TypeError(
        "space: expected gymnax's Discrete, Box, Dict or Tuple, got "
        f"{type(space).__name__}"
    )


def to_numpy(space: gymnasium.Space, value: Any) -> Any:
    """Copy an observation into writable NumPy arrays of the space's dtype."""
    if isinstance(space, gymnasium.spaces.Dict):
        return {name: to_numpy(child, value[name]) for name, child in space.items()}
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(map(to_numpy, space, value))
    return np.array(value, dtype=space.dtype)[()]


def check_action(space: gymnasium.Space, action: Any) -> Any:
    """Check an action and give it the dtype of its space, so JAX compiles once.

    Continuous actions outside their bounds are passed on: tasks clip them.

    Raises:
        gymnasium.error.InvalidAction: If the action does not fit the space.
    """
    if isinstance(space, gymnasium.spaces.Dict):
        return {
            name: check_action(child, action[name]) for name, child in space.items()
        }
    if isinstance(space, gymnasium.spaces.Tuple):
        return tuple(map(check_action, space, action))
    action = np.asarray(action)
    is_box = isinstance(space, gymnasium.spaces.Box)
    if action.shape != space.shape if is_box else not space.contains(action):
        raise gymnasium.error.InvalidAction(
            f"action: expected an element of {space}, got {action!r}"
        )
    return action.astype(space.dtype)


def _unbounded(bound: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if not np.issubdtype(dtype, np.floating):
        return bound.astype(dtype)
    bound = bound.astype(np.float64)
    bound = np.where(np.abs(bound) >= np.finfo(np.float32).max, np.inf * bound, bound)
    return bound.astype(dtype)
