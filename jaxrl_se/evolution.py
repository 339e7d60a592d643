"""Evolution of a learned environment: what to call, and what comes back."""

from __future__ import annotations

import dataclasses
import sys
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
from jaxrl_se.any_task import confirm, look_at, spent, with_steps
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.defaults import Budget
from jaxrl_se.evolution_run import TEST, Progress, Run
from jaxrl_se.flat_policies import flat_task
from jaxrl_se.generation import Generation
from jaxrl_se.outcome import Confirmation
from jaxrl_se.outside import OutsideTask, check_outside, is_outside, proxy_of
from jaxrl_se.probing import Probe
from jaxrl_se.progress_lines import ProgressLines

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
      task_name: What the task is called.
      probe: What random play showed of the task; None where a configuration was given.
      confirmation: A last test with fresh agents on keys that nothing else used, made
        where no configuration was given.
    """

    env: Any
    params: Any
    config: EvolutionConfig
    progress: Progress
    compile_seconds: float
    validation: float | None
    test: Callable[..., Any]
    task_name: str = "task"
    probe: Probe | None = None
    confirmation: Confirmation | None = None

    def __repr__(self) -> str:
        """What it is, from what, how good, at what price, and how sure that is."""
        progress = self.progress
        size = sum(leaf.size for leaf in jax.tree.leaves(self.params.weights))
        name = getattr(self.env, "name", type(self.env).__name__)
        lines = [
            f"EvolutionResult: {name} of {size:,} numbers, for {self.task_name}",
            f"  {progress.generation} generations, {progress.real_steps:,} real steps"
            + f", {progress.model_steps:,} model steps" * (progress.model_steps > 0)
            + f", {progress.cpu_seconds:.0f} CPU-s (compiled in "
            f"{self.compile_seconds:.0f} s)",
        ]
        if self.confirmation is not None:
            lines.append(f"  {self.confirmation}")
            problem = self.confirmation.problem()
            lines += [] if problem is None else [f"  {problem}"]
        elif self.validation is not None:
            verdict = "solved" if progress.solved else "best of its validations"
            lines.append(f"  validation {self.validation:.4g} ({verdict})")
        else:
            lines.append("  never validated: `test` trains fresh agents in it")
        return "\n".join(lines)


def evolve(
    task: str | tuple[Any, Any] | envs.Task | OutsideTask,
    config: EvolutionConfig | None = None,
    key: int | jax.Array = 0,
    *,
    budget: Budget | None = None,
    with_agents: bool = False,
    progress: bool = True,
    proxy: tuple[Any, Any] | None = None,
    out: str | Path | RunFolder | None = None,
    resume: bool = False,
    checkpoint_every: int = 5,
    on_generation: Callable[[dict], Any] | None = None,
    mesh: Mesh | None = None,
) -> EvolutionResult:
    """Evolves an environment on which fresh agents learn to solve a task.

    With nothing but a task it looks at the task itself (`jaxrl_se.probing`), chooses a
    configuration (`jaxrl_se.defaults`), and tests the result with fresh agents.

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
      config: Sizes, budgets and strategy; None to have them chosen.
      key: A seed or a PRNG key.
      budget: What a run with a chosen configuration may cost.
      with_agents: Whether agents that train score the last generations of such a run,
        which costs more and is for tasks whose agents learn too little without it.
      progress: Whether to print a line every few seconds to standard error; an
        `on_generation` takes its place.
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
    if checkpoint_every < 1:
        raise ValueError(f"checkpoint_every must be at least 1, got {checkpoint_every}")
    if budget is not None and config is not None:
        raise ValueError(
            "budget must be None where a config is given, whose max_generations says "
            f"what it costs, got {budget}"
        )
    key = as_key(key)
    solved_return, kind, vary = None, None, None
    task_name = task if isinstance(task, str) else None
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
    if not is_outside(task):
        task = flat_task(task, proxy)  # type: ignore
    found = None
    if config is None and proxy is None and not is_outside(task):
        found, config = look_at(task, key, budget, with_agents)  # type: ignore
        if progress:
            print(found, file=sys.stderr, flush=True)
    config = config or EvolutionConfig()
    config = config.for_task(solved_return)
    if is_outside(task):
        check_outside(config, proxy)
        proxy = proxy or proxy_of(config, task)  # type: ignore
    else:
        proxy = proxy or config.proxy.make(*task)  # type: ignore
    mesh = mesh or population_mesh()
    program, params = Generation.build(task, proxy, config, mesh, kind=kind, vary=vary)
    if config.stop_return is None and found is None:
        warnings.warn(
            "stop_return: none is known for this task and scoring, so nothing ends the "
            f"run before max_generations ({config.max_generations}); give one, or "
            "infinity if that is meant",
            stacklevel=2,
        )

    if on_generation is None and progress:
        on_generation = ProgressLines(config)

    def finish(folder: RunFolder | None) -> EvolutionResult:
        run = Run(
            program,
            params,
            key,
            folder,
            checkpoint_every,
            on_generation,
            spent=spent(found, task),  # type: ignore
        )
        done = run.finish()
        evolved = program.env, params.proxy.replace(weights=run.weights)
        confirmation = None
        if found is not None:
            confirmation, taken = confirm(run, found, key, evolved)
            done = with_steps(done, taken)
        return EvolutionResult(
            *evolved,
            config=config,
            progress=done,
            compile_seconds=run.compile_seconds,
            validation=run.validation,
            test=run.test,
            task_name=task_name or getattr(program.task, "name", "a task"),
            probe=found,
            confirmation=confirmation,
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
