"""Proximal policy optimisation with a GRU, for tasks that show a part of a state."""

from __future__ import annotations

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
    MANY,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_OR_INFINITE,
    RATE,
    WIDTH,
    static,
    traced,
)
from jaxrl_se.agents.agent import Agent, Transition
from jaxrl_se.agents.observations import (
    ObsStatistics,
    check_observations,
    normalized,
    policy_of,
    with_statistics,
)
from jaxrl_se.agents.ppo import (
    Rollout,
    advantages,
    log_prob_and_entropy,
    seen_by,
    surrogate_loss,
    with_rollout,
)
from jaxrl_se.recurrent import RecurrentNetwork, RememberingPolicy

_ADAM = optax.scale_by_adam(eps=1e-5)


@struct.dataclass
class RecurrentState:
    """The state of recurrent PPO as an `Agent`.

    Attributes:
      weights: `{"torso", "actor", "critic"}`, and `"log_std"` for continuous actions.
      opt_state: Adam's moments.
      memory: float32 `[N, H]`, before the environments' present observations.
      is_first: bool `[N]`, whether these are the first of their episodes.
      memory_before: `[N, H]`, the memory at the iteration's first step.
      first: bool `[T, N]`, `is_first` at each step of the iteration.
      rollout: The iteration's transitions so far.
      time: int32, how many of its `T` steps are there.
      observations: Of all iterations before this one, None for an agent that sees them
        as they are.
    """

    weights: dict[str, Any]
    opt_state: Any
    memory: jax.Array
    is_first: jax.Array
    memory_before: jax.Array
    first: jax.Array
    rollout: Rollout
    time: jax.Array
    observations: ObsStatistics | None = None


@struct.dataclass
class Sequences:
    """Sequences of `B` environments to learn from.

    Attributes:
      memory: `[B, H]`, before the first step.
      first: bool `[T, B]`.
      obs: `[T, B, *obs_shape]`.
      action: `[T, B, action_size]`, as in `Rollout`.
      log_prob: `[T, B]`, of the action under the policy that took it.
      advantage: `[T, B]`.
      value_target: `[T, B]`.
    """

    memory: jax.Array
    first: jax.Array
    obs: jax.Array
    action: jax.Array
    log_prob: jax.Array
    advantage: jax.Array
    value_target: jax.Array


