"""The card of an evolved environment: how it was made and how agents do on it."""

from __future__ import annotations

from pathlib import Path

_ENDS = {
    "one-step": "Episodes have length one and end with `terminated`.",
    "multi-step": (
        "Episodes are truncated at the time limit and never terminate. An agent that "
        "treats truncation as termination (rejax does) sees a shorter horizon."
    ),
}


def write_card(path: Path, summary: dict) -> None:
    """Writes the card of a benchmark's result as Markdown."""
    low, high = summary["return_ci95"]
    stop = (
        "two validations in a row reached the stop return"
        if summary["solved"]
        else "the last generation was reached"
    )
    synthetic = ""
    if "synthetic_steps_spent" in summary:  # Not counted in older ones.
        number = f"{summary['synthetic_steps_spent']:,}"
        synthetic = f"| steps in the synthetic environment | {number} |\n"
    starts = summary.get("starts")
    moved = "" if starts is None else _row("starts, set after that", starts)
    if summary.get("gain", 1.0) != 1:
        moved += f"| gain of its best actions, set after that | {summary['gain']:g} |\n"
    text = f"""# Synthetic {summary["task"]}, {summary["variant"]}

{summary["num_weights"]} evolved numbers. {_ENDS[summary["variant"]]}

| how it was evolved | |
|---|---|
| command | `{summary["command"]}` |
| strategy, population, inner steps | {summary["strategy"]}, \
{summary["population_size"]}, {summary["train_steps"]} |
| seed | {summary["seed"]} |
| generations | {summary["generations"]}, ended because {stop} |
| steps in the real task, validations included | {summary["real_steps_spent"]:,} |
{synthetic}\
| CPU-seconds, validations included, compilation not | \
{summary["evolve_cpu_seconds"]:.1f} |
{moved}| weights, SHA-256 | `{summary["params_sha256"]}` |

| how unseen agents do on {summary["task"]} | |
|---|---|
| agents, steps in the synthetic environment, test episodes each | \
{summary["agents"]}, {summary["train_steps"]}, {summary["test_episodes"]} |
| mean return, 95 % interval over agents | {summary["return_mean"]:.1f} \
[{low:.1f}, {high:.1f}] |
| interquartile mean, 10th percentile | {summary["return_iqm"]:.1f}, \
{summary["return_p10"]:.1f} |
| agents that solve it ({summary["solved_return"]:g}) | \
{summary["fraction_solved"]:.1%} |
| mean return in Gymnasium | {summary["gymnasium_return_mean"]:.1f} |
| median steps to {summary["curve_return"]:g} on {summary["curve_task"]}, \
synthetic and real | \
{summary["steps_to_solve_synthetic"]:.0f}, {summary["steps_to_solve_real"]:.0f} \
(budget {summary["curve_budget"]}) |
"""
    if "terminating_return_mean" in summary:
        text += (
            "| mean return of agents that treat truncation as termination | "
            f"{summary['terminating_return_mean']:.1f} |\n"
        )
    path.write_text(text)


def _row(name: str, ranges: list) -> str:
    """A row of ranges of observations."""
    text = ", ".join(f"{low:g} to {high:g}" for low, high in ranges)
    return f"| {name} | {text} |\n"
