"""Learning curves over several seeds: one call, arrays, a picture."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from envs.task import REQUIRED, as_pair, open_named, open_task, split_arguments
from jaxrl_runs.statistics import bootstrap_ci95, interquartile_mean
from jaxrl_runs.values import MANY, Text, as_key
from jaxrl_se.training import train


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """How well agents do along their training.

    Attributes:
      steps: int `[num_points]`, environment steps of training.
      returns: float64 `[num_agents, num_points]`, mean test returns.
      iqm: float64 `[num_points]`, interquartile mean over agents.
      low: float64 `[num_points]`, lower end of its bootstrap 95 % interval; NaN for one
        agent, which has none.
      high: float64 `[num_points]`, the upper end, likewise.
      label: What a picture calls it.
    """

    steps: np.ndarray
    returns: np.ndarray
    iqm: np.ndarray
    low: np.ndarray
    high: np.ndarray
    label: str

    def plot(self, ax: Any = None, **line: Any) -> Any:
        """Draws mean and interval.

        Args:
          ax: A Matplotlib axis; the present one by default.
          **line: For `ax.plot`.

        Returns:
          The axis.
        """
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.gca()
        (drawn,) = ax.plot(self.steps, self.iqm, **{"label": self.label} | line)
        ax.set_xlabel("environment steps")
        if len(self.returns) == 1:
            ax.set_ylabel("return (one agent: no interval)")
            return ax
        ax.fill_between(
            self.steps, self.low, self.high, color=drawn.get_color(), alpha=0.2
        )
        ax.set_ylabel(f"return (IQM of {len(self.returns)} agents)")
        return ax


def learning_curve(
    agent: Any,
    task: Any,
    *args: Any,
    num_agents: int = 8,
    num_points: int = 10,
    test_task: Any = None,
    num_episodes: int = 10,
    label: str | None = None,
    **kwargs: Any,
) -> LearningCurve:
    """Trains agents of several seeds in one program and tests them along the way.

    `learning_curve(agent, task, key, num_steps)`, or with a gymnax environment and its
    params `learning_curve(agent, env, params, key, num_steps)`.

    Args:
      agent: An algorithm with its hyperparameters.
      task: Whatever `envs.open_task` takes inside JAX, or a gymnax environment.
      *args: Its params, if `task` is an environment; a seed or a PRNG key; environment
        steps of each agent, which `num_points` divides.
      num_agents: Seeds.
      num_points: Points of the curve.
      test_task: Where agents are tested; where they are trained by default. It can be
        one outside JAX.
      num_episodes: Test episodes of an agent at a point.
      label: What a picture calls the curve; the agent's class by default.
      **kwargs: The same by name: `params`, `key`, `num_steps`; and `stop`.

    Returns:
      A `LearningCurve`; `.plot(ax)` draws it.
    """
    params, (key, num_steps, stop) = split_arguments(
        "learning_curve",
        task,
        args,
        kwargs,
        {"key": REQUIRED, "num_steps": REQUIRED, "stop": None},
        ("agent", "num_agents", "num_points", "test_task", "num_episodes", "label"),
    )
    for name, number in (
        ("num_agents", num_agents),
        ("num_points", num_points),
        ("num_episodes", num_episodes),
    ):
        MANY.check(name, number)
    Text(optional=True).check("label", label)
    env, params = as_pair(task, params, "task")
    opened = open_task(env, params)
    tested = opened if test_task is None else open_named("test_task", test_task)
    key_train, key_test = jax.random.split(as_key(key))
    trained = train(
        agent,
        *opened.pair,
        key_train,
        num_steps,
        num_agents=num_agents,
        num_snapshots=num_points,
        stop=stop,
    )
    episodes, _ = tested.play(trained.snapshots, key_test, num_episodes, num_axes=2)
    returns = np.asarray(episodes.returns, np.float64).mean(axis=-1)
    ends = [bootstrap_ci95(scores, _iqm) for scores in returns.T]
    low, high = np.array(ends).T
    return LearningCurve(
        steps=trained.steps,
        returns=returns,
        iqm=np.array([interquartile_mean(scores) for scores in returns.T]),
        low=low,
        high=high,
        label=type(agent).__name__ if label is None else label,
    )


def _iqm(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """Interquartile means along an axis, for the bootstrap."""
    ordered = np.moveaxis(np.sort(scores, axis=axis), axis, -1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)
