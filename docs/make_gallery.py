"""Makes the gallery from the shipped files: `python docs/make_gallery.py`.

Writes docs/gallery.md, with every environment's card, and a picture for each: which
action a synthetic environment pays more for, or what a reward network says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

import envs
import jaxrl_se
import oswm

DOCS = Path(__file__).parent
CARDS = Path(jaxrl_se.__file__).parent / "pretrained"
KINDS = {
    "one-step": "One-step environment",
    "multi-step": "Multi-step environment",
    "reward-network": "Reward network",
}


@dataclasses.dataclass(frozen=True)
class View:
    """Two coordinates of a task over which its pictures are drawn.

    Attributes:
        observe: From both coordinates to an observation.
        x, y: Their name, lowest and highest value.
        where: What the other coordinates are, in words.
        actions: Names of the lowest and the highest action.
    """

    observe: Callable[[Any, Any], Any]
    x: tuple[str, float, float]
    y: tuple[str, float, float]
    where: str
    actions: tuple[str, str]


_HILL = View(
    lambda x, y: [x, y],
    ("position", -1.2, 0.6),
    ("velocity", -0.07, 0.07),
    "",
    ("left", "right"),
)
VIEWS = {
    "CartPole": View(
        lambda x, y: [0 * x, 0 * x, x, y],
        ("pole angle (rad)", -0.2, 0.2),
        ("angular velocity (rad/s)", -2.0, 2.0),
        ", the cart at rest in the middle",
        ("left", "right"),
    ),
    "Acrobot": View(
        lambda x, y: [0 * x + 1, 0 * x, 0 * x + 1, 0 * x, x, y],
        ("velocity of the first link (rad/s)", -4.0, 4.0),
        ("of the second (rad/s)", -8.0, 8.0),
        ", both links hanging down",
        ("torque -1", "torque +1"),
    ),
    "MountainCar": _HILL,
    "MountainCarContinuous": _HILL,
    "Pendulum": View(
        lambda x, y: [jnp.cos(x), jnp.sin(x), y],
        ("angle (rad), 0 is upright", -np.pi, np.pi),
        ("angular velocity (rad/s)", -8.0, 8.0),
        "",
        ("torque -2", "torque +2"),
    ),
}


def grid(view: View) -> tuple[np.ndarray, np.ndarray, jax.Array]:
    """Both coordinates `[61, 61]` and the observations `[61 * 61, obs_size]`."""
    x, y = np.meshgrid(np.linspace(*view.x[1:], 61), np.linspace(*view.y[1:], 61))
    columns = view.observe(jnp.asarray(x.ravel()), jnp.asarray(y.ravel()))
    return x, y, jnp.stack(columns, axis=1).astype(jnp.float32)


def preference(env: Any, params: Any, observations: jax.Array) -> np.ndarray:
    """For each observation the reward of the highest action minus the lowest's."""
    space = env.action_space(params)
    if hasattr(space, "n"):
        lowest, highest = jnp.int32(0), jnp.int32(space.n - 1)
    else:
        lowest, highest = jnp.ravel(space.low)[:1], jnp.ravel(space.high)[:1]
    _, state = env.reset(jax.random.key(0), params)

    def reward(obs, action):
        moved = state.replace(obs=obs)
        return env.step_env(jax.random.key(0), moved, action, params)[2]

    rewards = [
        jax.vmap(reward, (0, None))(observations, action)
        for action in (highest, lowest)
    ]
    return np.asarray(rewards[0] - rewards[1])


def draw(path: Path, task: str, variant: str) -> None:
    """Draws the picture of a shipped environment."""
    from matplotlib.figure import Figure

    env, params = jaxrl_se.load(task, variant)
    if task == "Cliff":
        draw_cliff(path, env, params)
        return
    view = VIEWS[task.rsplit("-", 1)[0]]
    x, y, observations = grid(view)
    figure = Figure(figsize=(4.6, 3.1), layout="constrained")
    axis = figure.subplots()
    if variant == "reward-network":
        values = np.asarray(env.potential(params, observations)).reshape(x.shape)
        image = axis.pcolormesh(x, y, values, cmap="viridis", rasterized=True)
        figure.colorbar(image, label="output of the network")
    else:
        values = preference(env, params, observations).reshape(x.shape)
        limit = float(np.abs(values).max())
        image = axis.pcolormesh(x, y, values, cmap="RdBu", vmin=-limit, vmax=limit)
        low, high = view.actions
        figure.colorbar(image, label=f"reward of {high} minus {low}")
    axis.set(xlabel=view.x[0], ylabel=view.y[0])
    figure.savefig(path, dpi=110)


