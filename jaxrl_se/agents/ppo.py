"""Proximal policy optimisation (Schulman et al., 2017).

All that is random is drawn ahead of the loops that use it, so that under `jax.vmap`
over the environment's params alone the draws and permutations stay unbatched.
"""

from __future__ import annotations

import dataclasses
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
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_OR_INFINITE,
    RATE,
    static,
    traced,
)
from jaxrl_se.agents.agent import Agent, Transition
from jaxrl_se.agents.bonus import Bonus
from jaxrl_se.agents.observations import (
    ObsStatistics,
    check_observations,
    normalized,
    policy_of,
    with_statistics,
)
from jaxrl_se.agents.off_policy import Variation
from jaxrl_se.agents.replay import Batch
from jaxrl_se.networks import ACTIVATION, Weights
from jaxrl_se.policies import GreedyPolicy, MeanPolicy, SampledPolicy
from jaxrl_se.torsos import Network, observation_network

_ADAM = optax.scale_by_adam(eps=1e-5)


@struct.dataclass
class Learner:
    """What PPO learns.

    Attributes:
      weights: `{"actor", "critic"}`, and for continuous actions `"log_std"`, float32
        `[action_size]`, in units of half the action's range.
      opt_state: Adam's moments.
    """

    weights: dict[str, Weights]
    opt_state: Any


@struct.dataclass
class Rollout:
    """Transitions of one iteration, `T` steps of `N` environments.

    Attributes:
      obs: `[T, N, *obs_shape]`, float32 for vectors, else in the task's dtype.
      action: float32 `[T, N, action_size]`: one-hot, or as drawn from the Gaussian,
        before it is clipped to [-1, 1] and scaled to the bounds.
      reward: float32 `[T, N]`.
      next_obs: Likewise, before any reset.
      bootstrap_weight: float32 `[T, N]`, of the value of `next_obs`.
      done: float32 `[T, N]`, terminated or truncated.
    """

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    next_obs: jax.Array
    bootstrap_weight: jax.Array
    done: jax.Array


@struct.dataclass
class PPOState:
    """The state of PPO as an `Agent`.

    Attributes:
      learner: What it learns.
      curiosity: The state of a bonus, None without one.
      rollout: The iteration's transitions so far.
      time: int32, how many of its `T` steps are there.
      observations: Of all iterations before this one, None for an agent that sees them
        as they are.
    """

    learner: Learner
    curiosity: Any
    rollout: Rollout
    time: jax.Array
    observations: ObsStatistics | None = None


@struct.dataclass
class Minibatch:
    """Rows to learn from, `B` of them.

    Attributes:
      obs: `[B, *obs_shape]`.
      action: float32 `[B, action_size]`, as in `Rollout`.
      log_prob: float32 `[B]`, of the action under the policy that took it.
      advantage: float32 `[B]`.
      value_target: float32 `[B]`, the lambda-return.
    """

    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    advantage: jax.Array
    value_target: jax.Array


