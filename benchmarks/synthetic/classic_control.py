"""Agents with random hyperparameters after 10,000 synthetic steps, on five real tasks.

The table of synthetic-gymnax (Liesen et al., 2024) with our shipped environments: each
agent of an algorithm draws its hyperparameters from their lists, trains in the
synthetic environment alone and is tested on the real task. Beside it: the same agents
with the same budget in the real task, and a random policy.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro
from tqdm import tqdm

import envs
import jaxrl_se
from benchmarks.shared import runtime
from jaxrl_runs.devices import map_agents
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.statistics import bootstrap_ci95, interquartile_mean
from jaxrl_se.evaluation import play
from jaxrl_se.presets.liesen2024 import NUM_STEPS, TASKS, liesen2024_agents

# README of synthetic-gymnax: interquartile means of 20 agents.
RIVAL = {
    "CartPole-v1": {"ppo": 500.0, "sac": 500.0, "dqn": 500.0},
    "Acrobot-v1": {"ppo": -84.1, "sac": -85.3, "dqn": -82.6},
    "MountainCar-v0": {"ppo": -181.8, "sac": -170.1, "dqn": -118.4},
    "MountainCarContinuous-v0": {
        "ppo": 66.9,
        "sac": 91.1,
        "ddpg": 97.6,
        "td3": 97.5,
    },
    "Pendulum-v1": {"ppo": -205.4, "sac": -188.3, "ddpg": -164.3, "td3": -168.5},
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the classic-control table.

    Attributes:
      tasks: Target tasks.
      variant: Which shipped environment of each.
      env: Path of a saved environment instead, for a single task.
      agents: Agents per algorithm, each with hyperparameters of its own.
      episodes: Test episodes per agent.
      steps: Training steps of each agent.
      real: Also train the same agents in the real tasks.
      seed: Seed of all agents.
      out: Folder of the run; without it, the next numbered one under runs/.
      resume: Continue the run that --out holds.
      cache: Keep compiled programs in the user's cache folder.
    """

    tasks: tuple[str, ...] = TASKS
    variant: Literal["one-step", "multi-step"] = "one-step"
    env: Path | None = None
    agents: int = 32
    episodes: int = 20
    steps: int = NUM_STEPS
    real: bool = True
    seed: int = 0
    out: Path | None = None
    resume: bool = False
    cache: bool = True

    def __post_init__(self):
        for name in ("agents", "episodes", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1")
        for task in self.tasks:
            if task not in TASKS:
                raise ValueError(f"--tasks must be of {', '.join(TASKS)}, got {task!r}")
        if self.env is not None and len(self.tasks) != 1:
            raise ValueError("--env needs a single task in --tasks")
        if self.resume and self.out is None:
            raise ValueError("--resume needs --out, the folder of the run to continue")


def scores(
    agent: Any, env: Any, params: Any, task: str, key: jax.Array, options: Options
) -> np.ndarray:
    """Mean returns on the real task of `[agents]` trained in `(env, params)`."""
    key_train, key_test = jax.random.split(key)
    trained = jaxrl_se.train(
        agent, env, params, key_train, options.steps, num_agents=options.agents
    )
    real_env, real_params = envs.make(task)

    def test(agent, real_params):
        key, policy = agent
        episodes = play(policy, real_env, real_params, key, options.episodes)
        return episodes.returns.mean()

    keys = jax.random.split(key_test, options.agents)
    returns = jax.jit(lambda *agents: map_agents(test, agents, real_params))(
        keys, trained.policy
    )
    return np.asarray(returns, np.float64)


def summarize(values: np.ndarray) -> dict[str, Any]:
    """What the table shows of one cell."""
    return {
        "iqm": interquartile_mean(values),
        "iqm_ci95": list(bootstrap_ci95(values, interquartile_mean)),
        "mean": float(values.mean()),
        "worst": float(values.min()),
        "scores": values.tolist(),
    }


def measure(options: Options, folder: RunFolder) -> dict[str, Any]:
    """Fills the table cell by cell; finished cells of a resumed run are kept."""
    cells: dict[str, Any] = folder.read_json("cells.json") or {}
    key = jax.random.key(options.seed)
    todo = [
        (task, name, side)
        for task in options.tasks
        for name in (*RIVAL[task], "random")
        for side in ("synthetic", "real")
        if (side == "real" if name == "random" else options.real or side != "real")
    ]
    for index, (task, name, side) in enumerate(tqdm(todo, unit="cell", disable=None)):
        cell = f"{task}/{name}/{side}"
        if cell in cells:
            continue
        real = envs.make(task)
        own_key = jax.random.fold_in(key, index)
        if name == "random":
            episodes = jaxrl_se.evaluate(
                jaxrl_se.RandomPolicy(jaxrl_se.Spaces.of(*real)),
                *real,
                own_key,
                options.agents * options.episodes,
            )
            values = np.asarray(episodes.returns).reshape(options.agents, -1).mean(1)
        else:
            pair = _synthetic(task, options) if side == "synthetic" else real
            agent = liesen2024_agents(task)[name]
            values = scores(agent, *pair, task, own_key, options)
        cells[cell] = summarize(values)
        folder.write_json("cells.json", cells)
    return cells


def _synthetic(task: str, options: Options) -> tuple[Any, Any]:
    if options.env is not None:
        return jaxrl_se.load(options.env)
    return jaxrl_se.load(task, options.variant)


def reaches(cell: dict[str, Any], rival: float) -> bool:
    """Whether the 95 % interval of the interquartile mean reaches a value."""
    return cell["iqm_ci95"][1] >= rival


def print_table(options: Options, cells: dict[str, Any]) -> None:
    """Prints a line per task and algorithm."""
    print(
        f"{'task':<26}{'agent':<8}{'IQM in synthetic':>17}  {'95 %':<19}"
        f"{'rival':>7}  {'':<8}{'in real':>8}  {'95 %':<19}"
    )
    for task in options.tasks:
        for name, rival in RIVAL[task].items():
            cell = cells[f"{task}/{name}/synthetic"]
            low, high = cell["iqm_ci95"]
            verdict = "reached" if reaches(cell, rival) else "missed"
            line = (
                f"{task:<26}{name:<8}{cell['iqm']:>17.1f}  "
                f"{f'[{low:.1f}, {high:.1f}]':<19}{rival:>7.1f}  {verdict:<8}"
            )
            if options.real:
                real = cells[f"{task}/{name}/real"]
                low, high = real["iqm_ci95"]
                line += f"{real['iqm']:>8.1f}  {f'[{low:.1f}, {high:.1f}]':<19}"
            print(line)
        iqm = cells[f"{task}/random/real"]["iqm"]
        print(f"{task:<26}{'random policy, for comparison':<58}{iqm:>8.1f}")


def main() -> None:
    """Parses the command line, trains, tests and prints the table."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/classic_control")
    identity = {
        name: str(value)
        for name, value in dataclasses.asdict(options).items()
        if name not in ("out", "resume", "cache")
    }
    with RunFolder(out, identity, resume=options.resume) as folder:
        cells = measure(options, folder)
        folder.write_json("summary.json", {"options": identity, "cells": cells})
    print_table(options, cells)
    print(f"results in {out}")
