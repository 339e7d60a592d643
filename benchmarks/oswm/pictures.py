"""Pictures of the one-shot world model benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.oswm.data import Data
from benchmarks.oswm.models import make_model
from benchmarks.oswm.one_step import HORIZONS
from benchmarks.oswm.tasks import NUM_ROWS, WorldModelTask
from benchmarks.shared import figures
from oswm import Context
from oswm.conditioning import first_rows
from oswm.fitting import fit
from oswm.support import Support

_NUM_STEPS, _NUM_SAMPLES = 50, 40


def trajectories(path: Path, task: WorldModelTask, data: Data, model: str) -> None:
    """Draws the longest real episode beside sampled roll-outs of the model.

    The band holds the 5th to 95th percentile of roll-outs that sample every step.
    """
    from matplotlib.figure import Figure

    space = task.action_space
    context = Context.of(data.collect(task.context, NUM_ROWS, 0), space)
    world_model = make_model(model)
    cache, support = fit(world_model, context), Support.of(context, 0.05)
    real = data.collect("half", 1000, 77)
    starts = first_rows(real)
    lengths = np.diff(np.append(starts, len(real)))
    first = starts[np.argmax(lengths)]
    num_steps = min(_NUM_STEPS, int(lengths.max()))
    rows = Context.of(jax.tree.map(lambda x: x[first : first + num_steps], real), space)

    @jax.jit
    def roll(key):
        def step(obs, x):
            action, key = x
            next_obs, _, _ = world_model.sample(cache, obs, action, key)
            next_obs = support.project(next_obs)
            return next_obs, next_obs

        keys = jax.random.split(key, num_steps)
        return jax.lax.scan(step, rows.obs[0], (rows.action, keys))[1]

    rolled = np.asarray(jax.vmap(roll)(jax.random.split(jax.random.key(0), 40)))
    size = context.obs_size
    figure = Figure(figsize=(10, 1.4 * size + 0.6), layout="constrained")
    figure.suptitle(f"{task.name}: one real episode and {model} after {NUM_ROWS} rows")
    times = np.arange(1, num_steps + 1)
    for i, axes in enumerate(
        figure.subplots(size, 1, sharex=True, squeeze=False)[:, 0]
    ):
        low, middle, high = np.percentile(rolled[..., i], [5, 50, 95], axis=0)
        axes.fill_between(times, low, high, color=figures.LEARNED, alpha=0.25, lw=0)
        axes.plot(times, middle, color=figures.LEARNED, label="model, rolled out")
        axes.plot(times, rows.next_obs[:, i], color=figures.REAL, ls="--", label="real")
        axes.set_ylabel(f"obs {i}")
        figures.quiet(axes)
        axes.grid(color=figures.GREY, alpha=0.15)
        if i == 0:
            axes.legend(frameon=False, ncols=2)
    axes.set_xlabel("step")
    figure.savefig(path, dpi=120)


def error_curves(path: Path, cells: dict[str, list[dict]], models: Any) -> None:
    """Draws how errors grow over rolled-out steps, one panel per task."""
    from matplotlib.figure import Figure

    columns = min(4, len(cells))
    lines = -(-len(cells) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.8 * lines + 0.4), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in panels[len(cells) :]:
        axes.set_visible(False)
    for axes, (name, contexts) in zip(panels, cells.items(), strict=False):
        for model, color in zip(models, figures.COLORS, strict=False):
            rolled = np.array(
                [[c[model]["rollout"][str(h)] for h in HORIZONS] for c in contexts]
            )
            with np.errstate(all="ignore"):
                axes.plot(HORIZONS, np.nanmean(rolled, axis=0), "o-", ms=3, color=color)
        axes.set(xscale="log", yscale="log", title=name, xlabel="rolled-out steps")
        axes.set_ylim(bottom=1e-9)
        figures.quiet(axes)
        axes.grid(color=figures.GREY, alpha=0.15)
    panels[0].set_ylabel("error / variance")
    figure.legend(
        panels[0].lines, models, loc="outside lower center", ncols=4, frameon=False
    )
    figure.savefig(path, dpi=120)
