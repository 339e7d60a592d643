"""Every public entry point with the kinds of its parameters, and the wrong calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import envs
import finetune
import jaxrl_se
import oswm
from benchmarks.bad_values.values import bad_values
from benchmarks.bad_values.verdicts import Case, Untouched
from jaxrl_se import DDPG, DDQN, ICM, PPO, RND, SAC, SARSA, TD3, DiscreteTD3, QLearning

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
_LAYERED = {"hidden_sizes": "layers", "activation": "name"}
_CRITICS = {"target_update_rate": "rate", "num_critics": "count"}
_TD3 = {
    **_OFF_POLICY,
    **_LAYERED,
    **_CRITICS,
    "num_envs": "count",
    "network": "name",
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
# Fields by agent; `variation` and `bonus_key` are set by the toolkit itself.
AGENTS: dict[type, tuple[str, dict[str, str]]] = {
    DDQN: (
        "discrete",
        {
            **_OFF_POLICY,
            **_LAYERED,
            "num_envs": "count",
            "network": "name",
            "target_update_rate": "rate",
            "epsilon_start": "share",
            "epsilon_end": "share",
            "epsilon_steps": "positive",
            "epsilon_decay": "rate or none",
            "learning_starts_episode": "whole number",
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
            **_LAYERED,
            **_CRITICS,
            "num_envs": "count",
            "network": "name",
            "initial_temperature": "positive",
            "target_entropy_ratio": "share",
        },
    ),
    PPO: (
        "discrete",
        {
            **_LAYERED,
            "network": "name",
            "learning_rate": "rate",
            "discount": "rate",
            "gae_lambda": "share",
            "clip_ratio": "positive",
            "entropy_coef": "not negative",
            "value_coef": "not negative",
            "max_grad_norm": "positive",
            "initial_std": "positive",
            "num_envs": "count",
            "rollout_steps": "count",
            "num_epochs": "count",
            "num_minibatches": "count",
        },
    ),
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
_EVOLUTION = {
    "proxy": "object",
    "scoring": "object",
    "agent": "agent",
    "algorithms": "name",
    "stages": "stages",
    "train_steps": "count",
    "stop": "object",
    "common_random_numbers": "flag",
    "horizon": "object",
    "strategy": "name",
    "population_size": "count",
    "num_seeds": "count",
    "fitness_episodes": "count",
    "std": "positive",
    "strategy_learning_rate": "positive",
    "patience": "count or none",
    "max_generations": "count",
    "stop_return": "return",
    "validation_every": "count",
    "validation_agents": "count",
    "validation_episodes": "count",
    "group_size": "count or none",
}
# Classes that check themselves when they are made, and what they need to be made.
CONFIGS: dict[Any, tuple[dict[str, Any], dict[str, str]]] = {
    jaxrl_se.EvolutionConfig: ({}, _EVOLUTION),
    jaxrl_se.HorizonCurriculum: (
        {"start": 10, "end": 5},
        {"start": "count", "end": "count", "begin": "index", "generations": "count"},
    ),
    jaxrl_se.SyntheticConfig: (
        {},
        {
            **_LAYERED,
            "variant": "name",
            "initial_states": "name",
            "reward_heads": "flag",
            "reward_bound": "positive or none",
            "obs_range": "ranges",
            "max_steps": "count",
            "obs_bound": "positive or none",
            "learn_termination": "flag",
            "soft_termination": "flag",
        },
    ),
    jaxrl_se.RewardConfig: (
        {},
        {
            **_LAYERED,
            "kind": "name",
            "obs_range": "ranges",
            "zero_at_termination": "flag",
            "info_keys": "names or none",
            "quadratic": "flag",
            "scale": "positive",
        },
    ),
    jaxrl_se.FinalReturn: ({}, {"floor": "number"}),
    jaxrl_se.StepsToSolve: (
        {},
        {
            "unsolved_penalty": "not negative",
            "solved_return": "number or none",
            "window": "count",
            "test_episodes": "count",
        },
    ),
    jaxrl_se.AreaUnderCurve: ({}, {"test_episodes": "count"}),
    jaxrl_se.FerreiraES: (
        {},
        {"score_transform": "name", "mirrored": "flag", "weight_decay": "share"},
    ),
    jaxrl_se.LogUniform: (
        {"low": 1, "high": 2},
        {"low": "positive", "high": "positive", "integer": "flag"},
    ),
    jaxrl_se.Uniform: ({"low": 0, "high": 1}, {"low": "number", "high": "number"}),
    jaxrl_se.Choice: ({}, {"values": "numbers"}),
    oswm.Ridge: ({}, {"quadratic": "flag", "penalties": "scales"}),
    oswm.KernelRidge: (
        {},
        {
            "num_landmarks": "count",
            "num_screening": "count",
            "length_scales": "scales",
            "penalties": "scales",
            "ard": "flag",
        },
    ),
    oswm.FastKernelRidge: (
        {},
        {
            "num_landmarks": "count",
            "num_reward_landmarks": "count",
            "num_known": "count",
            "length_scales": "scales",
            "penalties": "scales",
        },
    ),
    oswm.MLPEnsemble: (
        {},
        {
            "num_members": "count",
            "hidden_sizes": "layers",
            "num_updates": "count",
            "batch_size": "count",
            "learning_rate": "rate",
            "weight_decay": "not negative",
            "seed": "index",
        },
    ),
    oswm.NearestNeighbours: ({}, {"num_neighbours": "count"}),
    oswm.SubContexts: (
        {"model": oswm.Ridge()},
        {"num_members": "count", "fraction": "rate", "seed": "index"},
    ),
    finetune.ColdConfig: (
        {},
        {
            "halving_share": "not negative",
            "eta": "count",
            "random_every": "count",
            "strength": "positive",
            "given_up": "not negative",
            "shortlist": "count",
            "growth": "positive",
            "max_rows": "count",
            "pause": "positive",
        },
    ),
    finetune.RankingConfig: (
        {},
        {
            "num_steps": "count",
            "num_tasks": "count",
            "batch_size": "count",
            "learning_rate": "rate",
            "weight_decay": "not negative",
            "num_members": "count",
            "num_hidden": "count",
        },
    ),
    finetune.MetaTrainConfig: (
        {},
        {
            "num_steps": "count",
            "num_tasks": "count",
            "num_context": "count",
            "num_query": "count",
            "learning_rate": "rate",
            "weight_decay": "not negative",
            "num_members": "count",
            "num_hidden": "count",
            "num_features": "count",
            "num_meta_examples": "count",
        },
    ),
    finetune.FitConfig: (
        {},
        {
            "performance": "object",
            "cost": "object",
            "ranking": "object",
            "reference": "object",
        },
    ),
    finetune.Categorical: (
        {"name": "model", "choices": ("a", "b")},
        {
            "name": "text",
            "choices": "choices",
            "condition": "object",
            "optional": "flag",
        },
    ),
    finetune.Ordinal: (
        {"name": "size", "choices": (1, 2)},
        {"name": "text", "choices": "increasing", "log": "flag", "optional": "flag"},
    ),
    finetune.Float: (
        {"name": "rate", "low": 0.1, "high": 1.0},
        {
            "name": "text",
            "low": "number",
            "high": "number",
            "log": "flag",
            "integer": "flag",
        },
    ),
    finetune.Condition: ({"parent": "a", "values": (1,)}, {"values": "values"}),
}
# Good values among the wrong ones of a kind: numbers that are large, say.
_GOOD = {
    ("FinalReturn", "floor"): (float("-inf"),),
    ("Choice", "values"): ([],),
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

                def call(value, kind=kind, name=name):
                    agent = jaxrl_se.Curious(DDQN(), kind(**{name: value}))
                    jaxrl_se.train(agent, TASK, 0, 500)

                yield Case(kind.__name__, name, value, call)


def config_cases() -> Iterator[Case]:
    """Classes of settings, when they are made."""
    for kind, (needed, fields) in CONFIGS.items():
        for name, values in fields.items():
            for value in bad_values(values, _GOOD.get((kind.__name__, name), ())):

                def call(value, kind=kind, needed=needed, name=name):
                    kind(**{**needed, name: value})

                yield Case(kind.__name__, name, value, call)


def call_cases(folder: Path) -> Iterator[Case]:
    """Functions, with good arguments but for one.

    Args:
        folder: An empty folder, for what writes.
    """
    for entry, function, needed, kinds in _functions(folder):
        for name, values in kinds.items():
            for value in bad_values(values):

                def call(value, function=function, needed=needed, name=name):
                    function(**{**needed, name: value})

                yield Case(entry, name, value, call)


def unlisted() -> list[str]:
    """Fields of public classes of settings that have no wrong values here."""
    listed = {kind: fields for kind, (_, fields) in (*AGENTS.items(), *CONFIGS.items())}
    left_out = {
        "variation",
        "condition",
        "optional",
        "integer",
        "parent",
        "values",
        "name",
        "model",
        "search",
    }
    return [
        f"{kind.__name__}.{field.name}"
        for kind, fields in {**listed, **BONUSES}.items()
        for field in dataclasses.fields(kind)
        if field.name not in fields and field.name not in left_out
    ]


def _functions(folder: Path) -> Iterator[tuple[str, Any, dict, dict[str, str]]]:
    learned = jaxrl_se.SyntheticConfig(obs_range=None).make(*envs.make("CartPole-v1"))
    shipped, params = learned
    saved = jaxrl_se.save(folder / "saved.npz", shipped, params)
    config = jaxrl_se.EvolutionConfig(stop_return=1.0)
    agent, env = DDQN(), TASK[0]
    yield (
        "train",
        jaxrl_se.train,
        {"agent": agent, "task": TASK, "key": 0, "num_steps": 100},
        {
            "agent": "agent",
            "task": "task",
            "key": "key",
            "num_steps": "count",
            "num_agents": "count or none",
            "num_snapshots": "count",
            "stop": "object",
            "test": "object",
        },
    )
    yield (
        "start",
        jaxrl_se.start,
        {"agent": agent, "env": env, "params": TASK[1], "key": 0, "num_steps": 100},
        {
            "agent": "agent",
            "key": "key",
            "num_steps": "count",
            "num_snapshots": "count",
            "stop": "object",
            "test": "object",
        },
    )
    yield (
        "advance",
        jaxrl_se.advance,
        {"agent": agent, "env": env, "params": None, "state": None, "num_steps": 10},
        {"agent": "agent", "state": "object", "num_steps": "count"},
    )
    for name, rule, fields in (
        ("Solved", jaxrl_se.Solved, {"threshold": "number"}),
        ("Plateau", jaxrl_se.Plateau, {"tolerance": "positive"}),
    ):

        def train_until(rule=rule, **settings):
            settings = {"threshold": 1.0} | settings if rule is _SOLVED else settings
            jaxrl_se.train(agent, TASK, 0, 100, stop=rule(**settings))

        shared = {"min_episodes": "whole number", "window": "count"}
        extra = {} if name == "Solved" else {"full_windows": "flag"}
        yield name, train_until, {}, {**fields, **shared, **extra}
    yield (
        "TaskTest.of",
        jaxrl_se.TaskTest.of,
        {"task": "CartPole-v1"},
        {
            "task": "task",
            "solved_return": "return",
            "num_episodes": "count",
            "window": "count",
            "num_points": "count",
        },
    )
    yield (
        "Varied.of",
        jaxrl_se.Varied.of,
        {"agent": agent},
        {
            "agent": "varied agent",
            "learning_rate": "distribution",
            "width": "distribution",
        },
    )
    yield (
        "evaluate",
        jaxrl_se.evaluate,
        {"policy": _first_action, "task": TASK, "key": 0},
        {
            "policy": "function",
            "task": "outer task",
            "key": "key",
            "num_episodes": "count",
        },
    )
    yield (
        "evolve",
        jaxrl_se.evolve,
        {"task": TASK, "config": config, "progress": False},
        {
            "task": "task",
            "config": "object",
            "key": "key",
            "budget": "object",
            "with_agents": "flag",
            "progress": "flag",
            "proxy": "object",
            "out": "path",
            "resume": "flag",
            "checkpoint_every": "count",
            "on_generation": "function",
            "mesh": "object",
        },
    )
    yield (
        "Budget",
        jaxrl_se.defaults.Budget,
        {},
        {"real_steps": "positive whole number"},
    )
    yield (
        "save",
        jaxrl_se.save,
        {"path": folder / "again.npz", "env": shipped, "params": params},
        {"path": "path", "env": "object", "params": "object", "task": "text"},
    )
    yield (
        "load",
        jaxrl_se.load,
        {"name_or_path": saved},
        {"name_or_path": "path", "variant": "name"},
    )
    yield (
        "save_state",
        jaxrl_se.save_state,
        {"path": folder / "state.npz", "state": None},
        {"path": "path", "state": "object"},
    )
    yield (
        "load_state",
        jaxrl_se.load_state,
        {"path": saved, "like": None},
        {"path": "path", "like": "object"},
    )
    yield (
        "collect",
        envs.collect,
        {"task": TASK, "num_transitions": 10, "key": 0},
        {
            "task": "outer task",
            "num_transitions": "count",
            "key": "key",
            "policy": "function",
        },
    )
    yield (
        "open_task",
        envs.open_task,
        {"task": TASK},
        {
            "task": "outer task",
            "name": "text",
            "kind": "name or none",
            "solved_return": "return",
            "vary": "function",
        },
    )
    yield (
        "external",
        envs.external,
        {"task": "CartPole-v1", "engine": "gymnasium"},
        {
            "num_envs": "count or none",
            "engine": "name or none",
            "name": "text",
            "kind": "name",
            "time_limit": "count or none",
            "timeout": "positive or none",
            "num_threads": "count or none",
            "solved_return": "return",
        },
    )
    yield "make", envs.make, {}, {"name": "name"}
    yield "check", envs.check, {"env": env}, {"num_steps": "count", "seed": "index"}
    yield (
        "ActionRepeat",
        envs.ActionRepeat,
        {"env": env, "num_repeats": 2},
        {"env": "object", "num_repeats": "count"},
    )
    yield "TerminatingTimeLimit", envs.TerminatingTimeLimit, {}, {"env": "object"}
    yield "LegacyEnv", envs.LegacyEnv, {}, {"env": "object"}
    yield "GymnasiumEnv", envs.GymnasiumEnv, {}, {"env": "object"}
    yield (
        "GymnasiumVectorEnv",
        envs.GymnasiumVectorEnv,
        {"env": env, "params": TASK[1], "num_envs": 2},
        {"env": "object", "num_envs": "count", "autoreset_mode": "name"},
    )
    yield (
        "register",
        envs.register,
        {"name": "CartPole-v1", "factory": lambda: TASK},
        {"factory": "function", "name": "text"},
    )
    yield "read_transitions", envs.read_transitions, {}, {"source": "source"}
    yield (
        "condition",
        oswm.condition,
        {"log": _log(), "model": oswm.Persistence(), "progress": False},
        {
            "log": "log",
            "action_space": "space",
            "max_steps": "count or none",
            "initial_obs": "starts",
            "model": "model",
            "terminated": "function",
            "reward": "function",
            "sample": "flag",
            "uncertainty_penalty": "not negative",
            "margin": "not negative",
        },
    )
    yield (
        "condition_worlds",
        oswm.condition_worlds,
        {"log": _log(), "model": oswm.Persistence(), "progress": False},
        {"num_worlds": "count", "fraction": "rate", "seed": "index"},
    )
    yield from _finetune(folder)


def _finetune(folder: Path) -> Iterator[tuple[str, Any, dict, dict[str, str]]]:
    space = finetune.example_space()
    yield (
        "Tuner",
        finetune.Tuner,
        {"space": space, "num_candidates": 2},
        {
            "space": "object",
            "meta_dataset": "object",
            "num_candidates": "count",
            "refit": "name",
            "stop_below": "not negative",
            "seed": "index",
            "surrogates": "object",
            "num_epochs": "count",
            "direction": "name",
            "cold": "object",
        },
    )
    yield (
        "run",
        finetune.run,
        {
            "train_epoch": _first_action,
            "space": space,
            "budget": 1e-9,
            "out": folder / "job",
            "progress": False,
        },
        {
            "train_epoch": "function",
            "space": "object",
            "budget": "budget",
            "out": "path",
            "workers": "count",
            "timeout": "positive or none",
            "device_variable": "text",
            "resume": "flag",
            "progress": "flag",
            "seed": "index",
            "num_epochs": "count",
            "direction": "name",
        },
    )
    yield (
        "make_synthetic",
        finetune.make_synthetic,
        {},
        {
            "space": "object",
            "num_datasets": "count",
            "num_runs": "count",
            "num_epochs": "count",
            "seed": "index",
        },
    )
    yield "SearchSpace", finetune.SearchSpace, {}, {"hyperparameters": "object"}
    yield "read", finetune.read, {}, {"path": "path"}
    yield (
        "fit_surrogates",
        finetune.fit_surrogates,
        {"key": 0, "data": None},
        {"key": "key", "data": "object", "config": "object"},
    )


def _log() -> envs.Transitions:
    """A log of 40 rows."""
    obs = np.arange(41, dtype=np.float32)[:, None] / 40
    return envs.Transitions(
        obs=obs[:-1],
        action=np.arange(40) % 2,
        reward=np.ones(40, np.float32),
        next_obs=obs[1:],
        terminated=np.arange(40) == 39,
        truncated=np.zeros(40, bool),
    )


_SOLVED = jaxrl_se.Solved


def _first_action(obs: Any = None, key: jax.Array | None = None) -> int:
    return 0
