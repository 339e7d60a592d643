"""Double DQN (van Hasselt et al., 2016), with a dueling network as an option."""

from __future__ import annotations

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
    POSITIVE_OR_NONE,
    RATE,
    RATE_OR_NONE,
    STEPS,
    WIDTH,
    static,
    traced,
)
from jaxrl_se.agents.off_policy import OffPolicyAgent, Progress, Variation
from jaxrl_se.agents.replay import Batch
from jaxrl_se.networks import ACTIVATION, DuelingMLP, Weights
from jaxrl_se.policies import GreedyPolicy
from jaxrl_se.torsos import for_observations, observation_network

_ADAM = optax.scale_by_adam()


@struct.dataclass
class Learner:
    """What Double DQN learns.

    Attributes:
      weights: Weights of the Q-network.
      target_weights: The target network's.
      opt_state: Adam's moments.
    """

    weights: Weights
    target_weights: Weights
    opt_state: Any

    @classmethod
    def start(cls, weights: Weights) -> Learner:
        """Before the first update: the target network equals the online one."""
        return cls(weights, weights, _ADAM.init(weights))


@struct.dataclass
class DDQN(OffPolicyAgent):
    """Hyperparameters of Double DQN; numbers are traced, shapes are static.

    Exploration is epsilon-greedy with a linear schedule. Each environment step is
    followed by one update once `learning_starts` transitions are stored. The target
    bootstraps through truncation and stops at termination only.

    Attributes:
      learning_rate: Adam's step size.
      discount: Discount of future rewards, in (0, 1].
      epsilon_start: Probability of a random action at the first step.
      epsilon_end: The same after `epsilon_steps`.
      epsilon_steps: Environment steps over which epsilon falls linearly.
      epsilon_decay: Factor per episode; if given it replaces the linear schedule:
        epsilon is `max(epsilon_end, epsilon_start * epsilon_decay**episode)`.
      target_update_rate: Step of the target network towards the online one per update
        (Polyak averaging).
      learning_starts: Environment steps before the first update.
      updates_per_step: Updates per environment step from then on, at most 1.
      learning_starts_episode: Finished episodes before the first update.
      max_grad_norm: Gradients of a greater global norm are scaled down to it; None for
        no limit. Without one, errors of long episodes now and then undo what was
        learned.
      double: Whether the online network picks the target's action; plain DQN if False.
      dueling: Whether the network is `DuelingMLP`, with features of `feature_size`.
      dueling_mean_over_batch: See `DuelingMLP.mean_over_batch`.
      hidden_sizes: Widths of the Q-network's hidden layers.
      feature_size: Features of a dueling network.
      activation: Its activation, a name in `jaxrl_se.networks.ACTIVATIONS`.
      batch_size: Transitions per update, drawn uniformly with replacement.
      buffer_size: Capacity of the replay buffer in transitions.
      num_envs: Environments that are stepped at once.
      normalize_observations: Whether networks see observations by the mean and
        deviation of all so far, clipped to ten deviations.
      network: "mlp", "cnn", or a `flax.linen.Module` (see `jaxrl_se.torsos`).
      variation: Traced sizes inside the static ones (see `jaxrl_se.hyperparameters`).
    """

    learning_rate: float = traced(1e-3, RATE)
    discount: float = traced(0.99, DISCOUNT)
    epsilon_start: float = traced(1.0, FRACTION)
    epsilon_end: float = traced(0.05, FRACTION)
    epsilon_steps: float = traced(500.0, POSITIVE)
    epsilon_decay: float | None = traced(None, RATE_OR_NONE)
    target_update_rate: float = traced(0.01, RATE)
    learning_starts: int = traced(32, STEPS)
    updates_per_step: float = traced(1.0, RATE)
    learning_starts_episode: int = traced(0, STEPS)
    max_grad_norm: float | None = traced(1.0, POSITIVE_OR_NONE)
    double: bool = traced(True, FLAG)
    variation: Variation | None = None
    dueling: bool = static(False, FLAG)
    dueling_mean_over_batch: bool = static(False, FLAG)
    hidden_sizes: tuple[int, ...] = static((64, 64), LAYERS)
    feature_size: int = static(64, WIDTH)
    activation: str = static("relu", ACTIVATION)
    batch_size: int = static(64, MANY)
    buffer_size: int = static(100_000, COUNT)
    num_envs: int = static(1, MANY)
    normalize_observations: bool = static(False, FLAG)
    network: Any = struct.field(pytree_node=False, default="mlp")

    def q_network(self, spaces: Spaces) -> Any:
        """The Q-network: observation to one value per action."""
        if spaces.num_actions is None:
            raise ValueError(
                "task: DDQN needs discrete actions, but this task's actions are "
                f"continuous vectors of size {spaces.action_size}; TD3, DDPG, SAC and "
                "PPO take those"
            )
        if self.dueling and self.network != "mlp":
            raise ValueError(
                f"network must be 'mlp' for a dueling one, got {self.network!r}"
            )
        if self.dueling:
            dueling = DuelingMLP.build(
                spaces.obs_size,
                self.hidden_sizes,
                self.feature_size,
                spaces.num_actions,
                self.activation,
                self.dueling_mean_over_batch,
            )
            return for_observations(dueling, spaces)
        return observation_network(
            self.network,
            spaces,
            self.hidden_sizes,
            spaces.num_actions,
            self.activation,
        )

    def learned_policy(self, spaces: Spaces, weights: Weights) -> GreedyPolicy:
        """The policy that takes the action of the highest value."""
        return GreedyPolicy(weights=weights, network=self.q_network(spaces))

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        network = self.q_network(spaces)
        self.check_sizes(spaces)
        if self.variation is not None:
            network.check_shape()

    def stored_action_size(self, spaces: Spaces) -> int:
        """The action's index."""
        return 1

    def num_draws(self, spaces: Spaces) -> tuple[int, int]:
        """Whether to explore, and with which action."""
        return 2, 0

    def init(self, spaces: Spaces, key: jax.Array) -> Learner:
        """Draws the Q-network."""
        network = self.q_network(spaces)
        return Learner.start(network.pad(network.init(key, self.network_shape)))

    def learned_weights(self, spaces: Spaces, learner: Learner) -> Weights:
        """The online network's."""
        return self.q_network(spaces).unpad(learner.weights)

    def epsilon(self, progress: Progress) -> jax.Array:
        """Probability of a random action."""
        if self.epsilon_decay is not None:
            decayed = self.epsilon_start * self.epsilon_decay**progress.episode
            return jnp.maximum(decayed, self.epsilon_end)
        fraction = jnp.minimum(progress.step / self.epsilon_steps, 1.0)
        return self.epsilon_start + (self.epsilon_end - self.epsilon_start) * fraction

    def explore(self, spaces, learner, obs, uniform, progress):
        """Epsilon-greedy."""
        network = self.q_network(spaces)
        greedy = jnp.argmax(network(learner.weights, obs[None])[0])
        random = (uniform[1] * network.out_size).astype(jnp.int32)
        action = jnp.where(uniform[0] < self.epsilon(progress), random, greedy)
        return action, action

    def is_learning(self, progress: Progress) -> jax.Array:
        """Both after enough steps and after enough episodes."""
        return (progress.step >= self.learning_starts) & (
            progress.episode >= self.learning_starts_episode
        )

    def learn(
        self, spaces: Spaces, learner: Learner, batch: Batch, uniform: Any = None
    ) -> Learner:
        """One gradient step on the mean squared temporal-difference error."""
        network = self.q_network(spaces)
        grads = jax.grad(self.loss)(
            learner.weights, learner.target_weights, network, batch
        )
        if self.max_grad_norm is not None:
            clip = optax.clip_by_global_norm(self.max_grad_norm)
            grads, _ = clip.update(grads, optax.EmptyState())
        updates, opt_state = _ADAM.update(grads, learner.opt_state)
        weights = jax.tree.map(
            lambda w, u: w - self.learning_rate * u, learner.weights, updates
        )
        target_weights = optax.incremental_update(
            weights, learner.target_weights, self.target_update_rate
        )
        return Learner(weights, target_weights, opt_state)

    def losses(
        self, spaces: Spaces, learner: Learner, batch: Batch, uniform: Any
    ) -> dict[str, jax.Array]:
        """See `OffPolicyAgent`."""
        del uniform
        network = self.q_network(spaces)
        return {
            "loss": self.loss(learner.weights, learner.target_weights, network, batch)
        }

    def loss(self, weights, target_weights, network, batch: Batch) -> jax.Array:
        """Mean squared temporal-difference error of a minibatch."""
        next_q = network(weights, batch.next_obs)
        next_q_target = network(target_weights, batch.next_obs)
        chooser = jnp.where(self.double, next_q, next_q_target)
        bootstrap = _select(next_q_target, jnp.argmax(chooser, axis=-1))
        target = batch.reward + self.discount * batch.bootstrap_weight * bootstrap
        action = batch.action[:, 0].astype(jnp.int32)
        error = _select(network(weights, batch.obs), action)
        error = error - jax.lax.stop_gradient(target)
        return batch.mean(jnp.square(error))


def _select(q: jax.Array, action: jax.Array) -> jax.Array:
    """Q(s, a) by a one-hot product: gathers are slow inside a batched scan."""
    return jnp.sum(q * jax.nn.one_hot(action, q.shape[-1], dtype=q.dtype), axis=-1)
