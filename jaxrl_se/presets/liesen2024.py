"""The inner-loop agents of Liesen et al. (2024, arXiv 2406.12589).

The settings are those of the configurations that synthetic-gymnax ships with its
environments, in our units. What differs:

* Updates: DQN makes one per step of 10 parallel environments, SAC two per step of 5.
  Ours step one environment with as many updates, 0.1 and 0.4 per environment step.
* Targets: DQN's target network is a copy that is renewed every 5 updates. Ours follows
  by averaging at a rate of 1/3, with the same mean age of 2 updates. (In a one-step
  environment nothing bootstraps, and targets do not matter.)
* DQN's dueling heads are linear in the last hidden layer: the functions of a plain
  64 x 64 network, which ours is.
* Before its first update DQN acts at random; ours starts with epsilon between 1 and
  0.8 then. SAC acts by its policy; ours at random.
* Gradients of DQN, DDPG and TD3 are clipped at a norm of 10; ours are not.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import envs
from envs.spaces import Spaces
from jaxrl_se.agents import DDPG, DDQN, PPO, SAC, TD3, DiscreteTD3
from jaxrl_se.hyperparameters import Choice, Varied

TASKS = (
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
)
NUM_STEPS = 10_000  # of every agent, in the synthetic environment


def liesen2024_agents(task: str) -> dict[str, Varied]:
    """The agents that train 10,000 steps in a synthetic environment of a task.

    Args:
      task: One of `TASKS`.

    Returns:
      Agents with their sampled hyperparameters: "ppo", "sac" and "dqn" for discrete
      actions, "ppo", "sac", "ddpg" and "td3" for continuous ones.

    Raises:
      ValueError: An unknown task.
    """
    if task not in TASKS:
        raise ValueError(
            f"task must be one of {', '.join(TASKS)} for liesen2024_agents, "
            f"got {task!r}"
        )
    spaces = Spaces.of(*envs.make(task))
    networks: dict[str, Any] = {
        "hidden_sizes": (64, 64),
        "activation": "relu" if task == "Pendulum-v1" else "tanh",
    }
    off_policy: dict[str, Any] = {
        **networks,
        "learning_starts": 1000,
        "buffer_size": 2000,
    }
    larger: dict[str, Any] = {**off_policy, "buffer_size": 10_000}
    passes = 4 if task.startswith("MountainCar") else 10
    ppo = PPO(max_grad_norm=10.0, num_epochs=passes, num_minibatches=passes, **networks)
    sac = SAC(batch_size=256, updates_per_step=0.4, **off_policy)
    if spaces.num_actions is not None:
        dqn = DDQN(
            epsilon_start=1.0,
            epsilon_steps=NUM_STEPS / 2,
            target_update_rate=1 / 3,
            updates_per_step=0.1,
            batch_size=100,
            max_grad_norm=None,
            **off_policy,
        )
        agents = {"ppo": ppo, "sac": sac, "dqn": dqn}
    else:
        agents = {
            "ppo": dataclasses.replace(ppo, initial_std=1 / _half_range(spaces)),
            "sac": sac,
            "ddpg": DDPG(batch_size=100, **off_policy),
            "td3": TD3(batch_size=100, **larger),
        }
    return {name: vary_like_liesen2024(agent, spaces) for name, agent in agents.items()}


def vary_like_liesen2024(agent: Any, spaces: Spaces) -> Varied:
    """The lists from which Liesen et al. (2024, arXiv 2406.12589) sample uniformly.

    As in the configurations that synthetic-gymnax ships with its environments, in our
    units: target networks move by 1 - tau, and noise is in units of half the action's
    range. Their SAC makes two updates per move of its target, ours one; its rate is
    such that two of ours are one of theirs. For continuous actions their PPO leaves out
    the largest learning rate.

    Args:
      agent: A `PPO`, `SAC`, `DDQN`, `TD3` or `DDPG`; those of
        `liesen2024_agents` are theirs.
      spaces: Spaces of the task.

    Raises:
      ValueError: They have no such agent, or the dimensions of an action differ in
        range.
    """
    rates = (1e-2, 5e-3, 1e-3, 5e-4, 1e-4)
    taus = (0.99, 0.95, 0.9, 0.8, 0.7)
    tenths = (0.1, 0.3, 0.5, 0.7, 0.9)
    ranges: dict[str, tuple] = {"discount": (1.0, 0.99, 0.95, 0.9, 0.8)}
    if isinstance(agent, PPO):
        rates = rates if spaces.num_actions is not None else rates[1:]
        ranges |= {
            "gae_lambda": (1.0, 0.95, 0.9, 0.8, 0.5),
            "clip_ratio": (0.1, 0.2, 0.3, 0.4, 0.5),
            "entropy_coef": (0.0, 0.01, 0.05, 0.1, 0.5),
            "value_coef": (0.0, 0.5, 1.0, 1.5, 2.0),
        }
    elif isinstance(agent, SAC):
        ranges["target_update_rate"] = tuple(1 - tau**0.5 for tau in taus)
        if spaces.num_actions is not None:
            ranges["target_entropy_ratio"] = tenths
    elif isinstance(agent, DDQN):
        ranges |= {"epsilon_end": (0.01, 0.05, 0.1, 0.2), "double": (True, False)}
    elif isinstance(agent, TD3) and not isinstance(agent, DiscreteTD3):
        half = _half_range(spaces)
        noise = tuple(std / half for std in tenths)
        ranges["target_update_rate"] = tuple(1 - tau for tau in taus)
        ranges["exploration_noise"] = noise
        if not isinstance(agent, DDPG):
            clips = (0.1, 0.4, 0.7, 1.0, 1.3)
            ranges["target_noise"] = noise
            ranges["target_noise_clip"] = tuple(clip / half for clip in clips)
    else:
        raise ValueError(
            "agent: Liesen et al. vary PPO, SAC, DDQN, TD3 and DDPG, "
            f"got {type(agent).__name__}"
        )
    ranges["learning_rate"] = rates
    return Varied.of(agent, **{name: Choice(ranges[name]) for name in ranges})


def _half_range(spaces: Spaces) -> float:
    """Half the distance between the bounds that all action dimensions share."""
    bounds = zip(spaces.action_low, spaces.action_high, strict=True)
    halves = {(high - low) / 2 for low, high in bounds}
    if len(halves) != 1:
        raise ValueError(
            "spaces must be continuous actions with one range, got "
            f"{spaces.action_low} to {spaces.action_high}"
        )
    return halves.pop()
