"""Evolution of a learned environment: the loop around the jitted generation."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import envs
from jaxrl_runs.checkpoints import tree_sha256
from jaxrl_runs.devices import population_mesh
from jaxrl_runs.run_folder import RunFolder
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.generation import Generation
from jaxrl_se.scoring import FinalReturn

# Purposes of keys folded from the run's key; testing has one that evolution never uses.
INIT, GENERATION, VALIDATION, TEST = range(4)


@dataclasses.dataclass
class Progress:
    """What an evolution knows about itself between generations (host side).

    Attributes:
      generation: Generations done.
      real_steps: Steps taken in the real task, for fitness and validation.
      failed_candidates: Candidates whose fitness or weights were not finite.
      seconds: Wall time of generations and validations.
      cpu_seconds: The process's CPU time for the same.
      solved: Whether two independent validations in a row reached the stop return.
      rows: One dict of metrics per generation.
    """

    generation: int = 0
    real_steps: int = 0
    failed_candidates: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    solved: bool = False
    rows: list[dict] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class EvolutionResult:
    """An evolved environment and how it came about.

    Attributes:
      env: The learned environment.
      params: Its params; `params.weights` is the mean of the final search distribution,
        with a `FerreiraES` the search mean that scored best.
      config: The configuration that was used.
      progress: Generations, steps and times.
      compile_seconds: Wall time of compilation, part of no other figure.
      test: `(key, num_agents, task_params, algorithm=0) -> (policies, Episodes)`:
        trains fresh independent agents on the result and plays `validation_episodes` on
        the real task, with the program that validation compiled already. `task_params`
        can be those of a variant of the task; `algorithm` is the place of an agent in
        `config.validated_agents`. With a scoring rule that looks at the whole training
        the `Episodes` hold its scores instead of returns.
    """

    env: Any
    params: Any
    config: EvolutionConfig
    progress: Progress
    compile_seconds: float
    test: Callable[..., Any]


def evolve(
    task: str | tuple[Any, Any],
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
    generations once some candidate has reached that return. A `FerreiraES` validates
    the search mean in every generation anyway, and its run ends the first time.

    Args:
      task: A name for `envs.make`, or any gymnax pair `(env, params)`.
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
      mesh: Devices over which the population is sharded (default: all local ones).

    Returns:
      An `EvolutionResult`.

    Raises:
      ValueError: Arguments that do not fit together, before anything is compiled.
      RunFolderError: The output folder cannot be used.
    """
    config = config or EvolutionConfig()
    if checkpoint_every < 1:
        raise ValueError(f"checkpoint_every must be at least 1, got {checkpoint_every}")
    key = _as_key(key)
    stop_return, solved_return = config.stop_return, None
    if isinstance(task, str):
        solved_return = envs.solved_return(task)
        if stop_return is None and isinstance(config.scoring, FinalReturn):
            stop_return = solved_return
        task = envs.make(task)
    if not (isinstance(task, tuple) and len(task) == 2):
        raise ValueError(
            "task must be the name of a task or a gymnax pair (env, params), got "
            f"{task!r}"
        )
    proxy = proxy or config.proxy.make(*task)
    asked, config = (
        config,
        config.replace(scoring=config.scoring.for_task(solved_return)),
    )
    program = Generation.build(task, proxy, config, mesh or population_mesh())

    if out is None:
        return _run(program, key, stop_return, None, checkpoint_every, on_generation)
    if isinstance(out, RunFolder):
        return _run(program, key, stop_return, out, checkpoint_every, on_generation)
    identity = {
        "evolution": dataclasses.asdict(asked),
        "task": [program.task.name, tree_sha256(program.task_params)],
        "proxy": [program.env.name, tree_sha256(program.params)],
        "key": jax.random.key_data(key).tolist(),
    }
    with RunFolder(out, identity, resume=resume) as folder:
        return _run(program, key, stop_return, folder, checkpoint_every, on_generation)


