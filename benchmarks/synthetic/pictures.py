"""Pictures of the benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.shared import figures
from benchmarks.shared.learning_curves import Curves
from jaxrl_se.report import draw_evolution


def learning_curves(
    path: Path, summary: dict, rows: list[dict], curves: Curves
) -> None:
    """Draws the evolution beside agents in the synthetic and in the real task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    evolution, learning = figure.subplots(1, 2)
    _draw_evolution(evolution, summary, rows)
    _draw_learning(learning, summary, curves)
    for axes in (evolution, learning):
        figures.quiet(axes)
        axes.grid(color=figures.GREY, alpha=0.15)
    figure.savefig(path, dpi=150)


def _draw_evolution(axes: Any, summary: dict, rows: list[dict]) -> None:
    """Scores of a generation's candidates, and of fresh agents on the search mean."""
    draw_evolution(axes, rows, figures.LEARNED)
    axes.set(
        title="Evolution of the learned environment",
        xlabel="generation",
        ylabel=f"return on {_without_version(summary['task'])}",
    )
    # Below the axes, so that no curve runs through it.
    axes.legend(
        frameon=False,
        fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.16),
        ncols=3,
        columnspacing=1.2,
        handlelength=1.4,
    )


def _draw_learning(axes: Any, summary: dict, curves: Curves) -> None:
    """Mean and middle 80 % of both groups, and how far apart they solve the task."""
    both = (
        ("learned\nenvironment", figures.LEARNED, curves.synthetic, (34, -14)),
        ("real\ntask", figures.REAL, curves.real, (16, -24)),
    )
    for name, color, curve, offset in both:
        mean = curve.returns.mean(axis=0)
        axes.plot(curves.steps, mean, color=color)
        low, high = np.percentile(curve.returns, [10, 90], axis=0)
        axes.fill_between(curves.steps, low, high, color=color, alpha=0.15, lw=0)
        # Beside the curve where it has come half of its way.
        place = int(np.argmax(mean >= (mean[0] + mean.max()) / 2))
        axes.annotate(
            name,
            (curves.steps[place], mean[place]),
            xytext=offset,
            textcoords="offset points",
            ha="left" if offset[0] > 0 else "right",
            color=color,
            fontweight="bold",
        )
    _draw_ratio(axes, summary, curves)
    axes.set(
        title=f"{summary['curve_agents']} agents each: mean, middle 80 %",
        xlabel="training steps",
        ylabel=f"return on {_without_version(summary['curve_task'])}",
        xscale="log",
    )


def _draw_ratio(axes: Any, summary: dict, curves: Curves) -> None:
    """Above the curves, how far apart both groups solve the task."""
    level = summary["curve_return"]
    lowest, highest = axes.get_ylim()
    top = highest + 0.06 * (highest - lowest)
    ends = curves.synthetic.median_steps, curves.real.median_steps
    for steps, color in zip(ends, (figures.LEARNED, figures.REAL), strict=True):
        axes.plot([steps, steps], [level, top], color=color, ls=":", lw=1.2)
    style = {"arrowstyle": "<->", "color": "black", "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (ends[0], top), (ends[1], top), arrowprops=style)
    axes.annotate(
        f"{summary['step_speedup']:.0f} x fewer steps to {level:g}",
        (np.sqrt(ends[0] * ends[1]), top),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        fontweight="bold",
    )
    axes.set_ylim(lowest, top + 0.1 * (highest - lowest))


def _without_version(task: str) -> str:
    """A task's name as one says it."""
    return task.rsplit("-v", 1)[0]


def episode_gif(path: Path, gymnasium_id: str, policy: Any, seed: int) -> None:
    """Films one episode of a policy in Gymnasium.

    Raises:
      ValueError: The renderer of the extra "render" is not installed.
    """
    import os

    import gymnasium
    from gymnasium.error import DependencyNotInstalled

    for driver in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):  # no window, no sound
        os.environ.setdefault(driver, "dummy")
    try:
        from PIL import Image

        env = gymnasium.make(gymnasium_id, render_mode="rgb_array")
        obs, _ = env.reset(seed=seed)
        frames = [Image.fromarray(np.asarray(env.render())).quantize(16)]
    except (DependencyNotInstalled, ImportError) as error:
        raise ValueError(
            "--gif needs a renderer: pip install 'jaxrl-se[render]'"
        ) from error
    act = jax.jit(lambda obs: policy(obs, None))
    done, time = False, 0
    while not done:
        action = np.asarray(act(jnp.asarray(obs, jnp.float32)))
        obs, _, terminated, truncated, _ = env.step(
            action.item() if action.ndim == 0 else action
        )
        done, time = terminated or truncated, time + 1
        if time % 2 == 0:
            frames.append(Image.fromarray(np.asarray(env.render())).quantize(16))
    env.close()
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40, loop=0)
