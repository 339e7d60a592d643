"""TD3 (Fujimoto et al., 2018) and DDPG (Lillicrap et al., 2016)."""

from __future__ import annotations

import functools
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
    LAYERS,
    MANY,
    NOT_NEGATIVE,
    RATE,
    STEPS,
    Integer,
    Number,
    static,
    traced,
)
from jaxrl_se.agents.noise import normals
from jaxrl_se.agents.off_policy import OffPolicyAgent, Progress, Variation
from jaxrl_se.agents.replay import Batch
from jaxrl_se.networks import ACTIVATION, Weights
from jaxrl_se.policies import DeterministicPolicy
from jaxrl_se.torsos import ActionValue, Network, observation_network


@struct.dataclass
class Learner:
    """What TD3 learns.

    Attributes:
      actor: Weights of the policy.
      critics: A tuple of the Q-networks' weights.
      target_actor: The target policy's weights.
      target_critics: The target Q-networks'.
      actor_opt: State of the actor's Adam.
      critic_opt: State of the critics' Adam, one for all of them.
      num_updates: int32, updates of the critics.
    """

    actor: Weights
    critics: tuple[Weights, ...]
    target_actor: Weights
    target_critics: tuple[Weights, ...]
    actor_opt: Any
    critic_opt: Any
    num_updates: jax.Array


