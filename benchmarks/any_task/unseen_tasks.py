"""Twelve tasks that nothing was chosen on, each evolved with nothing set for it.

For each: what random play and a good policy return (a hand-written controller where the
task has one, otherwise the best of our agents trained in the task itself), what unseen
agents return that were trained in the evolved environment, and the share of the gap
that they close. No task and no seed is left out.

python -m benchmarks.unseen_tasks
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import gymnax
import jax
import numpy as np
import tyro
from gymnax.wrappers import FlattenObservationWrapper

import jaxrl_se
from benchmarks.any_task import foreign_agents as foreign
from benchmarks.any_task.task_names import module_of, task_of
from benchmarks.shared import runtime
from envs.spaces import Spaces
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_se.defaults import Budget
from jaxrl_se.policies import RandomPolicy

OWN = ("double_integrator", "cart_pole_swing_up", "inventory", "delayed_chain")
TASKS = (
    *(f"examples.tasks.{name}:make" for name in OWN),
    "GridWorld",
    "SimpleEnv",
    "Cliff",
    "gymnax:PointRobot-misc",
    "gymnax:Reacher-misc",
    "gymnax:Swimmer-misc",
    "gymnax:Catch-bsuite",
    "gymnax:DeepSea-bsuite",
)
OWN_KINDS = ("DDQN", "TD3", "PPO", "SAC")
EPISODES = 64


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
      tasks: Which tasks; names, `module:function` or `gymnax:NAME`.
      seeds: Seeds of the evolution, which count up from `seed`.
      seed: The first one.
      real_steps: Steps in the task of each evolution, about.
      episode_length: Steps of an episode in what is evolved.
      agents: Unseen agents of each kind.
      steps: Their training steps in the evolved environment.
      real_train_steps: Training steps in the task itself, where no controller says what
        is good.
      out: Folder of the run; without it, the next numbered one under runs/.
      cache: Keep compiled programs in the user's cache folder.
    """

    tasks: tuple[str, ...] = TASKS
    seeds: int = 3
    seed: int = 0
    real_steps: int = Budget().real_steps
    episode_length: int = 1
    agents: int = 3
    steps: int = 10_000
    real_train_steps: int = 50_000
    out: Path | None = None
    cache: bool = True


def make(text: str) -> tuple[Any, Any]:
    """A task, with observations as vectors."""
    if not text.startswith("gymnax:"):
        return task_of(text)
    env, params = gymnax.make(text.removeprefix("gymnax:"))
    if len(env.observation_space(params).shape) != 1:
        env = FlattenObservationWrapper(env)
    return env, params


def mean_return(policy: Any, task: tuple[Any, Any], key: jax.Array) -> float:
    """Mean return of whole episodes."""
    return float(jaxrl_se.evaluate(policy, *task, key, EPISODES).returns.mean())


def good_return(
    text: str, task: tuple[Any, Any], key: jax.Array, num_steps: int
) -> tuple[float, str]:
    """The return of a good policy, and whose it is."""
    controller = getattr(module_of(text), "controller", None) if ":" in text else None
    if controller is not None:
        return mean_return(controller, task, key), "controller"
    spaces = Spaces.of(*task)
    found = {
        kind: foreign.own_scores(
            getattr(jaxrl_se, kind)(), task, task, key, num_steps, 1
        ).max()
        for kind in OWN_KINDS
        if foreign.fits(kind, spaces)
    }
    best = max(found, key=lambda kind: found[kind])
    return float(found[best]), f"{best} in the task"


def unseen_returns(
    proxy: tuple[Any, Any], task: tuple[Any, Any], key: jax.Array, options: Options
) -> dict[str, list[float]]:
    """Mean returns of unseen agents, by kind."""
    spaces = Spaces.of(*task)
    found = {
        kind: foreign.own_scores(
            getattr(jaxrl_se, kind)(), proxy, task, key, options.steps, options.agents
        ).tolist()
        for kind in OWN_KINDS
        if foreign.fits(kind, spaces)
    }
    if foreign.is_installed("rejax"):
        settings = foreign.draw_settings(1)[0]
        scores = foreign.rejax_scores(
            "PPO", settings, proxy, task, key, options.steps, options.agents
        )
        found["rejax PPO, sampled"] = scores["as it acts"].tolist()
    return found


def run_task(text: str, options: Options) -> list[dict]:
    """All seeds of one task; prints a line for each."""
    task = make(text)
    key = jax.random.key(options.seed + 10**6)
    random = mean_return(RandomPolicy(Spaces.of(*task)), task, key)
    good, whose = good_return(text, task, key, options.real_train_steps)
    rows = []
    for seed in range(options.seed, options.seed + options.seeds):
        started = time.process_time()
        result = jaxrl_se.evolve(
            task,
            key=seed,
            budget=Budget(options.real_steps),
            episode_length=options.episode_length,
            progress=False,
        )
        cpu_seconds = time.process_time() - started
        unseen = unseen_returns(
            (result.env, result.params), task, jax.random.fold_in(key, seed), options
        )
        closed = {
            kind: (np.mean(values) - random) / (good - random)
            for kind, values in unseen.items()
        }
        confirmation = result.confirmation
        rows.append(
            {
                "task": text,
                "seed": seed,
                "random": random,
                "good": good,
                "good_is": whose,
                "unseen": unseen,
                "closed": closed,
                "real_steps": result.progress.real_steps,
                "cpu_seconds": cpu_seconds,
                "problem": confirmation.problem() if confirmation else None,
            }
        )
        shares = "  ".join(f"{kind} {share:.2f}" for kind, share in closed.items())
        print(
            f"{text.removeprefix('examples.tasks.'):<26}{seed:>3}{random:>9.4g}"
            f"{good:>9.4g}{result.progress.real_steps:>11,}{cpu_seconds:>6.0f} s  "
            f"{shares}",
            flush=True,
        )
    return rows


def main() -> None:
    """Parses the command line and runs all tasks."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/unseen_tasks")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    with RunFolder(out, identity) as folder:
        print(
            f"{'task':<26}{'seed':>3}{'random':>9}{'good':>9}{'real steps':>11}"
            f"{'CPU':>8}  share of the gap closed by unseen agents"
        )
        rows = []
        for text in options.tasks:
            rows += run_task(text, options)
            folder.write_json("summary.json", {"rows": rows})
    closed = [min(row["closed"].values()) >= 0.9 for row in rows]
    print(f"every kind closes 90 %: {sum(closed)} of {len(closed)} runs")
    print(f"results in {out}")
