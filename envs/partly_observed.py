"""A task that shows a part of its observations only."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from gymnax.environments import spaces

from envs.registry import pair_of
from envs.stepping import check_env
from envs.wrapper import Wrapper
from jaxrl_runs.values import INDEX, TupleOf

_PLACES = TupleOf(INDEX, min_size=1)


class PartlyObserved(Wrapper):
    """Shows some entries of an observation vector and hides the others.

    CartPole without its velocities is `PartlyObserved(env, (0, 2))`.

    Args:
        env: Environment whose observations are vectors, or the name of such a task; the
            task's params are those of the wrapper too.
        shown: Places of the entries that are shown, in the order in which they are.

    Raises:
        ValueError: If `shown` is empty or holds no places of the vector.
    """

    def __init__(self, env: Any, shown: tuple[int, ...]):
        if isinstance(env, str):
            env, _ = pair_of(env)
        check_env(env)
        shown = tuple(shown) if isinstance(shown, list | tuple) else shown
        _PLACES.check("shown", shown)
        super().__init__(env, shown)
        (size,) = env.observation_space(env.default_params).shape
        if not shown or not all(0 <= place < size for place in shown):
            raise ValueError(
                f"shown must hold places of the observation, 0 to {size - 1}, got "
                f"{shown}"
            )
        self._shown = np.array(shown)

    def observation_space(self, params: Any = None) -> Any:
        """The shown entries' bounds."""
        space = super().observation_space(params)
        low, high = (
            np.broadcast_to(np.asarray(end), space.shape)[self._shown]
            for end in (space.low, space.high)
        )
        return spaces.Box(low, high, (len(self._shown),), space.dtype)  # type: ignore

    def reset_env(self, key: jax.Array, params: Any) -> tuple[Any, Any]:
        """Reset the inner environment and hide."""
        obs, state = super().reset_env(key, params)
        return obs[self._shown], state

    def step_env(self, key: jax.Array, state: Any, action: Any, params: Any):
        """Step the inner environment and hide."""
        obs, *rest = super().step_env(key, state, action, params)
        return obs[self._shown], *rest

    def observe(self, key: jax.Array, state: Any, action: Any, params: Any) -> Any:
        """The shown part of the inner environment's observation of a state."""
        return super().observe(key, state, action, params)[self._shown]
