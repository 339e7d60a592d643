"""Evolves an environment from logged transitions and tests unseen agents in the task.

python -m benchmarks.from_log --task CartPole-v1 --rows 1000 --seed 0
python -m benchmarks.from_log --task Pendulum-v1 --log my_rows.npz
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import tyro

import envs
import jaxrl_se
from benchmarks.logs.collected import log_of, task_of
from benchmarks.shared import runtime
from envs import Transitions
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_se.from_log import LogConfig, LogEvolutionResult, evolve_from_log
from jaxrl_se.log_evidence import check_fits
from jaxrl_se.outcome import Confirmation
from jaxrl_se.unseen import play_with_unseen

_TEST = 77  # Folded into the seed's key; evolution has others.


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes:
      task: A name for `envs.make`, or one of Gymnasium's: what agents are tested in.
      rows: Transitions to collect.
      seed: Seed of everything; the log's is 1,000 more.
      kind: Who plays the rows: "random", or "mixed" with an expert's; by default mixed
        where random play never meets the reward.
      log: A file of rows to take instead of collecting some.
      agents: Unseen agents of each of three kinds.
      episodes: Test episodes of each agent.
      worlds: World models that generations are played in by turns.
      model_steps: Steps in the models that the evolution may take, about.
      uncertainty_penalty: See `oswm.condition`.
      with_agents: Whether agents that train score the last generations.
      out: Folder of the run; without it, the next numbered one under runs/.
      cache: Keep compiled programs in the user's cache folder.
    """

    task: str
    rows: int = 1000
    seed: int = 0
    kind: Literal["random", "mixed"] | None = None
    log: Path | None = None
    agents: int = 22
    episodes: int = 10
    worlds: int = LogConfig().num_worlds
    model_steps: int = LogConfig().model_steps
    uncertainty_penalty: float = LogConfig().uncertainty_penalty
    with_agents: bool | None = None
    out: Path | None = None
    cache: bool = True

    @property
    def config(self) -> LogConfig:
        """The part that says how the environment is evolved."""
        return LogConfig(
            num_worlds=self.worlds,
            model_steps=self.model_steps,
            uncertainty_penalty=self.uncertainty_penalty,
            with_agents=self.with_agents,
        )


def rows_of(options: Options) -> tuple[Transitions, str]:
    """The log, and whose it is."""
    if options.log is not None:
        rows = envs.read_transitions(options.log)
        check_fits(rows, task_of(options.task))
        return rows, str(options.log)
    return log_of(options.task, options.rows, options.seed, options.kind)


def test_unseen(
    result: LogEvolutionResult,
    task: envs.Task,
    seed: int,
    num_agents: int,
    num_episodes: int,
) -> dict[str, Any]:
    """What unseen agents do in the task after training in the result."""
    returns, steps = play_with_unseen(
        (result.env, result.params),
        task,
        jax.random.fold_in(jax.random.key(seed), _TEST),
        num_agents=num_agents,
        num_episodes=num_episodes,
    )
    scores = np.concatenate(list(returns.values()))
    return {
        "real_return_mean": float(scores.mean()),
        "real_return_ci95": list(bootstrap_ci95(scores)),
        "real_return_p10": float(np.percentile(scores, 10)),
        "real_return_worst": float(scores.min()),
        "agents": len(scores),
        "returns": {kind: list(each) for kind, each in returns.items()},
        "test_steps": steps.real,
    }


def measure(options: Options, log: Transitions) -> tuple[LogEvolutionResult, dict]:
    """Evolves from a log and tests unseen agents in the task.

    `real_steps` are what the environment cost; those of the test are `test_steps`.
    """
    task = task_of(options.task)
    started = time.process_time()
    result = evolve_from_log(
        log,
        options.config,
        options.seed,
        action_space=task.action_space(),
        max_steps=task.time_limit,
    )
    evolved = time.process_time()
    tested = test_unseen(result, task, options.seed, options.agents, options.episodes)
    inside = result.confirmation
    assert inside is not None
    outside = Confirmation(
        tested["returns"],
        inside.random_return,
        solved_return=task.solved_return,
        policy=inside.policy,
        kind=task.kind,
    )
    result = dataclasses.replace(result, outside=outside)
    return result, {
        "task": options.task,
        "seed": options.seed,
        "rows": result.rows,
        **result.progress.steps.as_dict(),
        **tested,
        "inside_return_mean": inside.mean,
        "inside_best_response": inside.best_response,
        "generations": result.progress.generation,
        "world_model": result.model_name,
        "log_sha256": result.log_digest,
        "num_weights": sum(
            int(np.size(leaf)) for leaf in jax.tree.leaves(result.params.weights)
        ),
        "cpu_seconds": evolved - started,
        "evolution_cpu_seconds": result.progress.cpu_seconds,
        "test_cpu_seconds": time.process_time() - evolved,
    }


def main() -> None:
    """Parses the command line, evolves, tests, saves and says what came of it."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/from_log")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    with RunFolder(out, identity) as folder:
        log, kind = rows_of(options)
        result, summary = measure(options, log)
        summary["log"] = kind
        path = folder.path / "synthetic_env.npz"
        jaxrl_se.save(path, result.env, result.params, task=options.task, card=summary)
        folder.write_json("summary.json", summary)
    print(result)
    print(
        f"{summary['agents']} unseen agents in {options.task}: mean "
        f"{summary['real_return_mean']:.4g}, tenth percentile "
        f"{summary['real_return_p10']:.4g}, worst {summary['real_return_worst']:.4g}; "
        f"{summary['rows']:,} rows, {summary['model_steps']:,} model steps, "
        f"{summary['cpu_seconds']:.0f} CPU-s"
    )
    print(f"results in {out}")
