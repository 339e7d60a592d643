"""What keeps a search in world models from living on their errors.

python -m benchmarks.log_ablation --tasks Pendulum-v1 Acrobot-v1

Each row changes one thing in how a search from a log guards against what the model
has wrong, and is run on the same logs. No agents train, so that a row is a search
alone: what its best response returns inside the model of the whole log, and in the
task. Logs of seeds from 100 on, which no table of results uses.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from benchmarks.logs.collected import log_of, task_of
from benchmarks.logs.total_cost import response
from benchmarks.shared import runtime
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_se.from_log import LogConfig, evolve_from_log

ROWS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "no penalty": {"uncertainty_penalty": 0.0},
    "twice the penalty": {"uncertainty_penalty": 2.0},
    "one model of all rows": {"num_worlds": 1},
    "one model, no penalty": {"num_worlds": 1, "uncertainty_penalty": 0.0},
    "next states are drawn": {"sample": True},
    "drawn, no penalty": {"sample": True, "uncertainty_penalty": 0.0},
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes:
      tasks: Names as for `benchmarks.from_log`.
      rows: Transitions of a log.
      first_seed: Of the logs and searches.
      seeds: How many.
      model_steps: Steps in the models that a search may take, about.
      out: Folder of the run; without it, the next numbered one under runs/.
      cache: Keep compiled programs in the user's cache folder.
    """

    tasks: tuple[str, ...] = ("Pendulum-v1", "Acrobot-v1", "MountainCar-v0")
    rows: int = 1000
    first_seed: int = 100
    seeds: int = 3
    model_steps: int = LogConfig().model_steps
    out: Path | None = None
    cache: bool = True


def measure(name: str, seed: int, config: LogConfig, rows: int) -> dict[str, Any]:
    """One search: its best response inside and in the task, and what it cost."""
    task = task_of(name)
    log, _ = log_of(name, rows, seed)
    started = time.process_time()
    result = evolve_from_log(
        log,
        config,
        seed,
        action_space=task.action_space(),
        max_steps=task.time_limit,
        progress=False,
    )
    seconds = time.process_time() - started
    assert result.confirmation is not None
    return {
        "inside": result.confirmation.best_response,
        "outside": float(response(result, task, seed).mean()),
        "model_steps": result.progress.steps.model,
        "cpu_seconds": seconds,
    }


def main() -> None:
    """Parses the command line, searches, and prints the table."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/log_ablation")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    base = LogConfig(with_agents=False, model_steps=options.model_steps)
    with RunFolder(out, identity) as folder:
        found: dict[str, dict[str, list]] = {}
        for task in options.tasks:
            for row, changes in ROWS.items():
                config = base.replace(**changes)
                each = [measure(task, seed, config, options.rows) for seed in seeds]
                found.setdefault(task, {})[row] = each
                folder.write_json("summary.json", found)
                cells = "; ".join(
                    f"{x['outside']:.4g} (inside {x['inside']:.4g})" for x in each
                )
                mean = np.mean([x["outside"] for x in each])
                seconds = np.mean([x["cpu_seconds"] for x in each])
                print(
                    f"{task:26}{row:24}mean {mean:8.4g}   {cells}   {seconds:.0f} s",
                    flush=True,
                )
    print(f"results in {out}")
