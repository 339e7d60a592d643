"""What short-sighted agents converge to in a synthetic environment, untrained."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces
from jaxrl_runs.values import LAYERS, NOT_NEGATIVE, POSITIVE_OR_NONE, static, traced
from jaxrl_se.agents.agent import Agent
from jaxrl_se.networks import ACTIVATION, MLP, Weights
from jaxrl_se.synthetic_env import SyntheticEnv, bounded


@struct.dataclass(eq=False)
class BestResponsePolicy:
    """Takes the action of the highest learned reward.

    Attributes:
      weights: Weights of the reward network, the affine map to what it sees, and the
        deviation of noise on that, if there is any.
      network: Static; the reward network.
      spaces: Static.
      reward_bound: Static; of the network's outputs.
    """

    weights: Weights
    network: MLP = struct.field(pytree_node=False)
    spaces: Spaces = struct.field(pytree_node=False)
    reward_bound: float | None = struct.field(pytree_node=False)

    def __call__(self, obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Returns the best action for one observation `[obs_size]`.

        Without a key there is no noise.
        """
        seen = self.weights["scale"] * obs + self.weights["shift"]
        if key is not None and "noise" in self.weights:
            noise = jax.random.normal(key, seen.shape)
            seen = seen + self.weights["noise"] * noise
        heads = bounded(self.network(self.weights["reward"], seen), self.reward_bound)
        if self.spaces.num_actions is None:
            return self.spaces.scaled_action(heads)
        return jnp.argmax(heads, axis=-1).astype(jnp.int32)


@struct.dataclass
class BestResponse(Agent):
    """An agent that knows the learned reward and acts greedily on it.

    It is the limit of long training in a one-step environment, and of training with a
    discount of 0 in a multi-step one: no gradient step, no noise, and no test of
    whether agents can learn from the states that they see. An evolution with it alone
    is neuroevolution of the reward network as a policy; it is meant for the first
    stage of one that goes on with agents that train (`EvolutionConfig.stages`).

    Agents that train know the reward only about. With `obs_noise` the response errs as
    well, and an evolution finds rewards whose near-maximisers do well, not only the
    maximiser itself.

    Attributes:
      hidden_sizes: Static; the environment's own.
      activation: Static; the environment's own.
      reward_bound: Static; the environment's own.
      obs_noise: Deviation of Gaussian noise on what the reward network sees when the
        policy acts with a key, 1 for half of an observation's range; 0 for none.
    """

    hidden_sizes: tuple[int, ...] = static((16,), LAYERS)
    activation: str = static("tanh", ACTIVATION)
    reward_bound: float | None = static(None, POSITIVE_OR_NONE)
    obs_noise: float | jax.Array = traced(0.0, NOT_NEGATIVE)

    @property
    def rollout_steps(self) -> int:
        """It takes no step."""
        return 0

    def check(self, spaces: Spaces) -> None:
        """It fits all spaces."""

    def policy(self, spaces: Spaces, weights: Weights) -> BestResponsePolicy:
        """Greedy on the learned reward."""
        network = MLP(
            spaces.obs_size, self.hidden_sizes, spaces.action_size, self.activation
        )
        return BestResponsePolicy(
            weights=weights,
            network=network,
            spaces=spaces,
            reward_bound=self.reward_bound,
        )

    def act(
        self, spaces: Spaces, state: Weights, obs: jax.Array, draw: Any = None
    ) -> tuple[jax.Array, jax.Array]:
        """As its policy acts; training asks for none of its actions."""
        del draw
        action = jax.vmap(self.policy(spaces, state))(obs)
        return action, action

    def policy_weights(self, spaces: Spaces, state: Weights) -> Weights:
        """All that it has."""
        del spaces
        return state

    def start(
        self,
        spaces: Spaces,
        key: jax.Array,
        *,
        num_steps: int,
        env: Any = None,
        params: Any = None,
    ) -> Weights:
        """Reads the reward network.

        Raises:
          ValueError: The environment is not a `SyntheticEnv` with reward heads and with
            the networks that the agent expects.
        """
        del spaces, key, num_steps
        expected = (self.hidden_sizes, self.activation, self.reward_bound)
        if not (isinstance(env, SyntheticEnv) and env.config.reward_heads):
            raise ValueError(
                "env: BestResponse needs a SyntheticEnv with reward_heads, got "
                f"{type(env).__name__}"
            )
        config = env.config
        found = (config.hidden_sizes, config.activation, config.reward_bound)
        if found != expected:
            raise ValueError(
                "hidden_sizes, activation, reward_bound of a BestResponse must be the "
                f"environment's, got {expected}; this fits: BestResponse(hidden_sizes="
                f"{found[0]}, activation={found[1]!r}, reward_bound={found[2]})"
            )
        size = env.spaces.obs_size
        ranges = params.obs_range
        if ranges is None:
            ranges = ((-1.0, 1.0),) * size
        low, high = jnp.asarray(ranges, jnp.float32).T
        weights = {
            "reward": params.weights["reward"],
            "scale": 2 / (high - low),
            "shift": -(high + low) / (high - low),
        }
        if isinstance(self.obs_noise, (int, float)) and self.obs_noise == 0:
            return weights  # Nothing has to be drawn.
        return weights | {"noise": jnp.asarray(self.obs_noise, jnp.float32)}
