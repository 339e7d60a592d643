"""Tests policies in Gymnasium itself, so that the result does not rest on our tasks."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import numpy as np

import jaxrl_se


def gymnasium_returns(
    policies: Any, gymnasium_id: str, num_episodes: int, seed: int
) -> np.ndarray:
    """Returns of whole episodes in Gymnasium.

    Args:
      policies: Policies with a leading `[num_agents]` axis.
      gymnasium_id: A registered Gymnasium environment.
      num_episodes: Episodes per agent; all episodes run side by side.
      seed: Of episodes and policies.

    Returns:
      float32 `[num_agents, num_episodes]`.
    """
    has_vector = gymnasium.spec(gymnasium_id).vector_entry_point is not None
    vector = gymnasium.make_vec(
        gymnasium_id,
        num_envs=jax.tree.leaves(policies)[0].shape[0] * num_episodes,
        vectorization_mode="vector_entry_point" if has_vector else "sync",
    )
    returns = jaxrl_se.evaluate(policies, vector, seed, num_episodes).returns
    vector.close()
    return returns
