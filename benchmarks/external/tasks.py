"""Opens the task of a benchmark: to learn in, and to be tested in."""

from __future__ import annotations

from typing import Any

import gymnasium

import envs
from envs.external import EngineName

BRAX = "brax/"  # before a name of Brax's
_BRAX_LANES = 64


def task_to_learn(
    name: str,
    *,
    engine: EngineName | None = None,
    threads: int = 1,
    lanes: int = _BRAX_LANES,
    **options: Any,
) -> envs.ExternalTask:
    """The task in which candidates play.

    Args:
      name: An id of Gymnasium's or EnvPool's, or "brax/" and a name of Brax's.
      engine: See `envs.external`.
      threads: Of EnvPool.
      lanes: Of Brax, whose environments are stepped as one batch.
      **options: The task's own.
    """
    if name.startswith(BRAX):
        pair = envs.brax(name.removeprefix(BRAX), **options)
        vector = envs.GymnasiumVectorEnv(*pair, num_envs=lanes)
        return envs.external(vector, name=name, time_limit=1000, timeout=None)
    if engine == "gymnasium":
        return envs.external(name, engine=engine, timeout=None, **options)
    return envs.external(
        name, engine=engine, timeout=None, num_threads=threads, **options
    )


def task_to_test(name: str, threads: int = 1) -> envs.ExternalTask:
    """Gymnasium's own environment; EnvPool's where Gymnasium lacks what it needs."""
    if name.startswith(BRAX):
        return task_to_learn(name)
    try:
        return envs.external(name, engine="gymnasium")
    except gymnasium.error.DependencyNotInstalled as error:
        print(f"tested by EnvPool: {error}", flush=True)
        return envs.external(name, engine="envpool", num_threads=threads)