@struct.dataclass
class TD3(OffPolicyAgent):
    """Hyperparameters of TD3; numbers are traced, shapes are static.

    Actions are vectors in [-1, 1], scaled to the bounds for the environment alone: the
    critics and the noise know no other unit, as in Stable-Baselines3. Where another
    code adds noise to the scaled action (the target noise of Ferreira et al., 2022, all
    noise in rejax), divide its numbers by half the distance between the bounds.

    The first `learning_starts` actions are uniformly random. Each later environment
    step is followed by one update of the critics, and every `policy_delay` of these by
    one of the actor and of all targets. The target bootstraps through truncation and
    stops at termination only.

    Attributes:
      learning_rate: Step size of both Adams.
      discount: Discount of future rewards, in (0, 1].
      target_update_rate: Step of the target networks towards the online ones per
        update of the actor (Polyak averaging).
      exploration_noise: Standard deviation of the behaviour's noise.
      target_noise: Standard deviation of the target policy's noise.
      target_noise_clip: Largest target noise, in the same unit.
      policy_delay: Updates of the critics per update of the actor and the targets.
      learning_starts: Environment steps before the first update.
      updates_per_step: Updates per environment step from then on, at most 1.
      variation: Traced sizes inside the static ones (see `jaxrl_se.hyperparameters`).
      hidden_sizes: Widths of the hidden layers of all networks.
      activation: Their activation, a name in `jaxrl_se.networks.ACTIVATIONS`.
      num_critics: Q-networks, whose minimum is the target. The actor follows the first.
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
    exploration_noise: float = traced(0.1, NOT_NEGATIVE)
    target_noise: float = traced(0.2, NOT_NEGATIVE)
    target_noise_clip: float = traced(0.5, NOT_NEGATIVE)
    policy_delay: int = traced(2, Number(at_least=1.0, whole=True))
    learning_starts: int = traced(100, STEPS)
    updates_per_step: float = traced(1.0, RATE)
    variation: Variation | None = None
    hidden_sizes: tuple[int, ...] = static((64, 64), LAYERS)
    activation: str = static("relu", ACTIVATION)
    num_critics: int = static(2, Integer(at_most=64))
    batch_size: int = static(100, MANY)
    buffer_size: int = static(100_000, COUNT)
    num_envs: int = static(1, MANY)
    normalize_observations: bool = static(False, FLAG)
    network: Any = struct.field(pytree_node=False, default="mlp")

    def actor(self, spaces: Spaces) -> Network:
        """The policy's network: observation to an action before its tanh."""
        return observation_network(
            self.network,
            spaces,
            self.hidden_sizes,
            spaces.action_size,
            self.activation,
        )

    def critic(self, spaces: Spaces) -> ActionValue:
        """A Q-network: observation and action to a value."""
        return ActionValue.of(self.network, spaces, self.hidden_sizes, self.activation)

    def learned_policy(self, spaces: Spaces, weights: Weights) -> Any:
        """The actor without noise."""
        return DeterministicPolicy(
            weights=weights, network=self.actor(spaces), spaces=spaces
        )

    def check_actions(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot act in these spaces."""
        self.check_continuous(spaces)

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        self.check_actions(spaces)
        self.check_sizes(spaces)
        actor = self.actor(spaces)
        if self.variation is not None:
            actor.check_shape()

    def stored_action_size(self, spaces: Spaces) -> int:
        """The action as the critics see it."""
        return spaces.action_size

    def num_draws(self, spaces: Spaces) -> tuple[int, int]:
        """One per dimension of each action that gets noise."""
        return spaces.action_size, self.batch_size * spaces.action_size

    def init(self, spaces: Spaces, key: jax.Array) -> Learner:
        """Draws the networks; the targets equal the online ones."""
        key_actor, *keys_critics = jax.random.split(key, 1 + self.num_critics)
        actor = self.init_actor(spaces, key_actor)
        network = self.critic(spaces)
        critics = tuple(network.init(key, self.network_shape) for key in keys_critics)
        adam = optax.adam(self.learning_rate)
        return Learner(
            actor=actor,
            critics=critics,
            target_actor=actor,
            target_critics=critics,
            actor_opt=adam.init(actor),
            critic_opt=adam.init(critics),
            num_updates=jnp.int32(0),
        )

    def init_actor(self, spaces: Spaces, key: jax.Array) -> Weights:
        """Draws the actor."""
        return self.actor(spaces).init(key, self.network_shape)

    def learned_weights(self, spaces: Spaces, learner: Learner) -> Weights:
        """The online actor's."""
        return learner.actor

    def explore(self, spaces, learner, obs, uniform, progress: Progress):
        """Uniformly random at first, then the actor's action with Gaussian noise."""
        unit = jnp.tanh(self.actor(spaces)(learner.actor, obs[None])[0])
        unit = unit + self.exploration_noise * normals(uniform)
        is_random = progress.step < self.learning_starts
        unit = jnp.clip(jnp.where(is_random, 2 * uniform - 1, unit), -1.0, 1.0)
        return spaces.scaled_action(unit), unit

    def target_action(self, spaces, weights, next_obs, uniform) -> jax.Array:
        """The target policy's action with clipped noise, `[B, action_size]`."""
        unit = jnp.tanh(self.actor(spaces)(weights, next_obs))
        return jnp.clip(unit + self.clipped_noise(uniform), -1.0, 1.0)

    def clipped_noise(self, uniform: jax.Array) -> jax.Array:
        """The target policy's noise."""
        limit = self.target_noise_clip
        return jnp.clip(self.target_noise * normals(uniform), -limit, limit)

    def actor_action(self, spaces, weights, obs, uniform) -> jax.Array:
        """The actor's action as a function of its weights, `[B, action_size]`."""
        del uniform
        return jnp.tanh(self.actor(spaces)(weights, obs))

    def learn(
        self, spaces: Spaces, learner: Learner, batch: Batch, uniform: jax.Array
    ) -> Learner:
        """One step of the critics; with every `policy_delay`-th one of all others."""
        uniform = uniform.reshape(self.batch_size, -1)
        target = self.target(spaces, learner, batch, uniform)
        adam = optax.adam(self.learning_rate)
        grads = jax.grad(self.critic_loss)(learner.critics, spaces, batch, target)
        updates, critic_opt = adam.update(grads, learner.critic_opt)
        critics: Any = optax.apply_updates(learner.critics, updates)
        num_updates = learner.num_updates + 1

        def update_the_others(others):
            actor, targets, actor_opt = others
            grads = jax.grad(self.actor_loss)(actor, spaces, critics, batch, uniform)
            updates, actor_opt = adam.update(grads, actor_opt)
            actor = optax.apply_updates(actor, updates)
            targets = optax.incremental_update(
                (actor, critics), targets, self.target_update_rate
            )
            return actor, targets, actor_opt

        actor, (target_actor, target_critics), actor_opt = jax.lax.cond(
            num_updates % self.policy_delay == 0,
            update_the_others,
            lambda others: others,
            (
                learner.actor,
                (learner.target_actor, learner.target_critics),
                learner.actor_opt,
            ),
        )
        return Learner(
            actor=actor,
            critics=critics,
            target_actor=target_actor,
            target_critics=target_critics,
            actor_opt=actor_opt,
            critic_opt=critic_opt,
            num_updates=num_updates,
        )

    def losses(
        self, spaces: Spaces, learner: Learner, batch: Batch, uniform: jax.Array
    ) -> dict[str, jax.Array]:
        """See `OffPolicyAgent`."""
        uniform = uniform.reshape(self.batch_size, -1)
        target = self.target(spaces, learner, batch, uniform)
        return {
            "critic_loss": self.critic_loss(learner.critics, spaces, batch, target),
            "actor_loss": self.actor_loss(
                learner.actor, spaces, learner.critics, batch, uniform
            ),
        }

    def target(self, spaces, learner: Learner, batch: Batch, uniform) -> jax.Array:
        """The critics' target, `[B]`: clipped double Q-learning."""
        action = self.target_action(
            spaces, learner.target_actor, batch.next_obs, uniform
        )
        values = self.values(spaces, learner.target_critics, batch.next_obs, action)
        bootstrap = functools.reduce(jnp.minimum, values)
        return batch.reward + self.discount * batch.bootstrap_weight * bootstrap

    def values(self, spaces, critics, obs, action) -> list[jax.Array]:
        """Q(s, a) of each critic, `[B]` each."""
        network = self.critic(spaces)
        return [network(weights, obs, action) for weights in critics]

    def critic_loss(self, critics, spaces, batch: Batch, target) -> jax.Array:
        """Sum over the critics of the mean squared temporal-difference error."""
        values = self.values(spaces, critics, batch.obs, batch.action)
        losses = [batch.mean(jnp.square(value - target)) for value in values]
        return functools.reduce(jnp.add, losses)

    def actor_loss(self, weights, spaces, critics, batch: Batch, uniform) -> jax.Array:
        """The negative mean value of the actor's actions by the first critic."""
        action = self.actor_action(spaces, weights, batch.obs, uniform)
        return -batch.mean(self.values(spaces, critics[:1], batch.obs, action)[0])


@struct.dataclass
class DDPG(TD3):
    """Hyperparameters of DDPG: TD3 with one critic, no target noise and no delay.

    Exploration is Gaussian noise, as in TD3. Attributes are those of `TD3`.
    """

    target_noise: float = traced(0.0, NOT_NEGATIVE)
    policy_delay: int = traced(1, Number(at_least=1.0, whole=True))
    num_critics: int = static(1, Integer(at_most=64))
