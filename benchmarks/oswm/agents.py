"""Part (b) of the benchmark: agents, and planners, that know only the model."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

import jaxrl_se
import oswm
from benchmarks.oswm.data import Data, reference_policies, test
from benchmarks.oswm.models import make_model
from benchmarks.oswm.tasks import NUM_ROWS, WorldModelTask
from jaxrl_runs.statistics import bootstrap_ci95

PLANNER_EPISODES = 2
# Three eighths of the rollouts of the planner's defaults, as every step is planned.
PLANNER_EFFORT = {"num_samples": 64, "num_elites": 8, "num_iterations": 3}


def pair_of(task: WorldModelTask, data: Data, model: str, seed: int) -> Any:
    """The model of one context as an environment."""
    rows = data.collect(task.context, NUM_ROWS, seed)
    return oswm.condition(
        rows,
        task.action_space,
        task.max_steps,
        task.initial_obs,
        make_model(model),
        uncertainty_penalty=task.uncertainty_penalty,
    )


def train_and_test(
    task: WorldModelTask, data: Data, model: str, seed: int, num_episodes: int
) -> dict[str, Any]:
    """One context, one agent: its returns at the end of training.

    The agent never meets the real task before; nothing is selected.
    """
    start, cpu = time.perf_counter(), time.process_time()
    env, params = pair_of(task, data, model, seed)
    jax.block_until_ready(params)
    fitted = time.perf_counter()
    key = jax.random.key(seed)
    trained = jaxrl_se.train(task.agent, env, params, key, task.steps)
    jax.block_until_ready(trained.policy)
    times = {
        "fit_seconds": fitted - start,
        "train_seconds": time.perf_counter() - fitted,
        "cpu_seconds": time.process_time() - cpu,
    }
    inside = jaxrl_se.evaluate(trained.policy, env, params, key, num_episodes)
    returns = test(trained.policy, task, seed, num_episodes)
    return {
        "score": float(returns.mean()),
        "returns": returns.tolist(),
        "inside": float(np.mean(inside.returns)),
        "steps": task.steps,
        **times,
    }


def plan_and_test(task: WorldModelTask, data: Data, model: str, seed: int) -> Any:
    """One context, no agent: every action is planned."""
    cpu = time.process_time()
    env, params = pair_of(task, data, model, seed)
    planner = oswm.CrossEntropyPlanner(
        params=params,
        env=env,
        horizon=task.horizon,
        action_repeat=task.action_repeat,
        **PLANNER_EFFORT,
    )
    returns = test(planner, task, seed, PLANNER_EPISODES, task.action_repeat)
    cpu = time.process_time() - cpu
    return {"score": float(returns.mean()), "cpu_seconds": cpu}


def reference_scores(task: WorldModelTask, num_episodes: int) -> dict[str, float]:
    """Mean returns of policies that never learned anything."""
    return {
        name: float(test(policy, task, 0, num_episodes).mean())
        for name, policy in reference_policies(task).items()
    }


def summarize(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Statistics over contexts, each with its own agent."""
    scores = np.array([cell["score"] for cell in cells])
    return {
        "mean": float(scores.mean()),
        "ci95": list(bootstrap_ci95(scores)),
        "worst": float(scores.min()),
        "scores": scores.tolist(),
        "cpu_seconds": float(np.mean([cell["cpu_seconds"] for cell in cells])),
    }


def print_table(task: WorldModelTask, table: dict[str, Any], real_steps: int) -> None:
    """One line per model, planner and policy."""
    expert = f" (the expert's training: {real_steps:,})" if real_steps else ""
    print(
        f"\n{task.name}: {type(task.agent).__name__}, {task.steps:,} steps inside, "
        f"{NUM_ROWS:,} {task.context} real steps{expert}"
    )
    print(f"{'trained in':<26}{'agents':>7}{'mean':>9}  {'95 %':<21}{'worst':>9}")
    for name, row in table.items():
        if isinstance(row, float):
            print(f"{name:<26}{'':>7}{row:>9.1f}")
            continue
        low, high = row["ci95"]
        print(
            f"{name:<26}{len(row['scores']):>7}{row['mean']:>9.1f}  "
            f"{f'[{low:.1f}, {high:.1f}]':<21}{row['worst']:>9.1f}"
        )
    if task.published is not None:
        mean, deviation, best = task.published
        print(f"{'published, final':<26}{'':>7}{mean:>9.1f}  ±{deviation:.1f}")
        print(f"{'published, best (picked)':<26}{'':>7}{best:>9.1f}")
    if task.must is not None:
        first = next(name for name, row in table.items() if isinstance(row, dict))
        verdict = "met" if table[first]["mean"] >= task.must - 0.005 else "missed"
        print(f"asked for: {task.must:g}, {verdict} by {first}")
