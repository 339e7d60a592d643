"""Agents that train in the task itself, whose policies a search can begin from.

Some tasks are easy to learn for an agent and hard for a search that draws whole
policies: goals that differ from episode to episode, rewards that lead on one step at a
time. There the environment of a trained agent's policy is the better start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from envs.spaces import Spaces
from jaxrl_se.agents import DDQN, PPO, SAC
from jaxrl_se.agents.observations import can_normalize
from jaxrl_se.config import EvolutionConfig, SyntheticConfig
from jaxrl_se.evaluation import evaluate
from jaxrl_se.from_policy import Cloning, from_policy
from jaxrl_se.outcome import Confirmation
from jaxrl_se.rounds import whole_steps
from jaxrl_se.training import train

AGENT_STEPS, LEAST_STEPS = 50_000, 10_000  # of each agent in the task
SHARE = 40  # An agent takes at most a fortieth of the steps that may be taken.
EPISODES = 32
MARGIN = 0.05  # Of the way from random to the agent's return, for it to count as ahead.
# What is begun from is good already; more would lose it.
STD, OBS_NOISE = 0.05, 0.05


@dataclasses.dataclass(frozen=True)
class LearnedInTask:
    """The best of a few agents that trained in the task.

    Attributes:
      policy: Its policy.
      name: Of its class.
      mean: Its mean return.
      train_steps: How long it trained.
      steps: Steps in the task of all agents and of their tests.
    """

    policy: Any
    name: str
    mean: float
    train_steps: int
    steps: int

    def __str__(self) -> str:
        """How good it is, for a log."""
        return f"{self.name}, after {self.train_steps:,} steps: {self.mean:.4g}"


def learned_in_task(
    task: tuple[Any, Any],
    key: jax.Array,
    real_steps: int,
    say: Callable[[str], Any] = lambda line: None,
) -> LearnedInTask | None:
    """Trains an agent of two kinds in a task, at their defaults.

    Args:
      task: A gymnax pair with vectors as observations.
      key: A PRNG key.
      real_steps: Steps that a whole evolution may take, of which this takes a part.
      say: Called with a line of text before and after each of them.

    Returns:
      The better one, or None where steps are too few to learn from.
    """
    num_steps = min(AGENT_STEPS, real_steps // SHARE)
    if num_steps < LEAST_STEPS:
        return None
    spaces = Spaces.of(*task)
    shared: dict[str, Any] = {"normalize_observations": can_normalize(spaces)}
    replayed = SAC if spaces.num_actions is None else DDQN
    found, taken = [], 0
    for place, agent in enumerate((replayed(**shared), PPO(**shared))):
        key_train, key_test = jax.random.split(jax.random.fold_in(key, place))
        steps = whole_steps(num_steps, (agent,))
        name = type(agent).__name__
        say(f"training {name} there for {steps:,} steps, a minute or two")
        policy = train(agent, *task, key_train, steps).policy
        episodes = evaluate(policy, task, key_test, EPISODES, num_axes=0)
        taken += steps + int(np.sum(episodes.lengths))
        mean = float(np.mean(episodes.returns))
        say(f"{name}, after {steps:,} steps: {mean:.4g}")
        found.append((mean, name, policy, steps))
    mean, name, policy, steps = max(found, key=lambda each: each[0])
    return LearnedInTask(policy, name, mean, steps, taken)


def is_ahead(learned: LearnedInTask, confirmation: Confirmation) -> bool:
    """Whether an agent in the task is clearly ahead of what a search found teaches."""
    reached = confirmation.overall
    base = float(np.fmin(confirmation.random_return, reached))  # One may be NaN.
    return learned.mean > reached + MARGIN * abs(learned.mean - base)


def start_from(
    learned: LearnedInTask,
    task: tuple[Any, Any],
    config: EvolutionConfig,
    key: jax.Array,
    real_steps: int,
) -> tuple[EvolutionConfig, Any, int]:
    """A search that begins from an agent.

    Args:
      learned: The agent.
      task: What it was trained in.
      config: The configuration of the search that it is ahead of.
      key: A PRNG key.
      real_steps: Steps in the task that the new search may take.

    Returns:
      Its configuration, the weights that it begins from, and the steps in the task that
      these took.
    """
    assert isinstance(config.proxy, SyntheticConfig)
    shape = dataclasses.replace(config.proxy, obs_range=None)
    rows = min(Cloning().num_rows, max(real_steps // 4, 1000))
    cloning = Cloning(proxy=shape, num_rows=rows)
    _, params = from_policy(learned.policy, task, key, cloning)
    ranges = tuple((float(low), float(high)) for low, high in params.obs_range)
    response, *others = config.agents
    config = config.replace(
        proxy=dataclasses.replace(shape, obs_range=ranges),
        agent=(dataclasses.replace(response, obs_noise=OBS_NOISE), *others),
        std=STD,
        restarts=0,
        max_steps=real_steps,
    )
    return config, params.weights, rows
