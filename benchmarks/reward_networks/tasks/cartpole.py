"""Reward networks for CartPole-v0: double DQN, varied, and dueling DQN."""

from __future__ import annotations

import dataclasses

from benchmarks.reward_networks.tasks.task import (
    KINDS,
    NO_NETWORK,
    POTENTIAL,
    VARIED_SETTINGS,
    RewardTask,
    Row,
    curious,
    each,
)
from jaxrl_se.agents import DDQN
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.hyperparameters import (
    vary_like_ferreira2022,
)
from jaxrl_se.presets.ferreira2022_icm import ferreira2022_icm

# Mean returns that the paper's figures show at `points`, by row and column.
PUBLISHED: dict[str, dict[str, tuple[float | None, ...]]] = {
    "same": {
        "exclusive-potential": (198, 199, 199, 198, 197, 197),
        "additive-potential": (35, 46, 64, 132, 175, 187),
        "exclusive": (147, 170, 183, 188, 193, 193),
        "additive": (128, 147, 165, 167, 171, 173),
        NO_NETWORK: (15, 42, 54, 114, 176, 190),
        "ICM": (18, 38, 59, 122, 173, 190),
    },
    "varied": {
        "exclusive-potential": (196, 191, 188, 192, 191, 186),
        "additive-potential": (66, 86, 112, 142, 155, 165),
        "exclusive": (145, 159, 168, 179, 188, 186),
        "additive": (150, 154, 163, 172, 179, 181),
        NO_NETWORK: (37, 62, 98, 135, 154, 161),
        "ICM": (46, 72, 109, 139, 155, 161),
    },
    "unseen": {
        "exclusive-potential": (168, 154, 165, 165, 159, 147),
        "additive-potential": (189, 194, 195, 197, 198, 192),
        "exclusive": (196, 158, 148, 158, 163, 166),
        "additive": (193, 169, 164, 169, 175, 172),
        NO_NETWORK: (179, 193, 192, 193, 193, 186),
        "ICM": (188, 190, 189, 191, 191, 188),
    },
}

_DDQN = DDQN(
    learning_rate=2.5e-4,
    epsilon_start=1.0,
    epsilon_end=0.1,
    epsilon_decay=0.9,
    learning_starts=1,
    learning_starts_episode=1,
    max_grad_norm=None,
    hidden_sizes=(64,),
    batch_size=32,
)
_DUELING = dataclasses.replace(_DDQN, dueling=True, feature_size=128)
_VARIED_DDQN = vary_like_ferreira2022(_DDQN)
_CARTPOLE_ICM = ferreira2022_icm("CartPole-v0")


_CARTPOLE_EVOLUTION = EvolutionConfig(
    agent=_DDQN,
    train_steps=2000,
    population_size=32,
    num_seeds=1,
    fitness_episodes=4,
    std=0.5,
    max_generations=60,
    stop_return=197.0,
    validation_agents=32,
)

CARTPOLE = RewardTask(
    task="CartPole-v0",
    kinds=KINDS,
    # Without a potential, quadratic forms teach twice as much as a hidden layer does.
    evolutions=each(
        POTENTIAL, _CARTPOLE_EVOLUTION, hidden_sizes=(16,), activation="tanh"
    )
    | each(
        ("exclusive", "additive"),
        _CARTPOLE_EVOLUTION.replace(max_generations=150),
        hidden_sizes=(),
        quadratic=True,
    ),
    rows={
        "same": Row(
            _DDQN,
            curious(_DDQN, _CARTPOLE_ICM),
            published=PUBLISHED["same"],
        ),
        "varied": Row(
            _VARIED_DDQN,
            curious(_VARIED_DDQN, _CARTPOLE_ICM),
            settings=VARIED_SETTINGS,
            published=PUBLISHED["varied"],
        ),
        "unseen": Row(
            _DUELING,
            curious(_DUELING, _CARTPOLE_ICM),
            published=PUBLISHED["unseen"],
        ),
    },
    points=(2500, 5000, 10_000, 20_000, 30_000, 49_000),
    resolution=100,
    chosen_at=2500,
    steps=10_000,
)
