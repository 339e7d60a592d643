"""Reward networks for HalfCheetah-v5: TD3, varied, and PPO."""

from __future__ import annotations

import dataclasses
import math

from benchmarks.reward_networks.tasks.mountain_car_continuous import PAPER_TD3
from benchmarks.reward_networks.tasks.task import (
    INFO_KINDS,
    KINDS,
    VARIED_SETTINGS,
    RewardTask,
    Row,
    curious,
    each,
)
from jaxrl_se.agents import PPO
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.hyperparameters import (
    vary_like_ferreira2022,
)
from jaxrl_se.presets.ferreira2022_icm import ferreira2022_icm
from jaxrl_se.scoring import AreaUnderCurve

_CHEETAH_TD3 = dataclasses.replace(PAPER_TD3, learning_starts=20_000)
_CHEETAH_PPO = PPO(
    learning_rate=1e-5,
    gae_lambda=1.0,
    max_grad_norm=math.inf,
    initial_std=0.1,
    entropy_coef=0.001,
    value_coef=1.0,
    num_envs=1,
    rollout_steps=1000,
    num_epochs=10,
    num_minibatches=1,
    hidden_sizes=(128, 128),
)
_VARIED_CHEETAH_TD3 = vary_like_ferreira2022(_CHEETAH_TD3)
_CHEETAH_ICM = ferreira2022_icm("HalfCheetah-v5")
_CHEETAH_KINDS = (*KINDS, *INFO_KINDS, "exclusive-info-only", "additive-info-only")

HALF_CHEETAH = RewardTask(
    task="HalfCheetah-v5",
    kinds=_CHEETAH_KINDS,
    evolutions=each(
        _CHEETAH_KINDS,
        EvolutionConfig(
            agent=dataclasses.replace(
                _CHEETAH_TD3,
                learning_rate=3e-3,
                discount=0.98,
                batch_size=192,
                policy_delay=1,
            ),
            scoring=AreaUnderCurve(),
            train_steps=100_000,
            population_size=16,
            num_seeds=1,
            std=0.1,
            max_generations=50,
            stop_return=math.inf,
        ),
        hidden_sizes=(128,),
    ),
    rows={
        "same": Row(_CHEETAH_TD3, curious(_CHEETAH_TD3, _CHEETAH_ICM)),
        "varied": Row(
            _VARIED_CHEETAH_TD3,
            curious(_VARIED_CHEETAH_TD3, _CHEETAH_ICM),
            settings=VARIED_SETTINGS,
        ),
        "unseen": Row(
            _CHEETAH_PPO,
            curious(_CHEETAH_PPO, ferreira2022_icm("HalfCheetah-v5", ppo=True)),
        ),
    },
    points=(100_000, 200_000, 300_000, 400_000, 500_000),
    resolution=1000,
    chosen_at=500_000,
    steps=2000,
    # What a CPU can do: that it runs, not how well it learns.
    small={
        "kinds": ("additive", "additive-info"),
        "networks": 1,
        "agents": 1,
        "rows": ("same",),
        "population": 4,
        "generations": 1,
        "train_steps": 1000,
    },
)
