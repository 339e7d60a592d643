"""How good is a policy? One function: policy, task, key, episodes -> returns."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.stepping import has_raw_step, raw_step, step


@struct.dataclass
class Episodes:
    """The outcome of evaluation episodes.

    Attributes:
      returns: float32 `[..., num_episodes]`, undiscounted sums of rewards.
      lengths: int32 `[..., num_episodes]`, environment steps.
    """

    returns: jax.Array
    lengths: jax.Array


def evaluate(
    policy: Any, env: Any, params: Any, key: jax.Array, num_episodes: int = 10
) -> Episodes:
    """Plays whole episodes, from reset to termination or truncation.

    Args:
      policy: A callable `(obs, key) -> action`: one of `jaxrl_se.policies`, any pytree
        with `__call__`, or a plain function (compiled anew for each function object).
      env: A gymnax environment.
      params: Its params.
      key: A PRNG key; episodes are independent of each other.
      num_episodes: How many episodes to play.

    Returns:
      `Episodes` with arrays of shape `[num_episodes]`.

    Raises:
      ValueError: `num_episodes` is not positive.
    """
    if num_episodes < 1:
        raise ValueError(f"num_episodes must be at least 1, got {num_episodes}")
    if len(jax.tree.leaves(policy)) == 1 and jax.tree.leaves(policy)[0] is policy:
        policy = jax.tree_util.Partial(policy)
    return _evaluate(policy, env, params, key, num_episodes)


@partial(jax.jit, static_argnames=("env", "num_episodes"))
def _evaluate(policy, env, params, key, num_episodes) -> Episodes:
    return play(policy, env, params, key, num_episodes)


def play(
    policy: Any,
    env: Any,
    params: Any,
    key: jax.Array,
    num_episodes: int,
    active: Any = True,
) -> Episodes:
    """`evaluate` without its own jit, to be used inside a larger jitted program.

    Nothing is played where `active` is False, which under `jax.vmap` saves the time.
    """
    step_once = _step_without_reset(env)
    keys = jax.random.split(key, (num_episodes, 2))
    obs, state = jax.vmap(env.reset, (0, None))(keys[:, 0], params)

    def advance(key, obs, state, time):
        key_action, key_step = jax.random.split(jax.random.fold_in(key, time))
        return step_once(key_step, state, policy(obs, key_action), params)

    def one_step(carry):
        obs, state, alive, episodes, time = carry
        obs, state, reward, done = jax.vmap(advance, (0, 0, 0, None))(
            keys[:, 1], obs, state, time
        )
        episodes = Episodes(
            returns=episodes.returns + jnp.where(alive, reward, 0.0),
            lengths=episodes.lengths + alive,
        )
        return obs, state, alive & ~done, episodes, time + 1

    start = Episodes(
        returns=jnp.zeros(num_episodes, jnp.float32),
        lengths=jnp.zeros(num_episodes, jnp.int32),
    )
    alive = jnp.broadcast_to(jnp.asarray(active, bool), (num_episodes,))
    carry = (obs, state, alive, start, jnp.int32(0))
    *_, episodes, _ = jax.lax.while_loop(lambda c: jnp.any(c[2]), one_step, carry)
    return episodes


def _step_without_reset(env: Any):
    """A step that leaves out gymnax's autoreset where the environment allows it.

    `Environment.step` computes a reset at every step, which doubles its cost.
    """

    def without_reset(key, state, action, params):
        taken = raw_step(env, key, state, action, params)
        return taken.obs, taken.state, taken.reward, taken.terminated | taken.truncated

    def with_reset(key, state, action, params):
        taken = step(env, key, state, action, params)
        return taken.obs, taken.state, taken.reward, taken.terminated | taken.truncated

    return without_reset if has_raw_step(env) else with_reset
