"""Evolves an environment for any task, with nothing set for it.

python -m benchmarks.evolve --task CartPole-v1
python -m benchmarks.evolve --task examples.tasks.inventory:make
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import numpy as np
import tyro

import jaxrl_se
from benchmarks.any_task.task_names import task_of
from benchmarks.shared import runtime
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_se.defaults import Budget
from jaxrl_se.evolution_result import EvolutionResult


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes:
      task: A registered name, or `module:function` with a function that returns a
        gymnax pair.
      seed: Seed of everything.
      real_steps: Steps in the task that the evolution may take, about.
      episode_length: Steps of an episode in what is evolved.
      out: Folder of the run; without it, the next numbered one under runs/.
      cache: Keep compiled programs in the user's cache folder.
    """

    task: str
    seed: int = 0
    real_steps: int = Budget().real_steps
    episode_length: int = 1
    out: Path | None = None
    cache: bool = True


def summary_of(result: EvolutionResult, task: str, seed: int) -> dict:
    """What is kept of a run."""
    confirmed = result.confirmation
    assert confirmed is not None
    return {
        "task": task,
        "seed": seed,
        "returns": {kind: list(values) for kind, values in confirmed.returns.items()},
        "return_mean": confirmed.mean,
        "random_return": confirmed.random_return,
        "best_response": confirmed.best_response,
        "problem": confirmed.problem(),
        "generations": result.progress.generation,
        "real_steps_spent": result.progress.real_steps,
        "evolve_cpu_seconds": result.progress.cpu_seconds,
        "compile_seconds": result.compile_seconds,
        "num_weights": sum(
            int(np.size(leaf)) for leaf in jax.tree.leaves(result.params.weights)
        ),
    }


def main() -> None:
    """Parses the command line, evolves, saves and says what came of it."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    task = task_of(options.task)
    out = options.out or next_run_folder("runs/evolve")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    is_registered = ":" not in options.task
    with RunFolder(out, identity) as folder:
        result = jaxrl_se.evolve(
            options.task if is_registered else task,
            key=options.seed,
            budget=Budget(options.real_steps),
            episode_length=options.episode_length,
        )
        summary = summary_of(result, options.task, options.seed)
        jaxrl_se.save(
            folder.path / "synthetic_env.npz",
            result.env,
            result.params,
            task=options.task,
            card=summary,
        )
        folder.write_json("summary.json", summary)
    print(result)
    print(f"results in {out}; to train agents in it:")
    print(f"env, params = jaxrl_se.load({str(folder.path / 'synthetic_env.npz')!r})")
