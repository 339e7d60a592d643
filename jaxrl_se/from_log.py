"""From a log to a learned environment: evolution inside a world model of the log.

The rows become several world models (`oswm`), evolution plays in one of them per
generation, and no step is taken in the task itself. Where the task is at hand, it is
only tested in at the very end.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
import oswm
from envs import Transitions
from envs.spaces import Spaces
from envs.steps import Steps
from envs.task import open_named
from jaxrl_runs import values
from jaxrl_runs.run_folder import RunFolder, holds_run
from jaxrl_runs.values import (
    COUNT,
    FLAG,
    MANY,
    NOT_NEGATIVE,
    RATE,
    Function,
    Like,
    as_key,
    setting,
)
from jaxrl_se.any_task import goes_on, with_steps
from jaxrl_se.config import EvolutionConfig, SyntheticConfig
from jaxrl_se.defaults import Budget, BudgetError, default_config
from jaxrl_se.evolution import begun_from_agents, evolve, gone_on
from jaxrl_se.evolution_options import check_folder
from jaxrl_se.evolution_result import EvolutionResult
from jaxrl_se.log_evidence import check_fits, check_log, digest_of, survival_return
from jaxrl_se.outcome import Confirmation
from jaxrl_se.probing import Probe
from jaxrl_se.unseen import play_with_unseen
from oswm.closed_form import Cache
from oswm.conditioning import FEW_STARTS, MODEL, check_starts, first_rows

_OUTSIDE = 1_000_003  # Purpose of a key that evolution has not.
_STARTS = 512
# Worlds take turns, which is noise to a search that asks whether it still rises; 50
# generations ended one of Pendulum's before its time.
_PATIENCE = 100
_SECOND_STD = 0.3  # Of the search that begins from what the first one found.
_LAST_SHARE = 5  # of `model_steps`, for a search scored by agents
_LASTS = 0.95  # Of the return of an episode that lasts, penalties aside.


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """How an environment is evolved from a log.

    Attributes:
      model: The world model, as for `oswm.condition`; by default a fast one, since
        evolution asks for millions of steps.
      num_worlds: Models of parts of the log that generations are played in by turns,
        so that no candidate lives on one model's errors; 1 for one model of all rows.
      fraction: Share of the rows in each part.
      uncertainty_penalty: See `oswm.condition`.
      sample: See `oswm.condition`.
      initial_obs: See `oswm.condition`. By default "starts" where the log holds at
        least ten. Otherwise the search first plays from anywhere in the log, where
        rewards are found, and then half of its episodes from where episodes start,
        which is what counts.
      fitness_episodes: Episodes in a model by which a candidate is scored.
      model_steps: Steps in the models that a search may take, about; where the log
        holds few starts there are two.
      with_agents: False for the search alone. Otherwise agents also train in the model
        of the whole log, and where one of them is clearly ahead the search begins again
        from its policy. Whether it then goes on scored by agents that train; None:
        where agents cannot learn what was found (`evolve`).
      test_agents: Agents of each of three kinds in the last test, in a real task.
      test_episodes: Episodes of each.
    """

    model: Any = dataclasses.field(default_factory=oswm.FastKernelRidge)
    num_worlds: int = setting(5, COUNT)
    fraction: float = setting(0.7, RATE)
    uncertainty_penalty: float = setting(1.0, NOT_NEGATIVE)
    sample: bool | None = None
    initial_obs: Any = None
    fitness_episodes: int = setting(4, MANY)
    model_steps: int = setting(8_000_000, COUNT)
    with_agents: bool | None = None
    test_agents: int = setting(8, MANY)
    test_episodes: int = setting(10, MANY)

    def __post_init__(self):
        values.check(self)
        for name in ("with_agents", "sample"):
            if getattr(self, name) is not None:
                FLAG.check(f"LogConfig.{name}", getattr(self, name))
        MODEL.check("LogConfig.model", self.model)
        check_starts("LogConfig.initial_obs", self.initial_obs)

    def replace(self, **changes: Any) -> LogConfig:
        """A copy with some fields changed (`dataclasses.replace`)."""
        return dataclasses.replace(self, **changes)


@dataclasses.dataclass(frozen=True)
class LogEvolutionResult(EvolutionResult):
    """An environment that was evolved from a log.

    `confirmation` is a test inside the model of the whole log, and `progress` counts
    rows of the log, and steps of the last test, as real steps.

    Attributes:
      log_digest: SHA-256 of the log's numbers.
      rows: Transitions in it.
      log_config: How the worlds were made.
      world: The world model of the whole log, a gymnax pair.
      outside: The last test in the real task, on keys that nothing else used; None
        where no task was given.
    """

    log_digest: str = ""
    rows: int = 0
    log_config: LogConfig = dataclasses.field(default_factory=LogConfig)
    world: tuple[Any, Any] | None = None
    outside: Confirmation | None = None

    @property
    def model_name(self) -> str:
        """The world model, in words."""
        name, config = type(self.log_config.model).__name__, self.log_config
        if config.num_worlds == 1:
            return name
        return f"{name}, {config.num_worlds} of {config.fraction:.0%} of the rows each"

    def card(self) -> dict[str, Any]:
        """What is worth keeping beside the environment (see `jaxrl_se.save`)."""
        tests = {"inside": self.confirmation, "outside": self.outside}
        return {
            "log_sha256": self.log_digest,
            "rows": self.rows,
            "world_model": self.model_name,
            **self.progress.steps.as_dict(),
            "cpu_seconds": self.progress.cpu_seconds,
            **{k: dataclasses.asdict(v) for k, v in tests.items() if v is not None},
        }

    def __repr__(self) -> str:
        """What it is, from what, how good inside and outside."""
        lines = super().__repr__().splitlines()
        lines[1:1] = [
            f"  from {self.rows:,} rows (log {self.log_digest[:12]}), inside "
            f"{self.model_name}"
        ]
        if self.outside is None:
            lines.append(
                "  never tested outside the world model: no test_task was given, so "
                "how far the model is right is not known"
            )
        else:
            lines.append(f"  {self.outside}")
        return "\n".join(lines)


def evolve_from_log(
    log: Any,
    config: LogConfig | None = None,
    key: int | jax.Array = 0,
    *,
    evolution: EvolutionConfig | None = None,
    action_space: Any = None,
    max_steps: int | None = None,
    terminated: Callable[..., Any] | None = None,
    reward: Callable[..., Any] | None = None,
    test_task: Any = None,
    progress: bool = True,
    out: str | Path | RunFolder | None = None,
    resume: bool = False,
    checkpoint_every: int = 5,
    on_generation: Callable[[dict], Any] | None = None,
) -> LogEvolutionResult:
    """Evolves an environment from logged transitions alone.

    World models are made of the rows, what they show chooses the evolution's
    configuration (`jaxrl_se.defaults`), evolution and its validations play inside, and
    fresh agents test the result inside. No real step is taken but those of a last test
    in `test_task`, on keys that nothing else used.

    Args:
      log: About a thousand transitions, in any form that `oswm.condition` takes.
      config: How worlds are made and what the evolution may cost.
      key: A seed or a PRNG key.
      evolution: The evolution's configuration; None to have it chosen.
      action_space: As for `oswm.condition`; by default that of `test_task`.
      max_steps: The task's time limit; by default that of `test_task`, or what the log
        shows (see `oswm.condition`).
      terminated: `(obs, action, next_obs) -> bool` where it is known.
      reward: `(obs, action, next_obs) -> float` where it is known.
      test_task: Whatever `envs.open_task` takes, or None.
      progress: As for `evolve`.
      out: As for `evolve`.
      resume: As for `evolve`.
      checkpoint_every: As for `evolve`.
      on_generation: As for `evolve`.

    Returns:
      A `LogEvolutionResult`.

    Raises:
      ValueError: The log is too small, or nothing in it is better than anything else,
        or it has other observations or actions than `test_task`; otherwise as
        `oswm.condition` and `evolve`.
      RunFolderError: The output folder cannot be used.
    """
    Like("a LogConfig", kinds=(LogConfig,), optional=True).check("config", config)
    Like("an EvolutionConfig", kinds=(EvolutionConfig,), optional=True).check(
        "evolution", evolution
    )
    check_folder(out, resume)
    FLAG.check("progress", progress)
    COUNT.check("checkpoint_every", checkpoint_every)
    Function("(row) -> None", optional=True).check("on_generation", on_generation)
    target = None if test_task is None else open_named("test_task", test_task)
    config, key = config or LogConfig(), as_key(key)
    rows = oswm.read_log(log)
    check_log(rows, reward_is_known=reward is not None)
    if target is not None:
        check_fits(rows, target)
        action_space = target.action_space() if action_space is None else action_space
        max_steps = target.time_limit if max_steps is None else max_steps
    known = {"terminated": terminated, "reward": reward}
    world = world_of(rows, config, action_space, max_steps, known, progress)
    found = Probe.from_transitions(rows, Spaces.of(*world))
    lasting = survival_return(found, int(world[1].max_steps_in_episode))
    task = envs.Task(
        name="a log" if target is None else f"a log of {target.name}",
        env=world[0],
        params=lean(world[1]),
        kind="model",
        solved_return=None if lasting is None or reward else _LASTS * lasting,
        vary=oswm.draw_world if config.num_worlds > 1 else None,
    )
    if progress:
        print(found, file=sys.stderr, flush=True)
    inside = _evolved(
        task,
        found,
        config,
        evolution,
        _begins_anywhere(rows, config),
        key=key,
        progress=progress,
        out=out,
        resume=resume,
        checkpoint_every=checkpoint_every,
        on_generation=on_generation,
    )
    fields = {f.name: getattr(inside, f.name) for f in dataclasses.fields(inside)}
    result = LogEvolutionResult(
        **fields,
        log_digest=digest_of(rows),
        rows=len(rows),
        log_config=config,
        world=world,
    )
    return result if target is None else _tested(result, target, key)


def world_of(
    rows: Transitions,
    config: LogConfig,
    action_space: Any,
    max_steps: int | None,
    known: dict[str, Any],
    progress: bool | None = None,
) -> tuple[Any, Any]:
    """World models of a log, a gymnax pair."""
    both = _begins_anywhere(rows, config)
    settings: dict[str, Any] = {
        "model": config.model,
        "max_steps": max_steps,
        "initial_obs": "both" if both else config.initial_obs,
        "uncertainty_penalty": config.uncertainty_penalty,
        "sample": config.sample,
        "progress": progress,
        **known,
    }
    if config.num_worlds == 1:
        return oswm.condition(rows, action_space, **settings)
    return oswm.condition_worlds(
        rows,
        config.num_worlds,
        fraction=config.fraction,
        action_space=action_space,
        **settings,
    )


def _begins_anywhere(rows: Transitions, config: LogConfig) -> bool:
    """Whether the log holds too few starts to play from these alone."""
    return config.initial_obs is None and len(first_rows(rows)) < FEW_STARTS


def _evolved(
    task: envs.Task,
    found: Probe,
    config: LogConfig,
    evolution: EvolutionConfig | None,
    begins_anywhere: bool,
    **options: Any,
) -> EvolutionResult:
    """Evolves inside the worlds; goes on with agents where they lag behind."""
    chosen, proxy = _chosen(task, found, config, evolution)
    before = Steps()
    if evolution is None and begins_anywhere:
        first = _from_anywhere(task, chosen, proxy, options)
        before, options["start"] = first.progress.steps, first.params.weights
        chosen = chosen.replace(std=_SECOND_STD)
    out = options["out"]
    changed: dict[str, Any] = options | {
        "resume": options["resume"] and out is not None and _holds(out)
    }
    result = evolve(task, chosen, probe=found, proxy=proxy, **changed)
    if evolution is None:
        options |= {"task": task, "proxy": proxy}
        if config.with_agents is not False:
            steps = _taken(result) + config.model_steps
            result = begun_from_agents(result, steps, options["key"], options)
        if goes_on(result.confirmation, config.with_agents):
            steps = _taken(result) + config.model_steps // _LAST_SHARE
            result = gone_on(result, steps, options)
    progress = with_steps(result.progress, before)
    return dataclasses.replace(result, progress=progress)


def _taken(result: EvolutionResult) -> int:
    return result.progress.real_steps + result.progress.model_steps


def _from_anywhere(
    task: envs.Task,
    chosen: EvolutionConfig,
    proxy: tuple[Any, Any],
    options: dict[str, Any],
) -> EvolutionResult:
    """A search whose episodes start anywhere in the log."""
    params = task.params
    half = params.num_initial_obs // 2  # Those after are the log's; see `condition`.
    anywhere = params.replace(
        initial_obs=jnp.roll(params.initial_obs, -half, axis=0),
        num_initial_obs=params.num_initial_obs - half,
    )
    out = options["out"]
    if out is not None:
        out = Path(getattr(out, "path", out)) / "from_anywhere"
    resume = options["resume"] and out is not None and holds_run(out)
    return evolve(
        dataclasses.replace(task, params=anywhere),
        chosen.replace(stop_return=float("inf")),
        proxy=proxy,
        **options | {"out": out, "resume": resume},
    )


def _holds(out: Any) -> bool:
    return holds_run(Path(getattr(out, "path", out)))


def _chosen(
    task: envs.Task,
    found: Probe,
    config: LogConfig,
    evolution: EvolutionConfig | None,
) -> tuple[EvolutionConfig, tuple[Any, Any]]:
    """The evolution's configuration and what evolves.

    Ranges of observations are left to the params of what evolves: the programs of one
    log then serve the next log of the same task.
    """
    if evolution is None:
        evolution = _default(task, found, config)
    proxy = evolution.proxy.make(*task.pair)
    if isinstance(evolution.proxy, SyntheticConfig):
        shape = dataclasses.replace(evolution.proxy, obs_range=None)
        evolution = evolution.replace(proxy=shape)
    return evolution, proxy


def _default(task: envs.Task, found: Probe, config: LogConfig) -> EvolutionConfig:
    """What `model_steps` pay for; probing is paid for apart."""
    share = config.fitness_episodes
    budget = Budget(config.model_steps // share + found.steps)
    try:
        with_agents = config.with_agents is not False
        chosen = default_config(task.pair, found, budget, with_agents=with_agents)
    except BudgetError as error:
        raise ValueError(
            f"model_steps must be at least {(error.needed - found.steps) * share:,} "
            f"for episodes of {error.length:,} steps, got {config.model_steps:,}"
        ) from error
    assert chosen.max_steps is not None
    return chosen.replace(
        fitness_episodes=share, patience=_PATIENCE, max_steps=chosen.max_steps * share
    )


def lean(params: Any) -> Any:
    """Params of a world without what depends on the number of rows, where it can be.

    Residuals are for choosing a model, and a few hundred starts are as good as all.
    """
    starts = params.initial_obs
    chosen = np.linspace(0, int(params.num_initial_obs) - 1, _STARTS).round()
    params = params.replace(
        initial_obs=starts[chosen.astype(int)], num_initial_obs=jnp.int32(_STARTS)
    )
    changed = {}
    for name in ("cache", "members"):
        cache = getattr(params, name, None)
        if isinstance(cache, Cache):
            residual = cache.residual[..., :0, :]
            changed[name] = dataclasses.replace(cache, residual=residual)
    return params.replace(**changed)


def _tested(
    result: LogEvolutionResult, task: envs.Task, key: jax.Array
) -> LogEvolutionResult:
    """The result with its last test in the real task, whose steps count."""
    returns, steps = play_with_unseen(
        (result.env, result.params),
        task,
        jax.random.fold_in(key, _OUTSIDE),
        num_agents=result.log_config.test_agents,
        num_episodes=result.log_config.test_episodes,
    )
    found = result.probe
    assert found is not None
    outside = Confirmation(
        returns=returns,
        random_return=found.random_return,
        solved_return=task.solved_return,
        policy=found.policy,
        kind=task.kind,
    )
    return dataclasses.replace(
        result, outside=outside, progress=with_steps(result.progress, steps)
    )
