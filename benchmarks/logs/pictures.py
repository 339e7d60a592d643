"""What agents return against the steps in the task that were spent on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.shared import figures
from jaxrl_runs.statistics import bootstrap_ci95

_MARKERS = "oDs^v"


@dataclasses.dataclass(frozen=True)
class Curve:
    """Mean returns of several agents along their training.

    Attributes:
      steps: `[points]`, of training.
      mean: `[points]`, over agents.
      low: `[points]`, lower end of the mean's 95 % interval.
      high: `[points]`, its upper end.
    """

    steps: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]

    @classmethod
    def of(cls, steps: Any, returns: np.ndarray) -> Curve:
        """The curve of returns `[agents, points]` after so many steps `[points]`."""
        returns = np.asarray(returns, np.float64)
        low, high = zip(*map(bootstrap_ci95, returns.T), strict=True)
        return cls(
            np.asarray(steps, np.float64).tolist(),
            returns.mean(axis=0).tolist(),
            list(low),
            list(high),
        )


def draw_real_steps(
    path: Path, task: str, goal: float, ways: dict[str, tuple[float, bool, Curve]]
) -> None:
    """Draws a curve for training in the task and a point for every other way.

    Args:
      path: Of the picture.
      task: Its name.
      goal: Return that counts as learned.
      ways: By name, the steps in the task before the first agent, whether agents train
        in the task, and their curve. Where they do not, the last point counts.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.axhline(goal, color=figures.GREY, lw=0.8, ls=":")
    markers = iter(_MARKERS)
    for name, (first, is_task, curve) in ways.items():
        if is_task:
            steps = first + np.asarray(curve.steps)
            axes.plot(steps, curve.mean, color=figures.REAL, label=name)
            axes.fill_between(
                steps, curve.low, curve.high, color=figures.REAL, alpha=0.15, lw=0
            )
            continue
        mean, low, high = curve.mean[-1], curve.low[-1], curve.high[-1]
        axes.errorbar(
            [first],
            [mean],
            yerr=[[mean - low], [high - mean]],
            fmt=next(markers),
            capsize=3,
            mfc="none" if name.startswith("handed over") else None,
            color=figures.LEARNED,
            label=name,
        )
    axes.set(xscale="log", xlabel="steps in the task", ylabel=f"return in {task}")
    figures.quiet(axes)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=150)
