"""Tests policies in Gymnasium itself, so that the result does not rest on our tasks."""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np


def gymnasium_returns(
    policies: Any, gymnasium_id: str, num_episodes: int, seed: int
) -> np.ndarray:
    """Returns of whole episodes in Gymnasium.

    Args:
      policies: Deterministic policies with a leading `[num_agents]` axis.
      gymnasium_id: A registered Gymnasium environment.
      num_episodes: Episodes per agent; all episodes run side by side.
      seed: Seed of the first episode's reset.

    Returns:
      float64 `[num_agents, num_episodes]`.
    """
    num_agents = jax.tree.leaves(policies)[0].shape[0]
    num_envs = num_agents * num_episodes
    has_vector = gymnasium.spec(gymnasium_id).vector_entry_point is not None
    vector = gymnasium.make_vec(
        gymnasium_id,
        num_envs=num_envs,
        vectorization_mode="vector_entry_point" if has_vector else "sync",
    )
    act = jax.jit(jax.vmap(jax.vmap(lambda p, obs: p(obs, None), (None, 0))))
    obs, _ = vector.reset(seed=seed)
    returns, alive = np.zeros(num_envs), np.ones(num_envs, bool)
    while alive.any():
        grouped = jnp.asarray(obs, jnp.float32).reshape(num_agents, num_episodes, -1)
        action = np.asarray(act(policies, grouped)).reshape(num_envs, -1)
        if isinstance(vector.single_action_space, gymnasium.spaces.Discrete):
            action = action[:, 0]
        obs, reward, terminated, truncated, _ = vector.step(action)
        returns += np.where(alive, reward, 0.0)
        alive &= ~(terminated | truncated)
    vector.close()
    return returns.reshape(num_agents, num_episodes)
