"""Between gymnax's spaces and JAX arrays and Gymnasium's spaces and NumPy arrays."""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import utils
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
        "space must be gymnax's Discrete, Box, Dict or Tuple, got "
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
            f"action must be an element of {space}, got {action!r}"
        )
    return action.astype(space.dtype)


def is_nested(space: gymnasium.Space) -> bool:
    """Whether elements are mappings or tuples."""
    return isinstance(space, gymnasium.spaces.Dict | gymnasium.spaces.Tuple)


def flat_space(space: gymnasium.Space) -> gymnasium.Space:
    """Gymnasium's ``flatten_space`` of mappings and tuples; other spaces themselves."""
    if not is_nested(space) or not space.is_np_flattenable:
        return space
    return gymnasium.spaces.flatten_space(space)


def flatten_rows(space: gymnasium.Space, observations: Any) -> np.ndarray:
    """A batch of observations as one array [N, ...].

    Args:
        space: Of a single observation.
        observations: A batch in Gymnasium's layout: an array [N, ...], or a mapping or
            tuple of them if the space is one.

    Returns:
        The array itself, or vectors [N, size] as ``gymnasium.spaces.flatten`` makes.
    """
    if not is_nested(space):
        return np.asarray(observations)
    first = observations
    while isinstance(first, Mapping | tuple):
        first = next(iter(first.values() if isinstance(first, Mapping) else first))
    batched = utils.batch_space(space, len(first))
    rows = utils.iterate(batched, observations)
    return np.stack([flattened(space, row) for row in rows])


def flattened(space: gymnasium.Space, element: Any) -> np.ndarray:
    """One observation as an array, as `flatten_rows` has its rows."""
    if not is_nested(space):
        return np.asarray(element)
    flat: Any = gymnasium.spaces.flatten(space, element)
    return np.asarray(flat)


def unflatten_obs(space: gymnasium.Space, vector: Any) -> Any:
    """An element of a space from a vector: the inverse of ``gymnasium.spaces.flatten``.

    Where a world model has predicted the vector, a number is the likeliest one of its
    nearly one-hot part.
    """
    vector = np.array(vector)
    start = 0
    for leaf in _leaves(space):
        size = gymnasium.spaces.flatdim(leaf)
        part = vector[start : start + size]
        for first, length in _one_hot_parts(leaf):
            chosen = first + np.argmax(part[first : first + length])
            part[first : first + length] = 0
            part[chosen] = 1
        start += size
    return gymnasium.spaces.unflatten(space, vector)


def check_flat(space: gymnasium.Space, shape: Any) -> gymnasium.Space:
    """The space, if vectors of a shape are its flattened elements.

    Raises:
        ValueError: If they are not.
    """
    size = gymnasium.spaces.flatdim(space)
    if tuple(shape) != (size,):
        raise ValueError(
            f"observation_space: its elements flatten to vectors of size {size}, but "
            f"the environment's observations have shape {tuple(shape)}"
        )
    return space


def _leaves(space: gymnasium.Space) -> list[gymnasium.Space]:
    if isinstance(space, gymnasium.spaces.Dict):
        return [leaf for child in space.values() for leaf in _leaves(child)]
    if isinstance(space, gymnasium.spaces.Tuple):
        return [leaf for child in space for leaf in _leaves(child)]
    return [space]


def _one_hot_parts(leaf: gymnasium.Space) -> list[tuple[int, int]]:
    """Where one-hot vectors stand in a flattened space: first index and size."""
    if isinstance(leaf, gymnasium.spaces.Discrete):
        return [(0, int(leaf.n))]
    if isinstance(leaf, gymnasium.spaces.MultiDiscrete):
        sizes = leaf.nvec.reshape(-1)
        return list(
            zip((np.cumsum(sizes) - sizes).tolist(), sizes.tolist(), strict=True)
        )
    return []


def _unbounded(bound: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if not np.issubdtype(dtype, np.floating):
        return bound.astype(dtype)
    bound = bound.astype(np.float64)
    is_unbounded = np.abs(bound) >= np.finfo(np.float32).max
    return np.where(is_unbounded, np.copysign(np.inf, bound), bound).astype(dtype)
