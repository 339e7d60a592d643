"""Double DQN (van Hasselt et al., 2016), trained as one jitted scan.

The core trains a *group* of agents that share all their randomness: initial weights,
exploration draws, minibatch rows. Members of a group differ only in the environment
they train in, which is what comparing the candidates of one evolution generation by
common random numbers asks for, and it is fast: the randomness of the whole run is drawn
up front and once per group, and every network operation is one batched matrix product.
One agent is a group of one; independent agents are `jax.vmap` over groups of one.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrl_se.networks import MLP, Weights
from jaxrl_se.policies import GreedyPolicy
from jaxrl_se.spaces import Spaces
from jaxrl_se.stepping import draw_steps

_ADAM = optax.scale_by_adam()


@struct.dataclass
class Learner:
    """What Double DQN learns, for a group of `G` members.

    Attributes:
      weights: Weights of the Q-network, leaves with a leading `[G]` axis.
      target_weights: The target network's, likewise.
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
class DDQN:
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
      target_update_rate: Step of the target network towards the online one per update
        (Polyak averaging).
      learning_starts: Environment steps before the first update.
      double: Whether the online network picks the target's action; plain DQN if False.
      hidden_sizes: Widths of the Q-network's hidden layers.
      activation: Its activation, a name in `jaxrl_se.networks.ACTIVATIONS`.
      batch_size: Transitions per update, drawn uniformly with replacement.
      buffer_size: Capacity of the replay buffer in transitions.
    """

    learning_rate: float = 1e-3
    discount: float = 0.99
    epsilon_start: float = 1.0
    epsilon_end: float = 0.05
    epsilon_steps: float = 500.0
    target_update_rate: float = 0.01
    learning_starts: int = 32
    double: bool = True
    hidden_sizes: tuple[int, ...] = struct.field(pytree_node=False, default=(64,))
    activation: str = struct.field(pytree_node=False, default="relu")
    batch_size: int = struct.field(pytree_node=False, default=32)
    buffer_size: int = struct.field(pytree_node=False, default=100_000)

    def network(self, spaces: Spaces) -> MLP:
        """The Q-network: observation to one value per action."""
        if spaces.num_actions is None:
            raise ValueError(
                "task: DDQN needs discrete actions, but this task's actions are "
                f"continuous vectors of size {spaces.action_size}"
            )
        return MLP(
            spaces.obs_size, self.hidden_sizes, spaces.num_actions, self.activation
        )

    def policy(self, spaces: Spaces, weights: Weights) -> GreedyPolicy:
        """The policy that takes the action of the highest value."""
        return GreedyPolicy(weights=weights, network=self.network(spaces))

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        self.network(spaces)
        for name in ("batch_size", "buffer_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1, got {getattr(self, name)}"
                )

    def train_group(
        self,
        env: Any,
        params: Any,
        params_axes: Any,
        key: jax.Array,
        *,
        num_members: int,
        num_steps: int,
        num_snapshots: int = 1,
    ) -> Weights:
        """Trains `num_members` agents that share their randomness.

        Args:
          env: A gymnax environment.
          params: Its params, with a leading member axis where `params_axes` says so.
          params_axes: `jax.vmap` axes of `params`: a pytree prefix of 0 and None.
          key: One key for the whole group.
          num_members: Size of the group, `G`.
          num_steps: Environment steps of each member, a multiple of `num_snapshots`.
          num_snapshots: How many times the weights are kept, evenly spaced; the last
            are those at the end of training.

        Returns:
          Q-network weights with leading axes `[num_snapshots, G]`.
        """
        spaces = Spaces.of(env, params)
        network = self.network(spaces)
        capacity = min(self.buffer_size, num_steps)
        key_init, key_reset, key_step, key_draws = jax.random.split(key, 4)
        env_draws, step = draw_steps(
            env,
            params,
            params_axes,
            key_step,
            num_members=num_members,
            num_steps=num_steps,
        )
        # One call draws all that is uniform: each call of the generator costs compile
        # time.
        uniform = jax.random.uniform(key_draws, (num_steps, 2 + self.batch_size))
        draws = {
            "step": jnp.arange(num_steps, dtype=jnp.int32),
            "env": env_draws,
            "explore": uniform[:, 0],
            "action": (uniform[:, 1] * network.out_size).astype(jnp.int32),
            "rows": uniform[:, 2:],
        }
        reset = jax.vmap(env.reset, (None, params_axes), axis_size=num_members)

        obs, env_state = reset(key_reset, params)
        weights = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (num_members, *leaf.shape)),
            network.init(key_init),
        )
        replay = _Replay(spaces.obs_size)
        buffer = replay.init(capacity, num_members)
        carry = (Learner.start(weights), buffer, obs, env_state)

        def one_step(carry, draw):
            learner, buffer, obs, env_state = carry
            epsilon = self.epsilon_start + (self.epsilon_end - self.epsilon_start) * (
                jnp.minimum(draw["step"] / self.epsilon_steps, 1.0)
            )
            q = network(learner.weights, obs[:, None, :])[:, 0]
            greedy = jnp.argmax(q, axis=-1)
            action = jnp.where(draw["explore"] < epsilon, draw["action"], greedy)
            taken = step(draw["env"], env_state, action)
            buffer = replay.write(
                buffer,
                draw["step"] % capacity,
                obs,
                action,
                taken.reward,
                taken.next_obs,
                taken.terminated,
            )
            num_stored = jnp.minimum(draw["step"] + 1, capacity)
            batch = replay.read(buffer, (draw["rows"] * num_stored).astype(jnp.int32))

            learner = jax.lax.cond(
                draw["step"] >= self.learning_starts,
                lambda learner: self.update(network, learner, batch)[0],
                lambda learner: learner,
                learner,
            )
            return (learner, buffer, taken.obs, taken.state), None

        def one_chunk(carry, draws):
            carry, _ = jax.lax.scan(one_step, carry, draws)
            return carry, carry[0].weights

        chunks = jax.tree.map(
            lambda x: x.reshape(num_snapshots, -1, *x.shape[1:]), draws
        )
        _, snapshots = jax.lax.scan(one_chunk, carry, chunks)
        return snapshots

    def update(
        self, network: MLP, learner: Learner, batch: dict[str, jax.Array]
    ) -> tuple[Learner, jax.Array]:
        """One gradient step of every member on its minibatch.

        Args:
          network: The Q-network.
          learner: What is learned; leaves have a leading `[G]` axis.
          batch: float32 `obs` and `next_obs` `[G, B, obs_size]`, int32 `action` and
            float32 `reward` and `terminated`, all `[G, B]`. `terminated` weighs the
            bootstrap by `1 - terminated`.

        Returns:
          The learner after the step and the loss of each member before it, `[G]`.
        """

        def loss_of(weights):
            losses = self._losses(weights, learner.target_weights, network, batch)
            return jnp.sum(losses), losses

        grads, losses = jax.grad(loss_of, has_aux=True)(learner.weights)
        updates, opt_state = _ADAM.update(grads, learner.opt_state)
        weights = jax.tree.map(
            lambda w, u: w - self.learning_rate * u, learner.weights, updates
        )
        target_weights = optax.incremental_update(
            weights, learner.target_weights, self.target_update_rate
        )
        return Learner(weights, target_weights, opt_state), losses

    def _losses(self, weights, target_weights, network, batch) -> jax.Array:
        """Mean squared temporal-difference error of each member, `[G]`."""
        next_q = network(weights, batch["next_obs"])
        next_q_target = network(target_weights, batch["next_obs"])
        chooser = jnp.where(self.double, next_q, next_q_target)
        bootstrap = _select(next_q_target, jnp.argmax(chooser, axis=-1))
        target = batch["reward"] + self.discount * (1 - batch["terminated"]) * bootstrap
        error = _select(network(weights, batch["obs"]), batch["action"])
        error = error - jax.lax.stop_gradient(target)
        return jnp.mean(jnp.square(error), axis=-1)


def _select(q: jax.Array, action: jax.Array) -> jax.Array:
    """Q(s, a) by a one-hot product: gathers are slow inside a batched scan."""
    return jnp.sum(q * jax.nn.one_hot(action, q.shape[-1], dtype=q.dtype), axis=-1)


class _Replay:
    """A ring buffer of packed float32 rows `[capacity, G, obs, next_obs, a, r, term]`.

    One packed array means one in-place write and one gather per step.
    """

    def __init__(self, obs_size: int):
        self.obs_size = obs_size

    def init(self, capacity: int, num_members: int) -> jax.Array:
        return jnp.zeros((capacity, num_members, 2 * self.obs_size + 3), jnp.float32)

    def write(self, buffer, position, obs, action, reward, next_obs, terminated):
        scalars = jnp.stack(
            [x.astype(jnp.float32) for x in (action, reward, terminated)], axis=-1
        )
        row = jnp.concatenate([obs, next_obs, scalars], axis=-1)
        return jax.lax.dynamic_update_slice(buffer, row[None], (position, 0, 0))

    def read(self, buffer, rows) -> dict[str, jax.Array]:
        batch = jnp.swapaxes(buffer[rows], 0, 1)  # [G, B, row]
        size = self.obs_size
        return {
            "obs": batch[..., :size],
            "next_obs": batch[..., size : 2 * size],
            "action": batch[..., 2 * size].astype(jnp.int32),
            "reward": batch[..., 2 * size + 1],
            "terminated": batch[..., 2 * size + 2],
        }
