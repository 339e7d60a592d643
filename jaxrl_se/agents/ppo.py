"""Proximal policy optimisation (Schulman et al., 2017), for one agent.

As in `off_policy`, all that is random is drawn ahead of the loops that use it, so that
under `jax.vmap` over the environment's params alone the draws and permutations stay
unbatched.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.spaces import Spaces
from envs.stepping import draw_steps
from jaxrl_se.agents.bonus import Bonus
from jaxrl_se.agents.off_policy import Trained, Variation
from jaxrl_se.agents.replay import Batch
from jaxrl_se.agents.stopping import StopRule
from jaxrl_se.networks import MLP, Weights
from jaxrl_se.policies import GreedyPolicy, MeanPolicy
from jaxrl_se.reward_network import with_discount
from jaxrl_se.task_tests import TaskTest

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
      obs: float32 `[T, N, obs_size]`.
      action: float32 `[T, N, action_size]`: one-hot, or as drawn from the Gaussian,
        before it is clipped to [-1, 1] and scaled to the bounds.
      reward: float32 `[T, N]`.
      next_obs: float32 `[T, N, obs_size]`, before any reset.
      terminated: float32 `[T, N]`; the bootstrap is weighted by `1 - terminated`.
      done: float32 `[T, N]`, terminated or truncated.
      episode_return: float32 `[T, N]`, the sum of the episode's rewards so far.
    """

    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    next_obs: jax.Array
    terminated: jax.Array
    done: jax.Array
    episode_return: jax.Array


