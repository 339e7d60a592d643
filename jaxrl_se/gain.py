"""After a search: actions no harder than the task needs.

A search does not mind a reward that asks for full force everywhere: beyond its bound an
action is the same. Agents do mind: such a policy is a steep function of what they see,
for which their networks need many updates, and those that act by sampling end at the
bound by chance. The gain of a controller is what its outputs are multiplied by; a lower
one that does as well in the task is learned sooner.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_runs.values import POSITIVE
from jaxrl_se.agents.best_response import BestResponsePolicy
from jaxrl_se.evaluation import play
from jaxrl_se.networks import Weights
from jaxrl_se.starts import check_one_step
from jaxrl_se.synthetic_env import SyntheticEnv, SyntheticParams

GAINS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.18, 0.12)
EPISODES = 16  # of each
MARGIN = 0.02  # Of the way from random, that the best response may lose by it.


def with_gain(
    env: SyntheticEnv, params: SyntheticParams, gain: float
) -> tuple[SyntheticEnv, SyntheticParams]:
    """An environment of one step whose best actions are smaller, or larger.

    Args:
      env: A `OneStepEnv` with `reward_heads`, for continuous actions.
      params: Its params.
      gain: What the outputs of the reward network are multiplied by, before they are
        bounded. The best action of a state is its output, clipped. Whether that is
        enough for the task is not looked at, as `evolve` does.

    Returns:
      A gymnax pair `(env, params)`.

    Raises:
      ValueError: The environment is of another kind, or the gain is not positive.

    Example:
      >>> import jaxrl_se
      >>> env, params = jaxrl_se.with_gain(*jaxrl_se.load("Pendulum-v1"), 0.5)
    """
    check_one_step(env)
    if env.spaces.num_actions is not None:
        raise ValueError(
            "env must have continuous actions: of discrete ones the best is the same "
            f"whatever the gain, got {env.spaces.num_actions} actions"
        )
    POSITIVE.check("gain", gain)
    reward = _scaled(params.weights["reward"], gain)
    weights = {**params.weights, "reward": reward}
    return env, dataclasses.replace(params, weights=weights)


def lowest_gain(
    policy: BestResponsePolicy,
    task: tuple[Any, Any],
    key: jax.Array,
    random_return: float,
) -> tuple[float, int]:
    """The lowest of `GAINS` with which a best response does as well in the task.

    Args:
      policy: The best response, for continuous actions.
      task: A gymnax pair `(env, params)`.
      key: A PRNG key; all gains meet the same episodes.
      random_return: Mean return of random play.

    Returns:
      The gain, and steps in the task.
    """

    @jax.jit
    def played(gains):
        def one(gain):
            reward = _scaled(policy.weights["reward"], gain)
            scaled = dataclasses.replace(
                policy, weights={**policy.weights, "reward": reward}
            )
            return play(scaled, *task, key, EPISODES)

        return jax.vmap(one)(gains)

    episodes = played(jnp.array(GAINS))
    returns = np.asarray(episodes.returns, np.float64).mean(axis=1)
    way = abs(returns[0] - float(np.nan_to_num(random_return)))
    does_as_well = returns >= returns[0] - MARGIN * way  # Which NaN never does.
    number = int(np.cumprod(does_as_well).sum())  # The first ones that all do.
    return GAINS[max(number - 1, 0)], int(jnp.sum(episodes.lengths))


def _scaled(reward: Weights, gain: Any) -> Weights:
    """Weights of a reward network of so many times the outputs."""
    *others, last = reward
    return (*others, jax.tree.map(lambda x: gain * jnp.asarray(x), last))
