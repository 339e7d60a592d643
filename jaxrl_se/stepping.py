"""Steps of a training loop whose resets are drawn before the loop."""

from __future__ import annotations

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
    env: Any,
    params: Any,
    params_axes: Any,
    key: jax.Array,
    *,
    num_members: int,
    num_steps: int,
) -> tuple[Any, Any]:
    """Draws all that is random about the steps of a group of environments.

    gymnax's `step` splits its key and computes a reset at every step, needed or not. In
    a training loop of tiny operations that is a good part of the time. Here the
    resets of the whole run are one batched call ahead of the loop, with the keys that
    `env.step` would derive, so that the transitions are the same. An environment whose
    class defines a `step` of its own (a wrapper, say) keeps it.

    Args:
      env: A gymnax environment.
      params: Its params, with a leading member axis where `params_axes` says so.
      params_axes: `jax.vmap` axes of `params`.
      key: A key for the whole group, whose members share it.
      num_members: Size of the group, `G`.
      num_steps: Steps that will be taken.

    Returns:
      `draws`, a pytree with leading axis `[num_steps]` to scan over, and a function
      `(draw, state, action) -> Step` of `[G]` states and actions.
    """
    keys = jax.random.split(key, num_steps)
    if not has_raw_step(env):
        step = jax.vmap(
            lambda draw, state, action, params: public_step(
                env, draw, state, action, params
            ),
            (None, 0, 0, params_axes),
            axis_size=num_members,
        )
        return keys, lambda draw, state, action: step(draw, state, action, params)

    def step_or_restart(draw, state, action, params):
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

    reset = jax.vmap(env.reset_env, (None, params_axes), axis_size=num_members)
    step = jax.vmap(
        step_or_restart, ((None, 0), 0, 0, params_axes), axis_size=num_members
    )
    keys = jax.vmap(jax.random.split)(keys)
    restarts = jax.vmap(reset, (0, None))(keys[:, 1], params)
    return (keys[:, 0], restarts), (
        lambda draw, state, action: step(draw, state, action, params)
    )
