"""A time limit that looks like the end of the task, as many agents take it."""

from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import environment


class TerminatingTimeLimit(environment.Environment):
    """Reports truncation as termination, in the interface of gymnax 1.x.

    Agents that know one flag only (rejax 0.1.3, purejaxrl) do not bootstrap at a time
    limit. Behind this environment every agent sees a task as those see it, so that what
    the difference costs can be measured.

    Args:
        env: Environment with the interface of gymnax 1.x.
    """

    def __init__(self, env: Any):
        self._env = env

    @property
    def name(self) -> str:
        """Environment name."""
        return self._env.name

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return self._env.num_actions

    @property
    def default_params(self) -> Any:
        """The environment's own."""
        return self._env.default_params

    def step_env(
        self, key: jax.Array, state: Any, action: Any, params: Any
    ) -> tuple[Any, Any, jax.Array, jax.Array, dict[Any, Any]]:
        """Step the dynamics; a time limit terminates."""
        obs, state, reward, terminated, info = self._env.step_env(
            key, state, action, params
        )
        terminated = terminated | self._env.is_truncated(state, params)
        return obs, state, reward, terminated, info

    def reset_env(self, key: jax.Array, params: Any) -> tuple[Any, Any]:
        """Draw an initial observation and state."""
        return self._env.reset_env(key, params)

    def is_terminated(self, state: Any, params: Any) -> jax.Array:
        """Whether the episode is over, be it by the time limit."""
        return self._env.is_terminated(state, params) | self._env.is_truncated(
            state, params
        )

    def is_truncated(self, state: Any, params: Any) -> jax.Array:
        """Never."""
        return jnp.bool_(False)

    def action_space(self, params: Any = None) -> Any:
        """The environment's own."""
        return self._env.action_space(params)

    def observation_space(self, params: Any = None) -> Any:
        """The environment's own."""
        return self._env.observation_space(params)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TerminatingTimeLimit) and self._env == other._env

    def __hash__(self) -> int:
        return hash((TerminatingTimeLimit, self._env))
