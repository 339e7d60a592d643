"""How much sooner agents learn a task whose reward an earlier agent's value shapes.

In each of twelve tasks that nothing was chosen on, two agents train once, and the value
of the better one becomes a reward network (`jaxrl_se.shaping_from_policy`). Agents of
three kinds then train with the task's own reward and with the shaped one, both tested
in the task. Compared are the steps until they have gone 90 % of the way from random
play to a good policy. No task is left out.

python -m benchmarks.shaped_tasks
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import jaxrl_se
from benchmarks.any_task import foreign_agents as foreign
from benchmarks.any_task.unseen_tasks import (
    OWN_KINDS,
    TASKS,
    good_return,
    make,
    mean_return,
)
from benchmarks.shared import runtime
from envs.spaces import Spaces
from jaxrl_runs.run_folder import RunFolder, next_run_folder
from jaxrl_se.defaults import Budget
from jaxrl_se.from_agents import learned_in_task
from jaxrl_se.policies import RandomPolicy
from jaxrl_se.rounds import whole_steps

SHARE = 0.9  # of the way from random play to a good policy
EPISODES = 16


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the benchmark.

    Attributes:
      tasks: Which tasks; names, `module:function` or `gymnax:NAME`.
      seed: Seed of everything.
      agents: Agents of each kind, with either reward.
      steps: Training steps of each.
      points: Tests on the way, evenly spaced.
      out: Folder of the run; without it, the next numbered one under runs/.
      cache: Keep compiled programs in the user's cache folder.
    """

    tasks: tuple[str, ...] = TASKS
    seed: int = 0
    agents: int = 5
    steps: int = 20_000
    points: int = 20
    out: Path | None = None
    cache: bool = True


def steps_to(returns: np.ndarray, steps: np.ndarray, wanted: float) -> np.ndarray:
    """Steps at which each agent first has the return, infinite where it never has.

    Args:
      returns: `[A, P]`.
      steps: `[P]`.
      wanted: The return.
    """
    reached = returns >= wanted
    first = np.argmax(reached, axis=1)
    return np.where(reached.any(axis=1), steps[first].astype(float), np.inf)


def curve_of(
    kind: str, pair: Any, task: Any, key: jax.Array, options: Options
) -> tuple[np.ndarray, np.ndarray]:
    """Steps `[P]` and returns in the task `[A, P]` of agents that train in a pair."""
    agent = getattr(jaxrl_se, kind)()
    each = whole_steps(options.steps // options.points, (agent,))
    points = max(options.steps // each, 1)
    curve = jaxrl_se.learning_curve(
        agent,
        *pair,
        key,
        each * points,
        num_agents=options.agents,
        num_points=points,
        test_task=task,
        num_episodes=EPISODES,
    )
    return curve.steps, curve.returns


def run_task(text: str, options: Options) -> dict[str, Any]:
    """One task, all kinds of agents; prints a line for each."""
    task = make(text)
    spaces = Spaces.of(*task)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(options.seed), 31), 5)
    random = mean_return(RandomPolicy(spaces), task, keys[0])
    good, whose = good_return(text, task, keys[1], 50_000)
    started = time.process_time()
    learned = learned_in_task(task, keys[2], Budget().real_steps)
    assert learned is not None
    config = jaxrl_se.Shaping()
    shaped = jaxrl_se.shaping_from_policy(learned.policy, task, keys[3], config)
    row: dict[str, Any] = {
        "task": text,
        "random": random,
        "good": good,
        "good_is": whose,
        "teacher": learned.name,
        "teacher_return": learned.mean,
        "real_steps": learned.steps + config.num_rows,
        "cpu_seconds": time.process_time() - started,
        "kinds": {},
    }
    wanted = random + SHARE * (good - random)
    name = text.removeprefix("examples.tasks.")
    print(
        f"{name}: random {random:.4g}, good {good:.4g}, {learned.name} that shapes "
        f"{learned.mean:.4g}; {row['real_steps']:,} real steps, "
        f"{row['cpu_seconds']:.0f} CPU-s",
        flush=True,
    )
    for kind in OWN_KINDS:
        if not foreign.fits(kind, spaces):
            continue
        found: dict[str, dict[str, Any]] = {}
        for reward, pair in (("task", task), ("shaped", shaped)):
            steps, returns = curve_of(kind, pair, task, keys[4], options)
            reached = steps_to(returns, steps, wanted)
            found[reward] = {
                "steps_to": [None if np.isinf(x) else int(x) for x in reached],
                "last": returns[:, -1].tolist(),
                "area": returns.mean(axis=1).tolist(),
                "median_steps": float(np.median(reached)),
            }
        row["kinds"][kind] = found
        own, with_value = found["task"], found["shaped"]
        print(
            f"  {kind:<5} median steps to 90 %: {own['median_steps']:>8,.0f} -> "
            f"{with_value['median_steps']:>8,.0f}; after {options.steps:,}: "
            f"{np.mean(own['last']):.4g} -> {np.mean(with_value['last']):.4g}",
            flush=True,
        )
    return row


def main() -> None:
    """Parses the command line and runs all tasks."""
    options = tyro.cli(Options, description=__doc__)
    if options.cache:
        runtime.use_compilation_cache()
    out = options.out or next_run_folder("runs/shaped_tasks")
    identity = {k: str(v) for k, v in dataclasses.asdict(options).items() if k != "out"}
    with RunFolder(out, identity) as folder:
        rows = []
        for text in options.tasks:
            rows.append(run_task(text, options))
            folder.write_json("summary.json", {"rows": rows})
    pairs = [
        (kind["task"]["median_steps"], kind["shaped"]["median_steps"])
        for row in rows
        for kind in row["kinds"].values()
    ]
    halved = sum(shaped <= own / 2 for own, shaped in pairs if np.isfinite(shaped))
    slower = sum(shaped > own for own, shaped in pairs)
    print(
        f"steps halved: {halved} of {len(pairs)} pairs of task and kind; more: {slower}"
    )
    print(f"results in {out}")
