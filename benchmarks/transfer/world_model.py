"""World models by supervised learning: what an evolved environment competes with.

The networks of a multi-step environment, fitted by gradient descent to transitions of
the real task: next observation, reward and termination. (The baseline of Ferreira et
al., 2022, never trains its termination, without which CartPole's constant reward has
nothing to teach.)
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from envs import Transitions
from envs.spaces import Spaces
from jaxrl_se.networks import Weights
from jaxrl_se.synthetic_env import MultiStepEnv, SyntheticConfig


@struct.dataclass
class Scales:
    """Means and standard deviations of the data, in which the networks compute.

    Attributes:
      obs: Two float32 `[obs_size]`: mean and deviation of observations.
      change: Likewise of `next_obs - obs`.
      reward: Two float32 scalars.
    """

    obs: tuple[jax.Array, jax.Array]
    change: tuple[jax.Array, jax.Array]
    reward: tuple[jax.Array, jax.Array]


class WorldModel(MultiStepEnv):
    """A multi-step environment in a form that is fitted well.

    Three networks as in `MultiStepEnv`, one each for next observation, reward and
    termination, which take the action and the observation. Inputs and targets are
    normalised and the next observation is predicted as a change. Its params' `weights`
    hold the networks' and, under "scales", the data's `Scales`. The initial states are
    the real task's.

    Args:
      target: The real task's gymnax environment.
      spaces: Its spaces.
      hidden_sizes: Hidden layers of each network.
      activation: Their activation.
    """

    task_kind = "model"

    def __init__(
        self,
        target: Any,
        spaces: Spaces,
        hidden_sizes: tuple[int, ...] = (64, 64),
        activation: str = "tanh",
    ):
        config = SyntheticConfig(
            variant="multi-step",
            hidden_sizes=hidden_sizes,
            activation=activation,
            initial_states="target",
            reward_heads=False,
            obs_range=None,
            obs_bound=None,
            learn_termination=True,
        )
        super().__init__(config, spaces, target)

    @classmethod
    def of(
        cls, task: tuple[Any, Any], hidden_sizes: tuple[int, ...] = (64, 64)
    ) -> tuple[WorldModel, Any]:
        """The untrained model of a task, with its initial states and time limit.

        Args:
          task: A gymnax pair `(env, params)`.
          hidden_sizes: Hidden layers of each network.

        Returns:
          A pair `(env, params)`.
        """
        env, params = task
        model = cls(env, Spaces.of(env, params), hidden_sizes)
        return model, dataclasses.replace(
            model.default_params,
            target_params=params,
            max_steps_in_episode=params.max_steps_in_episode,
        )

    def init_weights(self, key: jax.Array) -> Weights:
        """Draws the networks; the scales leave everything as it is."""
        size = self.spaces.obs_size
        unit = (jnp.zeros(size), jnp.ones(size))
        scales = Scales(unit, unit, (jnp.float32(0.0), jnp.float32(1.0)))
        return super().init_weights(key) | {"scales": scales}

    def predict(
        self, weights: Weights, obs: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Normalised change, normalised reward and the logit of termination."""
        mean, std = weights["scales"].obs
        vector = self.spaces.action_vector(action)
        inputs = jnp.concatenate([vector, (obs - mean) / std])
        networks = self.networks()
        change, reward, logit = (
            networks[name](weights[name], inputs)
            for name in ("next_obs", "reward", "terminated")
        )
        return change, reward[0], logit[0]

    def step_env(self, key, state, action, params):
        """Steps the model; an episode terminates where that is the likelier."""
        del key
        weights = params.weights
        change, reward, logit = self.predict(weights, state.obs, action)
        mean, std = weights["scales"].change
        obs = state.obs + mean + std * change
        mean, std = weights["scales"].reward
        state = state.replace(time=state.time + 1, obs=obs)
        return obs, state, mean + std * reward, logit > 0, {}


