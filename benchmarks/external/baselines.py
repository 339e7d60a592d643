"""Agents that Stable-Baselines3 trains in the task itself, at its defaults.

A row of comparison for `python -m benchmarks.gymnasium_task`: the same task, tested by
Gymnasium, for as many real steps as are asked for.

python -m benchmarks.gymnasium_baselines --task Swimmer-v5 --agents PPO SAC
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import gymnasium
import numpy as np
import tyro

from jaxrl_runs.run_folder import RunFolder, next_run_folder

AGENTS = ("PPO", "SAC", "TD3", "DDPG", "DQN")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
      task: An id of Gymnasium's.
      agents: Classes of Stable-Baselines3.
      steps: Steps in the task of each agent.
      seeds: Agents of each class, with the seeds 0, 1, ...
      episodes: Test episodes of each agent.
      out: Folder of the run; without it, the next numbered one under runs/.
    """

    task: str
    agents: tuple[str, ...] = ("PPO",)
    steps: int = 10_000
    seeds: int = 3
    episodes: int = 10
    out: Path | None = None

    def __post_init__(self):
        for name in ("steps", "seeds", "episodes"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"--{name} must be at least 1, got {getattr(self, name)}"
                )
        unknown = [name for name in self.agents if name not in AGENTS]
        if unknown or not self.agents:
            raise ValueError(f"--agents must be among {AGENTS}, got {self.agents}")


def trained_return(options: Options, name: str, seed: int) -> tuple[float, float]:
    """Mean return of one agent after its training, and CPU-seconds of the training.

    Raises:
      ImportError: Stable-Baselines3 or the task's simulator is not installed.
    """
    try:
        import stable_baselines3
        from stable_baselines3.common.evaluation import evaluate_policy
    except ImportError as error:
        raise ImportError(
            "the baselines need Stable-Baselines3: pip install 'jaxrl-se[bench]'"
        ) from error
    env = gymnasium.make(options.task)
    started = time.process_time()
    agent = getattr(stable_baselines3, name)("MlpPolicy", env, seed=seed)
    agent.learn(options.steps)
    cpu_seconds = time.process_time() - started
    tested = gymnasium.make(options.task)
    tested.reset(seed=10_000 + seed)
    mean, _ = evaluate_policy(agent, tested, options.episodes, warn=False)
    env.close()
    tested.close()
    return float(np.asarray(mean)), cpu_seconds


def main() -> None:
    """Parses the command line, trains, tests and prints."""
    options = tyro.cli(Options, description=__doc__)
    out = options.out or next_run_folder(f"runs/{options.task}-baselines")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    rows = {}
    with RunFolder(out, identity) as folder:
        for name in options.agents:
            found = [trained_return(options, name, s) for s in range(options.seeds)]
            returns, seconds = zip(*found, strict=True)
            rows[name] = {"returns": returns, "cpu_seconds": sum(seconds)}
            print(
                f"{name} after {options.steps:,} real steps: mean "
                f"{np.mean(returns):.1f} of {[round(r, 1) for r in returns]}, "
                f"{sum(seconds):.0f} CPU-s",
                flush=True,
            )
        folder.write_json(
            "summary.json",
            {"task": options.task, "real_steps": options.steps, "agents": rows},
        )
    print(f"results in {out}")
