"""The card of an environment that was evolved for a task outside JAX."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_card(path: Path, summary: dict) -> None:
    """Writes the card as Markdown."""
    low, high = summary["return_ci95"]
    kinds = "\n".join(
        f"| {len(values)} {kind}, mean and worst | {np.mean(values):.1f}, "
        f"{np.min(values):.1f} |"
        for kind, values in summary["returns"].items()
    )
    path.write_text(f"""# Synthetic {summary["task"]}, one-step

{summary["num_weights"]} evolved numbers and the ranges of observations, mean -+ one \
deviation of all that were met. Episodes have length one and end with `terminated`. \
Agents saw observations normalised (`normalize_observations=True`).

| how it was evolved | |
|---|---|
| command | `{summary["command"]}` |
| candidates played by | {summary["engine"].removesuffix(" []")} |
| population, generations | {summary["population_size"]}, {summary["generations"]} |
| steps in the real task, validations included | {summary["real_steps"]:,} |
| CPU-seconds of the evolution, and with all tests | \
{summary["evolve_cpu_seconds"]:.0f}, {summary["cpu_seconds"]:.0f} |
| params, SHA-256 | `{summary["params_sha256"]}` |

| how unseen agents do on {summary["task"]} | |
|---|---|
| tested by | {summary["tested_by"].removesuffix(" []")} |
| agents, steps in the synthetic environment, test episodes each | \
{summary["agents"]}, {summary["train_steps"]:,}, {summary["test_episodes"]} |
| mean return, 95 % interval over agents | {summary["gymnasium_return_mean"]:.1f} \
[{low:.1f}, {high:.1f}] |
| 10th percentile | {summary["return_p10"]:.1f} |
{kinds}
| the learned reward's best response | {summary["best_response_mean"]:.1f} |
| random play; doing nothing | {summary["random_mean"]:.1f}; \
{summary["doing_nothing_mean"]:.1f} |
""")