@struct.dataclass
class RecurrentPPO(Agent):
    """Hyperparameters of PPO with a GRU; numbers are traced, shapes are static.

    Actor and critic are linear in the features of one GRU (`jaxrl_se.recurrent`). An
    iteration is `rollout_steps` steps of `num_envs` environments; then the whole
    sequences of some environments at a time are learned from, with gradients through
    all their steps. Memory at an iteration's first step is what acting left, and stays
    so through its epochs. All else is as in `PPO`.

    Attributes:
      learning_rate: Adam's step size.
      discount: Discount of future rewards, in (0, 1].
      gae_lambda: Decay of generalized advantage estimation.
      clip_ratio: The probability ratio is clipped to 1 -+ this.
      entropy_coef: Weight of the entropy bonus.
      value_coef: Weight of the value loss, half the mean squared error. Actor and
        critic share the GRU: where returns are about 100, a larger one leaves nothing
        of it to the actor.
      max_grad_norm: Largest norm of the gradient of all weights, or infinity.
      initial_std: First standard deviation of a continuous action, in units of half
        its range.
      num_envs: Parallel environments.
      rollout_steps: Steps of each environment per iteration, and of a gradient in time.
      num_epochs: Passes over the data of an iteration.
      num_minibatches: Minibatches per pass, of whole sequences; divides `num_envs`.
      memory_size: Size of the GRU's memory.
      normalize_observations: As in `PPO`.
    """

    learning_rate: float = traced(2e-3, RATE)
    discount: float = traced(0.99, DISCOUNT)
    gae_lambda: float = traced(0.95, FRACTION)
    clip_ratio: float = traced(0.2, POSITIVE)
    entropy_coef: float = traced(0.01, NOT_NEGATIVE)
    value_coef: float = traced(0.02, NOT_NEGATIVE)
    max_grad_norm: float = traced(0.5, POSITIVE_OR_INFINITE)
    initial_std: float = traced(1.0, POSITIVE)
    num_envs: int = static(64, MANY)
    rollout_steps: int = static(64, MANY)
    num_epochs: int = static(4, COUNT)
    num_minibatches: int = static(4, COUNT)
    memory_size: int = static(64, WIDTH)
    normalize_observations: bool = static(False, FLAG)

    def network(self, spaces: Spaces) -> RecurrentNetwork:
        """Features, logits or a mean, and a value."""
        return RecurrentNetwork(spaces, self.memory_size, spaces.action_size)

    def policy(self, spaces: Spaces, weights: Any) -> Any:
        """The mode of the action's distribution."""

        def mode(weights):
            return RememberingPolicy(weights=weights, network=self.network(spaces))

        return policy_of(mode, weights, self.normalize_observations)

    def policy_weights(self, spaces: Spaces, state: RecurrentState) -> Any:
        """The GRU's and the actor's."""
        del spaces
        acting = {name: state.weights[name] for name in ("torso", "actor")}
        return with_statistics(acting, state.observations)

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        check_observations(self.normalize_observations, spaces)
        if self.num_envs % self.num_minibatches:
            raise ValueError(
                f"num_minibatches must divide num_envs ({self.num_envs}), got "
                f"{self.num_minibatches}"
            )
        if not all(map(math.isfinite, spaces.action_low + spaces.action_high)):
            raise ValueError(
                "task: RecurrentPPO needs bounded actions, but this task's bounds are "
                f"{spaces.action_low}, {spaces.action_high}"
            )

    def start(
        self,
        spaces: Spaces,
        key: jax.Array,
        *,
        num_steps: int,
        env: Any = None,
        params: Any = None,
    ) -> RecurrentState:
        """See `Agent`."""
        del num_steps, env, params
        network = self.network(spaces)
        weights = network.init(key)
        if spaces.num_actions is None:
            log_std = jnp.log(jnp.asarray(self.initial_std, jnp.float32))
            weights["log_std"] = jnp.full((spaces.action_size,), log_std)
        time_and_env = (self.rollout_steps, self.num_envs)
        obs = jnp.zeros((*time_and_env, *spaces.obs_shape), spaces.obs_dtype)  # type: ignore
        zeros = jnp.zeros(time_and_env, jnp.float32)
        action = jnp.zeros((*time_and_env, spaces.action_size), jnp.float32)
        memory = network.fresh(self.num_envs)
        return RecurrentState(
            weights=weights,
            opt_state=_ADAM.init(weights),
            memory=memory,
            is_first=jnp.ones(self.num_envs, bool),
            memory_before=memory,
            first=jnp.zeros(time_and_env, bool),
            rollout=Rollout(obs, action, zeros, obs, zeros, zeros),
            time=jnp.int32(0),
            observations=(
                ObsStatistics.start(spaces) if self.normalize_observations else None
            ),
        )

    def draw(
        self, spaces: Spaces, key_act: jax.Array, key_update: jax.Array, num_rounds: int
    ) -> tuple[jax.Array, jax.Array]:
        """Noise `[R, T, N, action_size]`, Gumbel or standard normal, and keys `[R]`."""
        shape = (num_rounds, self.rollout_steps, self.num_envs, spaces.action_size)
        is_discrete = spaces.num_actions is not None
        draw = jax.random.gumbel if is_discrete else jax.random.normal
        return draw(key_act, shape), jax.random.split(key_update, num_rounds)

    def act(
        self, spaces: Spaces, state: RecurrentState, obs: jax.Array, draw: jax.Array
    ) -> tuple[jax.Array, Any]:
        """Samples actions; what is kept of them has the memory afterwards with it."""
        network, weights = self.network(spaces), state.weights
        memory = _reset(state.is_first, state.memory)
        obs = normalized(state.observations, obs)
        memory, features = network.step(weights, memory, obs)
        outputs = network.outputs(weights, "actor", features)
        if spaces.num_actions is not None:
            action = jnp.argmax(outputs + draw, axis=-1).astype(jnp.int32)
            return action, (jax.vmap(spaces.action_vector)(action), memory)
        action = outputs + jnp.exp(weights["log_std"]) * draw
        return spaces.scaled_action(action), (action, memory)

    def observe(
        self, spaces: Spaces, state: RecurrentState, transition: Transition
    ) -> RecurrentState:
        """Adds a step to the iteration's, and remembers."""
        del spaces
        (action, memory), time = transition.action, state.time
        row = Rollout(
            obs=transition.obs,
            action=action,
            reward=transition.reward,
            next_obs=transition.next_obs,
            bootstrap_weight=transition.bootstrap_weight,
            done=transition.done,
        )
        rollout = jax.tree.map(
            lambda column, x: column.at[time].set(x.astype(column.dtype)),
            state.rollout,
            row,
        )
        is_start = time == 0
        return state.replace(  # type: ignore
            memory_before=jnp.where(is_start, state.memory, state.memory_before),
            first=state.first.at[time].set(state.is_first),
            rollout=rollout,
            memory=memory,
            is_first=transition.done,
            time=time + 1,
        )

    def update(
        self, spaces: Spaces, state: RecurrentState, draw: jax.Array
    ) -> RecurrentState:
        """All updates of an iteration, with a key."""
        data = self.sequences(spaces, state)

        def one_epoch(learner, key):
            order = jax.random.permutation(key, self.num_envs)

            def one_batch(learner, rows):
                memory = data.memory[rows]
                rest = data.replace(memory=None)  # type: ignore
                batch = jax.tree.map(lambda x: x[:, rows], rest)
                return self.learn(spaces, learner, batch.replace(memory=memory)), None

            rows = order.reshape(self.num_minibatches, -1)
            return jax.lax.scan(one_batch, learner, rows)

        keys = jax.random.split(draw, self.num_epochs)
        learner = (state.weights, state.opt_state)
        (weights, opt_state), _ = jax.lax.scan(one_epoch, learner, keys)
        return state.replace(  # type: ignore
            weights=weights,
            opt_state=opt_state,
            time=jnp.int32(0),
            observations=with_rollout(state.observations, state.rollout),
        )

    def sequences(self, spaces: Spaces, state: RecurrentState) -> Sequences:
        """What an iteration is learned from, by the weights that acted in it."""
        network, weights = self.network(spaces), state.weights
        rollout = seen_by(state.observations, state.rollout)

        now = network.remember(weights, state.memory_before, state.first, rollout.obs)
        _, later = network.step(weights, now, rollout.next_obs)
        value, next_value = (
            network.outputs(weights, "critic", features)[..., 0]
            for features in (now, later)
        )
        advantage = advantages(
            rollout, value, next_value, self.discount, self.gae_lambda
        )
        log_prob, _ = log_prob_and_entropy(
            spaces, weights, network.outputs(weights, "actor", now), rollout.action
        )
        return Sequences(
            memory=state.memory_before,
            first=state.first,
            obs=rollout.obs,
            action=rollout.action,
            log_prob=log_prob,
            advantage=advantage,
            value_target=advantage + value,
        )

    def loss(self, weights: Any, spaces: Spaces, batch: Sequences) -> jax.Array:
        """The clipped surrogate, the value loss and the entropy bonus."""
        network = self.network(spaces)
        features = network.remember(weights, batch.memory, batch.first, batch.obs)
        log_prob, entropy = log_prob_and_entropy(
            spaces, weights, network.outputs(weights, "actor", features), batch.action
        )
        value = network.outputs(weights, "critic", features)[..., 0]
        return surrogate_loss(self, batch, log_prob, entropy, value)

    def learn(self, spaces: Spaces, learner: tuple[Any, Any], batch: Sequences) -> Any:
        """One gradient step; a learner is weights and Adam's moments."""
        weights, opt_state = learner
        grads = jax.grad(self.loss)(weights, spaces, batch)
        clip = optax.clip_by_global_norm(self.max_grad_norm)
        grads, _ = clip.update(grads, optax.EmptyState())
        updates, opt_state = _ADAM.update(grads, opt_state)
        weights = jax.tree.map(
            lambda w, u: w - self.learning_rate * u, weights, updates
        )
        return weights, opt_state

    def metrics(self, spaces: Spaces, state: RecurrentState) -> dict[str, jax.Array]:
        """The value loss on the last iteration, after it was learned from."""
        advantage = self.sequences(spaces, state).advantage
        return {"value_loss": 0.5 * jnp.mean(jnp.square(advantage))}


def _reset(first: jax.Array, memory: jax.Array) -> jax.Array:
    """The memory `[B, H]`, forgotten where an episode begins."""
    return jnp.where(first[:, None], 0.0, memory)
