"""Planning without an agent: the cross-entropy method inside a world model."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl_runs import values
from jaxrl_runs.values import COUNT, DISCOUNT, MANY, as_key, static, traced
from oswm.environment import WorldModelEnv, WorldModelParams, WorldModelState

# More at once and what they attend to leaves the cache of a core: a third slower.
_CPU_BATCH = 32


@struct.dataclass
class CrossEntropyPlanner:
    """A policy that plans each action anew: model-predictive control.

    At every step action sequences are drawn, rolled out in the world model and ranked
    by their discounted return; the best ones give the distribution of the next
    iteration (Chua et al., 2018, arXiv 1805.12114, algorithm 1). Sequences hold each
    drawn action for `action_repeat` steps. Discrete actions are drawn from a
    categorical distribution per step, continuous ones from a clipped Gaussian. Nothing
    is carried from one step to the next, so the planner is a policy like any other.

    Attributes:
        params: Params of a world-model environment.
        env: Static; the environment.
        horizon: Static; drawn actions per sequence.
        action_repeat: Static; model steps per drawn action.
        num_samples: Static; sequences per iteration.
        num_elites: Static; the best of them that are followed.
        num_iterations: Static; rounds of drawing and following.
        discount: Of rewards inside the model.
    """

    params: WorldModelParams
    env: WorldModelEnv = struct.field(pytree_node=False)
    horizon: int = static(20, MANY)
    action_repeat: int = static(1, MANY)
    num_samples: int = static(128, MANY)
    num_elites: int = static(16, MANY)
    num_iterations: int = static(4, COUNT)
    discount: float = traced(0.99, DISCOUNT)

    def __call__(self, obs: jax.Array, key: jax.Array) -> jax.Array:
        """Returns an action for one observation [S].

        Raises:
            ValueError: A setting is out of its range.
        """
        values.check(self)
        if self.num_elites > self.num_samples:
            raise ValueError(
                f"num_elites must be at most num_samples ({self.num_samples}), got "
                f"{self.num_elites}"
            )
        keys = jax.random.split(as_key(key), self.num_iterations)
        plan, _ = jax.lax.scan(
            lambda plan, key: (self._improve(obs, plan, key), None), self._start(), keys
        )
        if self._is_discrete:
            return jnp.argmax(plan[0]).astype(jnp.int32)
        mean, _ = plan
        return self._to_action(mean[0])

    @property
    def _is_discrete(self) -> bool:
        return not self.env.action_low

    def _start(self) -> Any:
        """Logits [horizon, num_actions], or means and deviations in [-1, 1]."""
        shape = (self.horizon, self.env.num_actions)
        if self._is_discrete:
            return jnp.zeros(shape)
        return jnp.zeros(shape), jnp.ones(shape)

    def _to_action(self, unit: jax.Array) -> jax.Array:
        low, high = jnp.asarray(self.env.action_low), jnp.asarray(self.env.action_high)
        return low + (high - low) * (jnp.clip(unit, -1.0, 1.0) + 1) / 2

    def _improve(self, obs: jax.Array, plan: Any, key: jax.Array) -> Any:
        """One round of drawing, rolling out and following the elites."""
        shape = (self.num_samples, self.horizon)
        if self._is_discrete:
            drawn = jax.random.categorical(key, plan, shape=shape)
            actions = drawn.astype(jnp.int32)
        else:
            mean, std = plan
            noise = jax.random.normal(key, (*shape, self.env.num_actions))
            drawn = jnp.clip(mean + std * noise, -1.0, 1.0)
            actions = self._to_action(drawn)
        batch = _CPU_BATCH if jax.default_backend() == "cpu" else self.num_samples
        returns = jax.lax.map(
            lambda sequence: self._roll_out(obs, sequence),
            actions,
            batch_size=min(batch, self.num_samples),
        )
        _, best = jax.lax.top_k(returns, self.num_elites)
        elites = drawn[best]
        if self._is_discrete:
            counts = jnp.mean(jax.nn.one_hot(elites, self.env.num_actions), axis=0)
            return jnp.log(counts + 0.01)
        return jnp.mean(elites, axis=0), jnp.std(elites, axis=0) + 0.01

    def _roll_out(self, obs: jax.Array, actions: jax.Array) -> jax.Array:
        """Discounted return of an action sequence [horizon, ...] from a state.

        Where the model ends the episode early, the remaining steps pay nothing.
        """
        state = WorldModelState(time=jnp.int32(0), obs=obs, terminated=jnp.bool_(False))
        key = jax.random.key(0)  # Not used by mean steps; the same for all otherwise.

        def step(carry, action):
            state, weight, total = carry
            _, state, reward, terminated, _ = self.env.step_env(
                key, state, action, self.params
            )
            total = total + weight * reward
            weight = weight * self.discount * (1.0 - terminated)
            return (state, weight, total), None

        actions = jnp.repeat(actions, self.action_repeat, axis=0)
        start = (state, jnp.float32(1.0), jnp.float32(0.0))
        (_, _, total), _ = jax.lax.scan(step, start, actions)
        return total
