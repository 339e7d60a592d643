"""Evolves an environment for a task with a few thousand real steps, in rounds.

python -m benchmarks.rounds --task MountainCar-v0 --seed 0
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import tyro

import jaxrl_se
from benchmarks.logs.collected import task_of
from benchmarks.logs.from_log import test_unseen
from benchmarks.shared import runtime
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_se.from_log import LogConfig
from jaxrl_se.log_rounds import RoundsConfig, evolve_in_rounds


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes:
      task: A name for `envs.make`, or one of Gymnasium's.
      seed: Seed of everything.
      real_steps: Steps in the task at most, the last test's aside.
      first_rows: Random rows before the first round.
      max_rounds: Rounds at most.
      agents: Unseen agents of each of three kinds.
      episodes: Test episodes of each agent.
      worlds: World models that generations are played in by turns.
      model_steps: Steps in the models that each round may take, about.
      with_agents: Whether agents that train score the last generations.
      out: Folder of the run; without it, the next numbered one under runs/.
      cache: Keep compiled programs in the user's cache folder.
    """

    task: str
    seed: int = 0
    real_steps: int = RoundsConfig().real_steps
    first_rows: int = RoundsConfig().first_rows
    max_rounds: int = RoundsConfig().max_rounds
    agents: int = 22
    episodes: int = 10
    worlds: int = LogConfig().num_worlds
    model_steps: int = LogConfig().model_steps
    with_agents: bool | None = None
    out: Path | None = None
    cache: bool = True

    @property
    def config(self) -> RoundsConfig:
        """The part that says how real steps are spent."""
        log = LogConfig(
            num_worlds=self.worlds,
            model_steps=self.model_steps,
            with_agents=self.with_agents,
        )
        return RoundsConfig(self.real_steps, self.first_rows, self.max_rounds, log=log)


def main() -> None:
    """Parses the command line, plays the rounds, tests the result and keeps it."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/rounds")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    task = task_of(options.task)
    with RunFolder(out, identity) as folder:
        started = time.process_time()
        result = evolve_in_rounds(task, options.config, options.seed)
        evolved = time.process_time()
        tested = test_unseen(
            result, task, options.seed, options.agents, options.episodes
        )
        summary = {
            "task": options.task,
            "seed": options.seed,
            "rows": len(result.log) if result.log is not None else 0,
            **result.progress.steps.as_dict(),
            **tested,
            "rounds": [dataclasses.asdict(each) for each in result.rounds],
            "best_round": result.best,
            "cpu_seconds": evolved - started,
            "test_cpu_seconds": time.process_time() - evolved,
        }
        path = folder.path / "synthetic_env.npz"
        jaxrl_se.save(path, result.env, result.params, task=options.task, card=summary)
        folder.write_json("summary.json", summary)
    print(result)
    print(
        f"{summary['agents']} unseen agents in {options.task}: mean "
        f"{summary['real_return_mean']:.4g}, tenth percentile "
        f"{summary['real_return_p10']:.4g}; {summary['real_steps']:,} real steps, "
        f"{summary['cpu_seconds']:.0f} CPU-s"
    )
    print(f"results in {out}")
