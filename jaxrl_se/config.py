"""Configuration of an evolution: what is evolved, how, and when it stops."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from envs.spaces import Spaces, obs_range
from jaxrl_se.agents import DDQN
from jaxrl_se.agents.stopping import StopRule
from jaxrl_se.ferreira_es import FerreiraES
from jaxrl_se.reward_network import RewardConfig
from jaxrl_se.scoring import FinalReturn, Scoring
from jaxrl_se.strategies import check_strategy
from jaxrl_se.synthetic_env import VARIANTS, MultiStepEnv, OneStepEnv, SyntheticEnv


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """Shape of a synthetic environment.

    Attributes:
      variant: "one-step" or "multi-step".
      hidden_sizes: Hidden layers of each network; empty makes them linear.
      activation: Their activation.
      initial_states: "learned", "target" to draw them from the real task's reset, or
        "normal" for standard normal ones, as the networks see them.
      reward_heads: One reward output per discrete action, or a quadratic in continuous
        ones, instead of the action as an input (see `SyntheticEnv`).
      reward_bound: Bound of the reward network's outputs (tanh), or None.
      obs_range: Range of each observation, pairs of low and high, that the networks see
        as [-1, 1], so that a weight means as much for one as for another. "task" reads
        it off the task's observation space, where infinite ends leave an observation as
        it is; None leaves all.
      max_steps: Time limit of a multi-step episode.
      obs_bound: Bound of a multi-step next observation (tanh) as the networks see it,
        or None.
      learn_termination: Whether a multi-step episode can end by a network's output.
      soft_termination: Whether that output also weighs the bootstrap (see
        `MultiStepEnv`).
    """

    variant: Literal["one-step", "multi-step"] = "one-step"
    hidden_sizes: tuple[int, ...] = (16,)
    activation: str = "tanh"
    initial_states: Literal["learned", "target", "normal"] = "learned"
    reward_heads: bool = True
    reward_bound: float | None = None
    obs_range: tuple[tuple[float, float], ...] | Literal["task"] | None = "task"
    max_steps: int = 20
    obs_bound: float | None = 3.0
    learn_termination: bool = False
    soft_termination: bool = False

    def __post_init__(self):
        if self.variant not in VARIANTS:
            raise ValueError(
                f"variant must be one of {', '.join(VARIANTS)}, got {self.variant!r}"
            )
        if self.initial_states not in ("learned", "target", "normal"):
            raise ValueError(
                "initial_states must be 'learned', 'target' or 'normal', "
                f"got {self.initial_states!r}"
            )
        for name in ("reward_bound", "obs_bound"):
            bound = getattr(self, name)
            if bound is not None and not bound > 0:
                raise ValueError(f"{name} must be positive, got {bound}")
        if self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {self.max_steps}")
        if self.soft_termination and not self.learn_termination:
            raise ValueError("soft_termination needs learn_termination")

    def make(self, env: Any, params: Any) -> tuple[SyntheticEnv, Any]:
        """Builds the untrained synthetic environment of a task `(env, params)`."""
        from_target = self.initial_states == "target"
        config = self
        if self.obs_range == "task":
            config = dataclasses.replace(self, obs_range=obs_range(env, params))
        synthetic = config.build(Spaces.of(env, params), env if from_target else None)
        target_params = params if from_target else None
        params = dataclasses.replace(
            synthetic.default_params, target_params=target_params
        )
        return synthetic, params

    def build(self, spaces: Spaces, target: Any = None) -> SyntheticEnv:
        """Builds the environment for `spaces`; `target` gives the initial states.

        Raises:
          ValueError: `obs_range` is "task", which only `make` knows, or has not one
            range per observation.
        """
        if self.obs_range == "task":
            raise ValueError("obs_range must be ranges or None here, got 'task'")
        if self.obs_range is not None and len(self.obs_range) != spaces.obs_size:
            raise ValueError(
                f"obs_range must have {spaces.obs_size} pairs, one per observation, "
                f"got {len(self.obs_range)}"
            )
        shared = (
            spaces,
            self.hidden_sizes,
            self.activation,
            target,
            self.reward_heads,
            self.obs_range,
            self.initial_states == "learned",
            self.reward_bound,
        )
        if self.variant == "one-step":
            return OneStepEnv(*shared)
        return MultiStepEnv(
            *shared,
            max_steps=self.max_steps,
            obs_bound=self.obs_bound,
            learn_termination=self.learn_termination,
            soft_termination=self.soft_termination,
        )


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
        over. Validation is the last one's.
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
      learning_rate: See `jaxrl_se.strategies.make_strategy`.
      patience: A stage, and the evolution with its last one, is over before its time
        when the mean fitness of so many generations is no better than that of as many
        before them (see `jaxrl_se.patience`); None to take all generations.
      max_generations: The evolution ends here at the latest.
      stop_return: Mean return on the real task at which it ends earlier, reached by
        the agents of every algorithm; None for the task's registered threshold, if it
        has one and the scoring is `FinalReturn`. With a `FerreiraES` it is the mean
        over the agents that train on the search mean in every generation, and no
        validation is made.
      validation_every: Generations between validations of the search mean.
      validation_agents: Fresh, independent agents per validation.
      validation_episodes: Episodes on the real task per validation agent.
      group_size: Candidates trained as one vectorised group; None for 16 on a CPU and
        a device's whole share on an accelerator.
    """

    proxy: SyntheticConfig | RewardConfig = SyntheticConfig()
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
    learning_rate: float = 1.0
    patience: int | None = None
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
    def validated_agents(self) -> tuple[Any, ...]:
        """The agents that say whether an environment is solved: those it ends with."""
        return self.agents[-1:] if self.algorithms == "stages" else self.agents

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
        for name in ("std", "learning_rate"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")

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
