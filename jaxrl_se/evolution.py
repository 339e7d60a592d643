"""Evolution of a learned environment: what to call, and what comes back."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

import envs
from envs.steps import Steps
from jaxrl_runs.devices import population_mesh
from jaxrl_runs.run_folder import RunFolder, holds_run, is_writer
from jaxrl_runs.values import as_key
from jaxrl_runs.warn import warn_user
from jaxrl_se.any_task import confirm, goes_on, look_at, spent, with_steps
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.defaults import Budget, config_with_agents
from jaxrl_se.evolution_options import check_options
from jaxrl_se.evolution_result import EvolutionResult, better
from jaxrl_se.evolution_run import TEST, Progress, Run
from jaxrl_se.evolution_task import EvolutionTask
from jaxrl_se.from_agents import is_ahead, learned_in_task, start_from
from jaxrl_se.generation import Generation
from jaxrl_se.met_starts import started_where_met
from jaxrl_se.multi_step import lengthened
from jaxrl_se.networks import Weights
from jaxrl_se.outcome import PLACES
from jaxrl_se.outside_task import OutsideTask, check_outside
from jaxrl_se.probing import Probe
from jaxrl_se.progress_lines import ProgressLines

__all__ = ["TEST", "EvolutionResult", "Progress", "evolve"]

_AGENTS = 1_000_007  # Purpose of a key that evolution has not.


def evolve(
    task: str | tuple[Any, Any] | envs.Task | OutsideTask,
    config: EvolutionConfig | None = None,
    key: int | jax.Array = 0,
    *,
    budget: Budget | None = None,
    real_steps: int | None = None,
    with_agents: bool | None = None,
    episode_length: int = 1,
    probe: Probe | None = None,
    progress: bool = True,
    proxy: tuple[Any, Any] | None = None,
    start: Weights | None = None,
    out: str | Path | RunFolder | None = None,
    resume: bool = False,
    checkpoint_every: int = 5,
    on_generation: Callable[[dict], Any] | None = None,
    mesh: Mesh | None = None,
) -> EvolutionResult:
    """Evolves an environment on which fresh agents learn to solve a task.

    With nothing but a task it looks at the task itself (`jaxrl_se.probing`), chooses a
    configuration (`jaxrl_se.defaults`), and tests the result with fresh agents.

    The run ends when two validations in a row, each with fresh agents that no later
    choice sees again, reach `config.stop_return`, or after `config.max_generations`.
    The best validated mean is kept.

    Args:
      task: A name for `envs.make`, any gymnax pair `(env, params)`, or an opened task
        (`envs.Task`). One outside JAX (`envs.external`, or an environment of
        Gymnasium's) is played between jitted programs.
      config: Sizes, budgets and strategy; None to have them chosen.
      key: A seed or a PRNG key.
      budget: What a run with a chosen configuration may cost.
      real_steps: Instead of a budget: at most so many steps in the task, ten thousand
        say; evolution is inside world models of them (`jaxrl_se.evolve_in_rounds`).
      with_agents: With a chosen configuration: False for the first search alone.
        Otherwise agents are also trained in a task inside JAX, and where one of them is
        clearly ahead the search begins again from its policy. True: it then goes on
        from what the best response found, scored by agents that train, which takes
        minutes instead of seconds. None: where agents cannot learn what was found. The
        best result is returned, with starts where its best response goes in the task
        and continuous actions no larger than they need be, unless agents then learn
        less (`jaxrl_se.met_starts`).
      episode_length: Steps of an episode of the result, with a chosen configuration.
        Above 1 dynamics are fitted to what the found reward leads to in the task
        (`jaxrl_se.multi_step`): 10,000 steps in the task, and another test.
      probe: What is known of the task already, for a given configuration: the result
        is then tested as one of a chosen configuration is.
      progress: Whether to print a line every few seconds to standard error (while
        agents train in the task, one before and after each); an `on_generation` takes
        the place of those about generations.
      proxy: The environment to evolve, a pair whose env has `init_weights(key)` and
        `population_axes(params)` and whose params have `weights`; None for a
        synthetic environment of shape `config.proxy`.
      start: Weights from which the search begins, such as an earlier result's
        `params.weights`; None draws them.
      out: A folder for checkpoints and metrics, or None to keep everything in memory.
        Searches that follow have the folders `from_agents` and `with_agents` in it.
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
    options: dict[str, Any] = locals()
    check_options(**options)
    key = as_key(key)
    if real_steps is not None:
        from jaxrl_se.log_rounds import with_few_steps  # It imports this file.

        return with_few_steps(
            task,
            real_steps,
            key,
            with_agents,
            out=out,
            resume=resume,
            progress=progress,
        )
    opened = EvolutionTask.of(task, proxy)
    is_chosen = config is None and proxy is None
    reserve = with_agents is not False
    found, config = _configured(
        opened, config, key, budget, reserve, probe, proxy, progress, out is not None
    )
    lines = ProgressLines(config) if progress and is_writer() else None
    result = _run(
        opened,
        found,
        config,
        key,
        proxy,
        start,
        mesh,
        out,
        resume,
        checkpoint_every,
        on_generation or lines,
    )
    if not is_chosen:
        return result
    steps = (budget or Budget()).real_steps
    if with_agents is not False and not opened.is_outside:
        result = begun_from_agents(result, steps, key, options)
    if goes_on(result.confirmation, with_agents):
        result = gone_on(result, steps, options)
    if with_agents is not False and not opened.is_outside:
        result = started_where_met(result, opened, key)
    if episode_length > 1:
        result = lengthened(result, opened, episode_length, key)
    return result


def begun_from_agents(
    result: EvolutionResult, real_steps: int, key: jax.Array, options: dict[str, Any]
) -> EvolutionResult:
    """Trains agents in the task and searches from theirs if they are clearly better.

    Args:
      result: Of an evolution with a chosen configuration, on a task inside JAX.
      real_steps: Steps in the task that the whole evolution may take.
      key: The evolution's key.
      options: Of `evolve`.

    Returns:
      The better of both results, with all steps that were taken.
    """
    found, confirmation = result.probe, result.confirmation
    assert found is not None and confirmation is not None
    if confirmation.is_solved:
        return result
    task = EvolutionTask.of(options["task"], options["proxy"]).task
    key_train, key_rows = jax.random.split(jax.random.fold_in(key, _AGENTS))
    says = options["progress"] and is_writer()

    def say(line: str) -> None:
        if says:
            print(line, file=sys.stderr, flush=True)

    say(f"can agents do better in the {PLACES[confirmation.kind]} itself?")
    learned = learned_in_task(task, key_train, real_steps, say)
    if learned is None:
        return result
    spent_here = Steps.of(confirmation.kind, learned.steps)
    result = dataclasses.replace(
        result,
        progress=with_steps(result.progress, spent_here),
        best_in_task=str(learned),
    )
    if not is_ahead(learned, confirmation):
        return result
    say(f"the search begins again from {learned.name}'s policy")
    left = real_steps - result.progress.real_steps - result.progress.model_steps
    config, start, rows = start_from(
        learned, task, result.config, key_rows, found.steps + max(left // 2, 0)
    )
    second = _second(result, config, start, "from_agents", options)
    taken = with_steps(second.progress, Steps.of(confirmation.kind, rows))
    second = dataclasses.replace(second, progress=taken)
    return better(result, second)


def gone_on(
    result: EvolutionResult, real_steps: int, options: dict[str, Any]
) -> EvolutionResult:
    """A search gone on with from its result, scored by agents; the better of both.

    Args:
      result: Of an evolution with a chosen configuration.
      real_steps: Steps in the task that both may take.
      options: Of `evolve`.

    Returns:
      The better result, with the steps of both.
    """
    found, task = result.probe, options["task"]
    assert found is not None and result.confirmation is not None
    if options["progress"] and is_writer():
        print("the search goes on, scored by agents", file=sys.stderr)
    left = real_steps - result.progress.real_steps - result.progress.model_steps
    opened = EvolutionTask.of(task, options["proxy"]).task
    config = config_with_agents(result.config, opened, found, left)
    start = result.params.weights
    return better(result, _second(result, config, start, "with_agents", options))


def _second(
    result: EvolutionResult,
    config: EvolutionConfig,
    start: Weights,
    folder: str,
    options: dict[str, Any],
) -> EvolutionResult:
    """A further search on the same task, in a folder within the first one's.

    What the probe of the first took is not counted again.
    """
    found, out = result.probe, options["out"]
    assert result.confirmation is not None
    changed: dict[str, Any] = {
        "config": config,
        "probe": found,
        "start": start,
        "budget": None,
        "with_agents": None,
        "episode_length": 1,
    }
    if out is not None:
        changed["out"] = Path(getattr(out, "path", out)) / folder
        changed["resume"] = options["resume"] and holds_run(changed["out"])
    second = evolve(**options | changed)
    probed = spent(found, result.confirmation.kind)
    again = Steps(-probed.real, -probed.model, -probed.synthetic)
    return dataclasses.replace(second, progress=with_steps(second.progress, again))


def _run(
    opened: EvolutionTask,
    found: Probe | None,
    config: EvolutionConfig,
    key: jax.Array,
    proxy: tuple[Any, Any] | None,
    start: Weights | None,
    mesh: Mesh | None,
    out: str | Path | RunFolder | None,
    resume: bool,
    checkpoint_every: int,
    report: Callable[[dict], Any] | None,
) -> EvolutionResult:
    """Compiles, runs and tests an evolution, in the folder if there is one."""
    if opened.is_outside:
        check_outside(config, proxy)
    proxy = proxy or opened.proxy(config)
    program, params = Generation.build(
        opened.task,
        proxy,
        config,
        mesh or population_mesh(),
        kind=opened.kind,
        vary=opened.vary,
    )
    place: Any = contextlib.nullcontext(out)
    if not isinstance(out, RunFolder | None):
        identity = opened.run_identity(config, proxy, key, start)
        place = RunFolder(out, identity, resume=resume)
    with place as folder:
        if isinstance(report, ProgressLines):
            report.compiling()
        before = spent(found, program.kind)
        run = Run(program, params, key, folder, checkpoint_every, report, before, start)
        return _result(run, found, opened.name)


def _configured(
    opened: EvolutionTask,
    config: EvolutionConfig | None,
    key: jax.Array,
    budget: Budget | None,
    with_agents: bool,
    probe: Probe | None,
    proxy: Any,
    progress: bool,
    is_kept: bool,
) -> tuple[Probe | None, EvolutionConfig]:
    """What is known of the task, and the configuration: the given or a chosen one."""
    if config is None and proxy is None:
        probe, config = look_at(opened.task, key, budget, with_agents)
        if progress and is_writer():
            print(probe, file=sys.stderr, flush=True)
            if not is_kept:
                print(
                    "nothing is kept on disk: with out=FOLDER an interrupted run goes "
                    "on where it was (resume=True)",
                    file=sys.stderr,
                    flush=True,
                )
    config = (config or EvolutionConfig()).for_task(opened.solved_return)
    if config.stop_return is None and probe is None:
        warn_user(
            "stop_return: none is known for this task and scoring, so nothing ends the "
            f"run before max_generations ({config.max_generations}); give one, or "
            "infinity if that is meant",
        )
    return probe, config


def _result(run: Run, found: Probe | None, task_name: str) -> EvolutionResult:
    """Finishes a run and tests what came of it, if it began with a probe."""
    done = run.finish()
    program = run.program
    params = run.params_of_result.proxy.replace(weights=run.weights)
    evolved = program.env, params
    confirmation = None
    if found is not None:
        confirmation, taken = confirm(run, found, evolved)
        done = with_steps(done, taken)
    return EvolutionResult(
        *evolved,
        config=program.config,
        progress=done,
        compile_seconds=run.compile_seconds,
        validation=run.validation,
        test=run.test,
        task_name=task_name,
        probe=found,
        confirmation=confirmation,
    )
