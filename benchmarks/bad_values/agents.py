"""Hyperparameters by agent and bonus with their kinds, and the wrong trainings."""

from __future__ import annotations

from collections.abc import Iterator

import jaxrl_se
from benchmarks.bad_values.values import bad_values
from benchmarks.bad_values.verdicts import Case, Untouched
from jaxrl_se import (
    DDPG,
    DDQN,
    ICM,
    PPO,
    RND,
    SAC,
    SARSA,
    TD3,
    DiscreteTD3,
    QLearning,
    RecurrentPPO,
)

_PAIRS = {
    kind: (env, env.default_params)
    for kind in ("discrete", "continuous", "states")
    for env in (Untouched(kind),)
}
TASK = _PAIRS["discrete"]
_OFF_POLICY = {
    "learning_rate": "rate",
    "discount": "rate",
    "learning_starts": "whole number",
    "updates_per_step": "rate",
    "batch_size": "count",
    "buffer_size": "count",
}
LAYERED = {"hidden_sizes": "layers", "activation": "name"}
_CRITICS = {"target_update_rate": "rate", "num_critics": "count"}
_TD3 = {
    **_OFF_POLICY,
    **LAYERED,
    **_CRITICS,
    "num_envs": "count",
    "network": "name",
    "normalize_observations": "flag",
    "exploration_noise": "not negative",
    "target_noise": "not negative",
    "target_noise_clip": "not negative",
    "policy_delay": "positive whole number",
}
_TABLE = {
    **_OFF_POLICY,
    "epsilon": "share",
    "epsilon_decay": "rate",
    "epsilon_end": "share",
    "count_bonus": "not negative",
}
_PPO = {
    "learning_rate": "rate",
    "discount": "rate",
    "gae_lambda": "share",
    "clip_ratio": "positive",
    "entropy_coef": "not negative",
    "value_coef": "not negative",
    "max_grad_norm": "norm",
    "initial_std": "positive",
    "num_envs": "count",
    "rollout_steps": "count",
    "num_epochs": "count",
    "num_minibatches": "count",
    "normalize_observations": "flag",
}
# Fields by agent; `variation` and `bonus_key` are set by the toolkit itself.
AGENTS: dict[type, tuple[str, dict[str, str]]] = {
    DDQN: (
        "discrete",
        {
            **_OFF_POLICY,
            **LAYERED,
            "num_envs": "count",
            "network": "name",
            "normalize_observations": "flag",
            "target_update_rate": "rate",
            "epsilon_start": "share",
            "epsilon_end": "share",
            "epsilon_steps": "positive",
            "epsilon_decay": "rate or none",
            "learning_starts_episode": "whole number",
            "max_grad_norm": "positive or none",
            "double": "flag",
            "dueling": "flag",
            "dueling_mean_over_batch": "flag",
            "feature_size": "count",
        },
    ),
    TD3: ("continuous", _TD3),
    DDPG: ("continuous", _TD3),
    DiscreteTD3: (
        "discrete",
        {
            **_TD3,
            "gumbel_temperature": "positive",
            "gumbel_hard": "flag",
            "learn_gumbel_temperature": "flag",
        },
    ),
    SAC: (
        "continuous",
        {
            **_OFF_POLICY,
            **LAYERED,
            **_CRITICS,
            "num_envs": "count",
            "network": "name",
            "normalize_observations": "flag",
            "initial_temperature": "positive",
            "target_entropy_ratio": "share",
        },
    ),
    PPO: (
        "discrete",
        {**LAYERED, "network": "name", **_PPO, "deterministic": "flag"},
    ),
    RecurrentPPO: ("discrete", {**_PPO, "memory_size": "count"}),
    QLearning: ("states", _TABLE),
    SARSA: ("states", _TABLE),
}
BONUSES: dict[type, dict[str, str]] = {
    ICM: {
        "learning_rate": "rate",
        "beta": "share",
        "eta": "not negative",
        "feature_size": "count",
        "hidden_size": "count",
    },
    RND: {
        "learning_rate": "rate",
        "eta": "not negative",
        "obs_clip": "positive",
        "feature_size": "count",
        "hidden_size": "count",
        "activation": "name",
    },
}


def agent_cases() -> Iterator[Case]:
    """Hyperparameters of agents, bonuses, stop rules and tests, given to `train`."""
    for kind, (task, fields) in AGENTS.items():
        pair = _PAIRS[task]
        for name, values in fields.items():
            for value in bad_values(values):

                def call(value, kind=kind, name=name, pair=pair):
                    jaxrl_se.train(kind(**{name: value}), pair, 0, 500)

                yield Case(kind.__name__, name, value, call)
    for kind, fields in BONUSES.items():
        for name, values in fields.items():
            for value in bad_values(values):

                def call_with_bonus(value, kind=kind, name=name):
                    agent = jaxrl_se.Curious(DDQN(), kind(**{name: value}))
                    jaxrl_se.train(agent, TASK, 0, 500)

                yield Case(kind.__name__, name, value, call_with_bonus)
