"""Pictures of `benchmarks.reward_networks`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.reward_networks.tasks import RewardTask
from benchmarks.shared import figures
from envs.cliff import GOAL, NUM_COLUMNS, NUM_ROWS, START, CliffState
from jaxrl_se.reward_network import RewardState

_TITLES = {
    "same": "same agent",
    "varied": "varied hyperparameters",
    "unseen": "unseen agent",
}
# Where the triangle of an action lies in its cell: right, left, down, up.
_CORNERS = (
    ((0.5, 0.5), (1, 0), (1, 1)),
    ((0.5, 0.5), (0, 0), (0, 1)),
    ((0.5, 0.5), (0, 1), (1, 1)),
    ((0.5, 0.5), (0, 0), (1, 0)),
)


def draw_curves(path: Path, task: RewardTask, summary: dict[str, Any]) -> None:
    """Mean learning curves with their standard errors, a panel per row."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    rows = summary["rows"]
    figure = Figure(figsize=(4.5 * len(rows), 4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(rows), sharey=True))
    steps = np.array(summary["steps"])
    for axis, (name, table) in zip(axes, rows.items(), strict=True):
        columns = [column for column in table if not column.endswith(", best")]
        for index, column in enumerate(columns):
            is_network = column in task.kinds
            color = colormaps["tab10"](index % 10) if is_network else "0.3"
            style = "-" if is_network else ("--", ":", "-.")[index % 3]
            curve = np.array(table[column]["curve"])
            error = np.array(table[column]["curve_std_error"])
            axis.plot(steps, curve, style, color=color, label=column)
            axis.fill_between(
                steps, curve - error, curve + error, color=color, alpha=0.15, lw=0
            )
        axis.set(title=_TITLES[name], xlabel=f"training steps in {task.task}")
        figures.quiet(axis)
        axis.grid(color="0.5", alpha=0.15)
    axes[0].set_ylabel("return on the real task")
    axes[-1].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def cliff_rewards(env: Any, params: Any, discount: float = 0.8) -> np.ndarray:
    """What a Cliff's reward network pays, float32 `[48, 4]` per state and action."""
    params = params.replace(discount=discount)

    def one(position, action):
        task_state = CliffState(position=position, time=jnp.int32(0))
        obs = env.target.observe(None, task_state, None, params.target_params)
        state = RewardState(time=jnp.int32(0), state=task_state, obs=obs)
        return env.step_env(jax.random.key(0), state, action, params)[2]

    positions, actions = jnp.arange(NUM_ROWS * NUM_COLUMNS), jnp.arange(4)
    by_action = jax.vmap(one, (None, 0))
    return np.asarray(jax.vmap(by_action, (0, None))(positions, actions))


def draw_cliff(path: Path, networks: dict[str, list[tuple[Any, Any]]]) -> None:
    """The learned rewards of each kind on the grid, the mean over its networks.

    A cell has a triangle per action. Rewards at or below -50, those of the cliff, are
    left white, so that the differences among the others can be seen.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6 * len(networks)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(networks), 1))
    for axis, (kind, group) in zip(axes, networks.items(), strict=True):
        rewards = np.mean([cliff_rewards(*network) for network in group], axis=0)
        draw_cliff_rewards(axis, rewards)
        axis.set_title(f"{kind}, mean of {len(group)} networks")
    figure.savefig(path, dpi=150)


def draw_cliff_rewards(axis: Any, rewards: np.ndarray) -> None:
    """Draws rewards `[48, 4]` on the grid of Cliff into an axis of matplotlib."""
    from matplotlib.collections import PolyCollection

    triangles, values = [], []
    for position in range(START + 1):
        row, column = divmod(position, NUM_COLUMNS)
        for action, corners in enumerate(_CORNERS):
            triangles.append([(column + x, row + y) for x, y in corners])
            values.append(rewards[position, action])
    values = np.ma.masked_less_equal(values, -50.0)
    limit = max(float(np.abs(values).max()), 1e-6)
    cells = PolyCollection(triangles, array=values, cmap="RdBu", edgecolors="0.8")
    cells.set_clim(-limit, limit)
    axis.add_collection(cells)
    axis.set(xlim=(0, NUM_COLUMNS), ylim=(NUM_ROWS, 0), xticks=[], yticks=[])
    axis.set_aspect("equal")
    for position, text in ((START, "S"), (GOAL, "G")):
        row, column = divmod(position, NUM_COLUMNS)
        axis.text(column + 0.5, row + 0.5, text, ha="center", va="center")
    axis.text(6, 3.5, "cliff", ha="center", va="center", color="0.4")
    axis.figure.colorbar(cells, ax=axis, label="reward", shrink=0.8)