def fit(
    env: WorldModel,
    params: Any,
    transitions: Transitions,
    key: jax.Array,
    *,
    num_updates: int = 5000,
    batch_size: int = 128,
    learning_rate: float = 1e-2,
) -> Any:
    """Fits a world model to transitions, compiled as a whole.

    Adam with a cosine schedule on the squared error of the normalised change and reward
    and the cross-entropy of termination. The networks share no weights, so that the
    three need no weighing against each other. Truncation is no part of a model.

    Args:
      env: A `WorldModel`.
      params: Its params; where their weights are is where fitting starts.
      transitions: Of the real task, `N` of them (see `envs.collect`).
      key: A PRNG key.
      num_updates: Gradient steps.
      batch_size: Transitions per step, drawn uniformly with replacement.
      learning_rate: Adam's first step size.

    Returns:
      The params with fitted weights and the data's scales.

    Raises:
      ValueError: A number that is not positive, or transitions of other spaces.
    """
    for name, value in (
        ("num_updates", num_updates),
        ("batch_size", batch_size),
        ("learning_rate", learning_rate),
    ):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    size = env.spaces.obs_size
    if transitions.obs.shape[1:] != (size,):
        raise ValueError(
            f"transitions: the model's observations have size {size}, theirs are of "
            f"shape {transitions.obs.shape[1:]}"
        )
    weights = {**params.weights, "scales": _scales(transitions)}
    data = (transitions.obs, transitions.action, _targets(transitions, weights))
    data = jax.tree.map(jnp.asarray, data)
    weights = _fit(weights, data, learning_rate, num_updates, key, env, batch_size)
    return params.replace(weights=weights)


@partial(jax.jit, static_argnames=("env", "batch_size"))
def _fit(weights, data, learning_rate, num_updates, key, env, batch_size):
    networks = {name: weights[name] for name in env.networks()}
    adam = optax.scale_by_adam()

    def loss(networks, batch):
        obs, action, (change, reward, terminated) = batch
        outputs = jax.vmap(env.predict, (None, 0, 0))(
            {**networks, "scales": weights["scales"]}, obs, action
        )
        return (
            jnp.mean(jnp.square(outputs[0] - change))
            + jnp.mean(jnp.square(outputs[1] - reward))
            + jnp.mean(optax.sigmoid_binary_cross_entropy(outputs[2], terminated))
        )

    def update(index, carry):
        networks, moments = carry
        row_key = jax.random.fold_in(key, index)
        rows = jax.random.randint(row_key, (batch_size,), 0, len(data[0]))
        batch = jax.tree.map(lambda x: x[rows], data)
        updates, moments = adam.update(jax.grad(loss)(networks, batch), moments)
        step = learning_rate * 0.5 * (1 + jnp.cos(jnp.pi * index / num_updates))
        networks = jax.tree.map(lambda w, u: w - step * u, networks, updates)
        return networks, moments

    start = (networks, adam.init(networks))
    networks, _ = jax.lax.fori_loop(0, num_updates, update, start)
    return {**networks, "scales": weights["scales"]}


def errors(env: WorldModel, params: Any, transitions: Transitions) -> dict[str, float]:
    """How far a model is from transitions, best those that it was not fitted to.

    Returns:
      Unexplained shares of the variance, 0 for a perfect model and 1 for one that knows
      the training data's mean: `next_obs_error` of changes (mean over observations) and
      `reward_error` (in units of the squared reward where it never varied). Of the
      terminations, the share that is not foreseen: `missed_terminations` (NaN without
      any); and of all other transitions the share that the model ends:
      `false_terminations`.
    """
    weights = params.weights
    change, reward, terminated = _targets(transitions, weights)
    outputs = jax.jit(jax.vmap(env.predict, (None, 0, 0)))(
        weights, jnp.asarray(transitions.obs), jnp.asarray(transitions.action)
    )
    ends, is_end = np.asarray(outputs[2]) > 0, np.asarray(terminated) > 0.5
    return {
        "next_obs_error": float(np.mean(np.square(outputs[0] - change))),
        "reward_error": float(np.mean(np.square(outputs[1] - reward))),
        "missed_terminations": float(np.mean(~ends[is_end]))
        if is_end.any()
        else np.nan,
        "false_terminations": float(np.mean(ends[~is_end])),
    }


def _scales(transitions: Transitions) -> Scales:
    def of(values):
        values = np.asarray(values, np.float32)
        std = values.std(axis=0)
        # What never changes is predicted by its mean.
        return jnp.asarray(values.mean(axis=0)), jnp.where(std > 1e-6, std, 1.0)

    obs = np.asarray(transitions.obs, np.float32)
    change = np.asarray(transitions.next_obs, np.float32) - obs
    return Scales(of(obs), of(change), of(transitions.reward))


def _targets(transitions: Transitions, weights: Weights) -> tuple:
    """Normalised change `[N, obs_size]`, normalised reward and termination `[N]`."""
    obs, next_obs = (
        np.asarray(x, np.float32) for x in (transitions.obs, transitions.next_obs)
    )
    scales = weights["scales"]
    mean, std = scales.change
    change = (next_obs - obs - mean) / std
    mean, std = scales.reward
    reward = (np.asarray(transitions.reward, np.float32) - mean) / std
    return change, reward, np.asarray(transitions.terminated, np.float32)
