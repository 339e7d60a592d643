"""The task of an evolution, in whatever form it was given."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

import envs
from envs.contract import check_contract
from envs.task import is_gymnasium
from jaxrl_runs.describe import describe
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.flat_policies import flat_task
from jaxrl_se.outside_task import is_outside, proxy_of


@dataclasses.dataclass(frozen=True)
class EvolutionTask:
    """A task in whatever form it was given.

    Attributes:
      task: A gymnax pair, or a task outside JAX.
      name: What it is called.
      solved_return: Its threshold, or None.
      kind: What a step of it is, or None for what it says itself.
      vary: See `Generation`.
      is_outside: Whether it is outside JAX.
    """

    task: Any
    name: str
    solved_return: float | None = None
    kind: Any = None
    vary: Any = None
    is_outside: bool = False

    @classmethod
    def of(cls, task: Any, proxy: Any = None) -> EvolutionTask:
        """Raises TypeError for what is no task; pictures are flattened for `proxy`."""
        opened = cls._named(task)
        if opened.is_outside:
            return opened
        check_contract(*opened.task)
        return dataclasses.replace(opened, task=flat_task(opened.task, proxy))

    @classmethod
    def _named(cls, task: Any) -> EvolutionTask:
        if isinstance(task, str):
            return cls(envs.make(task), task, envs.solved_return(task))
        if is_gymnasium(task):
            task = envs.open_task(task)
        name = getattr(task, "name", "a task")
        if is_outside(task):
            return cls(task, name, task.solved_return, is_outside=True)
        if hasattr(task, "pair"):
            return cls(task.pair, name, task.solved_return, task.kind, task.vary)
        task = envs.as_pair(task, argument="task")
        return cls(task, getattr(task[0], "name", name))

    def proxy(self, config: EvolutionConfig) -> tuple[Any, Any]:
        """The environment to evolve where none was given."""
        if self.is_outside:
            return proxy_of(config, self.task)
        return config.proxy.make(*self.task)  # type: ignore

    def identity(self) -> Any:
        """What tells it from other tasks, as JSON."""
        return self.task.digest if self.is_outside else _identity(self.task)

    def run_identity(
        self, config: EvolutionConfig, proxy: Any, key: jax.Array, start: Any
    ) -> dict:
        """What tells one evolution on it from another, as JSON."""
        begun = {} if start is None else {"start": describe(start)}
        return begun | {
            "evolution": describe(config),
            "task": self.identity(),
            "proxy": _identity(proxy),
            "vary": describe(self.vary),
            "key": jax.random.key_data(key).tolist(),
        }


def _identity(pair: tuple[Any, Any]) -> dict[str, Any]:
    """What tells one gymnax pair from another: all its wrappers, and its params."""
    env, params = pair
    layers = []
    while env is not None:
        config = describe(getattr(env, "config", None))
        layers.append(
            {"class": describe(type(env)), "name": env.name, "config": config}
        )
        env = getattr(env, "_env", None)
    return {"env": layers, "params": describe(params)}
