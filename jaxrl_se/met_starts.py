"""After a search: episodes that start where its best response goes in the task.

Standard normal starts within the range of random play are right for a search, which
looks everywhere. Agents that act by sampling stay undecided where observations lie far
from them, as one-hot states do from all that is normal. Continuous actions also become
as small as the task allows (`jaxrl_se.gain`). Which action is best otherwise stays;
agents of two kinds say whether the changes harm.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from envs.steps import StepKind, Steps
from envs.task import open_named
from jaxrl_se.agents.best_response import BestResponse
from jaxrl_se.any_task import confirmed_by, with_steps
from jaxrl_se.evolution_result import EvolutionResult, with_environment
from jaxrl_se.evolution_task import EvolutionTask
from jaxrl_se.from_policy import demonstrations
from jaxrl_se.gain import lowest_gain, with_gain
from jaxrl_se.outcome import Confirmation
from jaxrl_se.starts import with_met_starts
from jaxrl_se.training import train

ROWS, KEPT = 2048, 256  # Steps in the task, and how many of their observations.
NOISE = 0.1  # Share of actions drawn by chance, for states beside the way.
SHARE = 0.5  # Of the episodes; all of them where observations are zeros and ones.
MARGIN = 0.02  # Of the way from random, that agents may lose by it.
_PURPOSE = 1_000_009  # Of a key that evolution has not.


def started_where_met(
    result: EvolutionResult, opened: EvolutionTask, key: jax.Array
) -> EvolutionResult:
    """A result whose episodes start where its best response goes, unless that harms.

    Its continuous actions have the lowest gain that does as well; if the starts harm,
    that alone is tried.

    Args:
      result: Of an evolution with a chosen configuration.
      opened: Its task.
      key: The evolution's key.

    Returns:
      That result, or the given one where agents learned less from the others; any of
      them with all steps that were taken.
    """
    found, before = result.probe, result.confirmation
    response = result.config.agents[0]
    if found is None or before is None or not isinstance(response, BestResponse):
        return result
    key = jax.random.fold_in(key, _PURPOSE)
    key_play, key_rows, key_test, key_gain = jax.random.split(key, 4)
    response = dataclasses.replace(response, obs_noise=0.0)
    key_response = jax.random.fold_in(key_play, 1)
    policy = train(response, result.env, result.params, key_response, 1).policy
    moved, steps = _where_met(result, opened, policy, before.kind, key_play, key_rows)
    tried = [moved]
    if result.env.spaces.num_actions is None:
        gain, played = lowest_gain(policy, opened.task, key_gain, before.random_return)
        steps = steps + Steps.of(before.kind, played)
        tried = [with_gain(*moved, gain)]
        if gain < 1:
            tried.append(with_gain(result.env, result.params, gain))
    way = abs(_learned(before) - float(np.nan_to_num(before.random_return)))
    kept = result
    for evolved in tried:
        other = with_environment(result, opened.task, *evolved)
        after, taken = confirmed_by(
            other.test, other.config, opened.task, before.kind, key_test, found, evolved
        )
        steps = steps + taken
        if _learned(after) >= _learned(before) - MARGIN * way:
            kept = dataclasses.replace(other, confirmation=after)
            break
    return dataclasses.replace(kept, progress=with_steps(result.progress, steps))


def _where_met(
    result: EvolutionResult,
    opened: EvolutionTask,
    policy: Any,
    kind: StepKind,
    key_play: jax.Array,
    key_rows: jax.Array,
) -> tuple[tuple[Any, Any], Steps]:
    """The environment that starts where a policy goes, and the steps that this took."""
    rows, _ = demonstrations(
        policy, open_named("task", opened.task), key_play, ROWS, NOISE
    )
    met = np.asarray(rows.obs, np.float32).reshape(len(rows), -1)
    share = 1.0 if np.isin(met, (0.0, 1.0)).all() else SHARE
    kept = jax.random.choice(key_rows, len(met), (min(KEPT, len(met)),), replace=False)
    pair = with_met_starts(
        result.env, result.params, met[np.asarray(kept)], share=share
    )
    return pair, Steps.of(kind, len(met))


def _learned(confirmation: Confirmation) -> float:
    """Mean return of fresh agents, every kind counting as much."""
    return float(np.mean([np.mean(each) for each in confirmation.returns.values()]))
