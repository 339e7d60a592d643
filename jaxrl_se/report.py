"""The standard picture of an evolution: how it went, and what agents learn in it."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl_runs.statistics import bootstrap_ci95
from jaxrl_runs.values import Like, PathLike
from jaxrl_se.evolution_result import EvolutionResult
from jaxrl_se.one_line import to_line
from jaxrl_se.outcome import Confirmation

_LEARNED, _REFERENCE = "C0", "0.45"
_SHORT = 280  # characters of an environment that fits under a picture


def report(result: EvolutionResult, path: str | Path | None = None) -> Any:
    """Draws an evolution: fitness and validations, and fresh agents' returns.

    Above it stands what it cost; under it the whole environment as one line for
    `jaxrl_se.load`, where 280 characters hold it.

    Args:
      result: What `evolve` or `evolve_from_log` returned.
      path: Where to write the picture, by its ending as PNG, PDF or SVG; None writes
        nothing.

    Returns:
      The Matplotlib figure, which notebooks show, with pyplot or without it.

    Raises:
      TypeError: `result` is not a result, or `path` no path.
    """
    kind = "an EvolutionResult (what `solve` returns says itself when it is printed)"
    Like(kind, kinds=(EvolutionResult,)).check("result", result)
    PathLike(optional=True).check("path", path)
    figure = _shown_figure(figsize=(10, 4.6), layout="constrained")
    evolution, agents = figure.subplots(1, 2)
    draw_evolution(evolution, result.progress.rows, color=_LEARNED)
    evolution.set(title="Evolution", xlabel="generation", ylabel="score of candidates")
    _legend(evolution)
    tests = _tests(result)
    _draw_agents(agents, tests)
    for axes in (evolution, agents):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.15)
    figure.suptitle(_title(result))
    line = _line(result)
    if line is not None:
        broken = "\n".join(line[i : i + 140] for i in range(0, len(line), 140))
        figure.supxlabel(broken, fontsize=6, family="monospace", color=_REFERENCE)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _shown_figure(**options: Any) -> Any:
    """A figure that draws itself where IPython asks for a PNG.

    Otherwise notebooks print its size unless pyplot is imported.
    """
    from matplotlib.figure import Figure

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            written = io.BytesIO()
            self.savefig(written, format="png")
            return written.getvalue()

    return Shown(**options)


def _title(result: EvolutionResult) -> str:
    """What it is, of what size, at what price."""
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(result.params.weights))
    steps = [
        f"{number:,} {kind} steps"
        for kind, number in (
            ("real", result.progress.real_steps),
            ("model", result.progress.model_steps),
        )
        if number
    ]
    price = ", ".join([*steps, f"{result.progress.cpu_seconds:.0f} CPU-s"])
    return f"{result.task_name}: an environment of {size:,} numbers ({price})"


def _line(result: EvolutionResult) -> str | None:
    """The environment as text, where there is one that is short enough."""
    try:
        line = to_line(result.env, result.params)
    except ValueError:  # a reward network, say
        return None
    return line if len(line) <= _SHORT else None


def draw_evolution(axes: Any, rows: list[dict], color: str) -> None:
    """Draws candidates' fitness by generation, and what fresh agents had in between.

    Args:
      axes: Matplotlib's.
      rows: Of metrics, one per generation (`Progress.rows`).
      color: Of the candidates.
    """
    generations = [row["generation"] for row in rows]
    for name, label, alpha in (
        ("fitness_best", "best candidate", 0.35),
        ("fitness_mean", "mean of candidates", 1.0),
    ):
        values = [row[name] for row in rows]
        axes.plot(generations, values, color=color, alpha=alpha, label=label)
    validated = [row for row in rows if math.isfinite(row["validation_mean"])]
    axes.plot(
        [row["generation"] for row in validated],
        [row["validation_mean"] for row in validated],
        "o",
        color="black",
        label="fresh agents",
    )


def _tests(result: EvolutionResult) -> dict[str, Confirmation]:
    """Last tests, by where agents were tested."""
    found = {"in the task": result.confirmation}
    if getattr(result, "log_config", None) is not None:
        outside = getattr(result, "outside", None)
        found = {"in the world model": result.confirmation, "in the task": outside}
    return {place: test for place, test in found.items() if test is not None}


def _draw_agents(axes: Any, tests: dict[str, Confirmation]) -> None:
    """Each fresh agent as a point, by kind, with mean and interval."""
    axes.set(title="Fresh agents trained in it", ylabel="return")
    if not tests:
        axes.text(0.5, 0.5, "not tested: see result.test", ha="center", va="center")
        axes.set(xticks=[], xlim=(0, 1), ylim=(0, 1))
        return
    labels: list[str] = []
    for place, test in tests.items():
        for kind, returns in test.returns.items():
            _draw_kind(axes, len(labels), np.asarray(returns, np.float64))
            labels.append(f"{kind}\n{place}" if len(tests) > 1 else kind)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    last = list(tests.values())[-1]
    for value, label, style in (
        (last.random_return, f"{last.policy} play", ":"),
        (last.best_response, "best response", "--"),
        (last.solved_return, "solved", "-"),
    ):
        if value is not None and math.isfinite(value):
            axes.axhline(value, color=_REFERENCE, linestyle=style, label=label)
    _legend(axes)


def _draw_kind(axes: Any, place: int, returns: np.ndarray) -> None:
    """Agents of one kind."""
    beside = place + np.linspace(-0.15, 0.15, len(returns))
    axes.plot(beside, returns, "o", color=_LEARNED, alpha=0.4, markersize=4)
    low, high = bootstrap_ci95(returns)
    axes.plot([place + 0.25] * 2, [low, high], color="black")
    axes.plot([place + 0.25], [returns.mean()], "D", color="black", markersize=4)


def _legend(axes: Any) -> None:
    """Below the axes, so that no curve runs through it."""
    axes.legend(
        frameon=False,
        fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.14),
        ncols=3,
    )