@struct.dataclass
class PPO(Agent):
    """Hyperparameters of PPO; numbers are traced, shapes are static.

    An iteration is `rollout_steps` steps of `num_envs` environments, then `num_epochs`
    passes over them in `num_minibatches` minibatches each. The actor is a categorical
    or a Gaussian whose deviation does not depend on the observation; it is tested by
    its mode, unless `deterministic` is False. Actor and critic are separate networks
    under one Adam, advantages are normalised per minibatch, the value loss is not
    clipped.

    Truncation is not termination: advantages bootstrap from the observation before the
    reset. (rejax's PPO takes it for termination and samples when it is tested.) Stop
    rules see the episodes that ended in an iteration ordered by step, then by
    environment, and end training after a whole iteration only.

    Attributes:
      learning_rate: Adam's step size.
      discount: Discount of future rewards, in (0, 1].
      gae_lambda: Decay of generalized advantage estimation (Schulman et al., 2016).
      clip_ratio: The probability ratio is clipped to 1 -+ this.
      entropy_coef: Weight of the entropy bonus.
      value_coef: Weight of the value loss, half the mean squared error.
      max_grad_norm: Largest norm of the gradient of all weights, or infinity.
      initial_std: First standard deviation of a continuous action, in units of half
        its range.
      variation: Traced sizes inside the static ones (see `jaxrl_se.hyperparameters`).
      num_envs: Parallel environments.
      rollout_steps: Steps of each environment per iteration.
      num_epochs: Passes over the data of an iteration.
      num_minibatches: Minibatches per pass; divides `num_envs * rollout_steps`.
      hidden_sizes: Widths of the hidden layers of actor and critic.
      activation: Their activation, a name in `jaxrl_se.networks.ACTIVATIONS`.
      normalize_observations: Whether networks see observations by the mean and
        deviation of all iterations before, clipped to ten deviations.
      network: "mlp", "cnn", or a `flax.linen.Module` (see `jaxrl_se.torsos`).
      deterministic: Whether the trained policy takes the mode of its distribution; if
        not it draws actions as in training, as agents of rejax do.
    """

    learning_rate: float = traced(1e-3, RATE)
    discount: float = traced(0.99, DISCOUNT)
    gae_lambda: float = traced(0.95, FRACTION)
    clip_ratio: float = traced(0.2, POSITIVE)
    entropy_coef: float = traced(0.01, NOT_NEGATIVE)
    value_coef: float = traced(0.5, NOT_NEGATIVE)
    max_grad_norm: float = traced(0.5, POSITIVE_OR_INFINITE)
    initial_std: float = traced(1.0, POSITIVE)
    variation: Variation | None = None
    num_envs: int = static(5, MANY)
    rollout_steps: int = static(100, MANY)
    num_epochs: int = static(10, COUNT)
    num_minibatches: int = static(10, COUNT)
    hidden_sizes: tuple[int, ...] = static((64, 64), LAYERS)
    activation: str = static("tanh", ACTIVATION)
    normalize_observations: bool = static(False, FLAG)
    network: Any = struct.field(pytree_node=False, default="mlp")
    deterministic: bool = static(True, FLAG)

    @property
    def iteration_steps(self) -> int:
        """Environment steps of one iteration, over all environments."""
        return self.num_envs * self.rollout_steps

    def networks(self, spaces: Spaces) -> tuple[Network, Network]:
        """The actor (to logits or a mean) and the critic (to one value)."""

        def make(out_size):
            return observation_network(
                self.network,
                spaces,
                self.hidden_sizes,
                out_size,
                self.activation,
            )

        return make(spaces.action_size), make(1)

    def policy(self, spaces: Spaces, weights: Weights) -> Any:
        """The mode of the action's distribution, or a draw from it."""
        acts = self._mode if self.deterministic else self._sampled
        make = functools.partial(acts, spaces)
        return policy_of(make, weights, self.normalize_observations)

    def _mode(self, spaces: Spaces, weights: Weights) -> GreedyPolicy | MeanPolicy:
        actor, _ = self.networks(spaces)
        if spaces.num_actions is not None:
            return GreedyPolicy(weights=weights, network=actor)
        return MeanPolicy(weights=weights, network=actor, spaces=spaces)

    def _sampled(self, spaces: Spaces, weights: dict[str, Any]) -> SampledPolicy:
        actor, _ = self.networks(spaces)
        return SampledPolicy(weights["actor"], weights.get("log_std"), actor, spaces)

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        check_observations(self.normalize_observations, spaces)
        if self.iteration_steps % self.num_minibatches:
            raise ValueError(
                "num_minibatches must divide num_envs * rollout_steps "
                f"({self.iteration_steps}), got {self.num_minibatches}"
            )
        actor, critic = self.networks(spaces)
        if self.variation is not None:
            actor.check_shape()
            critic.check_shape()
        if not all(map(math.isfinite, spaces.action_low + spaces.action_high)):
            raise ValueError(
                "task: PPO needs bounded actions, but this task's bounds are "
                f"{spaces.action_low}, {spaces.action_high}"
            )

    def init(self, spaces: Spaces, key: jax.Array) -> Learner:
        """Draws actor and critic; the actor starts close to the uniform policy."""
        shape = None if self.variation is None else self.variation.network
        networks = self.networks(spaces)
        actor, critic = (
            network.init(k, shape)
            for network, k in zip(networks, jax.random.split(key), strict=True)
        )
        weights = {
            # "What matters for on-policy deep actor-critic methods" (Andrychowicz et
            # al., 2021): a last layer a hundred times smaller.
            "actor": networks[0].scale_output(actor, 0.01),
            "critic": critic,
        }
        if spaces.num_actions is None:
            log_std = jnp.log(jnp.asarray(self.initial_std, jnp.float32))
            weights["log_std"] = jnp.full((spaces.action_size,), log_std)
        return Learner(weights, _ADAM.init(weights))

    def start(
        self,
        spaces: Spaces,
        key: jax.Array,
        *,
        num_steps: int,
        env: Any = None,
        params: Any = None,
    ) -> PPOState:
        """See `Agent`."""
        del num_steps, env, params

        def empty(*shape, dtype="float32"):
            shape = (self.rollout_steps, self.num_envs, *shape)
            return jnp.zeros(shape, dtype)

        assert spaces.obs_shape is not None
        rollout = Rollout(
            obs=empty(*spaces.obs_shape, dtype=spaces.obs_dtype),
            action=empty(spaces.action_size),
            reward=empty(),
            next_obs=empty(*spaces.obs_shape, dtype=spaces.obs_dtype),
            bootstrap_weight=empty(),
            done=empty(),
        )
        seen = ObsStatistics.start(spaces) if self.normalize_observations else None
        return PPOState(self.init(spaces, key), None, rollout, jnp.int32(0), seen)

    def draw(
        self, spaces: Spaces, key_act: jax.Array, key_update: jax.Array, num_rounds: int
    ) -> tuple[jax.Array, jax.Array]:
        """Noise `[R, T, N, action_size]`, Gumbel or standard normal, and keys `[R]`."""
        sizes = (self.rollout_steps, self.num_envs, spaces.action_size)
        is_discrete = spaces.num_actions is not None
        draw = jax.random.gumbel if is_discrete else jax.random.normal
        keys = key_update[None]
        if num_rounds > 1:
            keys = jax.random.split(key_update, num_rounds)
        return draw(key_act, (num_rounds, *sizes)), keys

    def act(
        self, spaces: Spaces, state: PPOState, obs: jax.Array, draw: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Samples actions; what is kept of them is what a `Rollout` has."""
        actor, _ = self.networks(spaces)
        weights = state.learner.weights
        obs = normalized(state.observations, obs.astype(spaces.obs_dtype))
        outputs = actor(weights["actor"], obs)
        if spaces.num_actions is not None:
            action = jnp.argmax(outputs + draw, axis=-1).astype(jnp.int32)
            return action, jax.vmap(spaces.action_vector)(action)
        action = outputs + jnp.exp(weights["log_std"]) * draw
        return spaces.scaled_action(action), action

    def observe(
        self, spaces: Spaces, state: PPOState, transition: Transition
    ) -> PPOState:
        """Adds a step to the iteration's."""
        del spaces
        columns = {}
        for field in dataclasses.fields(Rollout):
            column = getattr(state.rollout, field.name)
            row = getattr(transition, field.name).astype(column.dtype)
            columns[field.name] = jax.lax.dynamic_update_index_in_dim(
                column, row, state.time, 0
            )
        rollout = Rollout(**columns)
        return state.replace(rollout=rollout, time=state.time + 1)  # type: ignore

    def update(
        self,
        spaces: Spaces,
        state: PPOState,
        draw: jax.Array,
        bonus: Bonus | None = None,
    ) -> PPOState:
        """All updates of an iteration, with a key.

        A bonus pays for the iteration's steps before PPO learns from them; then it
        learns from them itself.
        """
        learner, curiosity = state.learner, state.curiosity
        rollout = seen_by(state.observations, state.rollout)
        if bonus is None:
            learner = self.improve(spaces, learner, rollout, draw)
        else:
            learner, curiosity = self.improve_with_bonus(
                spaces, bonus, learner, curiosity, rollout, draw
            )
        return state.replace(  # type: ignore
            learner=learner,
            curiosity=curiosity,
            time=jnp.int32(0),
            observations=with_rollout(state.observations, state.rollout),
        )

    def policy_weights(self, spaces: Spaces, state: PPOState) -> Weights:
        """The actor's; where actions are drawn, with their deviation."""
        del spaces
        weights = state.learner.weights
        if self.deterministic:
            return with_statistics(weights["actor"], state.observations)
        acting = {k: v for k, v in weights.items() if k != "critic"}
        return with_statistics(acting, state.observations)

    def log_prob_and_entropy(
        self, spaces: Spaces, weights: Any, obs: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Of actions `[B, action_size]` as a `Rollout` has them; both `[B]`."""
        actor, _ = self.networks(spaces)
        outputs = actor(weights["actor"], obs)
        return log_prob_and_entropy(spaces, weights, outputs, action)

    def loss(self, weights: Any, spaces: Spaces, batch: Minibatch) -> jax.Array:
        """The clipped surrogate, the value loss and the entropy bonus."""
        log_prob, entropy = self.log_prob_and_entropy(
            spaces, weights, batch.obs, batch.action
        )
        _, critic = self.networks(spaces)
        value = critic(weights["critic"], batch.obs)[:, 0]
        return surrogate_loss(self, batch, log_prob, entropy, value)

    def learn(self, spaces: Spaces, learner: Learner, batch: Minibatch) -> Learner:
        """One gradient step on a minibatch."""
        grads = jax.grad(self.loss)(learner.weights, spaces, batch)
        clip = optax.clip_by_global_norm(self.max_grad_norm)
        grads, _ = clip.update(grads, optax.EmptyState())
        updates, opt_state = _ADAM.update(grads, learner.opt_state)
        weights = jax.tree.map(
            lambda w, u: w - self.learning_rate * u, learner.weights, updates
        )
        return Learner(weights, opt_state)

    def metrics(self, spaces: Spaces, state: PPOState) -> dict[str, jax.Array]:
        """Entropy and value loss on the last iteration, after it was learned from."""
        weights = state.learner.weights
        rollout = seen_by(state.observations, state.rollout)
        _, entropy = self.log_prob_and_entropy(
            spaces, weights, rollout.obs, rollout.action
        )
        advantage, _ = self.advantages(spaces, weights, rollout)
        return {
            "entropy": jnp.mean(entropy),
            "value_loss": 0.5 * jnp.mean(jnp.square(advantage)),
        }

    def advantages(
        self, spaces: Spaces, weights: Any, rollout: Rollout
    ) -> tuple[jax.Array, jax.Array]:
        """Advantages and values of `rollout.obs`, both `[T, N]`."""
        flat = jax.tree.map(
            lambda x: x.reshape(self.iteration_steps, *x.shape[2:]), rollout
        )
        _, critic = self.networks(spaces)
        values = critic(weights["critic"], jnp.stack([flat.obs, flat.next_obs]))
        value, next_value = values[..., 0].reshape(2, *rollout.reward.shape)
        advantage = advantages(
            rollout, value, next_value, self.discount, self.gae_lambda
        )
        return advantage, value

    def improve(
        self, spaces: Spaces, learner: Learner, rollout: Rollout, key: jax.Array
    ) -> Learner:
        """All updates of one iteration."""
        rows = self.iteration_steps
        weights = learner.weights
        flat = jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), rollout)
        advantage, value = self.advantages(spaces, weights, rollout)
        log_prob, _ = self.log_prob_and_entropy(spaces, weights, flat.obs, flat.action)
        data = Minibatch(
            obs=flat.obs,
            action=flat.action,
            log_prob=log_prob,
            advantage=advantage.reshape(rows),
            value_target=(advantage + value).reshape(rows),
        )

        def one_epoch(learner, key):
            order = jax.random.permutation(key, rows).reshape(self.num_minibatches, -1)
            batches = jax.tree.map(lambda x: x[order], data)

            def one_batch(learner, batch):
                return self.learn(spaces, learner, batch), None

            return jax.lax.scan(one_batch, learner, batches)

        keys = jax.random.split(key, self.num_epochs)
        return jax.lax.scan(one_epoch, learner, keys)[0]

    def improve_with_bonus(
        self,
        spaces: Spaces,
        bonus: Bonus,
        learner: Learner,
        curiosity: Any,
        rollout: Rollout,
        key: jax.Array,
    ) -> tuple[Learner, Any]:
        """`improve` with intrinsic rewards, then the bonus learns from the iteration.

        Args:
          spaces: Spaces of the environment.
          bonus: The intrinsic reward.
          learner: What PPO learns.
          curiosity: The bonus's state.
          rollout: Transitions of one iteration.
          key: A PRNG key.

        Returns:
          Learner and bonus's state after all updates.
        """
        rows = self.iteration_steps
        flat = jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), rollout)
        batch = Batch(
            obs=spaces.flatten_obs(flat.obs),
            next_obs=spaces.flatten_obs(flat.next_obs),
            action=jnp.clip(flat.action, -1.0, 1.0),
            reward=flat.reward,
            bootstrap_weight=flat.bootstrap_weight,
            mask=jnp.ones(rows, jnp.float32),
        )
        curiosity, paid = bonus.rewards(spaces, curiosity, batch)
        reward = rollout.reward + paid.reshape(rollout.reward.shape)
        paid_for = rollout.replace(reward=reward)  # type: ignore
        learner = self.improve(spaces, learner, paid_for, key)
        # One more key than `improve` splits this one into.
        order = jax.random.permutation(jax.random.fold_in(key, self.num_epochs), rows)
        order = order.reshape(self.num_minibatches, -1)

        def one_batch(curiosity, rows):
            minibatch = jax.tree.map(lambda x: x[rows], batch)
            return bonus.update(spaces, curiosity, minibatch), None

        return learner, jax.lax.scan(one_batch, curiosity, order)[0]


def seen_by(statistics: ObsStatistics | None, rollout: Rollout) -> Rollout:
    """A rollout as networks see it."""
    return rollout.replace(  # type: ignore
        obs=normalized(statistics, rollout.obs),
        next_obs=normalized(statistics, rollout.next_obs),
    )


def with_rollout(
    statistics: ObsStatistics | None, rollout: Rollout
) -> ObsStatistics | None:
    """Statistics with a rollout's observations."""
    if statistics is None:
        return None
    return statistics.seen(rollout.obs.reshape(-1, *rollout.obs.shape[2:]))


def log_prob_and_entropy(
    spaces: Spaces, weights: Any, outputs: jax.Array, action: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of actions as a `Rollout` has them, under what an actor says.

    Args:
      spaces: The environment's spaces.
      weights: With "log_std", for continuous actions.
      outputs: `[..., action_size]`, the actor's: logits, or means.
      action: `[..., action_size]`.

    Returns:
      Both `[...]`.
    """
    if spaces.num_actions is not None:
        log_probs = jax.nn.log_softmax(outputs)
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
        return jnp.sum(log_probs * action, axis=-1), entropy
    log_std = weights["log_std"]
    log_probs = jax.scipy.stats.norm.logpdf(action, outputs, jnp.exp(log_std))
    entropy = jnp.sum(log_std + 0.5 * jnp.log(2 * jnp.pi * jnp.e))
    log_prob = jnp.sum(log_probs, axis=-1)
    return log_prob, jnp.broadcast_to(entropy, log_prob.shape)


def surrogate_loss(
    agent: Any,
    batch: Any,
    log_prob: jax.Array,
    entropy: jax.Array,
    value: jax.Array,
) -> jax.Array:
    """The clipped surrogate, the value loss and the entropy bonus.

    Schulman et al. (2017, arXiv 1707.06347), equations 7 and 9, with advantages that
    are normalised over the minibatch.

    Args:
      agent: Its `clip_ratio`, `value_coef` and `entropy_coef`.
      batch: Its `log_prob`, `advantage` and `value_target`, of the shape of the others.
      log_prob: Of the batch's actions, by the weights that learn.
      entropy: Of their policy.
      value: By their critic.
    """
    ratio = jnp.exp(log_prob - batch.log_prob)
    clipped = jnp.clip(ratio, 1 - agent.clip_ratio, 1 + agent.clip_ratio)
    advantage = batch.advantage - jnp.mean(batch.advantage)
    advantage = advantage / (jnp.std(advantage) + 1e-8)
    gain = jnp.minimum(ratio * advantage, clipped * advantage)
    value_loss = 0.5 * jnp.mean(jnp.square(value - batch.value_target))
    return (
        -jnp.mean(gain)
        + agent.value_coef * value_loss
        - agent.entropy_coef * jnp.mean(entropy)
    )


def advantages(
    rollout: Rollout,
    value: jax.Array,
    next_value: jax.Array,
    discount: jax.Array | float,
    gae_lambda: jax.Array | float,
) -> jax.Array:
    """Generalized advantage estimation (Schulman et al., 2016, equation 16).

    Args:
      rollout: Transitions.
      value: `[T, N]`, values of `rollout.obs`.
      next_value: `[T, N]`, values of `rollout.next_obs`.
      discount: Discount of future rewards.
      gae_lambda: Decay of the estimator.

    Returns:
      Advantages `[T, N]`. Both kinds of episode's end stop the sum; only termination
      stops the bootstrap.
    """
    error = rollout.reward + discount * rollout.bootstrap_weight * next_value - value
    decay = discount * gae_lambda * (1 - rollout.done)

    def one_step(later, x):
        error, decay = x
        advantage = error + decay * later
        return advantage, advantage

    start = jnp.zeros_like(error[0])
    return jax.lax.scan(one_step, start, (error, decay), reverse=True)[1]
