"""What training in a one-step environment converges to, without the training."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl_se.agents.off_policy import Trained
from jaxrl_se.networks import MLP, Weights
from jaxrl_se.spaces import Spaces
from jaxrl_se.synthetic_env import OneStepEnv


@struct.dataclass
class BestResponsePolicy:
    """Takes the action of the highest learned reward.

    Attributes:
      weights: Weights of the reward network, and the affine map to what it sees.
      network: Static; the reward network.
      spaces: Static.
    """

    weights: Weights
    network: MLP = struct.field(pytree_node=False)
    spaces: Spaces = struct.field(pytree_node=False)

    def __call__(self, obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Returns the best action for one observation `[obs_size]`."""
        seen = self.weights["scale"] * obs + self.weights["shift"]
        heads = self.network(self.weights["reward"], seen)
        if self.spaces.num_actions is None:
            return self.spaces.scaled_action(heads)
        return jnp.argmax(heads).astype(jnp.int32)


@struct.dataclass
class BestResponse:
    """An agent that knows a one-step environment's reward and acts greedily on it.

    It is the limit of long training: no gradient step, no noise, and no test of whether
    agents can learn from the environment's initial states. An evolution with it alone
    is neuroevolution of the reward network as a policy; it is meant for the first
    stage of one that goes on with agents that train (`EvolutionConfig.stages`).

    Attributes:
      hidden_sizes: Static; the environment's own.
      activation: Static; the environment's own.
    """

    hidden_sizes: tuple[int, ...] = struct.field(pytree_node=False, default=(16,))
    activation: str = struct.field(pytree_node=False, default="tanh")

    def check(self, spaces: Spaces) -> None:
        """It fits all spaces."""

    def policy(self, spaces: Spaces, weights: Weights) -> BestResponsePolicy:
        """Greedy on the learned reward."""
        network = MLP(
            spaces.obs_size, self.hidden_sizes, spaces.action_size, self.activation
        )
        return BestResponsePolicy(weights=weights, network=network, spaces=spaces)

    def train(
        self,
        env: Any,
        params: Any,
        key: jax.Array,
        *,
        num_steps: int,
        num_snapshots: int = 1,
        stop: Any = None,
        spaces: Spaces | None = None,
    ) -> Trained:
        """Reads the reward network; takes no step.

        Raises:
          ValueError: The environment is not a `OneStepEnv` with reward heads and with
            the networks that the agent expects.
        """
        del key, num_steps, stop, spaces
        expected = (self.hidden_sizes, self.activation)
        if not (isinstance(env, OneStepEnv) and env.reward_heads):
            raise ValueError(
                "env: BestResponse needs a OneStepEnv with reward_heads, got "
                f"{type(env).__name__}"
            )
        if (env.hidden_sizes, env.activation) != expected:
            raise ValueError(
                f"hidden_sizes, activation: BestResponse has {expected}, the "
                f"environment {(env.hidden_sizes, env.activation)}"
            )
        size = env.spaces.obs_size
        low, high = jnp.asarray(env.obs_range or ((-1.0, 1.0),) * size, jnp.float32).T
        weights = {
            "reward": params.weights["reward"],
            "scale": 2 / (high - low),
            "shift": -(high + low) / (high - low),
        }
        weights = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (num_snapshots, *leaf.shape)), weights
        )
        return Trained(weights, jnp.int32(0), jnp.int32(0))
