"""Agents that no evolution has seen: what an environment is tested with at the end."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from envs.spaces import Spaces
from envs.steps import Steps
from envs.task import Task
from jaxrl_se.agents import DDQN, PPO, SAC, TD3
from jaxrl_se.agents.observations import can_normalize
from jaxrl_se.defaults import whole_steps
from jaxrl_se.training import train

TRAIN_STEPS = 10_000
# PPO for so many steps: few, large iterations, since of six actions a hundred small
# ones learn next to nothing.
SHORT_PPO: dict[str, Any] = {
    "num_envs": 20,
    "rollout_steps": 20,
    "num_epochs": 40,
    "num_minibatches": 8,
    "initial_std": 0.5,
    "entropy_coef": 0.0,
}


def unseen_agents(spaces: Spaces) -> tuple[Any, ...]:
    """Agents of three kinds; their sizes and learning rates are no evolution's."""
    shared: dict[str, Any] = {
        "hidden_sizes": (64, 64),
        "normalize_observations": can_normalize(spaces),
    }
    replayed: dict[str, Any] = shared | {
        "learning_rate": 2e-3,
        "batch_size": 64,
        "learning_starts": 64,
    }
    sampled = PPO(**shared, **SHORT_PPO)
    if spaces.num_actions is not None:
        values = DDQN(**replayed, target_update_rate=0.02, epsilon_end=0.1)
        return values, SAC(**replayed, target_update_rate=0.02), sampled
    replayed["target_update_rate"] = 0.02
    return TD3(**replayed), SAC(**replayed), sampled


def play_with_unseen(
    result: tuple[Any, Any],
    task: Task,
    key: jax.Array,
    *,
    num_agents: int,
    num_episodes: int = 10,
    train_steps: int | None = None,
) -> tuple[dict[str, tuple[float, ...]], Steps]:
    """Trains agents of each kind in an environment and plays them in a task.

    Args:
      result: The environment and its params.
      task: Where they are tested, inside JAX or outside.
      key: A PRNG key.
      num_agents: Of each kind.
      num_episodes: Of each agent.
      train_steps: Of each agent, rounded up to whole iterations; None for
        `TRAIN_STEPS`.

    Returns:
      Mean return of each agent by kind, and the steps that the tests took.
    """
    agents = unseen_agents(Spaces.of(*result))
    num_steps = whole_steps(train_steps or TRAIN_STEPS, agents)
    returns, steps = {}, Steps()
    for place, agent in enumerate(agents):
        key_train, key_play = jax.random.split(jax.random.fold_in(key, place))
        trained = train(agent, *result, key_train, num_steps, num_agents=num_agents)
        episodes, taken = task.play(trained.policy, key_play, num_episodes)
        scores = np.asarray(episodes.returns, np.float64).mean(axis=1)
        returns[type(agent).__name__] = tuple(scores.tolist())
        steps = steps + Steps(**{k: int(v) for k, v in vars(taken).items()})
    return returns, steps
