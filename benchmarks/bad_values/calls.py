"""Public functions with the kinds of their arguments, and the wrong calls."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import envs
import finetune
import jaxrl_se
import oswm
from benchmarks.bad_values.agents import TASK
from benchmarks.bad_values.broken_tasks import Endless
from benchmarks.bad_values.values import bad_values
from benchmarks.bad_values.verdicts import Case, StartedError
from jaxrl_se import DDQN
from jaxrl_se.defaults import Budget

# What is called, by which name, with which good arguments, and the kinds of others.
Call = tuple[str, Any, dict[str, Any], dict[str, str]]
CARTPOLE = envs.make("CartPole-v1")


def call_cases(folder: Path) -> Iterator[Case]:
    """Functions, with good arguments but for one.

    Args:
        folder: An empty folder, for what writes.
    """
    calls = (
        *_training(),
        *_evolution(folder),
        *_files(folder),
        *_tasks(),
        *_worlds(),
        *_from_logs(folder),
        *_sinks(folder),
        *_agents(folder),
        *_finetune(folder),
    )
    for entry, function, needed, kinds in calls:
        for name, values in kinds.items():
            for value in bad_values(values):

                def call(value, function=function, needed=needed, name=name):
                    function(**{**needed, name: value})

                yield Case(entry, name, value, call)


def _training() -> Iterator[Call]:
    """Training and what goes into it."""
    agent = DDQN()
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
            "on_progress": "function",
            "progress": "flag or none",
        },
    )
    yield (
        "train, watched",
        jaxrl_se.train,
        {
            "agent": agent,
            "task": TASK,
            "key": 0,
            "num_steps": 100,
            "on_progress": print,
        },
        {
            "log_every": "count or none",
            "test_episodes": "count",
            "test_task": "task or none",
        },
    )
    yield (
        "train, with params",
        jaxrl_se.train,
        {"agent": agent, "task": envs.make("CartPole-v1")[0], "key": 0},
        {"params": "params"},
    )
    yield (
        "start",
        jaxrl_se.start,
        {"agent": agent, "task": TASK, "key": 0, "num_steps": 100},
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
        {"agent": agent, "task": TASK, "state": None, "num_steps": 10},
        {"agent": "agent", "state": "object", "num_steps": "count"},
    )
    for name, rule, fields in (
        ("Solved", jaxrl_se.Solved, {"threshold": "number"}),
        ("Plateau", jaxrl_se.Plateau, {"tolerance": "positive"}),
    ):

        def train_until(rule=rule, **settings):
            if rule is _SOLVED:
                settings = {"threshold": 1.0} | settings
            make: Any = rule
            jaxrl_se.train(agent, TASK, 0, 100, stop=make(**settings))

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


def _evolution(folder: Path) -> Iterator[Call]:
    """Evolution and evaluation."""
    config = jaxrl_se.EvolutionConfig(stop_return=1.0)
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
        "evaluate, in a task",
        jaxrl_se.evaluate,
        {"task": "CartPole-v1", "key": 0, "num_episodes": 1},
        {"policy": "policy"},
    )
    yield (
        "evaluate, outside JAX",
        jaxrl_se.evaluate,
        {"task": Endless, "key": 0, "num_episodes": 1},
        {"policy": "policy"},
    )
    yield (
        "evolve",
        jaxrl_se.evolve,
        {"task": TASK, "config": config, "progress": False},
        {
            "task": "outer task",
            "config": "object",
            "key": "key",
            "budget": "object",
            "with_agents": "flag or none",
            "episode_length": "count",
            "progress": "flag",
            "proxy": "object",
            "out": "path",
            "resume": "flag",
            "checkpoint_every": "count",
            "on_generation": "function",
            "mesh": "object",
            "real_steps": "positive whole number or none",
            "probe": "object",
        },
    )
    yield (
        "Budget",
        Budget,
        {},
        {"real_steps": "positive whole number"},
    )


def _files(folder: Path) -> Iterator[Call]:
    """What is written and read."""
    learned = jaxrl_se.SyntheticConfig(obs_range=None).make(*envs.make("CartPole-v1"))
    shipped, params = learned
    saved = jaxrl_se.save(folder / "saved.npz", shipped, params)
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


def _tasks() -> Iterator[Call]:
    """Tasks, wrappers and transitions."""
    env = TASK[0]
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
            "task": "opened task",
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
    yield "check", envs.check, {"env": env}, {"num_steps": "count", "seed": "seed"}
    yield (
        "ActionRepeat",
        envs.ActionRepeat,
        {"env": env, "num_repeats": 2},
        {"env": "object", "num_repeats": "count"},
    )
    yield "TerminatingTimeLimit", envs.TerminatingTimeLimit, {}, {"env": "object"}
    yield "LegacyEnv", envs.LegacyEnv, {}, {"env": "object"}
    yield "GymnasiumEnv", envs.GymnasiumEnv, {}, {"env": "object"}
    yield "GymnasiumEnv.reset", envs.GymnasiumEnv(*CARTPOLE).reset, {}, {"seed": "seed"}
    vector = envs.GymnasiumVectorEnv(*CARTPOLE, num_envs=2)
    yield "GymnasiumVectorEnv.reset", vector.reset, {}, {"seed": "seed"}
    yield "Spaces.of", envs.Spaces.of, {}, {"env": "object"}
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


def _worlds() -> Iterator[Call]:
    """World models."""
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


def _from_logs(folder: Path) -> Iterator[Call]:
    """From a log, or a few real steps, to a policy or an environment."""
    given = {
        "action_space": "space",
        "max_steps": "count or none",
        "terminated": "function",
        "reward": "function",
        "progress": "flag",
    }
    yield (
        "solve",
        jaxrl_se.solve,
        {"log": _log(60), "model": _Started(), "progress": False},
        {
            **given,
            "log": "log",
            "key": "key",
            "agent": "agent or none",
            "num_steps": "count or none",
            "num_agents": "count",
            "num_worlds": "count",
            "model": "model",
            "uncertainty_penalty": "not negative",
            "initial_obs": "starts",
        },
    )
    folders = {"out": "path", "resume": "flag"}
    yield (
        "evolve_from_log",
        jaxrl_se.evolve_from_log,
        {
            "log": _log(60),
            "config": jaxrl_se.LogConfig(model=_Started()),
            "progress": False,
        },
        {
            **given,
            **folders,
            "log": "log",
            "config": "object",
            "key": "key",
            "evolution": "object",
            "test_task": "outer task or none",
            "checkpoint_every": "count",
            "on_generation": "function",
        },
    )
    yield (
        "evolve_in_rounds",
        jaxrl_se.evolve_in_rounds,
        {"task": TASK, "progress": False},
        {
            **folders,
            "task": "outer task",
            "config": "object",
            "key": "key",
            "progress": "flag",
        },
    )


def _sinks(folder: Path) -> Iterator[Call]:
    """Where rows of metrics go."""
    path = folder / "log.csv"
    yield "CSVSink", jaxrl_se.CSVSink, {}, {"path": "path"}
    yield "CSVSink", jaxrl_se.CSVSink, {"path": path}, {"append": "flag"}


def _agents(folder: Path) -> Iterator[Call]:
    """Agents that outlive their script."""
    env, params = TASK
    shipped = jaxrl_se.load_agent("CartPole-v1")
    agent, policy, spaces = DDQN(), shipped.policy, shipped.spaces
    saved = jaxrl_se.save_agent(folder / "agent.npz", shipped)
    yield (
        "save_agent",
        jaxrl_se.save_agent,
        {"path": folder / "other.npz", "trained": policy, "spaces": spaces},
        {"path": "path", "trained": "object", "spaces": "object", "card": "mapping"},
    )
    yield (
        "save_agent",
        jaxrl_se.save_agent,
        {"path": folder / "own.npz", "spaces": spaces},
        {"trained": "policy"},
    )
    yield (
        "load_agent",
        jaxrl_se.load_agent,
        {"name_or_path": saved},
        {"name_or_path": "path"},
    )
    yield (
        "export_policy",
        jaxrl_se.export_policy,
        {"path": folder / "function", "policy": policy, "spaces": spaces},
        {"path": "path", "policy": "object", "spaces": "object"},
    )
    yield (
        "learning_curve",
        jaxrl_se.learning_curve,
        {"agent": agent, "task": TASK, "key": 0, "num_steps": 100},
        {
            "agent": "agent",
            "task": "task",
            "key": "key",
            "num_steps": "count",
            "num_agents": "count",
            "num_points": "count",
            "num_episodes": "count",
            "test_task": "outer task or none",
            "label": "text",
        },
    )
    yield "RandomPolicy", jaxrl_se.RandomPolicy, {}, {"spaces": "object"}
    yield (
        "PartlyObserved",
        envs.PartlyObserved,
        {"env": env, "shown": (0,)},
        {"env": "object", "shown": "places"},
    )
    yield (
        "flat_observations",
        envs.flat_observations,
        {"params": params},
        {"env": "object"},
    )


def _finetune(folder: Path) -> Iterator[Call]:
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
    tuner = finetune.Tuner(space, num_candidates=2)
    trial = tuner.suggest()
    yield (
        "Tuner.observe",
        lambda **given: copy.deepcopy(tuner).observe(**given),
        {"trial": trial, "accuracy": 0.5, "seconds": 1.0},
        {"trial": "object", "accuracy": "number", "seconds": "positive"},
    )
    yield (
        "image_meta_features",
        finetune.image_meta_features,
        {"num_train": 1000, "num_classes": 10, "resolution": 32},
        {
            "num_train": "positive",
            "num_classes": "positive",
            "resolution": "positive",
            "num_channels": "channels",
        },
    )
    yield "SearchSpace", finetune.SearchSpace, {}, {"hyperparameters": "object"}
    yield "read", finetune.read, {}, {"path": "path"}
    yield (
        "fit_surrogates",
        finetune.fit_surrogates,
        {"key": 0, "data": finetune.make_synthetic(num_datasets=2, num_runs=2)},
        {"key": "key", "data": "object", "config": "object"},
    )


def _log(num_rows: int = 40) -> envs.Transitions:
    """A log of a few rows."""
    obs = np.arange(num_rows + 1, dtype=np.float32)[:, None] / num_rows
    return envs.Transitions(
        obs=obs[:-1],
        action=np.arange(num_rows) % 2,
        reward=np.ones(num_rows, np.float32),
        next_obs=obs[1:],
        terminated=np.arange(num_rows) == num_rows - 1,
        truncated=np.zeros(num_rows, bool),
    )


class _Started(oswm.Persistence):
    """A world model that says so as soon as it is to be fitted."""

    def fit(self, context: oswm.Context) -> Any:
        """Never gets that far."""
        raise StartedError


_SOLVED = jaxrl_se.Solved


def _first_action(obs: Any = None, key: jax.Array | None = None) -> int:
    return 0
