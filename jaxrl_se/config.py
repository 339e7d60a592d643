"""Configuration of an evolution: what is evolved, how, and when it stops."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxrl_runs import values
from jaxrl_runs.values import (
    COUNT,
    FLAG,
    INDEX,
    MANY,
    POSITIVE,
    REQUIRED,
    THRESHOLD_OR_NONE,
    Integer,
    Like,
    OneOf,
    TupleOf,
    setting,
)
from jaxrl_se.agents import DDQN
from jaxrl_se.agents.agent import AGENT
from jaxrl_se.agents.stopping import STOP, StopRule
from jaxrl_se.ferreira_es import FerreiraES
from jaxrl_se.reward_network import RewardConfig
from jaxrl_se.rounds import say_rounded, whole_steps
from jaxrl_se.scoring import SCORING, FinalReturn, Scoring
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

    start: int = setting(REQUIRED, COUNT)
    end: int = setting(REQUIRED, COUNT)
    begin: int = setting(0, INDEX)
    generations: int = setting(100, COUNT)

    def __post_init__(self):
        values.check(self)

    def at(self, generation: jax.Array) -> jax.Array:
        """The time limit of a generation, int32."""
        fraction = jnp.clip((generation - self.begin) / self.generations, 0.0, 1.0)
        limit = self.start + fraction * (self.end - self.start)
        return jnp.round(limit).astype(jnp.int32)


_HORIZON = Like("a HorizonCurriculum", kinds=(HorizonCurriculum,), optional=True)
_PROXY = Like(
    "a SyntheticConfig or a RewardConfig", kinds=(SyntheticConfig, RewardConfig)
)


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
      train_steps: Synthetic environment steps of each inner agent, at most. Rounded
        up, with a warning, to what every agent trains in whole rounds of (PPO's are
        `num_envs * rollout_steps`).
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
      restart_std: What `std` is multiplied by at each of them: no one deviation suits
        all tasks.
      max_generations: The evolution ends here at the latest.
      max_steps: No generation begins once so many steps in the task (or in the world
        model that stands for it) have been taken; None for no limit.
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
    algorithms: Literal["cycle", "mixed", "stages"] = setting(
        "cycle", OneOf(("cycle", "mixed", "stages"))
    )
    stages: tuple[int, ...] = setting((), TupleOf(INDEX))
    train_steps: int = setting(300, COUNT)
    stop: StopRule | None = setting(None, STOP)
    common_random_numbers: bool = setting(True, FLAG)
    horizon: HorizonCurriculum | None = setting(None, _HORIZON)
    strategy: str | FerreiraES = "snes"
    population_size: int = setting(32, MANY)
    num_seeds: int = setting(2, MANY)
    fitness_episodes: int = setting(1, MANY)
    std: float = setting(0.5, POSITIVE)
    strategy_learning_rate: float = setting(1.0, POSITIVE)
    patience: int | None = setting(None, Integer(at_least=2, optional=True))
    restarts: int = setting(0, INDEX)
    restart_std: float = setting(1.0, POSITIVE)
    max_generations: int = setting(100, COUNT)
    max_steps: int | None = setting(None, Integer(at_most=2**62, optional=True))
    stop_return: float | None = setting(None, THRESHOLD_OR_NONE)
    validation_every: int = setting(5, COUNT)
    validation_agents: int = setting(64, MANY)
    validation_episodes: int = setting(10, MANY)
    group_size: int | None = setting(None, Integer(optional=True))

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
        if not self.agents:
            raise ValueError("agent must hold at least one agent, got none")
        for agent in self.agents:
            AGENT.check("EvolutionConfig.agent", agent)
        _PROXY.check("EvolutionConfig.proxy", self.proxy)
        SCORING.check("EvolutionConfig.scoring", self.scoring)
        values.check(self)
        check_strategy(self.strategy, self.population_size)
        expected = len(self.agents) - 1 if self.algorithms == "stages" else 0
        if len(self.stages) != expected or list(self.stages) != sorted(self.stages):
            raise ValueError(
                f"stages must be {expected} ascending generations for "
                f"{len(self.agents)} agents and algorithms={self.algorithms!r}, got "
                f"{self.stages}"
            )
        if self.restarts and self.patience is None:
            raise ValueError(
                "restarts must be 0 without patience, which says when a search is "
                f"stuck, got {self.restarts}"
            )
        if self.restart_std != 1 and isinstance(self.strategy, FerreiraES):
            raise ValueError(
                "restart_std must be 1 with a FerreiraES, whose deviation is no state, "
                f"got {self.restart_std}"
            )
        if self.restarts and getattr(self.proxy, "obs_range", None) == "running":
            raise ValueError(
                "restarts must be 0 with running ranges of observations, got "
                f"{self.restarts}"
            )
        whole = whole_steps(self.train_steps, self.agents)
        if whole != self.train_steps:
            say_rounded("train_steps", self.train_steps, whole, stacklevel=4)
            object.__setattr__(self, "train_steps", whole)

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
            if num_local % self.group_size:
                raise ValueError(
                    f"group_size must divide the {num_local} candidates of each "
                    f"device, got {self.group_size}"
                )
            return self.group_size
        if accelerator:
            return num_local
        return max(n for n in range(1, min(16, num_local) + 1) if num_local % n == 0)
