"""TD3 for discrete actions by a Gumbel-softmax (Ferreira et al., 2022)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces
from jaxrl_runs.values import FLAG, POSITIVE, static, traced
from jaxrl_se.agents.noise import gumbels, normals
from jaxrl_se.agents.off_policy import Progress
from jaxrl_se.agents.td3 import TD3, Learner
from jaxrl_se.networks import ACTIVATION, Weights
from jaxrl_se.policies import GreedyPolicy

_LOWEST_TEMPERATURE = 0.01  # Where a learned one is stopped on its way to zero.


@struct.dataclass
class DiscreteTD3(TD3):
    """Hyperparameters of TD3 whose actions are vectors of one number per choice.

    The actor's logits become a vector by a Gumbel-softmax (Jang et al., 2017; Maddison
    et al., 2017). Noise is added to that vector; the environment takes the choice of
    its largest entry, the buffer and the critics take the vector itself, unbounded. The
    first `learning_starts` choices are uniformly random and stored as one-hot vectors.
    The test policy takes the choice of the largest logit.

    Noise is in units of the vector's entries. The activation is bounded by default:
    critics with ReLU extrapolate so badly between one-hot vectors that most agents fail
    on CartPole. All other attributes are those of `TD3`.

    Attributes:
      gumbel_temperature: Temperature of the softmax, at first if it is learned.
      gumbel_hard: Whether the vector is one-hot, with the gradient of the soft one
        (straight-through).
      learn_gumbel_temperature: Whether the temperature is a weight of the actor.
    """

    activation: str = static("tanh", ACTIVATION)
    gumbel_temperature: float = traced(1.0, POSITIVE)
    gumbel_hard: bool = traced(True, FLAG)
    learn_gumbel_temperature: bool = traced(False, FLAG)

    def check_actions(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot act in these spaces."""
        if spaces.num_actions is None:
            raise ValueError(
                f"task: {type(self).__name__} needs discrete actions, but this task's "
                f"actions are continuous vectors of size {spaces.action_size}; TD3, "
                "DDPG, SAC and PPO take those"
            )

    def learned_policy(self, spaces: Spaces, weights: Weights) -> GreedyPolicy:
        """The choice of the largest logit."""
        return GreedyPolicy(weights=weights["logits"], network=self.actor(spaces))

    def num_draws(self, spaces: Spaces) -> tuple[int, int]:
        """Gumbel and Gaussian noise, and Gumbel noise for the actor's own update."""
        size = spaces.action_size
        return 2 * size, 3 * self.batch_size * size

    def init_actor(self, spaces: Spaces, key: jax.Array) -> Weights:
        """Draws the network; the temperature is a weight beside it."""
        return {
            "logits": super().init_actor(spaces, key),
            "temperature": jnp.float32(self.gumbel_temperature),
        }

    def explore(self, spaces, learner: Learner, obs, uniform, progress: Progress):
        """Uniformly random at first, then a noisy Gumbel-softmax."""
        for_sample, for_noise = jnp.split(uniform, 2)
        vector = self.sample(spaces, learner.actor, obs[None], for_sample[None])[0]
        vector = vector + self.exploration_noise * normals(for_noise)
        random = jax.nn.one_hot(jnp.argmax(for_sample), spaces.num_actions)
        is_random = progress.step < self.learning_starts
        vector = jnp.where(is_random, random, vector)
        return jnp.argmax(vector), vector

    def target_action(self, spaces, weights, next_obs, uniform) -> jax.Array:
        """The target policy's sample with clipped noise, not normalised again."""
        for_sample, for_noise, _ = jnp.split(uniform, 3, axis=-1)
        vector = self.sample(spaces, weights, next_obs, for_sample)
        return vector + self.clipped_noise(for_noise)

    def actor_action(self, spaces, weights, obs, uniform) -> jax.Array:
        """A sample as a function of the actor's weights, `[B, action_size]`."""
        return self.sample(spaces, weights, obs, jnp.split(uniform, 3, axis=-1)[2])

    def sample(self, spaces, weights: Any, obs, uniform) -> jax.Array:
        """The Gumbel-softmax of the actor's logits, `[B, action_size]`."""
        temperature = jnp.where(
            self.learn_gumbel_temperature,
            jnp.maximum(weights["temperature"], _LOWEST_TEMPERATURE),
            self.gumbel_temperature,
        )
        logits = self.actor(spaces)(weights["logits"], obs)
        soft = jax.nn.softmax((logits + gumbels(uniform)) / temperature)
        hard = jax.nn.one_hot(jnp.argmax(soft, axis=-1), soft.shape[-1])
        straight_through = soft + jax.lax.stop_gradient(hard - soft)
        return jnp.where(self.gumbel_hard, straight_through, soft)
