"""Target tasks and the seam to Gymnasium.

A task is gymnax's pair ``(env, params)``. :func:`make` gives one by its Gymnasium
name; everything here takes any other pair as well.
"""

from envs.registry import (
    TaskSpec,
    available,
    make,
    register,
    solved_return,
    spec,
)
from envs.typed import TypedEnvironment

__all__ = [
    "TaskSpec",
    "TypedEnvironment",
    "available",
    "make",
    "register",
    "solved_return",
    "spec",
]
