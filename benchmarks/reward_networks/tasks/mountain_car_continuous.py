"""Reward networks for MountainCarContinuous: TD3, varied, and PPO."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp

from benchmarks.reward_networks.tasks.task import (
    NO_NETWORK,
    VARIED_SETTINGS,
    RewardTask,
    Row,
    curious,
    each,
)
from envs.mountain_car_continuous import MountainCarContinuous
from jaxrl_se.agents import PPO, TD3
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.hyperparameters import (
    Choice,
    LogUniform,
    Varied,
    vary_like_ferreira2022,
)
from jaxrl_se.presets.ferreira2022_icm import ferreira2022_icm
from jaxrl_se.scoring import FinalReturn

# Mean returns that the paper's figures show at `points`, by row and column.
PUBLISHED: dict[str, dict[str, tuple[float | None, ...]]] = {
    "same": {
        "exclusive-potential": (-8, 48, 6, 2, 9, 12),
        "additive-potential": (16, 58, 74, 62, 76, 81),
        "exclusive": (88, 92, 93, 93, 93, 93),
        "additive": (93, 93, 90, 92, 84, 80),
        NO_NETWORK: (10, 66, 79, 74, 82, 84),
        "ICM": (16, 68, 78, 69, 83, 85),
    },
    "varied": {
        "exclusive-potential": (-32, 5, -5, -14, -7, -1),
        "additive-potential": (14, 40, 39, 55, 67, 69),
        "exclusive": (22, 48, 56, 57, 60, 65),
        "additive": (57, 70, 68, 72, 74, 79),
        NO_NETWORK: (9, 47, 45, 48, 62, 70),
        "ICM": (12, 44, 45, 53, 68, 72),
    },
    "unseen": {
        "exclusive-potential": (-7, -4, -4, -6, -4, -5),
        "additive-potential": (63, 75, 81, 83, 87, 88),
        "exclusive": (47, 69, 82, 85, 88, 88),
        "additive": (76, 87, 91, 92, 91, 89),
        NO_NETWORK: (53, 76, 84, 88, 91, 92),
        "ICM": (57, 73, 80, 83, 88, 90),
    },
}

PAPER_TD3 = TD3(
    learning_rate=3e-4,
    target_update_rate=0.005,
    exploration_noise=0.1,
    hidden_sizes=(128, 128),
    batch_size=256,
    learning_starts=25_000,  # 50 episodes of random actions, two steps each
)
# For the curves that a CPU draws. Smaller batches take half the time, but their agents
# often swing the wrong way first.
_LIGHT_TD3 = dataclasses.replace(PAPER_TD3, learning_rate=1e-3, hidden_sizes=(64, 64))
# No wider, no deeper and with no larger batches than the agent itself: all agents of a
# group pay for the largest.
_VARIED_LIGHT_TD3 = Varied.of(
    _LIGHT_TD3,
    learning_rate=LogUniform(1e-3 / 3, 3e-3),
    width=LogUniform(21, 64, True),
    depth=Choice((1, 2)),
    batch_size=LogUniform(85, 256, True),
)
_INNER_TD3 = TD3(
    learning_rate=3e-3,
    target_update_rate=0.01,
    exploration_noise=0.1,
    policy_delay=1,
    hidden_sizes=(32, 32),
    batch_size=32,
    learning_starts=1000,
)
_MCC_PPO = PPO(
    learning_rate=3e-4,
    gae_lambda=1.0,  # Monte Carlo returns, unclipped gradients, as in the paper.
    max_grad_norm=math.inf,
    initial_std=0.5,
    entropy_coef=0.01,
    value_coef=1.0,
    num_envs=10,
    rollout_steps=200,
    num_epochs=80,
    num_minibatches=1,
    hidden_sizes=(64, 64),
)
_VARIED_TD3 = vary_like_ferreira2022(PAPER_TD3)
_MCC_ICM = ferreira2022_icm("MountainCarContinuous-v0")


class _StartsAnywhere(MountainCarContinuous):
    """The task, half of whose episodes start anywhere in the state space.

    From the valley nearly all candidates fail, and failing looks the same for all of
    them; from anywhere they can be told apart by how often they reach the goal.
    """

    starts = "half of them anywhere in the state space"

    def reset_env(self, key, params):
        """Draws an initial state."""
        _, state = super().reset_env(key, params)
        key_position, key_velocity, key_choice = jax.random.split(key, 3)
        low, high = params.min_position, params.goal_position
        position = jax.random.uniform(key_position, (), jnp.float32, low, high)
        limit = params.max_speed
        velocity = jax.random.uniform(key_velocity, (), jnp.float32, -limit, limit)
        is_anywhere = jax.random.bernoulli(key_choice)
        state = state.replace(
            position=jnp.where(is_anywhere, position, state.position),
            velocity=jnp.where(is_anywhere, velocity, state.velocity),
        )
        return self.get_obs(state), state


_MCC_EVOLUTION = EvolutionConfig(
    agent=_INNER_TD3,
    # Full power all the way costs up to -100, standing still nothing: without a floor
    # the agents of better and better candidates do less and less.
    scoring=FinalReturn(floor=0.0),
    train_steps=4000,
    population_size=64,
    num_seeds=1,
    fitness_episodes=8,
    std=0.3,
    max_generations=80,
    stop_return=math.inf,
)

MOUNTAIN_CAR_CONTINUOUS = RewardTask(
    task="MountainCarContinuous-v0",
    kinds=("exclusive", "additive"),
    evolutions=each(
        # Paid by the network alone, some agents find out after a while that it pays
        # more not to arrive; only longer training shows it.
        ("exclusive",),
        _MCC_EVOLUTION.replace(train_steps=8000, max_generations=40),
        hidden_sizes=(),
        quadratic=True,
    )
    | each(("additive",), _MCC_EVOLUTION, hidden_sizes=(), quadratic=True),
    # Paid in full, one or two of five agents of the curves never reach the goal.
    scales={"exclusive": 0.1},
    rows={
        "same": Row(
            PAPER_TD3,
            curious(PAPER_TD3, _MCC_ICM),
            repeat=2,
            published=PUBLISHED["same"],
        ),
        "varied": Row(
            _VARIED_TD3,
            curious(_VARIED_TD3, _MCC_ICM),
            repeat=2,
            settings=VARIED_SETTINGS,
            published=PUBLISHED["varied"],
        ),
        "unseen": Row(
            _MCC_PPO,
            curious(_MCC_PPO, ferreira2022_icm("MountainCarContinuous-v0", ppo=True)),
            repeat=5,
            settings="the paper's settings, tanh units",
            published=PUBLISHED["unseen"],
        ),
    },
    points=(75_000, 100_000, 125_000, 150_000, 200_000, 245_000),
    resolution=5000,
    chosen_at=75_000,
    steps=100_000,
    small={"networks": 3, "agents": 5},
    light={
        "same": Row(
            _LIGHT_TD3,
            curious(_LIGHT_TD3, _MCC_ICM),
            repeat=2,
            settings="64 x 64 units, learning rate 1e-3, otherwise the paper's",
            published=PUBLISHED["same"],
        ),
        "varied": Row(
            _VARIED_LIGHT_TD3,
            curious(_VARIED_LIGHT_TD3, _MCC_ICM),
            repeat=2,
            settings="learning rate 1/3 to 3 times 1e-3, one or two layers of 21 to 64 "
            "units, batches of 85 to 256",
            published=PUBLISHED["varied"],
        ),
    },
    evolved_in={kind: _StartsAnywhere() for kind in ("exclusive", "additive")},
)
