"""Configuration of an evolution: what is evolved, how, and when it stops."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxrl_se.agents import DDQN
from jaxrl_se.agents.stopping import StopRule
from jaxrl_se.ferreira_es import FerreiraES
from jaxrl_se.reward_network import RewardConfig
from jaxrl_se.scoring import FinalReturn, Scoring
from jaxrl_se.strategies import check_strategy
from jaxrl_se.synthetic_env import SyntheticConfig

__all__ = ["EvolutionConfig", "HorizonCurriculum", "SyntheticConfig"]


@dataclasses.dataclass(frozen=True)
class HorizonCurriculum:
    """A time limit of fitness episodes that changes linearly (Liesen et al., 2024).

    A long one lets early candidates reach a distant goal at all; a short one saves
    time while they survive for a few steps only. Validation and tests always have the
    task's own limit.

    Attributes:
      start: Time limit of the first generations, in steps.
      end: Time limit of the last ones.
      begin: Generation at which it starts to change.
      generations: Generations over which it changes.
    """

    start: int
    end: int
    begin: int = 0
    generations: int = 100

    def __post_init__(self):
        for name in ("start", "end", "generations"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1, got {getattr(self, name)}"
                )
        if self.begin < 0:
            raise ValueError(f"begin must not be negative, got {self.begin}")

    def at(self, generation: jax.Array) -> jax.Array:
        """The time limit of a generation, int32."""
        fraction = jnp.clip((generation - self.begin) / self.generations, 0.0, 1.0)
        limit = self.start + fraction * (self.end - self.start)
        return jnp.round(limit).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class EvolutionConfig:
    """How a synthetic environment or a reward network is evolved.

    Attributes:
      proxy: Shape of the synthetic environment or the reward network (unused where
        `evolve` gets a proxy).
      scoring: What a candidate is scored by: `FinalReturn`, or for reward networks
        `StepsToSolve` or `AreaUnderCurve`. With these, every candidate is trained
        alone, and `stop_return` is a score.
      agent: The inner agent, trained afresh for every candidate and seed; a
        `jaxrl_se.Varied` one draws its hyperparameters anew each time. A tuple holds
        several algorithms.
      algorithms: With several agents, "cycle" trains with one of them per generation in
        turn, "mixed" with `num_seeds` of each in every generation, "stages" with one
        after the other.
      stages: With "stages", the generations at which the second, third, ... agent takes
        over. Validation is by all but the first, also by those whose turn would only
        come after `max_generations`.
      train_steps: Synthetic environment steps of each inner agent, at most.
      stop: A rule that ends an agent's training earlier, or None.
      common_random_numbers: Whether the candidates of a generation train and test their
        agents with the same keys, which compares them with less noise. If not, every
        candidate has keys of its own and is trained alone.
      horizon: A curriculum for the time limit of fitness episodes, or None.
      strategy: Evolution strategy, one of `jaxrl_se.strategies.STRATEGIES`, or a
        `FerreiraES`.
      population_size: Candidates per generation.
      num_seeds: Agents per candidate; their mean return is the fitness.
      fitness_episodes: Episodes on the real task per agent.
      std: Initial standard deviation of the search distribution.
      strategy_learning_rate: The strategy's step, see
        `jaxrl_se.strategies.make_strategy`.
      patience: A stage, and the evolution with its last one, is over before its time
        when the mean fitness of so many generations is no better than that of as many
        before them (see `jaxrl_se.patience`); None to take all generations.
      restarts: With `patience`: how often the first stage begins again from freshly
        drawn weights when it is over before its time. The attempt of the highest mean
        fitness goes on.
      max_generations: The evolution ends here at the latest.
      stop_return: Mean return on the real task (with another scoring rule, the score)
        at which it ends earlier, reached by the agents of every algorithm; None for
        the task's registered threshold, if it has one and the scoring is `FinalReturn`.
        Infinity: all generations, no validation, and the last search mean is the
        result. With a `FerreiraES` it is the mean over the agents that train on the
        search mean in every generation, and no validation is made.
      validation_every: Generations between validations of the search mean.
      validation_agents: Fresh, independent agents per validation.
      validation_episodes: Episodes on the real task per validation agent.
      group_size: Candidates trained as one vectorised group; None for 16 on a CPU and
        a device's whole share on an accelerator.
    """

    proxy: SyntheticConfig | RewardConfig = dataclasses.field(
        default_factory=SyntheticConfig
    )
    scoring: Scoring = dataclasses.field(default_factory=FinalReturn)
    agent: Any = dataclasses.field(default_factory=DDQN)
    algorithms: Literal["cycle", "mixed", "stages"] = "cycle"
    stages: tuple[int, ...] = ()
    train_steps: int = 300
    stop: StopRule | None = None
    common_random_numbers: bool = True
    horizon: HorizonCurriculum | None = None
    strategy: str | FerreiraES = "snes"
    population_size: int = 32
    num_seeds: int = 2
    fitness_episodes: int = 1
    std: float = 0.5
    strategy_learning_rate: float = 1.0
    patience: int | None = None
    restarts: int = 0
    max_generations: int = 100
    stop_return: float | None = None
    validation_every: int = 5
    validation_agents: int = 64
    validation_episodes: int = 10
    group_size: int | None = None

    @property
    def agents(self) -> tuple[Any, ...]:
        """The inner agents, one per algorithm."""
        return self.agent if isinstance(self.agent, tuple) else (self.agent,)

    @property
    def scored_agents(self) -> tuple[Any, ...]:
        """The agents that score candidates: with "stages", whose turn comes at all."""
        if self.algorithms != "stages":
            return self.agents
        starts = (0, *self.stages)
        turns = zip(self.agents, starts, strict=True)
        return tuple(agent for agent, start in turns if start < self.max_generations)

    @property
    def validated_agents(self) -> tuple[Any, ...]:
        """The agents that say whether an environment is solved."""
        return self.agents[1:] if self.algorithms == "stages" else self.agents

    def __post_init__(self):
        check_strategy(self.strategy, self.population_size)
        if not self.agents:
            raise ValueError("agent must hold at least one agent, got none")
        if self.algorithms not in ("cycle", "mixed", "stages"):
            raise ValueError(
                "algorithms must be 'cycle', 'mixed' or 'stages', "
                f"got {self.algorithms!r}"
            )
        expected = len(self.agents) - 1 if self.algorithms == "stages" else 0
        if len(self.stages) != expected or list(self.stages) != sorted(self.stages):
            raise ValueError(
                f"stages must be {expected} ascending generations for "
                f"{len(self.agents)} agents and algorithms={self.algorithms!r}, got "
                f"{self.stages}"
            )
        for name in (
            "train_steps",
            "num_seeds",
            "fitness_episodes",
            "max_generations",
            "validation_every",
            "validation_agents",
            "validation_episodes",
        ):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.patience is not None and self.patience < 2:
            raise ValueError(f"patience must be at least 2, got {self.patience}")
        if self.restarts < 0 or (self.restarts and self.patience is None):
            raise ValueError(
                "restarts must not be negative, and 0 without patience, got "
                f"{self.restarts}"
            )
        for name in ("std", "strategy_learning_rate"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")

    def for_task(self, solved_return: float | None) -> EvolutionConfig:
        """The configuration for a task with this registered threshold, or without."""
        stop_return = self.stop_return
        if stop_return is None:
            stop_return = self.scoring.default_stop(solved_return)
        scoring = self.scoring.for_task(solved_return)
        return self.replace(scoring=scoring, stop_return=stop_return)

    def replace(self, **changes: Any) -> EvolutionConfig:
        """A copy with some fields changed (`dataclasses.replace`)."""
        return dataclasses.replace(self, **changes)

    def group_of(self, num_local: int, accelerator: bool) -> int:
        """Candidates per group when a device holds `num_local` of them."""
        if self.group_size is not None:
            if self.group_size < 1 or num_local % self.group_size:
                raise ValueError(
                    f"group_size must divide the {num_local} candidates of each "
                    f"device, got {self.group_size}"
                )
            return self.group_size
        if accelerator:
            return num_local
        return max(n for n in range(1, min(16, num_local) + 1) if num_local % n == 0)
