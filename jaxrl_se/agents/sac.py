"""Soft actor-critic for continuous and for discrete actions."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.spaces import Spaces
from jaxrl_runs.values import (
    COUNT,
    DISCOUNT,
    FLAG,
    FRACTION,
    LAYERS,
    MANY,
    POSITIVE,
    RATE,
    STEPS,
    Integer,
    static,
    traced,
)
from jaxrl_se.agents.noise import gumbels, normals
from jaxrl_se.agents.off_policy import OffPolicyAgent, Progress, Variation
from jaxrl_se.agents.replay import Batch
from jaxrl_se.networks import ACTIVATION, Weights
from jaxrl_se.policies import DeterministicPolicy, GreedyPolicy
from jaxrl_se.torsos import ActionValue, Network, observation_network

_LOG_STD_RANGE = (-10.0, 2.0)  # rejax's


@struct.dataclass
class Learned:
    """What gradient descent changes.

    Attributes:
      actor: Weights of the policy.
      critics: A tuple of the Q-networks' weights.
      log_temperature: float32, logarithm of the weight of the policy's entropy.
    """

    actor: Weights
    critics: tuple[Weights, ...]
    log_temperature: jax.Array


@struct.dataclass
class Learner:
    """What SAC learns.

    Attributes:
      weights: See `Learned`.
      target_critics: The target Q-networks' weights.
      opt_state: State of one Adam for all of `weights`.
    """

    weights: Learned
    target_critics: tuple[Weights, ...]
    opt_state: Any


@struct.dataclass
class SAC(OffPolicyAgent):
    """Hyperparameters of soft actor-critic; numbers are traced, shapes are static.

    For continuous actions the policy is the tanh of a Gaussian, scaled to the bounds,
    and the soft value is that of one sampled action (Haarnoja et al., 2018, arXiv
    1812.05905). For discrete ones it is a softmax, and the soft value is the
    expectation over all actions (Christodoulou, 2019, arXiv 1910.07207). Critics and
    entropies know actions in [-1, 1] only, as in Stable-Baselines3. Critics, actor and
    temperature take their gradient steps at once, from the same weights.

    The first `learning_starts` actions are uniformly random. Each later environment
    step is followed by one update. The target bootstraps through truncation and stops
    at termination only. The test policy takes the mode.

    Attributes:
      learning_rate: Adam's step size, also the temperature's.
      discount: Discount of future rewards, in (0, 1].
      target_update_rate: Step of the target networks towards the online ones per update
        (Polyak averaging; rejax's `polyak` is one minus this).
      initial_temperature: Weight of the policy's entropy at first.
      target_entropy_ratio: The temperature is adjusted such that the policy's entropy
        is this share of the largest, log(num_actions). Discrete actions only: for
        continuous ones the target is minus the number of dimensions (both as in
        rejax).
      learning_starts: Environment steps before the first update.
      updates_per_step: Updates per environment step from then on, at most 1.
      variation: Traced sizes inside the static ones (see `jaxrl_se.hyperparameters`).
      hidden_sizes: Widths of the hidden layers of all networks.
      activation: Their activation, a name in `jaxrl_se.networks.ACTIVATIONS`.
      num_critics: Q-networks, whose minimum is the value.
      batch_size: Transitions per update, drawn uniformly with replacement.
      buffer_size: Capacity of the replay buffer in transitions.
      num_envs: Environments that are stepped at once.
      normalize_observations: Whether networks see observations by the mean and
        deviation of all so far, clipped to ten deviations.
      network: "mlp", "cnn", or a `flax.linen.Module` (see `jaxrl_se.torsos`).
    """

    learning_rate: float = traced(1e-3, RATE)
    discount: float = traced(0.99, DISCOUNT)
    target_update_rate: float = traced(0.01, RATE)
    initial_temperature: float = traced(1.0, POSITIVE)
    target_entropy_ratio: float = traced(0.9, FRACTION)
    learning_starts: int = traced(256, STEPS)
    updates_per_step: float = traced(1.0, RATE)
    variation: Variation | None = None
    hidden_sizes: tuple[int, ...] = static((64, 64), LAYERS)
    activation: str = static("relu", ACTIVATION)
    num_critics: int = static(2, Integer(at_most=64))
    batch_size: int = static(256, MANY)
    buffer_size: int = static(100_000, COUNT)
    num_envs: int = static(1, MANY)
    normalize_observations: bool = static(False, FLAG)
    network: Any = struct.field(pytree_node=False, default="mlp")

    def actor(self, spaces: Spaces) -> Network:
        """The policy's network: observation to logits, or to means and log-stds."""
        size = spaces.num_actions or 2 * spaces.action_size
        return self._network(spaces, size)

    def critic(self, spaces: Spaces) -> Any:
        """A Q-network: a `Network` to all values, or an `ActionValue`."""
        if spaces.num_actions is not None:
            return self._network(spaces, spaces.num_actions)
        return ActionValue.of(self.network, spaces, self.hidden_sizes, self.activation)

    def _network(self, spaces: Spaces, out_size: int) -> Network:
        return observation_network(
            self.network, spaces, self.hidden_sizes, out_size, self.activation
        )

    def learned_policy(self, spaces: Spaces, weights: Weights) -> Any:
        """The most likely action."""
        network = self.actor(spaces)
        if spaces.num_actions is not None:
            return GreedyPolicy(weights=weights, network=network)
        return DeterministicPolicy(weights=weights, network=network, spaces=spaces)

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        if spaces.num_actions is None:
            self.check_continuous(spaces)
        self.check_sizes(spaces)
        actor = self.actor(spaces)
        if self.variation is not None:
            actor.check_shape()

    def stored_action_size(self, spaces: Spaces) -> int:
        """The action's index, or its vector."""
        return 1 if spaces.num_actions is not None else spaces.action_size

    def num_draws(self, spaces: Spaces) -> tuple[int, int]:
        """One per dimension or choice, and for the two sampled actions of an update."""
        if spaces.num_actions is not None:
            return spaces.num_actions, 0
        return spaces.action_size, 2 * self.batch_size * spaces.action_size

    def init(self, spaces: Spaces, key: jax.Array) -> Learner:
        """Draws the networks; the targets equal the online ones."""
        key_actor, *keys_critics = jax.random.split(key, 1 + self.num_critics)
        shape, network = self.network_shape, self.critic(spaces)
        weights: Any = Learned(
            actor=self.actor(spaces).init(key_actor, shape),
            critics=tuple(network.init(key, shape) for key in keys_critics),
            log_temperature=jnp.log(jnp.float32(self.initial_temperature)),
        )
        opt_state = optax.adam(self.learning_rate).init(weights)
        return Learner(weights, weights.critics, opt_state)

    def learned_weights(self, spaces: Spaces, learner: Learner) -> Weights:
        """The actor's."""
        return learner.weights.actor

    def explore(self, spaces, learner, obs, uniform, progress: Progress):
        """Uniformly random at first, then drawn from the policy."""
        outputs = self.actor(spaces)(learner.weights.actor, obs[None])[0]
        is_random = progress.step < self.learning_starts
        if spaces.num_actions is not None:
            scores = jnp.where(is_random, uniform, outputs + gumbels(uniform))
            action = jnp.argmax(scores)
            return action, action
        unit, _ = sample(outputs, normals(uniform))
        unit = jnp.where(is_random, 2 * uniform - 1, unit)
        return spaces.scaled_action(unit), unit

    def learn(
        self, spaces: Spaces, learner: Learner, batch: Batch, uniform: jax.Array
    ) -> Learner:
        """One gradient step on the sum of all losses."""
        adam = optax.adam(self.learning_rate)
        weights: Any = learner.weights
        grads = jax.grad(self.loss)(
            weights, learner.target_critics, spaces, batch, uniform
        )
        updates, opt_state = adam.update(grads, learner.opt_state)
        changed: Any = optax.apply_updates(weights, updates)
        target_critics: Any = optax.incremental_update(
            changed.critics, learner.target_critics, self.target_update_rate
        )
        return Learner(changed, target_critics, opt_state)

    def losses(
        self, spaces: Spaces, learner: Learner, batch: Batch, uniform: jax.Array
    ) -> dict[str, jax.Array]:
        """See `OffPolicyAgent`."""
        weights, targets = learner.weights, learner.target_critics
        return {
            "loss": self.loss(weights, targets, spaces, batch, uniform),
            "temperature": jnp.exp(weights.log_temperature),
        }

    def loss(
        self, weights: Learned, target_critics, spaces, batch: Batch, uniform
    ) -> jax.Array:
        """Sum of the losses of critics, actor and temperature.

        Each stops at the weights of the others, so that their gradients do not mix.
        """
        fixed: Learned = jax.lax.stop_gradient(weights)
        temperature = jnp.exp(fixed.log_temperature)
        for_next, for_now = normals(uniform).reshape(2, batch.mask.size, -1)

        next_value, _ = self.soft_value(
            spaces, fixed.actor, target_critics, temperature, batch.next_obs, for_next
        )
        target = batch.reward + self.discount * batch.bootstrap_weight * next_value
        values = self.values_of_taken(spaces, weights.critics, batch)
        critic_loss = sum(batch.mean(jnp.square(value - target)) for value in values)

        value, log_prob = self.soft_value(
            spaces, weights.actor, fixed.critics, temperature, batch.obs, for_now
        )
        actor_loss = -batch.mean(value)

        excess = batch.mean(jax.lax.stop_gradient(log_prob)) + self.target_entropy(
            spaces
        )
        temperature_loss = -jnp.exp(weights.log_temperature) * excess
        return critic_loss + actor_loss + temperature_loss

    def target_entropy(self, spaces: Spaces) -> Any:
        """The entropy that the temperature is adjusted for."""
        if spaces.num_actions is None:
            return -float(spaces.action_size)
        return self.target_entropy_ratio * math.log(spaces.num_actions)

    def values_of_taken(self, spaces, critics, batch: Batch) -> list[jax.Array]:
        """Q(s, a) of each critic for the actions in the buffer, `[B]` each."""
        network = self.critic(spaces)
        if spaces.num_actions is None:
            return [network(weights, batch.obs, batch.action) for weights in critics]
        one_hot = jax.nn.one_hot(
            batch.action[:, 0].astype(jnp.int32), spaces.num_actions
        )
        return [
            jnp.sum(network(weights, batch.obs) * one_hot, axis=-1)
            for weights in critics
        ]

    def soft_value(
        self, spaces, actor, critics, temperature, obs, normal
    ) -> tuple[jax.Array, jax.Array]:
        """V(s) = E[Q(s, a) - temperature * log pi(a|s)], and E[log pi(a|s)].

        The expectation is exact for discrete actions and that of one sample otherwise.

        Args:
          spaces: The task's spaces.
          actor: Weights of the policy.
          critics: Those of the critics, whose minimum is Q.
          temperature: Weight of the entropy.
          obs: `[B, obs_size]`.
          normal: Standard normal numbers `[B, action_size]` for continuous actions.

        Returns:
          Two `[B]` arrays.
        """
        outputs = self.actor(spaces)(actor, obs)
        network = self.critic(spaces)
        if spaces.num_actions is None:
            unit, log_prob = sample(outputs, normal)
            value = _minimum([network(weights, obs, unit) for weights in critics])
        else:
            log_probs = jax.nn.log_softmax(outputs)
            probs = jnp.exp(log_probs)
            values = _minimum([network(weights, obs) for weights in critics])
            value = jnp.sum(probs * values, axis=-1)
            log_prob = jnp.sum(probs * log_probs, axis=-1)
        return value - temperature * log_prob, log_prob


def sample(outputs: jax.Array, normal: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws from a squashed Gaussian (Haarnoja et al., 2018, appendix C).

    Args:
      outputs: Means, then logarithms of standard deviations, `[..., 2 * action_size]`.
      normal: Standard normal numbers `[..., action_size]`.

    Returns:
      Actions in [-1, 1] and the logarithm of their density, `[...]`.
    """
    mean, log_std = jnp.split(outputs, 2, axis=-1)
    log_std = jnp.clip(log_std, *_LOG_STD_RANGE)
    before = mean + jnp.exp(log_std) * normal
    # log(1 - tanh(x)^2) without cancellation.
    log_slope = 2 * (math.log(2) - before - jax.nn.softplus(-2 * before))
    log_density = -0.5 * (jnp.square(normal) + math.log(2 * math.pi)) - log_std
    return jnp.tanh(before), jnp.sum(log_density - log_slope, axis=-1)


def _minimum(values: list[jax.Array]) -> jax.Array:
    return functools.reduce(jnp.minimum, values)
