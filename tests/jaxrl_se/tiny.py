"""Small agents and trainings that several tests share, so that each compiles once."""

from typing import Any

import probe_env
from continuous_probe import ContinuousProbe

import envs
from jaxrl_se import (
    DDQN,
    PPO,
    RND,
    SAC,
    SARSA,
    TD3,
    BestResponse,
    Choice,
    Curious,
    DiscreteTD3,
    QLearning,
    SyntheticConfig,
    Varied,
)

PROBE: tuple[Any, Any] = (probe_env.Probe(), probe_env.PROBES["two steps"])
CONTINUOUS: tuple[Any, Any] = (ContinuousProbe(), ContinuousProbe().default_params)
CLIFF = envs.make("Cliff")
SIZES: dict[str, Any] = {"hidden_sizes": (4,), "batch_size": 4, "learning_starts": 10}
PPO_SIZES: dict[str, Any] = {
    "hidden_sizes": (4,),
    "num_envs": 2,
    "rollout_steps": 5,
    "num_epochs": 2,
    "num_minibatches": 2,
}
RANDOM_NETWORKS = RND(feature_size=2, hidden_size=2)
AGENTS: dict[str, tuple[Any, tuple[Any, Any]]] = {
    "DDQN": (DDQN(**SIZES), PROBE),
    "five environments": (DDQN(**SIZES, num_envs=5, buffer_size=20), PROBE),
    "DiscreteTD3": (DiscreteTD3(**SIZES), PROBE),
    "SAC": (SAC(**SIZES), PROBE),
    "PPO": (PPO(**PPO_SIZES), PROBE),
    "TD3": (TD3(**SIZES), CONTINUOUS),
    "continuous SAC": (SAC(**SIZES), CONTINUOUS),
    "continuous PPO": (PPO(**PPO_SIZES), CONTINUOUS),
    "QLearning": (QLearning(), CLIFF),
    "SARSA": (SARSA(), CLIFF),
    "curious": (Curious(DDQN(**SIZES), RANDOM_NETWORKS), PROBE),
    "curious PPO": (Curious(PPO(**PPO_SIZES), RANDOM_NETWORKS), PROBE),
    "varied": (
        Varied.of(
            DDQN(**SIZES), learning_rate=Choice((1e-2, 1e-1)), width=Choice((2,))
        ),
        PROBE,
    ),
    "best response": (
        BestResponse((4,)),
        SyntheticConfig(hidden_sizes=(4,)).make(*envs.make("CartPole-v1")),
    ),
}
NUM_STEPS = 60
# What `start` and `train` are asked for.
OPTIONS: dict[str, Any] = {"num_steps": NUM_STEPS, "num_snapshots": 3}
