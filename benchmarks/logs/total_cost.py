"""What k trained agents cost in all: steps in the task, and CPU-seconds.

Five ways to them: training in the task; in a world model of a thousand logged steps; in
an environment that was evolved in the task; in one that was evolved from the log; and
no training at all, handing over the policy that the evolved reward asks for. An
environment is paid for once and each agent for itself, so the table is a line per way:
what comes first, and what every agent adds.

An agent is trained until it first has a mean return at the task's goal, and counts its
whole budget where it never has. Tests on the way there are not counted for any way.
`picture.png` shows what agents return against the steps in the task that were spent.

python -m benchmarks.total_cost --task CartPole-v1
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import envs
import jaxrl_se
import oswm
from benchmarks.logs.collected import log_of
from benchmarks.logs.pictures import Curve, draw_real_steps
from benchmarks.shared import runtime
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_se.defaults import whole_steps
from jaxrl_se.from_log import LogConfig, evolve_from_log
from jaxrl_se.unseen import unseen_agents

COUNTS = (1, 10, 100, 1000)


@dataclasses.dataclass(frozen=True)
class Goal:
    """When an agent has learned a task.

    Attributes:
      reached: Mean return of its test episodes.
      real_steps: Budget of an agent in the task and in a world model of it.
      synthetic_steps: Budget in an evolved environment.
    """

    reached: float
    real_steps: int
    synthetic_steps: int = 10_000


GOALS = {
    "CartPole-v1": Goal(475.0, 50_000),
    "Acrobot-v1": Goal(-100.0, 100_000),
    "MountainCar-v0": Goal(-130.0, 200_000),
    "MountainCarContinuous-v0": Goal(85.0, 50_000),
    "Pendulum-v1": Goal(-220.0, 50_000),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the command.

    Attributes:
      task: One of `GOALS`.
      seed: Seed of everything; the log's is 1,000 more.
      rows: Transitions of the log.
      agents: Agents of each of three kinds whose costs are averaged.
      points: Tests of an agent along its training.
      real_steps: Steps that evolution in the task may take.
      out: Folder of the run; without it, the next numbered one under runs/.
      cache: Keep compiled programs in the user's cache folder.
    """

    task: str = "CartPole-v1"
    seed: int = 0
    rows: int = 1000
    agents: int = 4
    points: int = 50
    real_steps: int = 3_000_000
    out: Path | None = None
    cache: bool = True

    def __post_init__(self):
        if self.task not in GOALS:
            raise ValueError(
                f"--task must be one of {', '.join(GOALS)}, got {self.task!r}"
            )


@dataclasses.dataclass(frozen=True)
class Way:
    """What a way to trained agents costs.

    Attributes:
      first_steps: Steps in the task before the first agent.
      first_seconds: CPU-seconds before it, compilation included.
      steps: Steps in the task that an agent adds, in the mean.
      seconds: CPU-seconds that it adds.
      training_steps: Steps of training, wherever they are taken.
      reached: Share of the agents that had the goal.
      kinds: The same three by kind of agent.
      curve: What agents of all kinds return in the task along their training; of a
        policy that is handed over, one point.
      is_task: Whether training takes steps in the task.
    """

    first_steps: float
    first_seconds: float
    steps: float
    seconds: float
    training_steps: float
    reached: float
    kinds: dict[str, tuple[float, float, float]]
    curve: Curve
    is_task: bool = False

    def of(self, count: int) -> tuple[float, float]:
        """Steps in the task and CPU-seconds of so many agents."""
        return (
            self.first_steps + count * self.steps,
            self.first_seconds + count * self.seconds,
        )


def trained_in(
    pair: tuple[Any, Any],
    budget: int,
    goal: Goal,
    options: Options,
    *,
    first_steps: float,
    first_seconds: float,
    is_task: bool,
) -> Way:
    """Trains agents of three kinds and counts until each has the goal."""
    agents = unseen_agents(envs.Spaces.of(*pair))
    budget = whole_steps(budget, agents)
    points = next(n for n in range(options.points, 0, -1) if budget % n == 0)
    kinds, returns = {}, []
    for place, agent in enumerate(agents):

        def curve(key, agent=agent):
            return jaxrl_se.learning_curve(
                agent,
                *pair,
                key,
                budget,
                num_agents=options.agents,
                num_points=points,
                test_task=options.task,
            )

        key = jax.random.fold_in(jax.random.key(options.seed), 500 + place)
        started = time.process_time()
        curve(jax.random.fold_in(key, 1))
        compiled = time.process_time()
        found = curve(key)
        ended = time.process_time()
        returns.append(found.returns)
        has = found.returns >= goal.reached
        needed = np.where(
            has.any(axis=1), np.asarray(found.steps)[has.argmax(axis=1)], budget
        )
        seconds = (ended - compiled) / options.agents * needed.mean() / budget
        first_seconds += max(compiled - started - (ended - compiled), 0.0)
        kinds[type(agent).__name__] = (
            float(needed.mean()),
            float(seconds),
            float(has.any(axis=1).mean()),
        )
    taken = np.linspace(0, budget, points + 1)[1:]
    steps, seconds, reached = np.mean(list(kinds.values()), axis=0)
    return Way(
        first_steps,
        first_seconds,
        float(steps) if is_task else 0.0,
        float(seconds),
        float(steps),
        float(reached),
        kinds,
        Curve.of(taken, np.concatenate(returns)),
        is_task,
    )


