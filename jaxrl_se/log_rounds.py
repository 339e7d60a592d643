"""Evolution with few real steps: rows, a model of them, evolution inside, play, again.

Each round evolves an environment inside world models of all rows so far; its best
response and a few agents play in the task, and their rows are added. As long as no row
says where to go (`says_where_to_go`), the reward of the rows is replaced by how little
the log shows of the state that was reached. The environment whose agents did best in
the task is the result.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

import envs
from envs import Transitions
from envs.steps import Steps
from jaxrl_runs import values
from jaxrl_runs.run_folder import RunFolderError, holds_run
from jaxrl_runs.values import COUNT, FLAG, NOT_NEGATIVE, Like, as_key, setting
from jaxrl_se.agents import BestResponse
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.evolution_options import check_folder
from jaxrl_se.from_log import LogConfig, LogEvolutionResult, evolve_from_log
from jaxrl_se.log_evidence import novelty, says_where_to_go
from jaxrl_se.outcome import Confirmation
from jaxrl_se.training import train

_FIRST, _ROUND, _PLAY = 1_000_004, 1_000_005, 1_000_006  # Purposes of keys.
_NO_LIMIT = 500  # Rows of a player where episodes have no limit, or a long one.


@dataclasses.dataclass(frozen=True)
class RoundsConfig:
    """How real steps are spent.

    Attributes:
      real_steps: At most so many, the first rows included; kept exactly.
      first_rows: Random rows before the first round.
      max_rounds: Rounds at most.
      agree: Part of the way from random to the return inside that the return in the
        task may lack, or exceed, for the model to be right.
      log: How each round's worlds are made and what its evolution may cost.
      evolution: The configuration of each round's evolution; None to have it chosen.
    """

    real_steps: int = setting(10_000, COUNT)
    first_rows: int = setting(1_000, COUNT)
    max_rounds: int = setting(6, COUNT)
    agree: float = setting(0.1, NOT_NEGATIVE)
    log: LogConfig = dataclasses.field(default_factory=LogConfig)
    evolution: EvolutionConfig | None = None

    def __post_init__(self):
        values.check(self)
        Like("a LogConfig", kinds=(LogConfig,)).check("RoundsConfig.log", self.log)
        Like("an EvolutionConfig", kinds=(EvolutionConfig,), optional=True).check(
            "RoundsConfig.evolution", self.evolution
        )
        if self.real_steps <= self.first_rows:
            raise ValueError(
                f"real_steps must be above first_rows ({self.first_rows:,}), which are "
                f"random, got {self.real_steps:,}"
            )


@dataclasses.dataclass(frozen=True)
class Round:
    """What one round did.

    Attributes:
      rows: Real steps that its model was made of.
      explored: Whether novelty stood for the reward.
      inside: Mean return inside of agents that train in the environment, in the unit
        of novelty where it explored.
      best_response: Mean return in the task of the policy that the learned reward asks
        for, None where it has not played.
      returns: Returns in the task of its agents' episodes, by kind.
      steps: Real steps that they took.
    """

    rows: int
    explored: bool
    inside: float
    best_response: float | None
    returns: dict[str, tuple[float, ...]]
    steps: int

    @property
    def outside(self) -> float:
        """Mean return in the task of the worst kind of agent."""
        return min(float(np.mean(each)) for each in self.returns.values())

    def __str__(self) -> str:
        """One line for a log."""
        what = "novelty" if self.explored else "return"
        kinds = ", ".join(f"{k} {np.mean(v):.4g}" for k, v in self.returns.items())
        if self.best_response is not None:
            kinds = f"best response {self.best_response:.4g}, {kinds}"
        return (
            f"{self.rows:,} rows: {what} inside {self.inside:.4g}; in the task {kinds}"
        )


@dataclasses.dataclass(frozen=True)
class RoundsResult(LogEvolutionResult):
    """The best environment of several rounds.

    `progress` counts the steps of all rounds, `outside` holds the episodes in the task
    that the choice was made by.

    Attributes:
      rounds: All of them.
      best: Which one the environment is of.
      log: All rows, also those after the last model was made.
    """

    rounds: tuple[Round, ...] = ()
    best: int = 0
    log: Transitions | None = None

    def __repr__(self) -> str:
        """What it is, and one line per round."""
        marks = ["*" if i == self.best else " " for i in range(len(self.rounds))]
        lines = [f"  {m} {r}" for m, r in zip(marks, self.rounds, strict=True)]
        return "\n".join([super().__repr__(), "  rounds (* the result):", *lines])


def evolve_in_rounds(
    task: Any,
    config: RoundsConfig | None = None,
    key: int | jax.Array = 0,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> RoundsResult:
    """Evolves an environment for a task with few steps in it.

    Args:
      task: Whatever `envs.open_task` takes, inside JAX or outside.
      config: How real steps are spent.
      key: A seed or a PRNG key.
      out: A folder for the rows and the run folder of each round, or None.
      resume: Go on with what the folder holds; rows that are there are not played
        again.
      progress: Whether to say on standard error what is being done.

    Returns:
      A `RoundsResult`.

    Raises:
      ValueError: As `evolve_from_log`.
      RunFolderError: The output folder cannot be used.
    """
    Like("a RoundsConfig", kinds=(RoundsConfig,), optional=True).check("config", config)
    check_folder(out, resume)
    FLAG.check("progress", progress)
    config, key = config or RoundsConfig(), as_key(key)
    task = envs.open_task(task)
    folder = None if out is None else Path(out)
    if folder is not None and resume and not folder.is_dir():
        raise RunFolderError(f"{folder}: there is no such folder to resume")
    player = _Player(task, config, key, folder, resume, progress)
    rows = player.first_rows()
    rounds: list[Round] = []
    results: list[LogEvolutionResult] = []
    random_return = float("nan")
    while len(rows) < config.real_steps and len(rounds) < config.max_rounds:
        explores = not says_where_to_go(rows)
        result = player.evolve(rows, len(rounds), explores)
        if not rounds and result.probe is not None:
            random_return = result.probe.random_return
        one, played = player.play(result, rows, len(rounds), explores)
        rounds, results = [*rounds, one], [*results, result]
        rows = joined(rows, played)
        if progress:
            print(f"round {len(rounds)}: {one}", file=sys.stderr, flush=True)
        if is_over(rounds, random_return, config):
            break
    best = int(np.argmax([each.outside for each in rounds]))
    return _result(results, rounds, best, rows, task, random_return)


def with_few_steps(
    task: Any,
    real_steps: int,
    key: jax.Array,
    with_agents: bool | None,
    **options: Any,
) -> RoundsResult:
    """`evolve` with `real_steps`."""
    log = LogConfig(with_agents=with_agents)
    return evolve_in_rounds(task, RoundsConfig(real_steps, log=log), key, **options)


def is_over(rounds: list[Round], random_return: float, config: RoundsConfig) -> bool:
    """Whether inside and outside agree and the last round was no better.

    Where the first round that does not explore reaches what is seen inside at once, one
    more is made to see whether it lasts.
    """
    last = rounds[-1]
    if last.explored or len(rounds) < 2:
        return False
    base = random_return if np.isfinite(random_return) else last.inside - 1.0
    gap = max(abs(last.inside - base), 1e-9)
    agrees = abs(last.outside - last.inside) <= config.agree * gap
    before = max(each.outside for each in rounds[:-1])
    return agrees and last.outside <= before + 0.02 * gap


def joined(first: Transitions, second: Transitions) -> Transitions:
    """Rows of two logs, one after the other."""
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(Transitions):
        parts = [getattr(each, field.name) for each in (first, second)]
        is_given = all(part is not None for part in parts)
        fields[field.name] = np.concatenate(parts) if is_given else None
    return Transitions(**fields)


@dataclasses.dataclass(frozen=True)
class _Player:
    """What the rounds have in common: where rows come from, and where they are kept."""

    task: envs.Task
    config: RoundsConfig
    key: jax.Array
    folder: Path | None
    resume: bool
    progress: bool

    def first_rows(self) -> Transitions:
        """Random play."""
        key = jax.random.fold_in(self.key, _FIRST)
        return self._kept(
            "first_rows",
            lambda: envs.collect(self.task, self.config.first_rows, key),
        )

    def evolve(
        self, rows: Transitions, number: int, explores: bool
    ) -> LogEvolutionResult:
        """An environment from the rows, evolved for novelty if it explores."""
        config = self.config.log
        if explores:
            if self.progress:
                print(
                    f"round {number + 1}: no row says where to go, so novelty stands "
                    "for the reward",
                    file=sys.stderr,
                    flush=True,
                )
            rows = dataclasses.replace(rows, reward=novelty(rows))
            config = config.replace(uncertainty_penalty=0.0)
        out = None if self.folder is None else self.folder / f"round_{number}"
        return evolve_from_log(
            rows,
            config,
            jax.random.fold_in(jax.random.fold_in(self.key, _ROUND), number),
            evolution=self.config.evolution,
            action_space=self.task.action_space(),
            max_steps=self.task.time_limit,
            progress=self.progress,
            out=out,
            # The round after those that were made is a new run.
            resume=self.resume and out is not None and holds_run(out),
        )

    def play(
        self,
        result: LogEvolutionResult,
        rows: Transitions,
        number: int,
        explored: bool,
    ) -> tuple[Round, Transitions]:
        """Plays the best response and one agent of each kind in the task.

        Each plays as many steps as the longest episode has, fewer where no more are
        left; the agents come first.
        """
        key = jax.random.fold_in(jax.random.fold_in(self.key, _PLAY), number)
        agents = result.config.validated_agents
        if isinstance(result.config.agents[0], BestResponse):
            response = dataclasses.replace(result.config.agents[0], obs_noise=0.0)
            agents = (*agents, response)
        left = self.config.real_steps - len(rows)
        each = self.task.time_limit or _NO_LIMIT
        each = min(each if each <= 2 * _NO_LIMIT else _NO_LIMIT, left)
        parts, returns = [], {}
        for place, agent in enumerate(agents):
            size = min(each, left)
            if not size:
                break
            key_train, key_play = jax.random.split(jax.random.fold_in(key, place))
            steps = 1 if agent.rollout_steps == 0 else result.config.train_steps
            policy = train(agent, result.env, result.params, key_train, steps).policy
            part = self._kept(
                f"rows_{number}_{type(agent).__name__}",
                lambda policy=policy, key=key_play, size=size: envs.collect(
                    self.task, size, key, policy
                ),
            )
            left -= size
            parts.append(part)
            returns[type(agent).__name__] = episode_returns(part)
        responses = returns.pop("BestResponse", None)
        played = parts[0]
        for part in parts[1:]:
            played = joined(played, part)
        assert result.confirmation is not None
        one = Round(
            rows=len(rows),
            explored=explored,
            inside=result.confirmation.mean,
            best_response=None if responses is None else float(np.mean(responses)),
            returns=returns,
            steps=len(played),
        )
        return one, played

    def _kept(self, name: str, make: Any) -> Transitions:
        """Rows from the folder, or fresh ones that are kept there."""
        if self.folder is None:
            return make()
        path = self.folder / f"{name}.npz"
        if self.resume and path.exists():
            return Transitions.load(path)
        rows = make()
        rows.save(path)
        return rows


def episode_returns(rows: Transitions) -> tuple[float, ...]:
    """Returns of the complete episodes; of the cut one where there is no other."""
    found = envs.episodes_of(rows)
    is_complete = found.is_complete
    return tuple((found.returns[is_complete | ~is_complete.any()]).tolist())


def _result(
    results: list[LogEvolutionResult],
    rounds: list[Round],
    best: int,
    log: Transitions,
    task: envs.Task,
    random_return: float,
) -> RoundsResult:
    """The best round's environment, with the counts of all rounds."""
    chosen = results[best]
    fields = {f.name: getattr(chosen, f.name) for f in dataclasses.fields(chosen)}
    spent = [each.progress for each in results]
    steps = Steps(
        real=len(log),
        model=sum(each.model_steps for each in spent),
        synthetic=sum(each.synthetic_steps for each in spent),
    )
    fields["progress"] = dataclasses.replace(
        chosen.progress.counted(steps),
        seconds=sum(each.seconds for each in spent),
        cpu_seconds=sum(each.cpu_seconds for each in spent),
    )
    fields["outside"] = Confirmation(
        returns=rounds[best].returns,
        random_return=random_return,
        solved_return=task.solved_return,
        kind=task.kind,
    )
    return RoundsResult(**fields, rounds=tuple(rounds), best=best, log=log)
