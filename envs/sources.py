"""What `envs.external` is given, as something that makes engines of any size."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import gymnasium

from envs.engines import (
    Engine,
    EnvPoolEngine,
    VectorEngine,
    gymnasium_engine,
    import_envpool,
)
from envs.gymnasium_spaces import flat_space
from envs.old_gym import looks_old, not_gymnasium


@dataclasses.dataclass(frozen=True)
class Source:
    """Where engines come from, and what is known of the task.

    Attributes:
      name: Its id or class.
      make: Makes an engine of so many lanes.
      obs_space: Of one lane.
      act_space: Of one lane.
      fixed: The number of lanes if there can be no other, or None.
      time_limit: The task's own, if it is known.
      solved_return: Likewise.
      version: Of the library that steps it.
    """

    name: str
    make: Callable[[int], Engine]
    obs_space: Any
    act_space: Any
    fixed: int | None = None
    time_limit: int | None = None
    solved_return: float | None = None
    version: str = gymnasium.__version__


def envpool_has(task: Any) -> bool:
    """Whether EnvPool is installed and has an environment of this name."""
    if not isinstance(task, str):
        return False
    try:
        return task in import_envpool().list_all_envs()
    except ImportError:
        return False


def of_envpool(task: Any, num_threads: int, options: dict[str, Any]) -> Source:
    """EnvPool's environment of a name.

    Raises:
      TypeError: `task` is no name.
      ValueError: EnvPool does not have it, or an option.
    """
    if not isinstance(task, str):
        raise TypeError(f"task must be a name for engine='envpool', got {task!r}")
    probe = EnvPoolEngine(task, 1, num_threads, **options)
    return Source(
        task,
        lambda num_envs: EnvPoolEngine(task, num_envs, num_threads, **options),
        probe.observation_space,
        probe.action_space,
        time_limit=probe.time_limit,
        solved_return=probe.solved_return,
        version=f"{import_envpool().__version__} threads={num_threads}",
    )


def of_gymnasium(task: Any, processes: bool, options: dict[str, Any]) -> Source:
    """Gymnasium's environment of a name or a factory, or one that there is already.

    Raises:
      TypeError: It is none of these, or there are options for what is made already.
      ValueError: Gymnasium does not know the name.
    """
    if isinstance(task, str):
        make = _maker(task, options)
        return _of_env(make(), make, task, processes)
    if options:
        raise TypeError(f"options must be left out for {task!r}, got {options}")
    if isinstance(task, gymnasium.Env | gymnasium.vector.VectorEnv):
        made: Any = task
        make: Any = None
    elif callable(task):
        made, make = task(), task
    elif looks_old(task):
        raise TypeError(not_gymnasium(task))
    else:
        raise TypeError(
            "task must be an id, a gymnasium.Env, a gymnasium.vector.VectorEnv, or a "
            f"function that makes one, got {task!r}"
        )
    if isinstance(made, gymnasium.vector.VectorEnv):
        return _of_vector(made)
    if looks_old(made):
        raise TypeError(not_gymnasium(made))
    if not isinstance(made, gymnasium.Env):
        raise TypeError(f"task must make a gymnasium.Env or VectorEnv, got {made!r}")
    return _of_env(made, make, None, processes)


def _maker(name: str, options: dict[str, Any]) -> Callable[[], gymnasium.Env]:
    try:
        gymnasium.spec(name)
    except gymnasium.error.Error as error:
        raise ValueError(f"task must be an id of Gymnasium's, got {name!r}") from error
    return functools.partial(gymnasium.make, name, disable_env_checker=True, **options)


def _of_env(
    env: gymnasium.Env,
    make: Callable[[], gymnasium.Env] | None,
    name: str | None,
    processes: bool,
) -> Source:
    if make is None and processes:
        raise ValueError(
            "task must be an id or a function for engine='gymnasium-processes', got "
            f"{env!r}"
        )
    first = [env]  # It is the first engine's first lane.

    def make_engine(num_envs: int) -> Engine:
        if make is None:
            return gymnasium_engine(None, 1, first=env)
        existing = first.pop() if first else None
        if processes:
            if existing is not None:
                existing.close()
            return gymnasium_engine(make, num_envs, processes=True)
        return gymnasium_engine(make, num_envs, first=existing)

    spec = env.spec
    return Source(
        name or (spec.id if spec is not None else type(env.unwrapped).__name__),
        make_engine,
        flat_space(env.observation_space),
        env.action_space,
        fixed=1 if make is None else None,
        time_limit=_time_limit(env),
        solved_return=None if spec is None else spec.reward_threshold,
    )


def _of_vector(vector: gymnasium.vector.VectorEnv) -> Source:
    engine = VectorEngine(vector)
    spec = vector.spec
    single = next(iter(getattr(vector.unwrapped, "envs", ())), None)
    limit = None if single is None else _time_limit(single)
    return Source(
        spec.id if spec is not None else type(vector.unwrapped).__name__,
        lambda num_envs: engine,
        engine.observation_space,
        engine.action_space,
        fixed=engine.num_envs,
        time_limit=limit if spec is None else spec.max_episode_steps,
        solved_return=None if spec is None else spec.reward_threshold,
    )


def _time_limit(env: gymnasium.Env) -> int | None:
    """Steps after which the environment truncates: its spec's, or a wrapper's."""
    if env.spec is not None and env.spec.max_episode_steps is not None:
        return env.spec.max_episode_steps
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            return env._max_episode_steps
        env = env.env
    return None
