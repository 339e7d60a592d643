"""Agents at their defaults in world models of tasks that nothing was chosen on.

Three of the tasks have discrete actions, and chance in them, two continuous ones; each
has a controller written by hand. An agent's score is the share of the gap between
random actions and this controller that it closes in the task itself. The same agents
also train there, for as many steps.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

import jax
import numpy as np

import envs
import jaxrl_se
import oswm
from benchmarks.oswm.models import make_model
from benchmarks.oswm.tasks import NUM_ROWS
from envs.spaces import Spaces
from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_se import DDQN, SAC, TD3

TASKS = (
    "two_queues",
    "delayed_chain",
    "inventory",
    "double_integrator",
    "planar_reach",
)
ITSELF = "the task"
STEPS = 20_000
_EPISODES = 100


def measure(name: str, model: str, seed: int, quick: bool = False) -> dict[str, Any]:
    """One context, and an agent of each kind trained in its model.

    Args:
        name: One of `TASKS`.
        model: A name for `make_model`, or `ITSELF` to train in the task.
        seed: Of the context and the agents.
        quick: A tenth of the steps.

    Returns:
        `closed`, the share of the gap that each agent closes, by its name; and
        `cpu_seconds` of everything.
    """
    cpu = time.process_time()
    module = importlib.import_module(f"examples.tasks.{name}")
    task = module.make()
    spaces = Spaces.of(*task)
    env, params = task if model == ITSELF else _pair_of(task, model, seed)
    key = jax.random.key(seed)

    def score(policy):
        found = jaxrl_se.evaluate(policy, task, key, _EPISODES)
        return float(np.mean(found.returns))

    low, high = score(jaxrl_se.RandomPolicy(spaces)), score(module.controller)
    agents = (TD3(), SAC()) if spaces.num_actions is None else (DDQN(),)
    steps = STEPS // 10 if quick else STEPS
    closed = {}
    for agent in agents:
        policy = jaxrl_se.train(agent, env, params, key, steps).policy
        closed[type(agent).__name__] = (score(policy) - low) / (high - low)
    return {"closed": closed, "cpu_seconds": time.process_time() - cpu}


def _pair_of(task: Any, model: str, seed: int) -> Any:
    """The model of a context of random rows, as an environment."""
    rows = envs.collect(task, NUM_ROWS, seed)
    limit = envs.open_task(task).time_limit
    return oswm.condition(
        rows,
        task[0].action_space(task[1]),
        limit,
        model=None if model == "oswm" else make_model(model),
    )


def print_table(cells: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """Prints, and returns, what agents close of the gap: by model, task and agent."""
    print(f"\nshare of the gap from random actions to a controller, {STEPS:,} steps")
    print(f"{'task':<19}{'model':<17}{'agent':<7}{'mean':>6}  {'95 %':<15}{'worst':>6}")
    summary: dict[str, Any] = {}
    for model, tasks in cells.items():
        for task, rows in tasks.items():
            for agent in rows[0]["closed"]:
                found = np.array([row["closed"][agent] for row in rows])
                low, high = bootstrap_ci95(found)
                interval = f"[{low:.2f}, {high:.2f}]"
                print(
                    f"{task:<19}{model:<17}{agent:<7}{found.mean():>6.2f}  "
                    f"{interval:<15}{found.min():>6.2f}"
                )
                summary[f"{model}/{task}/{agent}"] = {
                    "closed": found.tolist(),
                    "ci95": [low, high],
                }
    return summary
