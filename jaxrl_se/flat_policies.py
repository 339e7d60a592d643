"""Perceptrons on pictures, grids and single numbers: observations are flattened."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
from flax import struct

from envs import flat_observations
from envs.spaces import Spaces
from jaxrl_se.task_tests import TaskTest


@struct.dataclass(eq=False)
class FlatPolicy:
    """A policy for vectors, given observations as the task shows them.

    Attributes:
      policy: A callable on vectors `[obs_size]`.
      spaces: Static; the task's spaces.
    """

    policy: Any
    spaces: Spaces = struct.field(pytree_node=False)

    def __call__(self, obs: Any, key: jax.Array | None = None) -> Any:
        """Returns the action for one observation."""
        return self.policy(self.spaces.flatten_obs(obs), key)


def flat_test(test: TaskTest | None) -> TaskTest | None:
    """The test on a task whose observations are flattened."""
    if test is None:
        return None
    env = flat_observations(test.env, test.params)
    return dataclasses.replace(test, env=env)
