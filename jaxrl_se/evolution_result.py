"""What comes back of an evolution."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from jaxrl_runs.values import as_key
from jaxrl_se.any_task import with_steps
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.evaluation import evaluate
from jaxrl_se.evolution_run import Progress
from jaxrl_se.outcome import PLACES, Confirmation
from jaxrl_se.probing import Probe
from jaxrl_se.training import train


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
      best_in_task: In words, the best agent that trained in the task itself, or in the
        world model that stands for it; None where none did.
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
    best_in_task: str | None = None

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
            if self.best_in_task is not None:
                place = PLACES[self.confirmation.kind]
                lines.append(f"  trained in the {place} itself: {self.best_in_task}")
            problem = self.confirmation.problem()
            lines += [] if problem is None else [f"  {problem}"]
        elif self.validation is not None:
            verdict = "solved" if progress.solved else "best of its validations"
            lines.append(f"  validation {self.validation:.4g} ({verdict})")
        else:
            lines.append("  never validated: `test` trains fresh agents in it")
        return "\n".join(lines)


def better(first: EvolutionResult, second: EvolutionResult) -> EvolutionResult:
    """The better one of two attempts, with the steps of both.

    Agents in confirmations train for short. What they reach counts as much as the best
    response, which is what long training comes to; by agents alone searches were kept
    whose best response was far worse.
    """
    assert first.confirmation is not None and second.confirmation is not None
    scores = [first.confirmation.overall, second.confirmation.overall]
    kept, other = (second, first) if scores[1] > scores[0] else (first, second)
    return dataclasses.replace(
        kept,
        progress=with_steps(kept.progress, other.progress.steps),
        best_in_task=kept.best_in_task or other.best_in_task,
    )


def with_environment(
    result: EvolutionResult, task: Any, env: Any, params: Any
) -> EvolutionResult:
    """A result whose synthetic environment became another one after the evolution.

    Args:
      result: What `evolve` gave.
      task: The task, whatever `evaluate` takes.
      env: The environment in place of its own.
      params: Its params.

    Returns:
      The result, whose `test` is of that environment; nothing has validated it.
    """
    ranges = getattr(result.config.proxy, "obs_range", None)
    if params.obs_range is not None:
        ranges = tuple((float(low), float(high)) for low, high in params.obs_range)
    proxy: Any = dataclasses.replace(env.config, obs_range=ranges)
    config = result.config.replace(proxy=proxy)

    def test(key, num_agents, task_params=None, algorithm=0):
        """See `EvolutionResult.test`."""
        key_train, key_test = jax.random.split(as_key(key))
        agent, steps = config.validated_agents[algorithm], config.train_steps
        trained = train(agent, env, params, key_train, steps, num_agents=num_agents)
        played = task if task_params is None else (task[0], task_params)
        episodes = config.validation_episodes
        return trained.policy, evaluate(
            trained.policy, played, key_test, episodes, num_axes=1
        )

    return dataclasses.replace(
        result,
        env=env,
        params=params,
        config=config,
        validation=None,
        test=test,
        confirmation=None,
    )
