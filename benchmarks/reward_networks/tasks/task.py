"""What a task of `benchmarks.reward_networks` consists of.

Agents of the curves are those of Ferreira et al. (2022) by their evaluation configs.
Evolutions are ours: networks are smaller, inner loops shorter.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import envs
from jaxrl_se.agents import ICM, RND, Curious
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.reward_network import RewardConfig

NO_NETWORK = "no reward network"
POTENTIAL = ("exclusive-potential", "additive-potential")
KINDS = (*POTENTIAL, "exclusive", "additive")
VARIED_SETTINGS = "hyperparameters drawn around the paper's"
INFO_KINDS = tuple(f"{kind}-info" for kind in KINDS)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the figures: an agent that trains in everything.

    Attributes:
      agent: The agent.
      bonuses: Baselines: the agent with something else than a reward network.
      repeat: Times that it repeats each action.
      published: By column, mean returns at `RewardTask.points` (None where the paper's
        figure cannot be read).
      settings: Whose settings the agent has, for tables and cards.
    """

    agent: Any
    bonuses: dict[str, Any]
    repeat: int = 1
    settings: str = "the paper's settings"
    published: dict[str, tuple[float | None, ...]] = dataclasses.field(
        default_factory=dict
    )


@dataclasses.dataclass(frozen=True)
class RewardTask:
    """What differs between tasks.

    Attributes:
      task: Name of the task.
      kinds: Kinds of reward networks.
      evolutions: Their evolutions.
      rows: By name: "same" agent, "varied" hyperparameters, "unseen" agent.
      points: Training steps, in the task's own, at which the table shows returns.
      resolution: Steps between the points of a curve.
      chosen_at: Steps up to which the mean of the curve chooses the best network.
      steps: Steps of a curve without `--full`.
      small: Without `--full`, other defaults of the options.
      light: Without `--full`, agents that take their places in rows of these names.
      evolved_in: By kind, the form of the task that its networks evolve in, where it
        is another one; `starts` says in words where its episodes start.
      scales: By kind, the factor on the output of its evolved networks, 1 if it is not
        there. Exclusive kinds rank policies the same whatever it is.
    """

    task: str
    kinds: tuple[str, ...]
    evolutions: dict[str, EvolutionConfig]
    rows: dict[str, Row]
    points: tuple[int, ...]
    resolution: int
    chosen_at: int
    steps: int = 0
    small: dict[str, Any] = dataclasses.field(default_factory=dict)
    light: dict[str, Row] = dataclasses.field(default_factory=dict)
    evolved_in: dict[str, Any] = dataclasses.field(default_factory=dict)
    scales: dict[str, float] = dataclasses.field(default_factory=dict)

    def with_light_agents(self) -> RewardTask:
        """The task with the agents that a CPU can train."""
        return dataclasses.replace(self, rows=self.rows | self.light)

    def pair(self, repeat: int, env: Any = None) -> tuple[Any, Any]:
        """The task, or a form of it, with actions repeated."""
        task, params = envs.make(self.task)
        env = task if env is None else env
        return (envs.ActionRepeat(env, repeat) if repeat > 1 else env), params

    def evolution_pair(self, kind: str) -> tuple[Any, Any]:
        """What networks evolve in, with the actions of the "same" agent repeated."""
        return self.pair(self.rows["same"].repeat, self.evolved_in.get(kind))

    def evolution_starts(self, kind: str) -> str:
        """Where episodes of evolution start, in words."""
        return getattr(self.evolved_in.get(kind), "starts", "as in the task")


def each(kinds, config: EvolutionConfig, **proxy: Any) -> dict[str, EvolutionConfig]:
    """The same evolution for several kinds."""
    return {kind: config.replace(proxy=RewardConfig(kind, **proxy)) for kind in kinds}


def curious(agent: Any, icm: ICM) -> dict[str, Any]:
    """The agent with the bonuses that people would try first, by name."""
    return {"ICM": Curious(agent, icm), "RND": Curious(agent, RND())}
