"""Policies for vectors in tasks of pictures, grids and single numbers.

Agents take any observation: their networks flatten what they see, or look at it as it
is (`jaxrl_se.torsos`). A synthetic environment shows vectors, whatever its task does.
"""

from __future__ import annotations

from typing import Any

import jax
from flax import struct

from envs import flat_observations
from envs.spaces import Spaces


@struct.dataclass(eq=False)
class FlatPolicy:
    """A policy for vectors, given observations as the task shows them.

    For an agent that was trained in the synthetic environment of a task of pictures,
    and acts in the task.

    Attributes:
      policy: A callable on vectors `[obs_size]`.
      spaces: Static; the task's spaces.
    """

    policy: Any
    spaces: Spaces = struct.field(pytree_node=False)

    def __call__(self, obs: Any, key: jax.Array | None = None) -> Any:
        """Returns the action for one observation."""
        return self.policy(self.spaces.flatten_obs(obs), key)


def flat_task(task: tuple[Any, Any], proxy: tuple[Any, Any] | None) -> tuple[Any, Any]:
    """The task as an evolution sees it: with vectors, unless its proxy has others.

    Args:
      task: A gymnax pair.
      proxy: The pair that evolves, None for a synthetic environment.
    """
    if proxy is not None and not Spaces.of(*proxy).are_vectors:
        return task
    env, params = task
    return flat_observations(env, params), params
