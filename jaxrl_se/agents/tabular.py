"""Q-learning and SARSA with a table, for tasks whose states have numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces
from jaxrl_runs.values import (
    COUNT,
    DISCOUNT,
    FRACTION,
    MANY,
    NOT_NEGATIVE,
    RATE,
    STEPS,
    static,
    traced,
)
from jaxrl_se.agents.off_policy import OffPolicyAgent, Progress, Variation
from jaxrl_se.agents.replay import Batch
from jaxrl_se.policies import GreedyPolicy
from jaxrl_se.torsos import for_observations


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as a network of one-hot observations; its weights are `[S, A]`."""

    def __call__(self, weights: jax.Array, obs: jax.Array) -> jax.Array:
        """The rows of `[..., S]` one-hot observations, `[..., A]`."""
        return obs @ weights


@struct.dataclass
class Learner:
    """What tabular agents learn.

    Attributes:
      values: float32 `[S, A]`, the action values.
      visits: float32 `[S, A]`, how often each action was taken.
    """

    values: jax.Array
    visits: jax.Array


@struct.dataclass
class QLearning(OffPolicyAgent):
    """Hyperparameters of tabular Q-learning (Watkins, 1989); numbers are traced.

    Each step is learned from once, when it is taken. Values start at 0, ties go to the
    first action, exploration is epsilon-greedy. The update bootstraps through
    truncation and stops at termination only. The test policy is greedy.

    Attributes:
      learning_rate: Step towards the target, in (0, 1].
      discount: Discount of future rewards, in (0, 1].
      epsilon: Probability of a random action.
      epsilon_decay: Factor on epsilon per episode.
      epsilon_end: Its least value.
      count_bonus: `b` of the intrinsic reward `b / sqrt(n(s, a))`, where the step
        itself counts (Strehl and Littman, 2008); 0 for none.
      learning_starts: Environment steps before the first update.
      updates_per_step: Updates per environment step, at most 1.
    """

    learning_rate: float = traced(0.5, RATE)
    discount: float = traced(0.9, DISCOUNT)
    epsilon: float = traced(0.1, FRACTION)
    epsilon_decay: float = traced(1.0, RATE)
    epsilon_end: float = traced(0.0, FRACTION)
    count_bonus: float = traced(0.0, NOT_NEGATIVE)
    learning_starts: int = traced(0, STEPS)
    updates_per_step: float = traced(1.0, RATE)
    variation: Variation | None = None
    # The loop's minibatch is the transition that was just stored.
    batch_size: int = static(1, MANY)
    buffer_size: int = static(1, COUNT)

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        name = type(self).__name__
        if spaces.num_actions is None:
            raise ValueError(
                f"task: {name} has a table of actions, but this task's actions are "
                f"continuous vectors of size {spaces.action_size}; TD3, DDPG, SAC and "
                "PPO take those"
            )
        if spaces.num_states is None:
            raise ValueError(
                f"task: {name} has a table of states, but this task's observations "
                f"are vectors of size {spaces.obs_size}, not one-hot ones of a finite "
                "number of states (envs.OneHot); DDQN, PPO and SAC take vectors"
            )
        self.check_sizes(spaces)
        if (self.batch_size, self.buffer_size) != (1, 1) or self.variation is not None:
            raise ValueError(
                f"batch_size, buffer_size: {name} learns from the last transition "
                f"alone, both must be 1, got {self.batch_size}, {self.buffer_size}"
            )

    def learned_policy(self, spaces: Spaces, weights: jax.Array) -> GreedyPolicy:
        """Greedy in the table."""
        return GreedyPolicy(weights=weights, network=for_observations(Table(), spaces))

    def stored_action_size(self, spaces: Spaces) -> int:
        """The action's index."""
        return 1

    def num_draws(self, spaces: Spaces) -> tuple[int, int]:
        """Whether to explore and how; the same again for SARSA's next action."""
        return 2, 2

    def init(self, spaces: Spaces, key: jax.Array) -> Learner:
        """Tables of zeros."""
        del key
        empty = jnp.zeros((spaces.obs_size, spaces.action_size), jnp.float32)
        return Learner(values=empty, visits=empty)

    def learned_weights(self, spaces: Spaces, learner: Learner) -> jax.Array:
        """The table of values."""
        return learner.values

    def epsilon_greedy(
        self, values: jax.Array, uniform: jax.Array, epsilon: Any
    ) -> jax.Array:
        """An epsilon-greedy action for the values `[A]` of a state."""
        random = (uniform[1] * values.shape[-1]).astype(jnp.int32)
        return jnp.where(uniform[0] < epsilon, random, jnp.argmax(values))

    def explore(self, spaces, learner: Learner, obs, uniform, progress: Progress):
        """Epsilon-greedy."""
        epsilon = self.epsilon * self.epsilon_decay**progress.episode
        epsilon = jnp.maximum(epsilon, self.epsilon_end)
        action = self.epsilon_greedy(
            spaces.flatten_obs(obs) @ learner.values, uniform, epsilon
        )
        return action, action

    def bootstrap(self, next_values: jax.Array, uniform: jax.Array) -> jax.Array:
        """The value of the next state, given those of its actions `[A]`."""
        del uniform
        return jnp.max(next_values)

    def learn(
        self, spaces: Spaces, learner: Learner, batch: Batch, uniform: jax.Array
    ) -> Learner:
        """Moves the value of the one transition in the batch towards its target."""
        obs = spaces.flatten_obs(batch.obs[0])
        next_obs = spaces.flatten_obs(batch.next_obs[0])
        action = batch.action[0, 0].astype(jnp.int32)
        taken = jax.nn.one_hot(action, spaces.action_size)
        visits = learner.visits + jnp.outer(obs, taken)
        count = obs @ visits @ taken
        reward = batch.reward[0] + self.count_bonus / (jnp.sqrt(count) + 1e-9)
        next_value = self.bootstrap(next_obs @ learner.values, uniform)
        target = reward + self.discount * batch.bootstrap_weight[0] * next_value
        error = target - obs @ learner.values @ taken
        values = learner.values + self.learning_rate * error * jnp.outer(obs, taken)
        return Learner(values=values, visits=visits)


@struct.dataclass
class SARSA(QLearning):
    """Hyperparameters of tabular SARSA (Rummery and Niranjan, 1994).

    The next action is drawn anew from the exploring policy for the update, as in the
    code of Ferreira et al. (2022), and is not the one that is taken next. Epsilon is
    constant. All attributes are those of `QLearning`.
    """

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        super().check(spaces)
        if isinstance(self.epsilon_decay, int | float) and self.epsilon_decay != 1.0:
            raise ValueError(
                f"epsilon_decay: SARSA's is constant, 1.0, got {self.epsilon_decay}"
            )

    def bootstrap(self, next_values: jax.Array, uniform: jax.Array) -> jax.Array:
        """The value of an epsilon-greedy action."""
        return next_values[self.epsilon_greedy(next_values, uniform, self.epsilon)]
