"""The best reward network of a run and its card: how it was made, how agents do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

import jaxrl_se
from benchmarks.reward_networks.tasks import NO_NETWORK, RewardTask, Row
from jaxrl_runs.checkpoints import tree_sha256


def write_best(
    folder: Path, task: RewardTask, done: dict[str, Any], summary: dict[str, Any]
) -> None:
    """Saves the network whose choosing agents did best as `best.npz`, with `best.md`.

    Args:
      folder: The run's folder, with the evolved networks.
      task: The task.
      done: The run's cells.
      summary: Its summary.
    """
    kind, seed = max(
        summary["best"].items(), key=lambda item: done[f"choice/{item[0]}/{item[1]}"]
    )
    env, params = jaxrl_se.load(folder / f"{kind}-{seed}.npz")
    rows = summary["rows"]
    cells = {name: table[f"{kind}, best"] for name, table in rows.items()}
    first = cells.get("same", next(iter(cells.values())))
    report = done[f"evolution/{kind}/{seed}"] | {
        "task": task.task,
        "params_sha256": tree_sha256(params.weights),
        "num_weights": sum(x.size for x in jax.tree.leaves(params.weights)),
        "points": summary["points"],
        "return_mean": first["mean"][0],
        "return_ci95": first["ci95"][0],
        "returns": {name: cell["mean"] for name, cell in cells.items()},
        "returns_ci95": {name: cell["ci95"] for name, cell in cells.items()},
        "returns_without": {
            name: table[NO_NETWORK]["mean"] for name, table in rows.items()
        },
    }
    jaxrl_se.save(folder / "best", env, params, task=task.task, card=report)
    (folder / "best.md").write_text(_card(task, env, report))


def _card(task: RewardTask, env: Any, report: dict[str, Any]) -> str:
    """The card as Markdown."""
    form = "quadratic in the observation" if env.config.quadratic else "linear"
    layers = "x".join(map(str, env.config.hidden_sizes)) or f"none, it is {form}"
    if env.config.hidden_sizes:
        layers += f", {env.config.activation}"
    if env.config.scale != 1.0:
        layers += f", its output times {env.config.scale:g} (1 in evolution)"
    repeat = task.rows["same"].repeat
    text = f"""# Reward network for {task.task}, {env.config.kind}

{report["num_weights"]} evolved numbers. Dynamics, termination and time limit are the
task's; `info["task_reward"]` is its own reward.

| how it was evolved | |
|---|---|
| command, of whose networks this one was chosen | `{report["command"]}` |
| hidden layers | {layers} |
| times that an action is taken | {repeat} |
| episodes of evolution start | {task.evolution_starts(env.config.kind)} |
| potential 0 at termination | {env.config.zero_at_termination} |
| scoring | `{task.evolutions[env.config.kind].scoring}` |
| strategy, population, inner steps | {report["strategy"]}, \
{report["population_size"]}, {report["train_steps"]} |
| seed | {report["seed"]} |
| generations | {report["generations"]} |
| steps in the real task, training included | {report["real_steps"]:,} |
| CPU-seconds, compilation not included | {report["cpu_seconds"]:.1f} |
| weights, SHA-256 | `{report["params_sha256"]}` |

Mean returns on the real task of agents that evolution and the choice have not seen,
with 95 % intervals over agents, and in brackets those of agents without it:

| agent | {" | ".join(f"{p:,} steps" for p in report["points"])} |
|---|{"---|" * len(report["points"])}
"""
    for row, means in report["returns"].items():
        entries = [
            f"{mean:.1f} [{low:.1f}, {high:.1f}] ({without:.1f})"
            for mean, (low, high), without in zip(
                means,
                report["returns_ci95"][row],
                report["returns_without"][row],
                strict=True,
            )
        ]
        text += f"| {describe(task.rows[row])} | {' | '.join(entries)} |\n"
    return text


def describe(row: Row) -> str:
    """A row's agent and whose settings it has, in words."""
    agent = getattr(row.agent, "agent", row.agent)
    is_dueling = getattr(agent, "dueling", False)
    name = ("dueling " if is_dueling else "") + type(agent).__name__
    return f"{name} with {row.settings}"
