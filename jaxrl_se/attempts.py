"""The state of a search, its attempts, and where the next one looks.

Random play may know a corner of a task only. What the best attempt so far meets is then
added to the range of observations in which the next one has its starts.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs import collect
from envs.steps import Steps
from jaxrl_se.agents import BestResponse
from jaxrl_se.generation import Generation
from jaxrl_se.obs_ranges import percentiles
from jaxrl_se.training import train
from jaxrl_se.trials import Params

_STEPS = 2048


@struct.dataclass
class Attempt:
    """One attempt, see `EvolutionConfig.restarts`.

    Attributes:
      strategy: The strategy's state at its end.
      obs_range: The proxy's range of observations, or None if it has none.
      fitness: float32 scalar, how good it was.
    """

    strategy: Any
    obs_range: Any
    fitness: jax.Array


@struct.dataclass
class SearchState:
    """What a checkpoint keeps of a search.

    Attributes:
      strategy: The strategy's state.
      best_weights: The search mean whose validation was the best so far.
      best_score: float32 scalar, its mean score; minus infinity before the first.
      best_range: The range of observations that goes with them, or None.
      obs_range: The proxy's range of observations by now, or None if it has none.
      attempt: With restarts, the best attempt so far; else None.
    """

    strategy: Any
    best_weights: Any
    best_score: jax.Array
    best_range: Any = None
    obs_range: Any = None
    attempt: Attempt | None = None

    def attempted(self, fitness: float) -> SearchState:
        """The state after an attempt of this fitness."""
        if self.attempt is None or not fitness > float(self.attempt.fitness):
            return self
        attempt = Attempt(self.strategy, self.obs_range, jnp.float32(fitness))
        return self.replace(attempt=attempt)  # type: ignore

    def resumed(self) -> SearchState:
        """The state that goes on from the best attempt."""
        assert self.attempt is not None
        return self.replace(  # type: ignore
            strategy=self.attempt.strategy, obs_range=self.attempt.obs_range
        )

    def params(self, params: Params) -> Params:
        """An evolution's params with the range of observations by now."""
        if self.obs_range is None:
            return params
        # NumPy's, as the ones that programs were compiled for.
        obs_range = np.asarray(jax.device_get(self.obs_range))
        proxy = params.proxy.replace(obs_range=obs_range)
        return params.replace(proxy=proxy)  # type: ignore

    def validated(self, weights: Any, score: float) -> SearchState:
        """The state after a validation of these weights."""
        if not score > float(self.best_score):
            return self
        return self.replace(  # type: ignore
            best_weights=weights,
            best_score=jnp.float32(score),
            best_range=self.obs_range,
        )


def wider_range(
    program: Generation, params: Params, attempt: Attempt, key: jax.Array
) -> tuple[Any, Steps]:
    """The range of observations for the attempt that follows.

    Args:
      program: The evolution's.
      params: The evolution's.
      attempt: The best one so far.
      key: A PRNG key.

    Returns:
      float32 `[obs_size, 2]`, as wide as the attempt's and as what its best response
      meets in the task; the attempt's own without a best response. And the steps that
      were taken to see it.
    """
    agent = program.config.agents[0]
    if attempt.obs_range is None or not isinstance(agent, BestResponse):
        return attempt.obs_range, Steps()
    proxy = params.proxy.replace(
        weights=program.strategy.mean(attempt.strategy), obs_range=attempt.obs_range
    )
    agent = dataclasses.replace(agent, obs_noise=0.0)
    policy = train(agent, program.env, proxy, key, 1).policy
    rows = collect(program.task, params.task, _STEPS, key, policy)
    met = np.array(percentiles(np.asarray(rows.obs).reshape(_STEPS, -1)))
    known = np.asarray(attempt.obs_range)
    low = np.minimum(known[:, 0], met[:, 0])
    high = np.maximum(known[:, 1], met[:, 1])
    wider = np.stack([low, high], axis=1).astype(np.float32)
    return wider, Steps.of(program.kind, _STEPS)
