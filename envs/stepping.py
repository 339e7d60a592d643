"""One step of any gymnax 1.x environment, with every part named.

`step` goes through the public interface; `draw_steps` is for training loops, whose
resets it draws ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnax.environments.environment import Environment

from jaxrl_runs.values import Like


class Step(NamedTuple):
    """What ``env.step`` gives, sorted into the episode it belongs to.

    Attributes:
        obs: Observation to act on next; after the end of an episode it is the first
            of the next one.
        state: The state that belongs to ``obs``.
        next_obs: Observation that the action led to, also at the end of an episode.
        reward: Reward of the action.
        terminated: Whether the task ended the episode.
        truncated: Whether the time limit ended the episode.
        info: The rest of the environment's own info.
    """

    obs: Any
    state: Any
    next_obs: Any
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    info: dict[Any, Any]


def step(env: Any, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
    """Step an environment that resets itself at the end of an episode.

    An environment whose class has a `step` of its own (a wrapper, say) is stepped by
    that one, any other as gymnax's `step` does it.

    Raises:
        ValueError: If ``env.step`` does not follow gymnax 1.x.
    """
    if has_raw_step(env):
        key_step, key_reset = jax.random.split(key)
        taken = raw_step(env, key_step, state, action, params)
        return _restarted(taken, env.reset_env(key_reset, params))
    outputs = env.step(key, state, action, params)
    if len(outputs) != 6:
        raise ValueError(
            "env must give the six values of gymnax 1.x's step (obs, state, reward, "
            f"terminated, truncated, info), got {len(outputs)}"
        )
    obs, state, reward, terminated, truncated, info = outputs
    if "final_observation" not in info:
        raise ValueError(
            "env: step must return the observation before the reset as "
            "info['final_observation'], as gymnax 1.x does"
        )
    redundant = ("final_observation", "terminated", "truncated")
    rest = {name: value for name, value in info.items() if name not in redundant}
    return Step(
        obs,
        state,
        info["final_observation"],
        scalar("reward", reward, env),
        scalar("terminated", terminated, env),
        scalar("truncated", truncated, env),
        rest,
    )


def raw_step(env: Any, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
    """Step by `env.step_env`, without a reset at the end of an episode.

    It is for environments of which `has_raw_step` is true. `obs` and `next_obs` are
    the same here.

    Raises:
        ValueError: If reward or flags are no single numbers.
    """
    obs, state, reward, terminated, info = env.step_env(key, state, action, params)
    truncated = scalar("is_truncated", env.is_truncated(state, params), env)
    return Step(
        obs,
        state,
        obs,
        scalar("reward", reward, env),
        scalar("terminated", terminated, env),
        truncated,
        info,
    )


def scalar(name: str, value: Any, env: Any) -> jax.Array:
    """A single number as an array of shape (), whatever shape it came in.

    Raises:
        ValueError: If it is not a single number; names the environment and the value.
    """
    value = jnp.asarray(value)
    if value.size != 1:
        raise ValueError(
            f"task {getattr(env, 'name', type(env).__name__)!r}: {name} must be a "
            f"single number, got shape {value.shape}"
        )
    return value if value.shape == () else value.reshape(())


def _restarted(taken: Step, restart: tuple[Any, Any]) -> Step:
    """The step, with the first observation and state of an episode where it ended."""
    done = jnp.logical_or(taken.terminated, taken.truncated)
    obs, state = jax.tree.map(
        lambda new, old: jax.lax.select(done, new, old),
        restart,
        (taken.obs, taken.state),
    )
    return taken._replace(obs=obs, state=state)


_ENV = Like(
    "a gymnax environment",
    ("reset", "step", "observation_space", "action_space", "default_params"),
)


def check_env(env: Any, name: str = "env") -> None:
    """Raises TypeError, with a remedy, for what is no gymnax environment."""
    if isinstance(env, tuple):
        raise TypeError(
            f"{name} must be a gymnax environment, got a tuple; pass the two parts of "
            "a pair: f(*pair)"
        )
    if isinstance(env, str):
        raise TypeError(
            f"{name} must be a gymnax environment, got {env!r}; envs.make({env!r}) "
            "gives a pair (env, params)"
        )
    _ENV.check(name, env)


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
        return keys, lambda draw, state, action: step(env, draw, state, action, params)

    def step_or_restart(draw, state, action):
        key, restart = draw
        return _restarted(raw_step(env, key, state, action, params), restart)

    keys = jax.vmap(jax.random.split)(keys)
    restarts = jax.vmap(env.reset_env, (0, None))(keys[:, 1], params)
    return (keys[:, 0], restarts), step_or_restart
