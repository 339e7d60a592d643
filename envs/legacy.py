"""gymnax 1.x environments for code that was written for gymnax 0.0.x."""

from typing import Any

import jax
import jax.numpy as jnp

from envs.stepping import check_env, raw_step, step


class LegacyEnv:
    """The five-value step of gymnax 0.0.x over a gymnax 1.x environment.

    For rejax 0.1.3, purejaxrl and whatever else unpacks ``obs, state, reward, done,
    info``: ``done`` is ``terminated | truncated``. Both flags, and the observation
    before the reset, are still in ``info`` (``terminated``, ``truncated``,
    ``final_observation``) for code that can tell them apart. All else is the
    wrapped environment's.

    Unlike gymnax's own ``LegacyStepAPIWrapper`` it can be copied and pickled (rejax
    deep-copies its configuration), and adapters of equal environments are equal, so
    that neither compiles anything twice.

    Args:
        env: Environment with the interface of gymnax 1.x.

    Example:
        >>> import envs
        >>> env, params = envs.make("CartPole-v1")
        >>> env = LegacyEnv(env)
        >>> obs, state = env.reset(jax.random.key(0), params)
        >>> obs, state, reward, done, info = env.step(
        ...     jax.random.key(1), state, 0, params
        ... )
    """

    def __init__(self, env: Any):
        check_env(env)
        self._env = env

    def reset(self, key: jax.Array, params: Any = None) -> tuple[Any, Any]:
        """Draw an initial observation and state."""
        return self._env.reset(key, params)

    def step(
        self, key: jax.Array, state: Any, action: Any, params: Any = None
    ) -> tuple[Any, Any, jax.Array, jax.Array, dict[Any, Any]]:
        """Step, and reset if the episode is over."""
        params = self._env.default_params if params is None else params
        taken = step(self._env, key, state, action, params)
        info = {
            **taken.info,
            "terminated": taken.terminated,
            "truncated": taken.truncated,
            "final_observation": taken.next_obs,
        }
        done = jnp.logical_or(taken.terminated, taken.truncated)
        return taken.obs, taken.state, taken.reward, done, info

    def step_env(
        self, key: jax.Array, state: Any, action: Any, params: Any
    ) -> tuple[Any, Any, jax.Array, jax.Array, dict[Any, Any]]:
        """Step without a reset; in 0.0.x, ``done`` has the time limit here too."""
        taken = raw_step(self._env, key, state, action, params)
        done = jnp.logical_or(taken.terminated, taken.truncated)
        return taken.obs, taken.state, taken.reward, done, taken.info

    def is_terminal(self, state: Any, params: Any) -> jax.Array:
        """Whether the episode is over, be it by the time limit."""
        return jnp.logical_or(
            self._env.is_terminated(state, params),
            self._env.is_truncated(state, params),
        )

    def __getattr__(self, name: str) -> Any:
        # copy and pickle ask for special methods before ``_env`` is there.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._env, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> "LegacyEnv":
        # Environments hold no state. A copy of one that gymnax hashes by identity
        # would only compile everything again.
        return LegacyEnv(self._env)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LegacyEnv) and self._env == other._env

    def __hash__(self) -> int:
        return hash((LegacyEnv, self._env))
