"""An environment of one step with dynamics added: episodes of several steps.

In an environment of one step an agent meets states that are drawn apart from each
other. Here it meets those that follow each other in the task: the next observation is a
small network's, fitted to steps that the environment's best response takes in the task,
some of its actions drawn by chance. The reward stays what it was, less that of the best
action (`SyntheticConfig.advantage`), so that the best action is the same whatever
follows it: agents of any discount, and ones that take the time limit for the end, come
to act as they do in the environment of one step.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.steps import Steps
from envs.task import open_named
from jaxrl_runs import values
from jaxrl_runs.values import COUNT, Like, Number, as_key, setting
from jaxrl_se.agents.best_response import BestResponse
from jaxrl_se.any_task import confirmed_by, with_steps
from jaxrl_se.evolution_result import EvolutionResult, with_environment
from jaxrl_se.evolution_task import EvolutionTask
from jaxrl_se.fitting import fitted
from jaxrl_se.from_policy import check_finite, demonstrations
from jaxrl_se.networks import MLP, Weights
from jaxrl_se.obs_ranges import to_unit
from jaxrl_se.synthetic_env import OneStepEnv, SyntheticEnv, SyntheticParams
from jaxrl_se.training import train

_PURPOSE = 1_000_008  # Of a key that evolution has not.
_WITHIN = 0.98  # Of the bound, so that what is fitted is finite before it is squashed.


@dataclasses.dataclass(frozen=True)
class Dynamics:
    """How the next observation is fitted.

    Attributes:
      num_rows: Steps in the task.
      noise: Share of them in which the action is drawn by chance.
      num_steps: Gradient steps, of 256 rows each.
    """

    num_rows: int = setting(10_000, COUNT)
    noise: float = setting(0.3, Number(at_least=0, below=1))
    num_steps: int = setting(4000, COUNT)

    def __post_init__(self):
        values.check(self)


def with_dynamics(
    env: SyntheticEnv,
    params: SyntheticParams,
    task: Any,
    episode_length: int,
    key: int | jax.Array = 0,
    config: Dynamics | None = None,
) -> tuple[SyntheticEnv, SyntheticParams]:
    """The multi-step environment of a one-step one.

    Args:
      env: A `OneStepEnv` with `reward_heads` whose initial states are not the task's.
      params: Its params.
      task: Whatever `envs.open_task` takes.
      episode_length: Steps after which an episode is truncated.
      key: A seed or a PRNG key.
      config: How; `Dynamics()` by default.

    Returns:
      A gymnax pair `(env, params)`. `config.num_rows` steps of the task were taken.

    Raises:
      ValueError: The environment is of another kind, or the task not finite.
    """
    COUNT.check("episode_length", episode_length)
    Like("a Dynamics", kinds=(Dynamics,), optional=True).check("config", config)
    config = config or Dynamics()
    if not (isinstance(env, OneStepEnv) and env.config.reward_heads):
        raise ValueError(
            "env must be a OneStepEnv with reward_heads, got "
            f"{getattr(env, 'name', type(env).__name__)}"
        )
    if env.target is not None:
        raise ValueError("env: initial states must not be the task's own")
    opened = open_named("task", task)
    key_play, key_init, key_fit = jax.random.split(as_key(key), 3)
    key_response = jax.random.fold_in(key_play, 1)
    shape = env.config
    response = BestResponse(shape.hidden_sizes, shape.activation, shape.reward_bound)
    policy = train(response, env, params, key_response, 1).policy
    rows, _ = demonstrations(policy, opened, key_play, config.num_rows, config.noise)
    obs, action = np.asarray(rows.obs, np.float32), np.asarray(rows.action)
    next_obs = np.asarray(rows.next_obs, np.float32)
    check_finite(opened, np.stack([obs, next_obs]), action)
    long = dataclasses.replace(
        shape, variant="multi-step", max_steps=episode_length, advantage=True
    ).build(env.spaces)
    network = long.networks()["next_obs"]
    vectors = jax.vmap(env.spaces.action_vector)(jnp.asarray(action))
    unit = to_unit(params.obs_range, jnp.asarray(obs))
    after = to_unit(params.obs_range, jnp.asarray(next_obs))
    inputs = jnp.concatenate([vectors, unit], axis=1)
    start = network.init(key_init)
    learned = _fitted_dynamics(
        network, start, shape.obs_bound, config.num_steps, inputs, after, key_fit
    )
    weights = {"next_obs": learned} | params.weights
    return long, dataclasses.replace(
        params, weights=weights, max_steps_in_episode=episode_length
    )


def lengthened(
    result: EvolutionResult, opened: EvolutionTask, episode_length: int, key: jax.Array
) -> EvolutionResult:
    """The result of an evolution with dynamics added, and fresh agents to test it.

    Args:
      result: Of an evolution with a chosen configuration.
      opened: Its task.
      episode_length: See `with_dynamics`.
      key: The evolution's key.

    Returns:
      The result with the multi-step environment. No validation was made of it; its
      confirmation and `test` are those of agents trained in it.
    """
    found, before = result.probe, result.confirmation
    assert found is not None and before is not None
    dynamics = Dynamics()
    key_fit = jax.random.fold_in(key, _PURPOSE)
    key_test = jax.random.fold_in(key_fit, 1)
    task = opened.task
    evolved = with_dynamics(
        result.env, result.params, task, episode_length, key_fit, dynamics
    )
    longer = with_environment(result, task, *evolved)
    confirmation, taken = confirmed_by(
        longer.test, longer.config, task, before.kind, key_test, found, evolved
    )
    rows = Steps.of(before.kind, dynamics.num_rows)
    return dataclasses.replace(
        longer,
        progress=with_steps(result.progress, taken + rows),
        confirmation=confirmation,
    )


def _fitted_dynamics(
    network: MLP,
    weights: Weights,
    bound: float | None,
    num_steps: int,
    inputs: jax.Array,
    after: jax.Array,
    key: jax.Array,
) -> Weights:
    """Weights of a next observation, by least squares in units of the ranges."""
    if bound is not None:
        after = jnp.clip(after, -_WITHIN * bound, _WITHIN * bound)

    def loss(weights, rows):
        inputs, after = rows
        outputs = network(weights, inputs)
        if bound is not None:
            outputs = bound * jnp.tanh(outputs)
        return jnp.mean(jnp.square(outputs - after))

    return fitted(loss, weights, (inputs, after), num_steps, key)
