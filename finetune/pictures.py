"""A picture of a job: its learning curves, and the best score over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_job(log: list[dict[str, Any]], direction: str, path: Path) -> None:
    """Draw the log of a job.

    Args:
        log: Rows with run, epoch, score, seconds, best, elapsed, failure.
        direction: "maximize" or "minimize".
        path: Where to write the picture.
    """
    curves: dict[int, list[tuple[int, float]]] = {}
    for row in log:
        if row["score"] is not None:
            curves.setdefault(row["run"], []).append((row["epoch"], row["score"]))
    sign = 1 if direction == "maximize" else -1
    peak = {run: max(sign * y for _, y in curve) for run, curve in curves.items()}
    best = max(peak, key=lambda run: peak[run], default=None)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for run, curve in curves.items():
        is_best = run == best
        left.plot(
            *zip(*curve, strict=True),
            color="C0" if is_best else "0.7",
            linewidth=2 if is_best else 0.8,
            marker="o" if len(curve) == 1 else None,
            markersize=2,
            zorder=3 if is_best else 2,
            label=f"best: run {run}" if is_best else None,
        )
    left.set(xlabel="epochs", ylabel="score", title=f"{len(curves)} runs")
    if best is not None:
        left.legend(frameon=False)
    told = [row for row in log if row["best"] is not None]
    right.step(
        [row["elapsed"] for row in told], [row["best"] for row in told], where="post"
    )
    failed = sum(bool(row["failure"]) for row in log)
    right.set(xlabel="seconds", title=f"best so far ({failed} runs failed)")
    figure.savefig(path, dpi=120)
