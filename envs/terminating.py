"""A time limit that looks like the end of the task, as many agents take it."""

from typing import Any

import jax
import jax.numpy as jnp

from envs.wrapper import Wrapper


class TerminatingTimeLimit(Wrapper):
    """Reports truncation as termination, in the interface of gymnax 1.x.

    Agents that know one flag only (rejax 0.1.3, purejaxrl) do not bootstrap at a time
    limit. Behind this environment every agent sees a task as those see it, so that what
    the difference costs can be measured.

    Args:
        env: Environment with the interface of gymnax 1.x.
    """

    def step_env(
        self, key: jax.Array, state: Any, action: Any, params: Any
    ) -> tuple[Any, Any, jax.Array, jax.Array, dict[Any, Any]]:
        """Step the dynamics; a time limit terminates."""
        obs, state, reward, terminated, info = self._env.step_env(
            key, state, action, params
        )
        terminated = terminated | self._env.is_truncated(state, params)
        return obs, state, reward, terminated, info

    def is_terminated(self, state: Any, params: Any) -> jax.Array:
        """Whether the episode is over, be it by the time limit."""
        return self._env.is_terminated(state, params) | self._env.is_truncated(
            state, params
        )

    def is_truncated(self, state: Any, params: Any) -> jax.Array:
        """Never."""
        return jnp.bool_(False)