def _run(program, key, stop_return, folder, checkpoint_every, on_generation):
    config = program.config
    state = program.init(jax.random.fold_in(key, INIT))
    progress = Progress()
    if folder is not None:
        restored = folder.restore(state)
        if restored is not None:
            state, fields = restored
            progress = Progress(**fields)
        folder.start_metrics(progress.rows)

    started = time.perf_counter()
    validation_keys = jax.random.split(key, config.validation_agents)
    weights = program.strategy.mean(state)
    validates = [
        jax.jit(partial(program.validate, algorithm=algorithm))
        for algorithm in range(len(config.validated_agents))
    ]
    # XLA compiles outside the GIL: two programs take the time of the longer one.
    with ThreadPoolExecutor(2) as pool:
        lowered = [jax.jit(program.step).lower(key, state, jnp.int32(0))]
        if isinstance(config.scoring, FinalReturn) or stop_return is not None:
            lowered += [
                validate.lower(validation_keys, weights, program.task_params)
                for validate in validates
            ]
        step, *compiled = pool.map(lambda program: program.compile(), lowered)
        validates = compiled or validates
    compile_seconds = time.perf_counter() - started

    current = (state, progress)

    def save():
        if folder is not None:
            state, progress = current
            folder.save(progress.generation, state, dataclasses.asdict(progress))

    clock = _Clock()
    try:
        while not progress.solved and progress.generation < config.max_generations:
            generation_key = jax.random.fold_in(
                jax.random.fold_in(key, GENERATION), progress.generation
            )
            new_state, log = jax.block_until_ready(
                step(generation_key, state, jnp.int32(progress.generation))
            )
            fitness = np.asarray(log.fitness, np.float64)
            row = {
                "generation": progress.generation + 1,
                "fitness_best": float(np.nanmax(fitness, initial=-np.inf)),
                "fitness_mean": float(np.nanmean(fitness))
                if np.isfinite(fitness).any()
                else float("nan"),
                "failed_candidates": int(np.sum(~np.isfinite(fitness))),
                "validation_mean": float("nan"),
            }
            real_steps = int(log.real_steps)
            solved = False
            num_means = program.strategy.num_means
            is_due = (progress.generation + 1) % config.validation_every == 0
            if num_means:
                row["validation_mean"] = float(np.mean(fitness[:num_means]))
                solved = stop_return is not None and (
                    row["validation_mean"] >= stop_return
                )
            elif (
                is_due
                and stop_return is not None
                and row["fitness_best"] >= stop_return
            ):
                validation_key = jax.random.fold_in(
                    jax.random.fold_in(key, VALIDATION), progress.generation
                )
                weights = program.strategy.mean(new_state)
                for attempt_key in jax.random.split(validation_key, 2):
                    keys = jax.random.split(attempt_key, config.validation_agents)
                    means = []
                    for validate in validates:
                        _, episodes = validate(keys, weights, program.task_params)
                        real_steps += int(jnp.sum(episodes.lengths))
                        real_steps += program.real_training_steps(len(keys))
                        means.append(float(jnp.mean(episodes.returns)))
                    row["validation_mean"] = min(means)  # of the worst algorithm
                    solved = row["validation_mean"] >= stop_return
                    if not solved:
                        break
            seconds, cpu_seconds = clock.lap()
            row["real_steps"] = progress.real_steps + real_steps
            row["seconds"] = progress.seconds + seconds
            row["cpu_seconds"] = progress.cpu_seconds + cpu_seconds
            # A generation counts from this one assignment on: an interrupt before it
            # loses the generation and nothing else.
            current = (
                new_state,
                Progress(
                    generation=progress.generation + 1,
                    real_steps=row["real_steps"],
                    failed_candidates=progress.failed_candidates
                    + row["failed_candidates"],
                    seconds=row["seconds"],
                    cpu_seconds=row["cpu_seconds"],
                    solved=solved,
                    rows=[*progress.rows, row],
                ),
            )
            state, progress = current
            if folder is not None:
                folder.append_metrics(row)
            if progress.generation % checkpoint_every == 0:
                save()
            if on_generation is not None:
                on_generation(row)
            clock.lap()
    finally:
        save()

    # On no particular device, so that whatever runs next can use the result.
    weights = jax.tree.map(jnp.asarray, jax.device_get(program.strategy.result(state)))

    def test(test_key, num_agents, task_params=program.task_params, algorithm=0):
        chunk = config.validation_agents
        keys = jax.random.split(test_key, -(-num_agents // chunk) * chunk)
        parts = [
            validates[algorithm](keys[i : i + chunk], weights, task_params)
            for i in range(0, len(keys), chunk)
        ]
        return jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves)[:num_agents], *parts
        )

    return EvolutionResult(
        env=program.env,
        params=program.params.replace(weights=weights),
        config=config,
        progress=progress,
        compile_seconds=compile_seconds,
        test=test,
    )


def _as_key(key: int | jax.Array) -> jax.Array:
    """A typed PRNG key from a seed, a key, or a key of the old kind."""
    if isinstance(key, (int, np.integer)):
        return jax.random.key(int(key))
    if isinstance(key, jax.Array):
        is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        key = key if is_typed else jax.random.wrap_key_data(key)
        if key.shape == ():
            return key
    raise ValueError(f"key must be an integer or a PRNG key, got {key!r}")


class _Clock:
    """Wall and CPU seconds since the last lap."""

    def __init__(self):
        self._last = (time.perf_counter(), time.process_time())

    def lap(self) -> tuple[float, float]:
        now = (time.perf_counter(), time.process_time())
        seconds, cpu_seconds = now[0] - self._last[0], now[1] - self._last[1]
        self._last = now
        return seconds, cpu_seconds
