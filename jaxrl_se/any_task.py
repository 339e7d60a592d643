"""Before and after an evolution for which nothing was set: a probe and a last test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.steps import StepKind, Steps
from jaxrl_runs.warn import warn_user
from jaxrl_se.agents import BestResponse
from jaxrl_se.config import EvolutionConfig
from jaxrl_se.defaults import Budget, check_budget, default_config
from jaxrl_se.evaluation import evaluate
from jaxrl_se.evolution_run import Run
from jaxrl_se.outcome import ENOUGH, Confirmation, warn_of
from jaxrl_se.outside_task import OutsideTask, is_outside
from jaxrl_se.probing import Probe, probe
from jaxrl_se.training import train

_PROBE, _CONFIRMATION = 1_000_001, 1_000_002  # Purposes of keys that evolution has not.
_AGENTS, _EPISODES = 16, 32


def look_at(
    task: tuple[Any, Any] | OutsideTask,
    key: jax.Array,
    budget: Budget | None,
    with_agents: bool,
) -> tuple[Probe, EvolutionConfig]:
    """Probes a task and chooses a configuration for it.

    Args:
      task: A gymnax pair `(env, params)`, or a task outside JAX.
      key: The evolution's key.
      budget: See `default_config`.
      with_agents: See `default_config`.

    Returns:
      The probe and the configuration.

    Raises:
      ValueError: The task is none to evolve on, or the budget is too small for it.
    """
    check_budget(task, budget)
    found = probe(task, jax.random.fold_in(key, _PROBE))
    config = default_config(task, found, budget, with_agents=with_agents)
    trouble = warn_of(found)
    if trouble is not None:
        warn_user(f"task: {trouble}")
    return found, config


def confirm(
    run: Run, found: Probe, result: tuple[Any, Any]
) -> tuple[Confirmation, Steps]:
    """Trains fresh agents in the result and tests them on keys that nothing else used.

    Args:
      run: The evolution, at its end.
      found: The probe before it.
      result: The evolved environment and its params.

    Returns:
      What came out and the steps that the tests took.
    """
    task = run.program.task
    played: Any = task if is_outside(task) else (task, run.params.task)
    return confirmed_by(
        run.test, run.program.config, played, run.program.kind, run.key, found, result
    )


def confirmed_by(
    test: Callable[..., Any],
    config: EvolutionConfig,
    task: Any,
    kind: StepKind,
    key: jax.Array,
    found: Probe,
    result: tuple[Any, Any],
) -> tuple[Confirmation, Steps]:
    """See `confirm`.

    Args:
      test: See `EvolutionResult.test`.
      config: Whose agents are trained.
      task: A gymnax pair, or a task outside JAX.
      kind: What a step of it is.
      key: The evolution's key.
      found: The probe before it.
      result: The evolved environment and its params.
    """
    key = jax.random.fold_in(key, _CONFIRMATION)
    returns, taken = {}, 0
    for place, agent in enumerate(config.validated_agents):
        key_agent = jax.random.fold_in(key, place)
        _, episodes = test(key_agent, _AGENTS, algorithm=place)
        scores = np.asarray(episodes.returns, np.float64).mean(axis=1)
        returns[type(agent).__name__] = tuple(scores.tolist())
        taken += int(jnp.sum(episodes.lengths))
    response = None
    if isinstance(config.agents[0], BestResponse):
        agent = dataclasses.replace(config.agents[0], obs_noise=0.0)
        policy = train(agent, *result, key, 1).policy
        episodes = evaluate(policy, task, key, _EPISODES, num_axes=0)
        response = float(episodes.returns.mean())
        taken += int(jnp.sum(episodes.lengths))
    confirmation = Confirmation(
        returns=returns,
        random_return=found.random_return,
        best_response=response,
        solved_return=config.stop_return,
        policy=found.policy,
        kind=kind,
        train_steps=config.train_steps,
        is_compared=not is_outside(task),
    )
    return confirmation, Steps.of(kind, taken)


def goes_on(confirmation: Confirmation | None, with_agents: bool | None) -> bool:
    """Whether a search is to go on with agents.

    With `with_agents` None it does where agents do clearly less than the best response
    says is possible.
    """
    if confirmation is None or with_agents is not None:
        return bool(with_agents)
    return confirmation.closed < ENOUGH


def spent(found: Probe | None, kind: StepKind) -> Steps:
    """The steps of a probe, by where they were taken."""
    return Steps() if found is None else Steps.of(found.kind or kind, found.steps)


def with_steps(progress: Any, steps: Steps) -> Any:
    """A progress that counts further steps."""
    return dataclasses.replace(progress, **(progress.steps + steps).as_dict())
