"""The loop around the jitted generation: validations, rows, checkpoints."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs.moments import Moments
from envs.steps import Steps
from jaxrl_runs.devices import naming_lost_processes
from jaxrl_runs.run_folder import RunFolder
from jaxrl_runs.values import as_key
from jaxrl_runs.warn import warn_user
from jaxrl_se.compiled import compile_together, shared
from jaxrl_se.generation import Generation, GenerationLog
from jaxrl_se.not_finite import nan_of_task
from jaxrl_se.outside import OutsidePrograms
from jaxrl_se.outside_task import is_outside, keeps_ranges
from jaxrl_se.patience import attempt_fitness, begins_again, next_index
from jaxrl_se.trials import Params

# Purposes of keys folded from the run's key; testing has one that evolution never uses.
INIT, GENERATION, VALIDATION, TEST = range(4)


@dataclasses.dataclass
class Progress:
    """What an evolution knows about itself between generations (host side).

    Attributes:
      generation: Generations done.
      real_steps: Steps taken in the real task: for fitness, for validation, and by the
        agents where they train in the task itself.
      model_steps: Steps taken in a learned model of a task, likewise.
      synthetic_steps: Steps taken in the synthetic environment.
      failed_candidates: Candidates whose fitness or weights were not finite.
      seconds: Wall time of generations and validations.
      cpu_seconds: The process's CPU time for the same.
      solved: Whether two independent validations in a row reached the stop return.
      rows: One dict of metrics per generation.
    """

    generation: int = 0
    real_steps: int = 0
    model_steps: int = 0
    synthetic_steps: int = 0
    failed_candidates: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    solved: bool = False
    rows: list[dict] = dataclasses.field(default_factory=list)

    @property
    def steps(self) -> Steps:
        """The three counts."""
        return Steps(self.real_steps, self.model_steps, self.synthetic_steps)

    def counted(self, steps: Steps) -> Progress:
        """The progress with these counts of steps."""
        counts: dict[str, Any] = steps.as_dict()
        return dataclasses.replace(self, **counts)

    def after(self, row: dict, solved: bool) -> Progress:
        """The progress with one more row, whose counts are totals."""
        kept = ("generation", "seconds", "cpu_seconds", *Steps().as_dict())
        return Progress(
            **{name: row[name] for name in kept},
            failed_candidates=self.failed_candidates + row["failed_candidates"],
            solved=solved,
            rows=[*self.rows, row],
        )


@struct.dataclass
class SearchState:
    """What a checkpoint keeps of a search.

    Attributes:
      strategy: The strategy's state.
      best_weights: The search mean whose validation was the best so far.
      best_score: float32 scalar, its mean score; minus infinity before the first.
    """

    strategy: Any
    best_weights: Any
    best_score: jax.Array

    def validated(self, weights: Any, score: float) -> SearchState:
        """The state after a validation of these weights."""
        if not score > float(self.best_score):
            return self
        return self.replace(  # type: ignore
            best_weights=weights, best_score=jnp.float32(score)
        )


@struct.dataclass
class RangedState(SearchState):
    """A search whose ranges of observations follow what policies meet.

    The ranges are mean -+ one deviation of all observations so far, as in ARS (Mania et
    al., 2018, arXiv 1803.07055).

    Attributes:
      count: float32 scalar, observations so far.
      mean: float32 `[obs_size]`.
      variance: float32 `[obs_size]`.
      obs_range: float32 `[obs_size, 2]`, the ranges of the next generation.
      best_obs_range: The ranges with which `best_weights` were validated.
    """

    count: jax.Array
    mean: jax.Array
    variance: jax.Array
    obs_range: jax.Array
    best_obs_range: jax.Array

    @classmethod
    def start(cls, search: SearchState, obs_range: Any) -> RangedState:
        """The state before anything was met."""
        ranges = jnp.asarray(obs_range, jnp.float32)
        zero = jnp.zeros(len(ranges), jnp.float32)
        return cls(
            search.strategy,
            search.best_weights,
            search.best_score,
            jnp.float32(0),
            zero,
            zero,
            ranges,
            ranges,
        )

    def met(self, seen: Moments) -> RangedState:
        """The state after further observations."""
        arrays = jax.device_get((self.mean, self.variance))
        moments = Moments(int(self.count), *(x.astype(np.float64) for x in arrays))
        moments.merge(seen)
        # An observation that hardly ever changes is left about as it is.
        deviation = np.sqrt(moments.variance)
        flat = deviation <= 1e-5 * np.maximum(np.abs(moments.mean), 1.0)
        deviation = np.where(flat, 1.0, deviation)
        ends = moments.mean - deviation, moments.mean + deviation
        return self.replace(  # type: ignore
            count=jnp.float32(moments.count),
            mean=jnp.asarray(moments.mean, jnp.float32),
            variance=jnp.asarray(moments.variance, jnp.float32),
            obs_range=jnp.asarray(np.stack(ends, axis=-1), jnp.float32),
        )

    def validated(self, weights: Any, score: float) -> RangedState:
        """See `SearchState.validated`."""
        state: Any = SearchState.validated(self, weights, score)
        if state is self:
            return self
        return state.replace(best_obs_range=self.obs_range)


@struct.dataclass
class AttemptedState(SearchState):
    """A search that begins again, see `EvolutionConfig.restarts`.

    Attributes:
      attempt: The strategy's state at the end of the best attempt so far.
      attempt_fitness: float32 scalar, how good that one was.
    """

    attempt: Any
    attempt_fitness: jax.Array

    @classmethod
    def start(cls, search: SearchState) -> AttemptedState:
        """The state before any attempt is over."""
        return cls(
            search.strategy,
            search.best_weights,
            search.best_score,
            search.strategy,
            jnp.float32(-jnp.inf),
        )

    def attempted(self, fitness: float) -> AttemptedState:
        """The state after an attempt of this fitness."""
        if not fitness > float(self.attempt_fitness):
            return self
        return self.replace(  # type: ignore
            attempt=self.strategy, attempt_fitness=jnp.float32(fitness)
        )


class Run:
    """One evolution from its first generation, or its last checkpoint, to its end.

    Args:
      program: The pure functions.
      params: What they are called with.
      key: The run's key.
      folder: For checkpoints and metrics, or None.
      checkpoint_every: Generations between checkpoints.
      on_generation: Called with each row.
      spent: Steps that were taken before the first generation.
      start: Weights from which the search begins; None draws them.
    """

    def __init__(
        self,
        program: Generation,
        params: Params,
        key: jax.Array,
        folder: RunFolder | None,
        checkpoint_every: int,
        on_generation: Callable[[dict], Any] | None,
        spent: Steps = Steps(),  # noqa: B008, frozen
        start: Any = None,
    ):
        self.program, self._params, self.key = program, params, key
        self.folder, self.checkpoint_every = folder, checkpoint_every
        self.on_generation, self._failed = on_generation, False
        self._validates: list[Callable] = []
        state = program.init(jax.random.fold_in(key, INIT), start)
        mean = program.strategy.mean(state)
        search: Any = SearchState(state, mean, jnp.float32(-jnp.inf))
        if keeps_ranges(program.config):
            search = RangedState.start(search, params.proxy.obs_range)
        if program.config.restarts:
            search = AttemptedState.start(search)
        self.now = search, Progress().counted(spent)
        if folder is not None:
            restored = folder.restore(self.now[0])
            if restored is not None:
                self.now = restored[0], Progress(**restored[1])
            folder.start_metrics(self.now[1].rows)
        self._compile(state, mean)

    @property
    def params(self) -> Params:
        """What the programs are called with, at the present ranges."""
        search = self.now[0]
        if not isinstance(search, RangedState):
            return self._params
        return self._with_ranges(search.obs_range)

    def _with_ranges(self, ranges: Any) -> Params:
        proxy = self._params.proxy.replace(obs_range=ranges)
        return self._params.replace(proxy=proxy)  # type: ignore

    @property
    def params_of_result(self) -> Params:
        """The same at the ranges of the weights that are the result."""
        search = self.now[0]
        if not isinstance(search, RangedState):
            return self._params
        best = self._is_best_validated
        ranges = search.best_obs_range if best else search.obs_range
        return self._with_ranges(jnp.asarray(jax.device_get(ranges)))

    @property
    def stops(self) -> bool:
        """Whether there is a score that could end the run."""
        return self.program.config.stop_return != math.inf

    def _compile(self, state: Any, mean: Any) -> None:
        """Compiles a generation, and validations if there will be any."""
        program, config = self.program, self.program.config
        started = time.perf_counter()
        keys = jax.random.split(self.key, config.validation_agents)
        wanted = [("step", (self.key, state, jnp.int32(0), self.params))]
        algorithms = range(len(config.validated_agents))
        if self.stops and not program.strategy.num_means:
            arguments = (keys, mean, self.params)
            wanted += [(f"validate {i}", arguments) for i in algorithms]
        if is_outside(program.task):
            outside = OutsidePrograms(program)
            self._step = outside.step
            self._validates = [
                partial(outside.validate, algorithm=i) for i in algorithms
            ]
            self.compile_seconds = 0.0
            return
        self._step, *compiled = compile_together(program, wanted)
        self._validates = compiled or [
            shared(
                f"validate {i}",
                program,
                lambda i=i: jax.jit(partial(program.validate, algorithm=i)),
            )
            for i in algorithms
        ]
        self.compile_seconds = time.perf_counter() - started

    def finish(self) -> Progress:
        """Runs the generations that are missing."""
        config, clock = self.program.config, _Clock()
        try:
            while True:
                search, progress = self.now
                number = next_index(progress.rows, config)
                if progress.solved or number is None:
                    return progress
                with naming_lost_processes():
                    search, row, solved = self._generation(search, progress, number)
                seconds, cpu_seconds = clock.lap()
                row["seconds"] = progress.seconds + seconds
                row["cpu_seconds"] = progress.cpu_seconds + cpu_seconds
                # A generation counts from this one assignment on: an interrupt before
                # it loses the generation and nothing else.
                self.now = search, progress.after(row, solved)
                if self.folder is not None:
                    self.folder.append_metrics(row)
                if row["generation"] % self.checkpoint_every == 0:
                    self._save()
                if self.on_generation is not None:
                    self.on_generation(row)
                self._say_failed(row)
                clock.lap()
        finally:
            self._save()

    def _say_failed(self, row: dict) -> None:
        """Warns, once, where no candidate of a generation had a fitness."""
        if self._failed or not math.isnan(row["fitness_mean"]):
            return
        self._failed, task = True, self.program.task
        why = "the task's returns are NaN or infinite, or its agents' weights are"
        if not is_outside(task):
            why = nan_of_task(task, self.params.task, self.key)
        warn_user(
            f"evolve: all {row['failed_candidates']} fitnesses of generation "
            f"{row['generation']} are NaN or infinite: {why}",
            RuntimeWarning,
        )

    def _save(self) -> None:
        if self.folder is not None:
            search, progress = self.now
            fields = dataclasses.asdict(progress)
            self.folder.save(progress.generation, search, fields)

    def _generation(
        self, search: SearchState, progress: Progress, number: int
    ) -> tuple[SearchState, dict, bool]:
        """One generation and its validation.

        Args:
          search: The search before it.
          progress: What is known before it.
          number: By which the stages know it, see `jaxrl_se.patience`.

        Returns:
          The search, the row of metrics but for times, and whether the task is solved.
        """
        index = progress.generation
        key = jax.random.fold_in(jax.random.fold_in(self.key, GENERATION), index)
        state, log = jax.block_until_ready(
            self._step(key, search.strategy, jnp.int32(number), self.params)
        )
        search = search.replace(strategy=state)  # type: ignore
        # A validation has the ranges that the generation had.
        row = _row(index, log)
        if self.program.config.patience is not None:
            row["index"] = number
        again = False
        if isinstance(search, AttemptedState):
            search, again = self._attempted(search, row, progress.rows)
        steps, stop_return = log.steps, self.program.config.stop_return
        num_means = self.program.strategy.num_means
        if num_means:
            own = np.asarray(log.fitness, np.float64)[:num_means]
            row["validation_mean"] = float(np.mean(own))
        elif self._is_due(row, progress.rows):
            weights = self.program.strategy.mean(search.strategy)
            attempts = 1 if stop_return is None else 2
            score, taken = self._validate(index, weights, attempts)
            row["validation_mean"], steps = score, steps + taken
            search = search.validated(weights, score)
        solved = stop_return is not None and row["validation_mean"] >= stop_return
        if isinstance(search, RangedState) and not solved:
            search = search.met(log.seen)
        row |= (progress.steps + Steps(**_ints(steps))).as_dict()
        if again and not solved:
            search = search.replace(strategy=self._fresh(row["attempt"] + 1))  # type: ignore
        return search, row, solved

    def _fresh(self, attempt: int) -> Any:
        """The strategy's state at the beginning of a later attempt."""
        key = jax.random.fold_in(jax.random.fold_in(self.key, INIT), attempt)
        factor = self.program.config.restart_std**attempt
        return self.program.strategy.scaled(self.program.init(key), factor)

    def _attempted(
        self, search: AttemptedState, row: dict, earlier: list[dict]
    ) -> tuple[AttemptedState, bool]:
        """Says in the row which attempt it is of, and keeps the best attempt.

        Returns:
          The search, which goes on from the best attempt after the last one, and
          whether another begins.
        """
        config, row["attempt"] = self.program.config, 0
        if earlier:
            again = begins_again(earlier, config)
            row["attempt"] = earlier[-1]["attempt"] + int(again)
        rows = [*earlier, row]
        fitness = attempt_fitness(rows, config)
        if fitness is None:
            return search, False
        search, again = search.attempted(fitness), begins_again(rows, config)
        if not again:
            search = search.replace(strategy=search.attempt)  # type: ignore
        return search, again

    def _is_due(self, row: dict, earlier: list[dict]) -> bool:
        """Whether the search mean is validated after this generation."""
        config = self.program.config
        is_due = row["generation"] % config.validation_every == 0
        if config.stop_return is None:
            # What agents do is not looked at before the first of them has trained.
            is_early = config.patience is not None and any(
                row["index"] < start for start in config.stages[:1]
            )
            is_last = next_index([*earlier, row], config) is None
            return is_last or (is_due and not is_early)
        return self.stops and is_due and row["fitness_best"] >= config.stop_return

    def _validate(self, index: int, weights: Any, attempts: int) -> tuple[float, Steps]:
        """Scores a search mean, a second time with other agents if it was good enough.

        Returns:
          The score of the last attempt, by the worst algorithm, and all steps.
        """
        config = self.program.config
        stop_return = config.stop_return
        key = jax.random.fold_in(jax.random.fold_in(self.key, VALIDATION), index)
        # From no device in particular: a validation of few agents has fewer of them.
        weights = jax.device_get(weights)
        score, steps = math.nan, Steps()
        for attempt_key in jax.random.split(key, 2)[:attempts]:
            keys = jax.random.split(attempt_key, self.program.config.validation_agents)
            found = [
                validate(keys, weights, self.params) for validate in self._validates
            ]
            steps = sum((Steps(**_ints(each.steps)) for each in found), steps)
            score = min(float(each.score) for each in found)
            if stop_return is not None and not score >= stop_return:
                break
        return score, steps

    @property
    def weights(self) -> Any:
        """The result, on no particular device: whatever runs next can use it."""
        search, _ = self.now
        if self._is_best_validated:
            weights = search.best_weights
        else:
            weights = self.program.strategy.result(search.strategy)
        return jax.tree.map(jnp.asarray, jax.device_get(weights))

    @property
    def _is_best_validated(self) -> bool:
        """Whether the result is the search mean of the best validation."""
        search, progress = self.now
        by_validation = not (progress.solved or self.program.strategy.num_means)
        return by_validation and float(search.best_score) > -math.inf

    @property
    def validation(self) -> float | None:
        """The validation score of `weights`, None if there was none."""
        search, progress = self.now
        if self.program.strategy.num_means:
            means = [row["validation_mean"] for row in progress.rows]
            return max((mean for mean in means if not math.isnan(mean)), default=None)
        if progress.solved:
            return progress.rows[-1]["validation_mean"]
        best = float(search.best_score)
        return best if best > -math.inf else None

    def test(
        self, key: jax.Array, num_agents: int, task_params: Any = None, algorithm=0
    ) -> tuple[Any, Any]:
        """See `EvolutionResult.test`."""
        key = as_key(key)
        params = self.params_of_result
        if task_params is not None:
            params = params.replace(task=task_params)  # type: ignore
        chunk = self.program.config.validation_agents
        keys = jax.random.split(key, -(-num_agents // chunk) * chunk)
        weights = self.weights
        found = [
            self._validates[algorithm](keys[i : i + chunk], weights, params)
            for i in range(0, len(keys), chunk)
        ]
        parts = [(each.policies, each.episodes) for each in found]
        return jax.tree.map(
            lambda *leaves: jnp.concatenate(leaves)[:num_agents], *parts
        )


def _row(index: int, log: GenerationLog) -> dict:
    """A row of metrics before validation; not-a-number where all have failed."""
    fitness = np.asarray(log.fitness, np.float64)
    is_finite = np.isfinite(fitness)
    return {
        "generation": index + 1,
        "fitness_best": float(np.nanmax(fitness, initial=-np.inf)),
        "fitness_mean": float(np.nanmean(fitness)) if is_finite.any() else math.nan,
        "failed_candidates": int(np.sum(~is_finite)),
        "validation_mean": math.nan,
    }


def _ints(steps: Steps) -> dict[str, int]:
    """Counts as Python's integers, which do not overflow."""
    return {field.name: int(getattr(steps, field.name)) for field in _STEP_FIELDS}


_STEP_FIELDS = dataclasses.fields(Steps)


class _Clock:
    """Wall and CPU seconds since the last lap."""

    def __init__(self):
        self._last = (time.perf_counter(), time.process_time())

    def lap(self) -> tuple[float, float]:
        """The seconds, and starts the next lap."""
        now = (time.perf_counter(), time.process_time())
        seconds, cpu_seconds = now[0] - self._last[0], now[1] - self._last[1]
        self._last = now
        return seconds, cpu_seconds
