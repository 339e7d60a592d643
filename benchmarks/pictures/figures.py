"""Pictures of the pretraining benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.shared.figures import COLORS, quiet


def draw_curves(curves: dict[str, list[list[dict[str, Any]]]], path: Path) -> None:
    """Linear probes over epochs, a line per arm, its mean over seeds.

    Args:
        curves: By "METHOD, ARM": for each seed rows of epoch, linear, knn.
        path: Where to write the picture.
    """
    methods = list(dict.fromkeys(name.split(", ")[0] for name in curves))
    figure = Figure(figsize=(4 * len(methods), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, method in zip(
        figure.subplots(1, len(methods), squeeze=False)[0], methods, strict=True
    ):
        arms = [name for name in curves if name.startswith(f"{method}, ")]
        for name, color in zip(arms, COLORS, strict=False):
            scores = np.array([[r["linear"] for r in rows] for rows in curves[name]])
            epochs = [row["epoch"] for row in curves[name][0]]
            axes.plot(epochs, 100 * scores.T, color=color, linewidth=0.5, alpha=0.5)
            label = name.removeprefix(f"{method}, ")
            axes.plot(
                epochs, 100 * scores.mean(0), "o-", color=color, ms=3, label=label
            )
        axes.set(title=method, xlabel="epochs", ylabel="linear probe, %")
        axes.legend(frameon=False)
        quiet(axes)
    figure.savefig(path, dpi=120)


def draw_search(found: dict[str, Any], path: Path) -> None:
    """Best validation accuracy so far over epochs trained, a line per search.

    Args:
        found: By search: a list, over repetitions, of the best after each epoch.
        path: Where to write the picture.
    """
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (name, best), color in zip(found.items(), COLORS, strict=False):
        scores = 100 * np.array(best)
        axes.plot(
            np.arange(1, scores.shape[1] + 1), scores.mean(0), color=color, label=name
        )
    axes.set(xlabel="epochs trained", ylabel="best so far on validation, %")
    axes.legend(frameon=False)
    quiet(axes)
    figure.savefig(path, dpi=120)