@struct.dataclass
class Minibatch:
    """Rows to learn from, `B` of them.

    Attributes:
      obs: float32 `[B, obs_size]`.
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
class PPO:
    """Hyperparameters of PPO; numbers are traced, shapes are static.

    An iteration is `rollout_steps` steps of `num_envs` environments, then `num_epochs`
    passes over them in `num_minibatches` minibatches each. The actor is a categorical
    or a Gaussian whose deviation does not depend on the observation; it is tested by
    its mode, without noise. Actor and critic are separate networks under one Adam,
    advantages are normalised per minibatch, the value loss is not clipped.

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
      max_grad_norm: Largest norm of the gradient of all weights.
      initial_std: First standard deviation of a continuous action, in units of half
        its range.
      variation: Traced sizes inside the static ones (see `jaxrl_se.hyperparameters`).
      num_envs: Parallel environments.
      rollout_steps: Steps of each environment per iteration.
      num_epochs: Passes over the data of an iteration.
      num_minibatches: Minibatches per pass; divides `num_envs * rollout_steps`.
      hidden_sizes: Widths of the hidden layers of actor and critic.
      activation: Their activation, a name in `jaxrl_se.networks.ACTIVATIONS`.
    """

    learning_rate: float = 1e-3
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip_ratio: float = 0.2
    entropy_coef: float = 0.01
    value_coef: float = 0.5
    max_grad_norm: float = 0.5
    initial_std: float = 1.0
    variation: Variation | None = None
    num_envs: int = struct.field(pytree_node=False, default=5)
    rollout_steps: int = struct.field(pytree_node=False, default=100)
    num_epochs: int = struct.field(pytree_node=False, default=10)
    num_minibatches: int = struct.field(pytree_node=False, default=10)
    hidden_sizes: tuple[int, ...] = struct.field(pytree_node=False, default=(64, 64))
    activation: str = struct.field(pytree_node=False, default="tanh")

    @property
    def iteration_steps(self) -> int:
        """Environment steps of one iteration, over all environments."""
        return self.num_envs * self.rollout_steps

    def networks(self, spaces: Spaces) -> tuple[MLP, MLP]:
        """The actor (to logits or a mean) and the critic (to one value)."""
        size, hidden = spaces.obs_size, self.hidden_sizes
        return (
            MLP(size, hidden, spaces.action_size, self.activation),
            MLP(size, hidden, 1, self.activation),
        )

    def policy(self, spaces: Spaces, weights: Weights) -> GreedyPolicy | MeanPolicy:
        """The mode of the action's distribution."""
        actor, _ = self.networks(spaces)
        if spaces.num_actions is not None:
            return GreedyPolicy(weights=weights, network=actor)
        return MeanPolicy(weights=weights, network=actor, spaces=spaces)

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        for name in ("num_envs", "rollout_steps", "num_epochs", "num_minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1, got {getattr(self, name)}"
                )
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

    def start(self, spaces: Spaces, key: jax.Array) -> Learner:
        """Draws actor and critic; the actor starts close to the uniform policy."""
        shape = None if self.variation is None else self.variation.network
        keys = jax.random.split(key)
        actor, critic = (
            network.init(k, shape)
            for network, k in zip(self.networks(spaces), keys, strict=True)
        )
        *hidden, output = actor
        weights = {
            # "What matters for on-policy deep actor-critic methods" (Andrychowicz et
            # al., 2021): a last layer a hundred times smaller.
            "actor": (*hidden, jax.tree.map(lambda leaf: 0.01 * leaf, output)),
            "critic": critic,
        }
        if spaces.num_actions is None:
            log_std = jnp.log(jnp.asarray(self.initial_std, jnp.float32))
            weights["log_std"] = jnp.full((spaces.action_size,), log_std)
        return Learner(weights, _ADAM.init(weights))

    def policy_weights(self, learner: Learner) -> Weights:
        """The actor's."""
        return learner.weights["actor"]

    def act(
        self, spaces: Spaces, weights: Any, obs: jax.Array, noise: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Samples actions.

        Args:
          spaces: Spaces of the environment.
          weights: Weights of a `Learner`.
          obs: `[N, obs_size]`.
          noise: `[N, action_size]`, as `draw_noise` gives it.

        Returns:
          Actions for the environments, and as a `Rollout` has them.
        """
        actor, _ = self.networks(spaces)
        outputs = actor(weights["actor"], obs)
        if spaces.num_actions is not None:
            action = jnp.argmax(outputs + noise, axis=-1).astype(jnp.int32)
            return action, jax.vmap(spaces.action_vector)(action)
        action = outputs + jnp.exp(weights["log_std"]) * noise
        return spaces.scaled_action(action), action

    def draw_noise(self, spaces: Spaces, key: jax.Array) -> jax.Array:
        """An iteration's noise `[T, N, action_size]`: Gumbel or standard normal."""
        shape = (self.rollout_steps, self.num_envs, spaces.action_size)
        if spaces.num_actions is not None:
            return jax.random.gumbel(key, shape)
        return jax.random.normal(key, shape)

    def log_prob_and_entropy(
        self, spaces: Spaces, weights: Any, obs: jax.Array, action: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Of actions `[B, action_size]` as a `Rollout` has them; both `[B]`."""
        actor, _ = self.networks(spaces)
        outputs = actor(weights["actor"], obs)
        if spaces.num_actions is not None:
            log_probs = jax.nn.log_softmax(outputs)
            entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
            return jnp.sum(log_probs * action, axis=-1), entropy
        log_std = weights["log_std"]
        log_probs = jax.scipy.stats.norm.logpdf(action, outputs, jnp.exp(log_std))
        entropy = jnp.sum(log_std + 0.5 * jnp.log(2 * jnp.pi * jnp.e))
        log_prob = jnp.sum(log_probs, axis=-1)
        return log_prob, jnp.broadcast_to(entropy, log_prob.shape)

    def loss(self, weights: Any, spaces: Spaces, batch: Minibatch) -> jax.Array:
        """The clipped surrogate, the value loss and the entropy bonus."""
        log_prob, entropy = self.log_prob_and_entropy(
            spaces, weights, batch.obs, batch.action
        )
        ratio = jnp.exp(log_prob - batch.log_prob)
        clipped = jnp.clip(ratio, 1 - self.clip_ratio, 1 + self.clip_ratio)
        advantage = batch.advantage - jnp.mean(batch.advantage)
        advantage = advantage / (jnp.std(advantage) + 1e-8)
        gain = jnp.minimum(ratio * advantage, clipped * advantage)
        _, critic = self.networks(spaces)
        value = critic(weights["critic"], batch.obs)[:, 0]
        value_loss = 0.5 * jnp.mean(jnp.square(value - batch.value_target))
        return (
            -jnp.mean(gain)
            + self.value_coef * value_loss
            - self.entropy_coef * jnp.mean(entropy)
        )

    def update(self, spaces: Spaces, learner: Learner, batch: Minibatch) -> Learner:
        """One gradient step on a minibatch."""
        grads = jax.grad(self.loss)(learner.weights, spaces, batch)
        clip = optax.clip_by_global_norm(self.max_grad_norm)
        grads, _ = clip.update(grads, optax.EmptyState())
        updates, opt_state = _ADAM.update(grads, learner.opt_state)
        weights = jax.tree.map(
            lambda w, u: w - self.learning_rate * u, learner.weights, updates
        )
        return Learner(weights, opt_state)

    def learn(
        self, spaces: Spaces, learner: Learner, rollout: Rollout, key: jax.Array
    ) -> Learner:
        """All updates of one iteration."""
        rows = self.iteration_steps
        weights = learner.weights
        flat = jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), rollout)
        _, critic = self.networks(spaces)
        values = critic(weights["critic"], jnp.stack([flat.obs, flat.next_obs]))
        value, next_value = values[..., 0].reshape(2, *rollout.reward.shape)
        advantage = advantages(
            rollout, value, next_value, self.discount, self.gae_lambda
        )
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
                return self.update(spaces, learner, batch), None

            return jax.lax.scan(one_batch, learner, batches)

        keys = jax.random.split(key, self.num_epochs)
        return jax.lax.scan(one_epoch, learner, keys)[0]

    def learn_with_bonus(
        self,
        spaces: Spaces,
        bonus: Bonus,
        learner: Learner,
        curiosity: Any,
        rollout: Rollout,
        key: jax.Array,
    ) -> tuple[Learner, Any]:
        """`learn` with intrinsic rewards, then a pass of the bonus over the iteration.

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
            obs=flat.obs,
            next_obs=flat.next_obs,
            action=jnp.clip(flat.action, -1.0, 1.0),
            reward=flat.reward,
            terminated=flat.terminated,
            mask=jnp.ones(rows, jnp.float32),
        )
        curiosity, paid = bonus.rewards(spaces, curiosity, batch)
        reward = rollout.reward + paid.reshape(rollout.reward.shape)
        learner = self.learn(spaces, learner, rollout.replace(reward=reward), key)  # type: ignore
        # One more key than `learn` splits this one into.
        order = jax.random.permutation(jax.random.fold_in(key, self.num_epochs), rows)
        order = order.reshape(self.num_minibatches, -1)

        def one_batch(curiosity, rows):
            minibatch = jax.tree.map(lambda x: x[rows], batch)
            return bonus.update(spaces, curiosity, minibatch), None

        return learner, jax.lax.scan(one_batch, curiosity, order)[0]

    def train(
        self,
        env: Any,
        params: Any,
        key: jax.Array,
        *,
        num_steps: int,
        num_snapshots: int = 1,
        stop: StopRule | None = None,
        spaces: Spaces | None = None,
        bonus: Bonus | None = None,
        test: TaskTest | None = None,
    ) -> Trained:
        """Trains one agent; an iteration is steps in all environments, then updates.

        An environment whose `step_env` returns a real-valued `info["discount"]` is
        taken at its word: it weighs the bootstrap.

        Args:
          env: A gymnax environment.
          params: Its params.
          key: A PRNG key.
          num_steps: Environment steps over all parallel environments.
          num_snapshots: How many times the weights are kept, evenly spaced; the last
            are those at the end of training.
          stop: When to end earlier. Under `jax.vmap` all members then run until the
            last one stops.
          spaces: The environment's spaces; read from it by default, which has to be
            done before where `params` are traced and bound the actions.
          bonus: An intrinsic reward that learns along (see `jaxrl_se.Curious`).
          test: Tests on the real task after every iteration, which can end training.

        Raises:
          ValueError: The steps of a snapshot are no whole number of iterations.
        """
        num_iterations, rest = divmod(num_steps, num_snapshots * self.iteration_steps)
        if rest or not num_iterations:
            raise ValueError(
                "num_steps must be a multiple of PPO's num_envs * rollout_steps "
                f"({self.iteration_steps}), times num_snapshots ({num_snapshots}), "
                f"got {num_steps}"
            )
        spaces = spaces or Spaces.of(env, params)
        params = with_discount(params, self.discount)
        key_start, key_reset, key_iterations = jax.random.split(key, 3)
        # A key of its own: with tests an agent draws what it draws without.
        key_test = jax.random.fold_in(key, 4)

        def one_iteration(index, carry):
            (learner, curiosity), envs, progress = carry
            keys = jax.random.split(jax.random.fold_in(key_iterations, index), 3)
            envs, rollout = self._collect(
                env, params, spaces, learner.weights, envs, keys[0], keys[1]
            )
            if bonus is None:
                learner = self.learn(spaces, learner, rollout, keys[2])
            else:
                learner, curiosity = self.learn_with_bonus(
                    spaces, bonus, learner, curiosity, rollout, keys[2]
                )
            steps, episodes, stopping, tests = progress
            if stop is not None:
                stopping = watch(stop, stopping, rollout)
            episodes = episodes + jnp.sum(rollout.done).astype(jnp.int32)
            steps = steps + self.iteration_steps
            if test is not None:
                policy = self.policy(spaces, self.policy_weights(learner))
                tests = test.after_step(
                    tests, policy, key_test, steps, jnp.bool_(True), num_steps
                )
            progress = (steps, episodes, stopping, tests)
            return (learner, curiosity), envs, progress

        def one_snapshot(carry, snapshot):
            def goes_on(indexed):
                index, carry = indexed
                more = index < (snapshot + 1) * num_iterations
                if stop is not None:
                    more = more & ~stop.fired(carry[2][2])
                return more if test is None else more & ~test.solved(carry[2][3])

            def body(indexed):
                index, carry = indexed
                return index + 1, one_iteration(index, carry)

            first = (snapshot * num_iterations, carry)
            carry = jax.lax.while_loop(goes_on, body, first)[1]
            return carry, self.policy_weights(carry[0][0])

        keys_reset = jax.random.split(key_reset, self.num_envs)
        obs, env_state = jax.vmap(env.reset, (0, None))(keys_reset, params)
        curiosity = None
        if bonus is not None:  # whose key is a fourth one: the agent's stay as they are
            curiosity = bonus.init(spaces, jax.random.fold_in(key, 3))
        carry = (
            (self.start(spaces, key_start), curiosity),
            (obs, env_state, jnp.zeros(self.num_envs, jnp.float32)),
            (
                jnp.int32(0),
                jnp.int32(0),
                None if stop is None else stop.init(),
                None if test is None else test.init(),
            ),
        )
        carry, snapshots = jax.lax.scan(one_snapshot, carry, jnp.arange(num_snapshots))
        steps, episodes, _, tests = carry[2]
        return Trained(snapshots, steps, episodes, tests)

    def _collect(self, env, params, spaces, weights, envs, key_env, key_noise):
        """Steps all environments; returns where they are then, and a `Rollout`."""
        draws, step = draw_steps(env, params, key_env, self.iteration_steps)
        draws = jax.tree.map(
            lambda x: x.reshape(self.rollout_steps, self.num_envs, *x.shape[1:]), draws
        )

        def one_step(envs, draw):
            obs, env_state, total = envs
            env_draw, noise = draw
            inputs = obs.astype(jnp.float32)
            action, stored = self.act(spaces, weights, inputs, noise)
            taken = jax.vmap(step)(env_draw, env_state, action)
            terminated = taken.terminated.astype(jnp.float32)
            if "discount" in taken.info:
                terminated = 1.0 - taken.info["discount"]
            done = (taken.terminated | taken.truncated).astype(jnp.float32)
            reward = taken.reward.reshape(self.num_envs).astype(jnp.float32)
            total = total + reward
            transition = Rollout(
                obs=inputs,
                action=stored,
                reward=reward,
                next_obs=taken.next_obs.astype(jnp.float32),
                terminated=terminated,
                done=done,
                episode_return=total,
            )
            return (taken.obs, taken.state, (1 - done) * total), transition

        noise = self.draw_noise(spaces, key_noise)
        return jax.lax.scan(one_step, envs, (draws, noise))


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
    error = rollout.reward + discount * (1 - rollout.terminated) * next_value - value
    decay = discount * gae_lambda * (1 - rollout.done)

    def one_step(later, x):
        error, decay = x
        advantage = error + decay * later
        return advantage, advantage

    start = jnp.zeros_like(error[0])
    return jax.lax.scan(one_step, start, (error, decay), reverse=True)[1]


def watch(stop: StopRule, state: Any, rollout: Rollout) -> Any:
    """Shows an iteration's episodes to a stop rule, by step, then by environment."""

    def one(state, x):
        total, done = x
        return stop.update(state, total, done), None

    totals, done = rollout.episode_return.ravel(), rollout.done.ravel() > 0
    return jax.lax.scan(one, state, (totals, done))[0]
