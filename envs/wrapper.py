"""The base of all wrappers: an environment around another."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import jax
from gymnax.environments.environment import Environment

from envs.stepping import check_env, has_raw_step


class Wrapper(Environment):
    """An environment that is another one but for what a subclass changes.

    A subclass overrides what differs and names what it was built with: wrappers of one
    class with equal settings around equal environments are equal, so that nothing
    compiles twice. Where it has params or a state of its own around the inner ones,
    it overrides `inner_params` and `inner_state`, and all else follows.

    Args:
        env: Environment with the interface of gymnax 1.x.
        settings: What the subclass was built with, beside the environment.

    Raises:
        ValueError: If the environment has a ``step`` of its own, which a wrapper of
            its ``step_env`` would leave out.
    """

    def __init__(self, env: Any, settings: Hashable = None):
        check_env(env)
        if not has_raw_step(env):
            raise ValueError(
                f"env must have gymnax's own step, got {type(env).__name__}, which has "
                f"a step of its own that {type(self).__name__} would leave out; wrap "
                "the inner environment"
            )
        self._env = env
        self._settings = settings

    def __eq__(self, other: object) -> bool:
        return (
            type(self) is type(other)
            and self._env == other._env  # type: ignore
            and self._settings == other._settings  # type: ignore
        )

    def __hash__(self) -> int:
        return hash((type(self), self._env, self._settings))

    def inner_params(self, params: Any) -> Any:
        """The inner environment's part of params; here all of them."""
        return params

    def inner_state(self, state: Any) -> Any:
        """The inner environment's part of a state; here all of it."""
        return state

    def __repr__(self) -> str:
        """Its class and name."""
        return f"{type(self).__name__}({self.name})"

    @property
    def name(self) -> str:
        """The inner environment's name."""
        return self._env.name

    @property
    def num_actions(self) -> int:
        """The inner environment's."""
        return self._env.num_actions

    @property
    def default_params(self) -> Any:
        """The inner environment's."""
        return self._env.default_params

    def action_space(self, params: Any = None) -> Any:
        """The inner environment's."""
        return self._env.action_space(self._inner_or_none(params))

    def observation_space(self, params: Any = None) -> Any:
        """The inner environment's."""
        return self._env.observation_space(self._inner_or_none(params))

    def reset_env(self, key: jax.Array, params: Any) -> tuple[Any, Any]:
        """Reset the inner environment."""
        return self._env.reset_env(key, self.inner_params(params))

    def step_env(
        self, key: jax.Array, state: Any, action: Any, params: Any
    ) -> tuple[Any, Any, jax.Array, jax.Array, dict[Any, Any]]:
        """Step the inner environment."""
        return self._env.step_env(key, state, action, self.inner_params(params))

    def observe(self, key: jax.Array, state: Any, action: Any, params: Any) -> Any:
        """The inner environment's observation of a state."""
        inner = self._inner_or_none(params)
        return self._env.observe(key, self.inner_state(state), action, inner)

    def is_terminated(self, state: Any, params: Any) -> jax.Array:
        """Whether the inner environment has terminated."""
        return self._env.is_terminated(
            self.inner_state(state), self.inner_params(params)
        )

    def is_truncated(self, state: Any, params: Any) -> jax.Array:
        """Whether the inner environment is truncated."""
        return self._env.is_truncated(
            self.inner_state(state), self.inner_params(params)
        )

    def _inner_or_none(self, params: Any) -> Any:
        return None if params is None else self.inner_params(params)
