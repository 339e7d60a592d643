"""Part of the benchmark: synthetic tasks that no training and no choice has seen."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from benchmarks.oswm.models import BASELINES, make_model
from oswm import LeaveOneOut, load_model
from oswm.network import init_weights
from oswm.prior.dataset import Dataset
from oswm.validation import compare, errors_of, held_out

MODELS = ("oswm", "untrained", "base", *BASELINES)
_NUM_CONTEXT, _NUM_QUERY = 256, 64
_SEED = 2  # Training looks at 0, an earlier report at 1.
_NUM_RESAMPLES = 2000


@functools.cache
def _tasks(number: int) -> Dataset:
    return held_out(number, _NUM_CONTEXT, _NUM_QUERY, seed=_SEED)


def measure(model: str, num_tasks: int) -> list[float | None]:
    """A model's error on each task, None where a task has no queries.

    Args:
        model: One of `MODELS`; "base" takes for each target the closed-form model of
            the smallest leave-one-out error, without the transformer; "untrained"
            blends them as the transformer does before its first step.
        num_tasks: How many.
    """
    found = errors_of(_make(model), _tasks(num_tasks))
    return [float(x) if np.isfinite(x) else None for x in found]


def _make(name: str) -> Any:
    if name == "base":
        return LeaveOneOut()
    if name == "untrained":
        shipped = load_model()
        weights = init_weights(jax.random.key(0), shipped.config)
        return dataclasses.replace(shipped, weights=weights)
    return make_model(name)


def summarize(errors: Mapping[str, list[float | None]]) -> dict[str, dict]:
    """Geometric mean error of each model, and how often the shipped one is better.

    Returns:
        By model `error`, its `ratio` to that of the shipped model and `beaten`, the
        share of tasks on which it has the larger error, both with 95 % bootstrap
        intervals over tasks.
    """
    arrays = {name: np.asarray(row, float) for name, row in errors.items()}
    generator = np.random.default_rng(0)
    samples = generator.integers(
        0, len(arrays["oswm"]), (_NUM_RESAMPLES, len(arrays["oswm"]))
    )
    found = compare(arrays)
    drawn = [compare({k: v[rows] for k, v in arrays.items()}) for rows in samples]
    table: dict[str, dict[str, Any]] = {}
    for name in arrays:
        error = found[f"error_{name}"]
        table[name] = {"error": error}
        if name != "oswm":
            ratios = [row["error_oswm"] / row[f"error_{name}"] for row in drawn]
            shares = [row[f"beats_{name}"] for row in drawn]
            table[name]["ratio"] = [
                found["error_oswm"] / error,
                *np.quantile(ratios, [0.025, 0.975]),
            ]
            table[name]["beaten"] = [
                found[f"beats_{name}"],
                *np.quantile(shares, [0.025, 0.975]),
            ]
    return table


def print_table(errors: Mapping[str, list[float | None]]) -> dict[str, dict]:
    """One line per model; returns the summary."""
    table = summarize(errors)
    number = sum(x is not None for x in errors["oswm"])
    print(f"\n{number} synthetic tasks held out, at most {_NUM_CONTEXT} context rows")
    print(f"{'model':<17}{'error':>10}{'oswm / model':>24}{'oswm better':>22}")
    for name, row in table.items():
        line = f"{name:<17}{row['error']:>10.2e}"
        if name != "oswm":
            ratio, beaten = row["ratio"], [100 * x for x in row["beaten"]]
            line += f"{ratio[0]:>10.2f} [{ratio[1]:.2f}, {ratio[2]:.2f}]".ljust(25)
            line += f"{beaten[0]:>7.0f} % [{beaten[1]:.0f}, {beaten[2]:.0f}]"
        print(line)
    print("geometric means of squared errors over the columns' variance in the context")
    return table