def timed(make: Callable[[], Any]) -> tuple[Any, float]:
    """What a function gives, and its CPU-seconds."""
    started = time.process_time()
    found = make()
    return found, time.process_time() - started


def measure(options: Options) -> dict[str, Way]:
    """The ways, by name."""
    goal, task = GOALS[options.task], envs.open_task(options.task)
    log, _ = log_of(options.task, options.rows, options.seed)
    settings = {"action_space": task.action_space(), "max_steps": task.time_limit}
    world, seconds_world = timed(
        lambda: oswm.condition(log, model=oswm.FastKernelRidge(), **settings)
    )
    evolved, seconds_evolved = timed(
        lambda: jaxrl_se.evolve(
            task,
            key=options.seed,
            budget=jaxrl_se.Budget(options.real_steps),
            progress=False,
        )
    )
    from_log, seconds_log = timed(
        lambda: evolve_from_log(
            log, LogConfig(), options.seed, progress=False, **settings
        )
    )
    rows = float(len(log))
    sources = {
        "in the task": (task.pair, goal.real_steps, 0.0, 0.0),
        "in a world model of the log": (world, goal.real_steps, rows, seconds_world),
        "in an environment evolved in the task": (
            (evolved.env, evolved.params),
            goal.synthetic_steps,
            float(evolved.progress.real_steps),
            seconds_evolved,
        ),
        "in an environment evolved from the log": (
            (from_log.env, from_log.params),
            goal.synthetic_steps,
            rows,
            seconds_log,
        ),
    }
    found = {}
    for name, (pair, budget, first_steps, first_seconds) in sources.items():
        found[name] = trained_in(
            pair,
            budget,
            goal,
            options,
            first_steps=first_steps,
            first_seconds=first_seconds,
            is_task=name == "in the task",
        )
        print(f"{name}: {found[name].kinds}", flush=True)
    for how, result, first, seconds in (
        ("in the task", evolved, float(evolved.progress.real_steps), seconds_evolved),
        ("from the log", from_log, rows, seconds_log),
    ):
        returns = response(result, task, options.seed)
        reached = float(returns.mean() >= goal.reached)
        found[f"handed over, evolved {how}"] = Way(
            first, seconds, 0.0, 0.0, 0.0, reached, {}, Curve.of([0], returns[:, None])
        )
        print(f"best response, evolved {how}: {returns.mean():.4g}", flush=True)
    return found


def response(result: Any, task: envs.Task, seed: int) -> np.ndarray:
    """Returns `[64]` in the task of the policy that an evolved reward asks for."""
    agent = dataclasses.replace(result.config.agents[0], obs_noise=0.0)
    policy = jaxrl_se.train(agent, result.env, result.params, seed, 1).policy
    return np.asarray(jaxrl_se.evaluate(policy, task, seed + 12_345, 64).returns)


def main() -> None:
    """Parses the command line, measures and prints the table."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/total_cost")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    with RunFolder(out, identity) as folder:
        found = measure(options)
        summary = {name: dataclasses.asdict(way) for name, way in found.items()}
        folder.write_json("summary.json", {"task": options.task, "ways": summary})
        draw_real_steps(
            folder.path / "picture.png",
            options.task,
            GOALS[options.task].reached,
            {name: (w.first_steps, w.is_task, w.curve) for name, w in found.items()},
        )
    columns = "".join(f"{f'{count:,} agents':>22}" for count in COUNTS)
    print(f"{'steps in the task, CPU-seconds':44}{columns}   reach the goal")
    for name, way in found.items():
        cells = "".join(
            f"{steps:>12,.0f}, {seconds:>7,.0f}s"
            for steps, seconds in map(way.of, COUNTS)
        )
        print(f"{name:44}{cells}   {way.reached:.0%}")
    print(f"results in {out}")
