"""Evolution of a learned environment: what to call, and what comes back."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

import envs
from jaxrl_runs.describe import describe
from jaxrl_runs.devices import population_mesh
from jaxrl_runs.run_folder import RunFolder
from jaxrl_runs.values import as_key
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.evolution_run import TEST, Progress, Run
from jaxrl_se.generation import Generation
from jaxrl_se.outside import OutsideTask, check_outside, is_outside, proxy_of

__all__ = ["TEST", "EvolutionResult", "Progress", "evolve"]


@dataclasses.dataclass(frozen=True)
class EvolutionResult:
    """An evolved environment and how it came about.

    Attributes:
      env: The learned environment.
      params: Its params. `params.weights` is the mean of the search distribution: of
        the last generation if it solved the task, else the one of the best validation
        (with a `FerreiraES` the one that scored best), and the last one where no
        validation was made.
      config: The configuration that was used.
      progress: Generations, steps and times.
      compile_seconds: Wall time of compilation, part of no other figure.
      validation: The mean validation score of these weights, None where no validation
        was made.
      test: `(key, num_agents, task_params, algorithm=0) -> (policies, Episodes)`:
        trains fresh independent agents on the result and plays on the real task, with
        the program that validation compiled already. `task_params` can be those of a
        variant of the task; `algorithm` is the place of an agent in
        `config.validated_agents`.
    """

    env: Any
    params: Any
    config: EvolutionConfig
    progress: Progress
    compile_seconds: float
    validation: float | None
    test: Callable[..., Any]


def evolve(
    task: str | tuple[Any, Any] | OutsideTask,
    config: EvolutionConfig | None = None,
    key: int | jax.Array = 0,
    *,
    proxy: tuple[Any, Any] | None = None,
    out: str | Path | RunFolder | None = None,
    resume: bool = False,
    checkpoint_every: int = 5,
    on_generation: Callable[[dict], Any] | None = None,
    mesh: Mesh | None = None,
) -> EvolutionResult:
    """Evolves an environment on which fresh agents learn to solve a task.

    The run ends when two validations in a row, each with its own fresh agents that no
    later choice sees again, reach `config.stop_return`, or after
    `config.max_generations`. A validation is made every `config.validation_every`
    generations once some candidate has reached that return. Where there is no such
    return, one is made every so often and after the last generation all the same, to
    say how the search does and to keep its best mean. A `FerreiraES` validates the
    search mean in every generation anyway, and its run ends the first time.

    Args:
      task: A name for `envs.make`, any gymnax pair `(env, params)`, or an opened task,
        with `pair`, `kind`, `solved_return` and `vary`: `(params, key, generation) ->
        params` for the fitness episodes of a generation, or None. One outside JAX
        (`is_external`) is played between jitted programs.
      config: Sizes, budgets and strategy.
      key: A seed or a PRNG key.
      proxy: The environment to evolve, a pair whose env has `init_weights(key)` and
        `population_axes(params)` and whose params have `weights`; None for a
        synthetic environment of shape `config.proxy`.
      out: A folder for checkpoints and metrics, or None to keep everything in memory.
      resume: Continue the run that `out` holds; the result has the same bits as an
        uninterrupted run on the same backend, number of devices and jax version.
      checkpoint_every: Generations between checkpoints.
      on_generation: Called after each generation with its row of metrics.
      mesh: Devices over which the population is sharded (default: all).

    Returns:
      An `EvolutionResult`.

    Raises:
      ValueError: Arguments that do not fit together, before anything is compiled.
      RunFolderError: The output folder cannot be used.
    """
    config = config or EvolutionConfig()
    if checkpoint_every < 1:
        raise ValueError(f"checkpoint_every must be at least 1, got {checkpoint_every}")
    key = as_key(key)
    solved_return, kind, vary = None, None, None
    if isinstance(task, str):
        solved_return = envs.solved_return(task)
        task = envs.make(task)
    if is_outside(task):
        solved_return = task.solved_return  # type: ignore
    elif hasattr(task, "pair"):
        opened: Any = task
        solved_return, kind = opened.solved_return, opened.kind
        vary, task = opened.vary, opened.pair
    if not is_outside(task) and not (isinstance(task, tuple) and len(task) == 2):
        raise ValueError(
            "task must be the name of a task or a gymnax pair (env, params), got "
            f"{task!r}"
        )
    config = config.for_task(solved_return)
    if is_outside(task):
        check_outside(config, proxy)
        proxy = proxy or proxy_of(config, task)  # type: ignore
    else:
        proxy = proxy or config.proxy.make(*task)  # type: ignore
    mesh = mesh or population_mesh()
    program, params = Generation.build(task, proxy, config, mesh, kind=kind, vary=vary)
    if config.stop_return is None:
        warnings.warn(
            "stop_return: none is known for this task and scoring, so nothing ends the "
            f"run before max_generations ({config.max_generations}); give one, or "
            "infinity if that is meant",
            stacklevel=2,
        )

    def finish(folder: RunFolder | None) -> EvolutionResult:
        run = Run(program, params, key, folder, checkpoint_every, on_generation)
        progress = run.finish()
        return EvolutionResult(
            env=program.env,
            params=params.proxy.replace(weights=run.weights),
            config=config,
            progress=progress,
            compile_seconds=run.compile_seconds,
            validation=run.validation,
            test=run.test,
        )

    if out is None or isinstance(out, RunFolder):
        return finish(out)
    identity = {
        "evolution": describe(config),
        "task": task.digest if is_outside(task) else _identity(task),  # type: ignore
        "proxy": _identity(proxy),
        "vary": describe(vary),
        "key": jax.random.key_data(key).tolist(),
    }
    with RunFolder(out, identity, resume=resume) as folder:
        return finish(folder)


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