def draw_cliff(path: Path, env: Any, params: Any) -> None:
    """Draws what the shipped network of Cliff pays per cell and action."""
    from matplotlib.figure import Figure

    from benchmarks.reward_networks.pictures import cliff_rewards, draw_cliff_rewards

    figure = Figure(figsize=(7, 2.4), layout="constrained")
    draw_cliff_rewards(figure.subplots(), cliff_rewards(env, params))
    figure.savefig(path, dpi=110)


def has_picture(task: str) -> bool:
    """Whether two coordinates show something of it."""
    return task == "Cliff" or task.rsplit("-", 1)[0] in VIEWS


def caption_of(task: str, variant: str) -> str:
    """What the picture of a shipped environment shows."""
    base = task.rsplit("-", 1)[0]
    if variant == "reward-network":
        where = VIEWS[base].where if base in VIEWS else ""
        caption = f"What the network says of a state{where}."
        if task == "Cliff":
            caption = (
                "What it pays in each cell for each of four moves; S start, G goal."
            )
    else:
        low, high = VIEWS[base].actions
        caption = f"How much more it pays for {high} than for {low}"
        caption += f"{VIEWS[base].where}."
    return caption


def entry(task: str, variant: str) -> str:
    """The text of one shipped environment."""
    name = f"{task}.{variant}"
    card = (CARDS / f"{name}.md").read_text().split("\n", 1)[1].strip()
    picture = ""
    if has_picture(task):
        caption = caption_of(task, variant)
        picture = f"![{caption}](pictures/gallery/{name}.png)\n\n{caption}\n\n"
    if task in envs.available():
        solved = envs.solved_return(task)
    else:  # a task outside JAX
        solved = gymnasium.spec(task).reward_threshold
    mean_return = jaxrl_se.read_card(task, variant)["return_mean"]
    threshold = "" if solved is None else f" (solved: {solved:g})"
    body = "\n".join(f"    {line}".rstrip() for line in card.splitlines())
    return (
        f"### {KINDS[variant]}\n\n"
        f'```python\nenv, params = jaxrl_se.load("{task}", "{variant}")\n```\n\n'
        f"Agents that it has never seen return **{mean_return:.1f}** on the real task"
        f"{threshold}.\n\n"
        f"{picture}"
        f'??? info "Card"\n\n{body}\n'
    )


def text() -> str:
    """The whole page."""
    parts = [
        "# Gallery\n\n"
        "What is shipped with the package, made from the files by "
        "`python docs/make_gallery.py`.\n"
        "How to train an agent in one: "
        "[use a shipped environment](guides/shipped_environment.md).\n"
    ]
    shipped = jaxrl_se.available()
    for task in dict.fromkeys(task for task, _ in shipped):
        parts.append(f"## {task}\n")
        parts += [entry(task, kind) for kind in KINDS if (task, kind) in shipped]
    return "\n".join([*parts, world_model()])


def world_model() -> str:
    """The text of the shipped world model."""
    card = oswm.read_card()["card"]
    rows = "\n".join(
        f"    | {name.replace('_', ' ')} | {value} |"
        for name, value in card.items()
        if isinstance(value, str | int | float)
    )
    return (
        "## World model\n\n"
        "```python\nenv, params = oswm.condition(transitions)\n```\n\n"
        "One transformer for all tasks, used whenever no other model is asked for. "
        "Below, a real\nepisode of Acrobot and the model's own continuation of it.\n\n"
        "![A real episode of Acrobot and what the world model makes of the same "
        "actions.](pictures/world_model_acrobot.png)\n\n"
        f'??? info "Card"\n\n    | what | value |\n    |---|---|\n{rows}\n'
    )


def main() -> None:
    """Writes the page and its pictures."""
    folder = DOCS / "pictures" / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    for task, variant in jaxrl_se.available():
        if has_picture(task):
            draw(folder / f"{task}.{variant}.png", task, variant)
    (DOCS / "gallery.md").write_text(text())


if __name__ == "__main__":
    main()
