"""A task outside JAX as evolution sees it, and what evolves on it."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
from gymnax.environments import environment

from envs.spaces import Spaces
from envs.steps import StepKind
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.obs_ranges import ranges_of
from jaxrl_se.outside_training import check_trains_outside
from jaxrl_se.reward_network import RewardConfig


class OutsideTask(Protocol):
    """What evolution asks of a task that is not inside JAX."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def kind(self) -> StepKind:
        """What its steps are."""
        ...

    @property
    def solved_return(self) -> float | None:
        """Mean return at which it counts as solved, if there is one."""
        ...

    @property
    def is_external(self) -> bool:
        """Whether it is played between jitted programs; True."""
        ...

    @property
    def spaces(self) -> Spaces:
        """Its spaces."""
        ...

    @property
    def time_limit(self) -> int | None:
        """Steps after which an episode is truncated, None if nothing is known."""
        ...

    @property
    def digest(self) -> str:
        """A SHA-256 of what the task is."""
        ...

    def observation_space(self, params: Any = None) -> Any:
        """A space with `low`, `high` and `shape`."""
        ...

    def play(
        self,
        policies: Any,
        key: jax.Array,
        num_episodes: int,
        *,
        num_axes: int,
        **options: Any,
    ) -> tuple:
        """Plays with policies of leading axes `[...]`.

        Args:
          policies: A pytree.
          key: Keys `[...]`; policies with the same key meet the same episodes.
          num_episodes: Of each policy.
          num_axes: How many leading axes there are.
          **options: `time_limit`, an integer, where a `horizon` is configured.

        Returns:
          `returns` and `lengths` `[..., num_episodes]` as one object's attributes, and
          the `Steps` that were taken.
        """
        ...


def is_outside(task: Any) -> bool:
    """Whether a task has to be played outside of jitted programs."""
    return bool(getattr(task, "is_external", False))


def check_outside(config: EvolutionConfig, proxy: Any) -> None:
    """Raises ValueError for what only a task inside JAX allows."""
    if config.scoring.task_test(None, None) is not None:
        raise ValueError(
            "scoring must test agents after training only where the task is outside "
            f"JAX, got {config.scoring}"
        )
    if proxy is not None:
        return
    if isinstance(config.proxy, RewardConfig):
        _check_reward(config)
    elif config.proxy.initial_states == "target":
        raise ValueError(
            "initial_states must be 'learned' or 'normal' where the task is outside "
            "JAX, got 'target'"
        )


def _check_reward(config: EvolutionConfig) -> None:
    """Raises ValueError for what a reward network of a task outside JAX has not."""
    assert isinstance(config.proxy, RewardConfig)
    if config.proxy.sees_info:
        raise ValueError(
            "kind must be one without info where the task is outside JAX, got "
            f"{config.proxy.kind!r}"
        )
    if config.stop is not None:
        raise ValueError(
            "stop must be None where agents train outside JAX, side by side, got "
            f"{config.stop}"
        )
    for agent in config.agents:
        check_trains_outside(agent)
    if jax.process_count() > 1:
        raise ValueError(
            "a reward network of a task outside JAX must evolve in one process, got "
            f"{jax.process_count()}"
        )


class SpacesOnly(environment.Environment):
    """Stands for a task outside JAX where spaces and a name are all that is asked for.

    Args:
      task: The task.
    """

    def __init__(self, task: Any):
        self.task_kind, self._digest = task.kind, task.digest
        self._name: str = task.name
        self._obs_space = task.observation_space()
        self._act_space = task.action_space()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._digest == other._digest  # type: ignore

    def __hash__(self) -> int:
        return hash((type(self), self._digest))

    @property
    def name(self) -> str:
        """The task's name."""
        return self._name

    def observation_space(self, params: Any = None) -> Any:
        """A space of Gymnasium's."""
        return self._obs_space

    def action_space(self, params: Any = None) -> Any:
        """A space of Gymnasium's."""
        return self._act_space

    def reset_env(self, key: Any, params: Any) -> Any:
        """Raises TypeError."""
        raise TypeError(
            f"task {self.name!r} is outside JAX and cannot be stepped there"
        )

    def step_env(self, key: Any, state: Any, action: Any, params: Any) -> Any:
        """Raises TypeError."""
        raise TypeError(
            f"task {self.name!r} is outside JAX and cannot be stepped there"
        )


def proxy_of(config: EvolutionConfig, task: OutsideTask) -> tuple[Any, Any]:
    """The untrained environment, or reward network, of a task outside JAX."""
    if isinstance(config.proxy, RewardConfig):
        if not hasattr(task, "ongoing"):
            raise ValueError(
                "task must be one of envs.external where a reward network evolves "
                f"outside JAX, as agents train in it, got a {type(task).__name__}"
            )
        return config.proxy.make(SpacesOnly(task), None)
    env = config.proxy.build(task.spaces)
    ranges: Any = config.proxy.obs_range
    # What is kept up while it runs starts with what the task says of itself.
    ranges = ranges_of("task" if ranges == "running" else ranges, task, None)
    return env, dataclasses.replace(env.default_params, obs_range=ranges)


def keeps_ranges(config: EvolutionConfig) -> bool:
    """Whether ranges of observations follow what policies meet."""
    return getattr(config.proxy, "obs_range", None) == "running"
