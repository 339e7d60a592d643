"""A reward network from a policy: its value as the potential of additive shaping.

With the value of a good policy as potential, an agent is paid at once for what the task
pays later: each step is worth what it gains or loses against the policy. Whatever is
wrong with the value, the best policy stays the best one (Ng, Harada and Russell, 1999).

The value is that of a network whose hidden layer is drawn and whose output layer is
solved for, by least-squares temporal differences (Bradtke and Barto, 1996, "Linear
Least-Squares Algorithms for Temporal Difference Learning").
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_runs import values
from jaxrl_runs.values import (
    DISCOUNT,
    MANY,
    POSITIVE,
    Like,
    Number,
    TupleOf,
    as_key,
    setting,
)
from jaxrl_runs.warn import warn_user
from jaxrl_se.from_policy import check_finite, demonstrations, opened_with
from jaxrl_se.networks import MLP
from jaxrl_se.obs_ranges import to_unit
from jaxrl_se.outside_task import is_outside
from jaxrl_se.probing import range_of
from jaxrl_se.reward_network import RewardConfig, RewardEnv, RewardParams

# Of the drawn layer, in units of the observations' range. In a double integrator half
# as much left errors twice as great, and with twice as much the solution was unstable.
_SLOPE = 2.0

_SHARE = Number(at_least=0, below=1)  # With 1 no step would be the policy's.


@dataclasses.dataclass(frozen=True)
class Shaping:
    """How the value of a policy becomes a reward network.

    Attributes:
      hidden_size: Width of the network's hidden layer; states by number have none, but
        a value each.
      num_rows: Steps in the task.
      noises: Shares of actions that are drawn by chance instead, each for as many of
        the steps: beginners are where good policies are not, and want to know what
        that is worth.
      discount: Of the value; best the agents'.
      penalty: On the output layer's squared weights, per row.
    """

    hidden_size: int = setting(128, MANY)
    num_rows: int = setting(20_000, MANY)
    noises: tuple[float, ...] = setting((0.1, 0.5, 0.9), TupleOf(_SHARE, min_size=1))
    discount: float = setting(0.99, DISCOUNT)
    penalty: float = setting(1e-5, POSITIVE)

    def __post_init__(self):
        values.check(self)


def shaping_from_policy(
    policy: Any, task: Any, key: int | jax.Array = 0, config: Shaping | None = None
) -> tuple[RewardEnv, RewardParams]:
    """A task whose reward the value of a policy shapes, so that agents learn it sooner.

    Args:
      policy: As for `from_policy`.
      task: A task inside JAX, whatever `envs.open_task` takes, with vectors as
        observations.
      key: A seed or a PRNG key.
      config: How; `Shaping()` by default.

    Returns:
      A gymnax pair `(env, params)` to train in: the task itself, which pays a
      potential's change as well (`RewardConfig`). About `config.num_rows` steps of
      the task were taken for it.

    Raises:
      ValueError: Observations are no vectors, or the policy's actions not the task's.
      TypeError: The policy is none, or remembers.

    Warns:
      RuntimeWarning: Errors of the value are larger than what actions differ by.
    """
    Like("a Shaping", kinds=(Shaping,), optional=True).check("config", config)
    config = config or Shaping()
    opened, policy = opened_with(policy, task)
    if is_outside(opened):
        raise ValueError(
            f"task {opened.name!r} must be inside JAX for its reward to be shaped, got "
            "one of Gymnasium's; `from_policy` takes these"
        )
    key_play, key_draw = jax.random.split(as_key(key))
    rows, asked = _played(policy, opened, key_play, config)
    obs, next_obs = (
        np.asarray(each, np.float32).reshape(len(rows), -1)
        for each in (rows.obs, rows.next_obs)
    )
    is_table = opened.spaces.num_states is not None
    shape = RewardConfig(
        "additive-potential",
        hidden_sizes=() if is_table else (config.hidden_size,),
        activation="tanh",
        obs_range="task" if is_table else range_of(obs),
    )
    env, params = shape.make(*opened.pair, discount=config.discount)
    layers = _drawn(env.network, key_draw)
    before, after = (
        _features(env.network, layers, to_unit(params.obs_range, jnp.asarray(each)))
        for each in (obs, next_obs)
    )
    after *= config.discount * ~np.asarray(rows.terminated)[:, None]
    reward = np.asarray(rows.reward, float)
    weights = temporal_differences(before, after, reward, asked, config.penalty)
    _warn(reward + after @ weights - before @ weights, asked)
    output = {
        "kernel": jnp.asarray(weights[None, :-1], jnp.float32),
        "bias": jnp.asarray(weights[-1:], jnp.float32),
    }
    return env, dataclasses.replace(params, weights=(*layers[:-1], output))


def _played(
    policy: Any, task: Any, key: jax.Array, config: Shaping
) -> tuple[Any, np.ndarray]:
    """Transitions `[N]`, and where the policy itself acted, bool `[N]`."""
    played = [
        demonstrations(
            policy,
            task,
            jax.random.fold_in(key, place),
            -(-config.num_rows // len(config.noises)),
            noise,
        )
        for place, noise in enumerate(config.noises)
    ]
    rows, action = jax.tree.map(lambda *leaves: np.concatenate(leaves), *played)
    check_finite(task, rows.obs, action)
    taken = np.asarray(rows.action).reshape(len(rows), -1)
    same = np.isclose(taken, action.reshape(len(rows), -1))
    return rows, np.all(same, axis=1)


def _warn(gains: np.ndarray, asked: np.ndarray) -> None:
    """Warns where the value's own errors hide what actions are worth.

    Args:
      gains: What shaped rewards are, `[N]`: 0 for the policy's own actions, were the
        value exact, and a loss for worse ones.
      asked: bool `[N]`, where the policy itself acted.
    """
    if asked.all():
        return
    error, loss = np.sqrt(np.mean(gains[asked] ** 2)), -np.mean(gains[~asked])
    if error > loss:
        warn_user(
            "policy: its value is told badly: its own steps, worth 0, are off by "
            f"{error:.2g}, while actions of chance lose {loss:.2g}. Agents may learn "
            "later with this reward than with the task's own",
            RuntimeWarning,
        )


def _drawn(network: MLP, key: jax.Array) -> Any:
    """Weights whose hidden units bend within the range of observations."""
    layers = network.init(key)
    if not network.hidden_sizes:
        return layers
    slope = _SLOPE * np.sqrt(3.0)  # `init` draws from a uniform distribution.
    return (jax.tree.map(lambda leaf: slope * leaf, layers[0]), *layers[1:])


def _features(network: MLP, layers: Any, obs: jax.Array) -> np.ndarray:
    """What the output layer sees, and a column of ones, float64 `[N, H + 1]`."""
    seen = jnp.asarray(obs)
    if network.hidden_sizes:
        seen = jnp.tanh(seen @ layers[0]["kernel"] + layers[0]["bias"])
    return np.column_stack([np.asarray(seen, float), np.ones(len(seen))])


def temporal_differences(
    before: np.ndarray,
    after: np.ndarray,
    reward: np.ndarray,
    asked: np.ndarray,
    penalty: float,
) -> np.ndarray:
    """Weights of a linear value, by least-squares temporal differences.

    Args:
      before: Features of a state `[N, F]`.
      after: Of the next one, discounted, 0 where the task ended.
      reward: `[N]`.
      asked: bool `[N]`, where the policy itself acted; the others are left out.
      penalty: On squared weights, per row.
    """
    before, after, reward = before[asked], after[asked], reward[asked]
    matrix = before.T @ (before - after) / len(before)
    matrix += penalty * np.eye(len(matrix))
    return np.linalg.solve(matrix, before.T @ reward / len(before))
