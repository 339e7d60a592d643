"""Agents with random hyperparameters, trained in evolved, fitted and real tasks.

python -m benchmarks.transfer

The comparison of Ferreira et al. (2022, figures 3, 4, 7 and 8) with ours: environments
evolved with varied and with fixed hyperparameters of the inner agent (DDQN), several
evolution seeds each, of which none is left out; a world model fitted to transitions of
the real task; and the real task. In each of them agents of four algorithms train, whose
hyperparameters always vary, and are tested on the real task. In evolved environments
they train for a fixed number of steps; in a world model and in the real task until the
mean return of ten training episodes counts as solved, or for `real_steps`.
"""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

import envs
import jaxrl_se
from benchmarks.shared import runtime
from benchmarks.shared.cells import Cells
from benchmarks.transfer.conditions import (
    CONDITIONS,
    TASKS,
    Transfer,
    evolve,
    fit_world_model,
    test,
)
from benchmarks.transfer.pictures import draw_noise, draw_seen, measure_noise
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_se.agents import Solved
from jaxrl_se.hyperparameters import vary_like_ferreira2022


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the transfer benchmark.

    Attributes:
      task: The task that agents are tested on.
      variant: The kind of synthetic environment.
      environments: Evolution seeds per condition, and world models.
      agents: Agents per environment and algorithm; on the real task as many as in all
        environments of a condition together.
      episodes: Test episodes per agent.
      transitions: Real transitions that a world model is fitted to; several numbers
        make several groups of rows.
      pictures: Also draw noise_robustness.png and what_agents_see.png.
      seed: Seed of the first evolution and of all agents.
      out: Folder of the run; without it, the next numbered one under runs/.
      resume: Continue the run that --out holds.
      cache: Keep compiled programs in the user's cache folder.
    """

    task: Literal["CartPole-v0", "Acrobot-v1"] = "CartPole-v0"
    variant: Literal["one-step", "multi-step"] = "one-step"
    environments: int = 5
    agents: int = 10
    episodes: int = 10
    transitions: tuple[int, ...] = (10_000,)
    pictures: bool = True
    seed: int = 0
    out: Path | None = None
    resume: bool = False
    cache: bool = True

    def __post_init__(self):
        for name in ("environments", "agents", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"--{name} must be at least 1, got {getattr(self, name)}"
                )
        if any(number < 2 for number in self.transitions):
            raise ValueError(
                f"--transitions must be at least 2, got {self.transitions}"
            )
        if self.resume and self.out is None:
            raise ValueError("--resume needs --out, the folder of the run to continue")


def run(transfer: Transfer, options: Options) -> None:
    """Evolves, fits, trains and tests cell by cell; prints the table."""
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/transfer")
    identity = {
        name: str(value)
        for name, value in dataclasses.asdict(options).items()
        if name not in ("out", "resume", "cache", "pictures")
    }
    identity["transfer"] = str(transfer)
    models = tuple(f"model-{number}" for number in options.transitions)
    conditions = (*CONDITIONS, *models, "real")
    with RunFolder(out, identity, resume=options.resume) as folder:
        cells = Cells(folder)

        @cache
        def group(condition):
            return environments(transfer, options, condition, cells)

        pairs = itertools.product(conditions, transfer.agents)
        for index, (condition, name) in enumerate(pairs):
            key = jax.random.fold_in(jax.random.key(options.seed), index)
            cells.fill(
                f"{condition}/{name}",
                lambda condition=condition, name=name, key=key: train_and_test(
                    transfer, options, name, condition, group(condition), key
                ),
            )
        if options.pictures:
            evolved = group("varied")
            noise = cells.fill("noise", lambda: measure_noise(transfer, evolved))
            draw_noise(folder.path / "noise_robustness.png", transfer, noise)
            draw_seen(folder.path / "what_agents_see.png", transfer, evolved[0])
        table = {
            f"{condition}/{name}": summarize(
                condition, cells.done[f"{condition}/{name}"]
            )
            for condition in conditions
            for name in transfer.agents
        }
        folder.write_json("summary.json", {"options": identity, "table": table})
    print_table(transfer, conditions, table)
    print_costs(cells.done)
    print(f"results in {out}")


def environments(
    transfer: Transfer, options: Options, condition: str, cells: Cells
) -> list[tuple[Any, Any]]:
    """Pairs `(env, params)`: evolved, fitted, or the real task as often."""
    seeds = range(options.seed, options.seed + options.environments)
    if condition == "real":
        return [envs.make(transfer.task)] * options.environments
    group = []
    for seed in seeds:
        if condition in CONDITIONS:
            path = cells.folder.path / f"{condition}-{seed}.npz"
            cells.fill(
                f"evolution/{condition}/{seed}",
                lambda path=path, seed=seed: evolve(
                    transfer, condition, options.variant, seed, path, cells.progress
                ),
            )
            group.append(jaxrl_se.load(path))
        else:
            number = int(condition.removeprefix("model-"))
            key = jax.random.fold_in(jax.random.key(seed), number)
            # A resumed run fits again, in seconds; what is kept is how well it went.
            model, params, errors = fit_world_model(transfer, number, key)
            cells.fill(f"fit/{condition}/{seed}", lambda errors=errors: errors)
            group.append((model, params))
    return group


def train_and_test(
    transfer: Transfer,
    options: Options,
    name: str,
    condition: str,
    group: list[tuple[Any, Any]],
    key: jax.Array,
) -> list[dict[str, list[float]]]:
    """Trains agents in every environment of a group and tests them."""
    stop, num_steps = None, transfer.steps[name]
    if condition not in CONDITIONS:
        threshold = envs.solved_return(transfer.task)
        assert threshold is not None, "both tasks have one"
        stop = Solved(threshold)
        num_steps = transfer.real_steps
    results = []
    for index, (env, params) in enumerate(group):
        key_train, key_test = jax.random.split(jax.random.fold_in(key, index))
        trained = jaxrl_se.train(
            vary_like_ferreira2022(transfer.agents[name]),
            env,
            params,
            key_train,
            num_steps,
            num_agents=options.agents,
            stop=stop,
        )
        returns = test(trained.policy, transfer.task, key_test, options.episodes)
        results.append(
            {
                "returns": returns.tolist(),
                "steps": trained.steps_taken.tolist(),
                "episodes": trained.episodes.tolist(),
            }
        )
    return results


def summarize(condition: str, results: list[dict[str, list[float]]]) -> dict[str, Any]:
    """Means over all agents of a cell, with intervals over environments.

    An interval is a bootstrap of whole environments, each with all of its agents, as
    agents that share an environment are not independent. On the real task, which is
    one, it is of agents.
    """
    summary: dict[str, Any] = {}
    for field in ("steps", "episodes", "returns"):
        values = np.array([result[field] for result in results], np.float64)
        units = values.ravel() if condition == "real" else values.mean(axis=1)
        summary[field] = float(values.mean())
        summary[f"{field}_ci95"] = list(bootstrap_ci95(units))
    summary["worst_environment"] = float(
        min(np.mean(result["returns"]) for result in results)
    )
    return summary


def _label(condition: str) -> str:
    if condition.startswith("model-"):
        return f"world model of {int(condition.removeprefix('model-')):,} steps"
    return "real task" if condition == "real" else f"evolved, {condition}"


def print_table(transfer: Transfer, conditions: Any, table: dict[str, Any]) -> None:
    """Prints a line per algorithm and condition, with the published numbers."""
    print(
        f"{'agent':<9}{'trained in':<30}{'return':>8} {'95 %':<17}{'published':>9}"
        f"{'worst':>8}{'steps':>9} {'95 %':<16}{'published':>9}{'episodes':>10}"
        f"{'published':>10}"
    )
    for name in transfer.agents:
        for condition in ("real", *(c for c in conditions if c != "real")):
            cell = table[f"{condition}/{name}"]
            group = transfer.published.get(condition.split("-")[0], {})
            steps, episodes, ret = group.get(name, (None, None, None))
            low, high = cell["returns_ci95"]
            first, last = cell["steps_ci95"]
            print(
                f"{name:<9}{_label(condition):<30}{cell['returns']:>8.1f} "
                f"{f'[{low:.1f}, {high:.1f}]':<17}{_number(ret, 1):>9}"
                f"{cell['worst_environment']:>8.1f}{cell['steps']:>9,.0f} "
                f"{f'[{first:,.0f}, {last:,.0f}]':<16}{_number(steps):>9}"
                f"{cell['episodes']:>10,.0f}{_number(episodes):>10}"
            )
    print("worst: mean return of the agents of the worst environment")


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def print_costs(done: dict[str, Any]) -> None:
    """Prints what evolved environments and world models cost, and how good they are."""
    for condition in CONDITIONS:
        runs = [v for k, v in done.items() if k.startswith(f"evolution/{condition}/")]
        if runs:
            mean = {
                name: np.mean([run[name] for run in runs])
                for name in ("generations", "cpu_seconds", "real_steps", "solved")
            }
            print(
                f"evolved, {condition}: {mean['generations']:.0f} generations, "
                f"{mean['cpu_seconds']:.1f} CPU-s and {mean['real_steps']:,.0f} real "
                f"steps on average; {mean['solved']:.0%} reached their stop return"
            )
    fits = [(name, cell) for name, cell in done.items() if name.startswith("fit/")]
    for name, cell in fits:
        _, condition, seed = name.split("/")
        errors = ", ".join(f"{key} {value:.2g}" for key, value in cell.items())
        print(f"{_label(condition)}, seed {seed}, on unseen transitions: {errors}")


def main() -> None:
    """Parses the command line and runs the benchmark."""
    options = tyro.cli(Options, description=__doc__)
    run(TASKS[options.task], options)
