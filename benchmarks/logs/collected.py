"""Logs of the benchmark's tasks: random ones, and mixed ones where an expert helps."""

from __future__ import annotations

from typing import Literal

import envs
from benchmarks.external.tasks import task_to_test
from benchmarks.oswm.data import Data
from benchmarks.oswm.tasks import TASKS, WorldModelTask
from envs import Transitions
from jaxrl_se import SAC

# Random play never meets the reward of these.
KINDS_OF_LOGS: dict[str, Literal["random", "mixed"]] = {
    "MountainCar-v0": "mixed",
    "Acrobot-v1": "mixed",
    "MountainCarContinuous-v0": "mixed",
}
# Its goal is far: noise that lasts, as repeated actions are, finds it.
_CAR = WorldModelTask(
    name="MountainCarContinuous-v0",
    agent=SAC(hidden_sizes=(64, 64)),
    steps=20_000,
    context="mixed",
    expert=SAC(hidden_sizes=(64, 64), learning_rate=1e-3),
    expert_steps=10_000,
    expert_repeat=16,
    initial_obs="context",
)


def task_of(name: str) -> envs.Task:
    """The task of a name: inside JAX where there is one, Gymnasium's otherwise."""
    inside = name in envs.available()
    return envs.open_task(name) if inside else envs.open_task(task_to_test(name))


def log_of(
    task: str, num_rows: int, seed: int, kind: str | None = None
) -> tuple[Transitions, str]:
    """The log of a seed that all benchmarks on logs share, and its kind.

    Args:
        task: Its name.
        num_rows: How many.
        seed: Of the benchmark; the log's own is 1,000 more.
        kind: As for `collect`; by default mixed where random play never meets the
            reward.
    """
    kind = kind or KINDS_OF_LOGS.get(task, "random")
    return collect(task, num_rows, 1_000 + seed, kind), kind


def collect(task: str, num_rows: int, seed: int, kind: str) -> Transitions:
    """Rows of a task.

    Args:
      task: Its name.
      num_rows: How many.
      seed: Of the collection.
      kind: "random", or "mixed": a third of an expert's, a third where a coin decides
        at every step between the expert and chance, a third random.

    Raises:
      ValueError: There is no expert for a mixed log of this task.
    """
    if kind == "random":
        return envs.collect(task_of(task), num_rows, seed)
    tasks = TASKS | {_CAR.name: _CAR}
    if task not in tasks:
        raise ValueError(
            f"kind must be 'random' for a task other than {', '.join(tasks)}, got "
            f"{kind!r} for {task}"
        )
    return Data(tasks[task]).collect(kind, num_rows, seed)
