"""Reward networks that evolve in a task outside JAX, and agents that learn with them.

A population of reward networks is scored by agents that train in the task itself, each
paid by one of them. Fresh agents then train with the result and, as many of them, with
the task's own reward; both are tested by the task's own return after several budgets.

python -m benchmarks.outside_rewards --task HalfCheetah-v5
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import envs
import jaxrl_se
from benchmarks.external.tasks import task_to_learn
from benchmarks.shared import runtime
from envs.external import EngineName
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_se import TD3, EvolutionConfig, RewardConfig

_TRAIN, _TEST = 3_000_001, 3_000_002  # purposes of keys
# Small networks, so that a core takes a few thousand steps a second.
AGENT = TD3(
    learning_rate=1e-3,
    hidden_sizes=(64, 64),
    batch_size=64,
    learning_starts=1000,
    normalize_observations=True,
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
      task: An id of Gymnasium's or EnvPool's, with continuous actions.
      kinds: Of reward networks, see `jaxrl_se.RewardConfig`.
      seed: Seed of the evolution and of everything else.
      generations: Of each evolution.
      population: Candidates per generation.
      steps: Training steps of a candidate's agent.
      budgets: Training steps after which agents are tested.
      agents: Agents that are tested.
      episodes: Test episodes of each.
      engine: As for `benchmarks.gymnasium_task`.
      out: Folder of the run; without it, the next numbered one under runs/.
      cache: Keep compiled programs in the user's cache folder.
    """

    task: str = "HalfCheetah-v5"
    kinds: tuple[str, ...] = ("additive", "exclusive")
    seed: int = 0
    generations: int = 10
    population: int = 8
    steps: int = 5_000
    budgets: tuple[int, ...] = (5_000, 10_000, 20_000)
    agents: int = 4
    episodes: int = 3
    engine: EngineName | None = None
    out: Path | None = None
    cache: bool = True

    def __post_init__(self):
        for name in ("generations", "population", "steps", "agents", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"--{name} must be at least 1, got {getattr(self, name)}"
                )
        if not self.budgets or min(self.budgets) < 1:
            raise ValueError(f"--budgets must be at least 1, got {self.budgets}")


def evolve(kind: str, task: envs.ExternalTask, options: Options) -> Any:
    """The evolution of one kind of reward network."""
    config = EvolutionConfig(
        proxy=RewardConfig(kind, (32,)),
        agent=AGENT,
        train_steps=options.steps,
        population_size=options.population,
        num_seeds=1,
        fitness_episodes=2,
        max_generations=options.generations,
        stop_return=math.inf,
        validation_every=max(options.generations // 2, 1),
        validation_agents=4,
        validation_episodes=2,
    )
    return jaxrl_se.evolve(task, config, options.seed)


def curve(
    reward: tuple[Any, Any] | None, task: envs.ExternalTask, options: Options
) -> dict[int, list[float]]:
    """Mean returns of fresh agents after each budget, the same ones for all rewards."""
    key = jax.random.fold_in(jax.random.key(options.seed), _TRAIN)
    key_test = jax.random.fold_in(jax.random.key(options.seed), _TEST)
    returns = {}
    for budget in options.budgets:
        trained = jaxrl_se.train_outside(
            AGENT, task, key, budget, num_agents=options.agents, reward=reward
        )
        episodes, _ = task.play(trained.policy, key_test, options.episodes, num_axes=1)
        returns[budget] = np.asarray(episodes.returns, float).mean(axis=1).tolist()
    return returns


def main() -> None:
    """Parses the command line, evolves, trains and prints the table."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/outside_rewards")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    with RunFolder(out, identity) as folder:
        summary = measure(options, folder)
        folder.write_json("summary.json", summary)
    columns = "".join(f"{budget:>26,}" for budget in options.budgets)
    print(f"{'return after so many steps':26}{columns}")
    for name, row in summary["rows"].items():
        cells = ""
        for returns in row["returns"].values():
            low, high = bootstrap_ci95(np.asarray(returns))
            cells += f"{np.mean(returns):>10.0f} [{low:.0f}, {high:.0f}]".rjust(26)
        print(f"{name:26}{cells}   {row['real_steps']:,} real steps before")
    print(f"results in {out}")


def measure(options: Options, folder: RunFolder) -> dict[str, Any]:
    """The task's own reward, and each kind of network after its evolution."""
    task = task_to_learn(options.task, engine=options.engine)
    rows: dict[str, Any] = {}
    rows["the task's reward"] = {
        "returns": curve(None, task, options),
        "real_steps": 0,
        "cpu_seconds": 0.0,
    }
    for kind in options.kinds:
        started = time.process_time()
        result = evolve(kind, task, options)
        spent = time.process_time() - started
        jaxrl_se.save(folder.path / f"{kind}.npz", result.env, result.params)
        rows[kind] = {
            "returns": curve((result.env, result.params), task, options),
            "real_steps": result.progress.real_steps,
            "cpu_seconds": spent,
        }
    task.close()
    return {"task": options.task, "seed": options.seed, "rows": rows}
