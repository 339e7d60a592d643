"""Whether agents learn in an environment that was not made with them.

For each of five tasks: agents of three libraries train in our one-step environment (the
shipped one, or a file of --ours) and, if --rival names the file of their arrays, in
synthetic-gymnax's; all are tested on the real task. rejax's PPO has settings drawn from
a written range (`foreign_agents.PPO_RANGE`) and is tested as it acts, by sampling, and
by the mode; all other agents have their library's defaults.

python -m benchmarks.any_agent --rival FILE
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import envs
import jaxrl_se
from benchmarks.any_task import foreign_agents as foreign
from benchmarks.any_task.rival_environments import load_rival
from benchmarks.shared import runtime
from envs.spaces import Spaces
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_runs.statistics import bootstrap_ci95

TASKS = (
    "CartPole-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
)
OWN_KINDS = ("DDQN", "PPO", "SAC", "TD3", "DDPG", "DiscreteTD3")


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
      tasks: Which tasks.
      steps: Training budgets, in steps of the learned environment.
      settings: Settings of rejax's PPO.
      agents: Agents per setting or kind.
      sb3_agents: Agents per kind of Stable-Baselines3, in a Python loop; 0 for none.
      own: Whether this package's agents are among them.
      rejax_kinds: Other agents of rejax, at defaults.
      ours: A folder of saved environments, TASK.one-step.npz; the shipped ones by
        default.
      rival: The file of synthetic-gymnax's arrays, or None to leave it out.
      seed: Seed of the settings and of all agents.
      out: Folder of the run; without it, the next numbered one under runs/.
      cache: Keep compiled programs in the user's cache folder.
    """

    tasks: tuple[str, ...] = TASKS
    steps: tuple[int, ...] = (10_000, 50_000)
    settings: int = 24
    agents: int = 3
    sb3_agents: int = 1
    own: bool = True
    rejax_kinds: tuple[str, ...] = foreign.REJAX_DEFAULT_KINDS
    ours: Path | None = None
    rival: Path | None = None
    seed: int = 0
    out: Path | None = None
    cache: bool = True

    def __post_init__(self):
        unknown = set(self.tasks) - set(TASKS)
        if unknown or not self.tasks:
            raise ValueError(
                f"--tasks must be some of {', '.join(TASKS)}, got "
                f"{', '.join(sorted(unknown)) or 'none'}"
            )
        for name in ("settings", "agents"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1")


def scores_of(proxy: Any, name: str, steps: int, options: Options) -> dict[str, Any]:
    """Scores of all kinds of agents in one environment: kind to `[agents]`."""
    task = envs.make(name)
    spaces = Spaces.of(*task)
    key = jax.random.key(options.seed)
    scores: dict[str, Any] = {}
    sampled, greedy = [], []
    for index, settings in enumerate(
        foreign.draw_settings(options.settings, options.seed)
    ):
        result = foreign.rejax_scores(
            "PPO",
            settings,
            proxy,
            task,
            jax.random.fold_in(key, index),
            steps,
            options.agents,
        )
        sampled.append(result["as it acts"])
        greedy.append(result["greedy"])
    scores["rejax PPO, sampled"] = np.concatenate(sampled)
    scores["rejax PPO, greedy"] = np.concatenate(greedy)
    for kind in filter(lambda k: foreign.fits(k, spaces), options.rejax_kinds):
        result = foreign.rejax_scores(kind, {}, proxy, task, key, steps, options.agents)
        scores[f"rejax {kind}"] = result["as it acts"]
    if options.own:
        for kind in filter(lambda k: foreign.fits(k, spaces), OWN_KINDS):
            agent = getattr(jaxrl_se, kind)()
            scores[kind] = foreign.own_scores(
                agent, proxy, task, key, steps, options.agents
            )
    if options.sb3_agents:
        for kind in filter(lambda k: foreign.fits(k, spaces), foreign.SB3_KINDS):
            scores[f"Stable-Baselines3 {kind}"] = foreign.sb3_scores(
                kind, proxy, task, options.seed, steps, options.sb3_agents
            )
    return scores


def proxies(name: str, options: Options) -> dict[str, Any]:
    """The environments to compare."""
    if options.ours is None:
        found = {"ours": jaxrl_se.load(name)}
    else:
        found = {"ours": jaxrl_se.load(options.ours / f"{name}.one-step.npz")}
    if options.rival is not None:
        found["theirs"] = load_rival(options.rival, name)
    return found


def main() -> None:
    """Parses the command line, trains, tests and prints the table."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    if not foreign.is_installed("rejax"):
        raise ValueError("rejax is not installed: pip install 'jaxrl-se[bench]'")
    if not foreign.is_installed("stable_baselines3"):
        options = dataclasses.replace(options, sb3_agents=0)
    out = options.out or next_run_folder("runs/any_agent")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    summary: list[dict] = []
    with RunFolder(out, identity) as folder:
        print(
            f"{'task':<26}{'environment':<12}{'steps':>7}  {'agents':<26}"
            f"{'n':>4}{'mean':>9}{'worst':>9}  95 %"
        )
        for name in options.tasks:
            for where, proxy in proxies(name, options).items():
                for steps in options.steps:
                    started = time.process_time()
                    scores = scores_of(proxy, name, steps, options)
                    seconds = time.process_time() - started
                    for kind, values in scores.items():
                        row = describe(name, where, steps, kind, values)
                        summary.append(row | {"cell_cpu_seconds": seconds})
        folder.write_json("summary.json", {"rows": summary, "options": identity})
    print(f"results in {out}")


def describe(
    name: str, where: str, steps: int, kind: str, values: np.ndarray
) -> dict[str, Any]:
    """A row of the summary, which it prints."""
    low, high = bootstrap_ci95(values)
    print(
        f"{name:<26}{where:<12}{steps:>7}  {kind:<26}{len(values):>4}"
        f"{values.mean():>9.1f}{values.min():>9.1f}  [{low:.1f}, {high:.1f}]",
        flush=True,
    )
    return {
        "task": name,
        "environment": where,
        "steps": steps,
        "agents": kind,
        "returns": values.tolist(),
        "mean": float(values.mean()),
        "ci95": [low, high],
    }
