"""Pictures of the benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.shared import figures
from benchmarks.shared.learning_curves import Curves


def learning_curves(
    path: Path, summary: dict, rows: list[dict], curves: Curves
) -> None:
    """Draws the evolution beside agents in the synthetic and in the real task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    evolution, learning = figure.subplots(1, 2)

    generation = [row["generation"] for row in rows]
    evolution.plot(
        generation,
        [row["fitness_mean"] for row in rows],
        color=figures.LEARNED,
        label="mean",
    )
    evolution.plot(
        generation,
        [row["fitness_best"] for row in rows],
        color=figures.LEARNED,
        alpha=0.4,
        label="best",
    )
    validated = [row for row in rows if np.isfinite(row["validation_mean"])]
    evolution.plot(
        [row["generation"] for row in validated],
        [row["validation_mean"] for row in validated],
        "o",
        color="black",
        label="search mean, fresh agents",
    )
    evolution.set(
        title="Evolution of the synthetic environment",
        xlabel="generation",
        ylabel=f"return on {summary['task']}",
    )

    for name, color, curve in (
        ("synthetic environment", figures.LEARNED, curves.synthetic),
        ("real task", figures.REAL, curves.real),
    ):
        learning.plot(
            curves.steps,
            curve.returns.mean(axis=0),
            color=color,
            label=f"in the {name}",
        )
        low, high = np.percentile(curve.returns, [10, 90], axis=0)
        learning.fill_between(curves.steps, low, high, color=color, alpha=0.15, lw=0)
        learning.axvline(curve.median_steps, color=color, ls=":", lw=1)
    learning.set(
        title=f"{summary['curve_agents']} agents each: mean, 10th to 90th percentile",
        xlabel="training steps",
        ylabel=f"return on {summary['curve_task']}",
        xscale="log",
    )
    for axes in (evolution, learning):
        axes.legend(frameon=False)
        figures.quiet(axes)
        axes.grid(color=figures.GREY, alpha=0.15)
    figure.savefig(path, dpi=150)


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
