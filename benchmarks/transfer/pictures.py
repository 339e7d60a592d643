"""Pictures of `benchmarks.transfer`: what evolved environments show their agents.

After figures 4 and 8 of Ferreira et al. (2022) and the noise study of the same code.
Agents here have the hyperparameters around which the table's vary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
import jaxrl_se
from benchmarks.shared import figures
from benchmarks.transfer.conditions import ExploringPolicy, Transfer, test
from envs.spaces import Spaces
from jaxrl_se.agents.off_policy import Progress
from jaxrl_se.noisy_env import NoisyEnv, NoisyParams
from jaxrl_se.synthetic_env import SyntheticState

LEVELS = (0.3, 1.0, 3.0, 10.0, 30.0)
NAMES = {
    "CartPole-v0": ("cart position", "cart velocity", "pole angle", "pole velocity"),
    "Acrobot-v1": ("cos 1", "sin 1", "cos 2", "sin 2", "velocity 1", "velocity 2"),
}
# Theirs for CartPole, read off a figure: the four observations, then the reward.
PUBLISHED_NOISE = {
    "CartPole-v0": (
        (198, 197, 188, 166, 35),
        (198, 194, 181, 50, 11),
        (199, 195, 190, 147, 17),
        (199, 196, 173, 155, 100),
        (198, 177, 124, 63, 41),
    )
}
_COLORS = (figures.LEARNED, figures.REAL, figures.GREY)


def measure_noise(
    transfer: Transfer,
    pairs: list[tuple[Any, Any]],
    num_agents: int = 8,
    num_episodes: int = 10,
) -> list[list[float]]:
    """Mean returns `[outputs, levels]` of agents trained with noise on one output.

    Outputs are the observations, then the reward. Noise is in units of an output's
    standard deviation in the environment under random actions, the same agents for
    every output and level.
    """
    agent = transfer.agents["ddqn"]
    sums = np.zeros((len(NAMES[transfer.task]) + 1, len(LEVELS)))
    for index, (env, params) in enumerate(pairs):
        shown = envs.collect((env, params), 1000, key=index)
        spread = np.append(shown.obs.std(axis=0), shown.reward.std())
        keys = jax.random.split(jax.random.key(index))
        for output, level in np.ndindex(*sums.shape):
            std = np.zeros_like(spread)
            std[output] = LEVELS[level] * spread[output]
            noisy = NoisyParams(
                max_steps_in_episode=params.max_steps_in_episode,
                params=params,
                obs_std=jnp.asarray(std[:-1]),
                reward_std=jnp.asarray(std[-1]),
            )
            trained = jaxrl_se.train(
                agent,
                NoisyEnv(env),
                noisy,
                keys[0],
                transfer.steps["ddqn"],
                num_agents=num_agents,
            )
            returns = test(trained.policy, transfer.task, keys[1], num_episodes)
            sums[output, level] += returns.mean()
    return (sums / len(pairs)).tolist()


def draw_noise(path: Path, transfer: Transfer, noise: list[list[float]]) -> None:
    """Draws return over relative noise, beside published values if there are any."""
    from matplotlib.figure import Figure

    names = (*NAMES[transfer.task], "reward")
    published = PUBLISHED_NOISE.get(transfer.task)
    figure = Figure(figsize=(2.6 * len(names), 3), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True)
    for index, (axes, name) in enumerate(zip(panels, names, strict=True)):
        axes.plot(LEVELS, noise[index], "-o", color=_COLORS[0], label="ours")
        if published is not None:
            theirs = published[index]
            axes.plot(LEVELS, theirs, "--o", color=_COLORS[1], label="Ferreira et al.")
        axes.set(title=name, xscale="log", xlabel="noise / standard deviation")
    panels[0].set_ylabel(f"return on {transfer.task}")
    panels[0].legend(frameon=False)
    _finish(figure, panels, path)


def draw_seen(path: Path, transfer: Transfer, pair: tuple[Any, Any]) -> None:
    """Draws histograms of observations and rewards that agents meet."""
    from matplotlib.figure import Figure

    seen = collect_seen(transfer, pair)
    names = (*NAMES[transfer.task], "reward")
    figure = Figure(figsize=(2.6 * len(names), 3), layout="constrained")
    panels = figure.subplots(1, len(names))
    for index, (axes, name) in enumerate(zip(panels, names, strict=True)):
        sources = {
            label: column
            for label, columns in seen.items()
            if (column := columns[index]) is not None
        }
        # A few far values must not make the picture empty.
        ends = [np.percentile(values, (0.5, 99.5)) for values in sources.values()]
        low, high = np.min(ends), np.max(ends)
        margin = 0.05 * (high - low) + 1e-3
        bins = np.linspace(low - margin, high + margin, 60)
        for color, (label, values) in zip(_COLORS, sources.items(), strict=False):
            axes.hist(values, bins, histtype="step", log=True, color=color, label=label)
        axes.set(title=name)
    panels[0].set_ylabel("count")
    figure.legend(
        *panels[-1].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    _finish(figure, panels, path)


def collect_seen(
    transfer: Transfer,
    pair: tuple[Any, Any],
    num_agents: int = 10,
    num_steps: int = 500,
) -> dict[str, list[np.ndarray | None]]:
    """Observations, one array each, then rewards, by where agents met them.

    Training in the evolved environment is replayed with snapshots of the agents and
    their exploration at that time.
    """
    env, params = pair
    agent = transfer.agents["ddqn"]
    task = envs.make(transfer.task)
    spaces = Spaces.of(*task)
    num_snapshots = 10
    trained = jaxrl_se.train(
        agent,
        env,
        params,
        jax.random.key(0),
        transfer.steps["ddqn"],
        num_agents=num_agents,
        num_snapshots=num_snapshots,
    )
    training, testing = [], []
    for i in range(num_agents):
        for j, step in enumerate(trained.steps):
            snapshot = _at(trained.snapshots, (i, j))
            epsilon = agent.epsilon(Progress(jnp.int32(step), jnp.int32(0)))
            policy = ExploringPolicy(snapshot, epsilon, spaces)
            key = jax.random.fold_in(jax.random.key(1), i * num_snapshots + j)
            num = num_steps // num_snapshots
            training.append(envs.collect(pair, num, key, policy))
        policy = _at(trained.policy, i)
        testing.append(envs.collect(task, num_steps, i, policy))
    train = jax.tree.map(lambda *x: np.concatenate(x), *training)
    tested = jax.tree.map(lambda *x: np.concatenate(x), *testing)

    def pays(obs, action):
        state = SyntheticState(time=jnp.int32(0), obs=obs)
        return env.step_env(jax.random.key(0), state, action, params)[2]

    paid = np.asarray(jax.jit(jax.vmap(pays))(tested.obs, tested.action))
    return {
        "evolved environment, training": [*train.obs.T, train.reward],
        "real task, testing": [*tested.obs.T, tested.reward],
        "evolved environment on the real data": [None] * spaces.obs_size + [paid],
    }


def _at(policies: Any, index: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[index], policies)


def _finish(figure: Any, panels: Any, path: Path) -> None:
    for axes in panels:
        figures.quiet(axes)
        axes.grid(alpha=0.15)
    figure.savefig(path, dpi=150)
