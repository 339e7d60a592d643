"""Steps of a training loop whose resets are drawn before the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from gymnax.environments.environment import Environment

from envs.stepping import Step
from envs.stepping import step as public_step


def has_raw_step(env: Any) -> bool:
    """Whether `env.step` is gymnax's own, so that `step_env` is all that it wraps.

    A class with a `step` of its own (a wrapper, say) has to be stepped by that one.
    """
    return isinstance(env, Environment) and type(env).step is Environment.step


def draw_steps(
    env: Any, params: Any, key: jax.Array, num_steps: int
) -> tuple[Any, Callable[[Any, Any, Any], Step]]:
    """Draws all that is random about the steps of an environment.

    gymnax's `step` splits its key and computes a reset at every step, needed or not. In
    a training loop of tiny operations that is a good part of the time. Here the
    resets of all steps are one batched call ahead of the loop, with the keys that
    `env.step` would derive, so that the transitions are the same. An environment whose
    class defines a `step` of its own (a wrapper, say) keeps it.

    Args:
      env: A gymnax environment.
      params: Its params.
      key: A PRNG key.
      num_steps: Steps that will be taken.

    Returns:
      `draws`, a pytree with leading axis `[num_steps]`, and a function
      `(draw, state, action) -> Step`.
    """
    keys = jax.random.split(key, num_steps)
    if not has_raw_step(env):
        return keys, lambda draw, state, action: public_step(
            env, draw, state, action, params
        )

    def step_or_restart(draw, state, action):
        key, restart = draw
        next_obs, state, reward, terminated, info = env.step_env(
            key, state, action, params
        )
        truncated = env.is_truncated(state, params)
        obs, state = jax.tree.map(
            lambda new, old: jax.lax.select(terminated | truncated, new, old),
            restart,
            (next_obs, state),
        )
        return Step(obs, state, next_obs, reward, terminated, truncated, info)

    keys = jax.vmap(jax.random.split)(keys)
    restarts = jax.vmap(env.reset_env, (0, None))(keys[:, 1], params)
    return (keys[:, 0], restarts), step_or_restart
