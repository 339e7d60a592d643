"""A gymnax environment as a ``gymnasium.Env``."""

import functools
from typing import Any

import gymnasium
import jax
import numpy as np

from envs.contract import check_contract
from envs.gymnasium_spaces import (
    check_action,
    check_flat,
    to_gymnasium,
    to_numpy,
    unflatten_obs,
)
from envs.obs_checks import ObsWatch
from envs.registry import pair_of
from envs.stepping import Step, check_env, step
from jaxrl_runs.values import SEED_OR_NONE, seed_key


class GymnasiumEnv(gymnasium.Env):
    """Any gymnax pair for code that expects Gymnasium: a loop, Stable-Baselines3, ...

    It passes ``gymnasium.utils.env_checker.check_env``. Observations are writable
    NumPy arrays, the reward a float, the ends Python bools. ``reset`` and ``step``
    are compiled once per (equal) environment. There is nothing to render.

    Args:
        env: Environment with the interface of gymnax 1.x, a pair of one and its params,
            or the name of a task.
        params: Its params; ``env.default_params`` by default.
        observation_space: The space whose flattened elements the observations are, for
            an environment made of a log in which they were flattened: a Dict, say.
            They are shown as its elements again. By default the environment's own.

    Raises:
        ValueError: If ``observation_space`` does not fit.

    Example:
        >>> import envs
        >>> env = GymnasiumEnv(*envs.make("CartPole-v1"))
        >>> obs, info = env.reset(seed=0)
        >>> action = env.action_space.sample()
        >>> obs, reward, terminated, truncated, info = env.step(action)
    """

    metadata = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own declaration)

    def __init__(
        self,
        env: Any,
        params: Any = None,
        *,
        observation_space: gymnasium.Space | None = None,
    ):
        env, params = pair_of(env, params)
        check_env(env)
        self._env = env
        params = env.default_params if params is None else params
        check_contract(env, params)
        own = to_gymnasium(env.observation_space(params))
        self._is_flat = observation_space is not None
        self.observation_space = own
        if observation_space is not None:
            self.observation_space = check_flat(observation_space, own.shape)
        self.action_space = to_gymnasium(env.action_space(params))
        self._watch = ObsWatch(own, getattr(env, "name", type(env).__name__))
        self._is_single = isinstance(own, gymnasium.spaces.Box)
        self._params = jax.device_put(params)  # once, not at every step
        self._carry: tuple[jax.Array, Any] | None = None  # key and state
        self._first_obs: Any = None  # of the next episode, once the last has ended

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds all randomness to come, that of the dynamics included. Without
                one the stream goes on; it is random if there never was one.
            options: Not used.

        Returns:
            The first observation and an empty info.
        """
        SEED_OR_NONE.check("seed", seed)
        super().reset(seed=seed)
        if seed is None and self._first_obs is not None:
            obs = self._first_obs  # gymnax has reset in the step that ended
        else:
            if seed is not None or self._carry is None:
                key = make_key(draw_seed(self.np_random) if seed is None else seed)
            else:
                key, _ = self._carry
            self._carry, obs = reset_with_key(self._env, self._params, key)
        self._first_obs = None
        return self._shown(obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step.

        Args:
            action: An element of ``action_space``; continuous ones may leave the
                bounds, as far as the task allows.

        Returns:
            Observation, reward, terminated, truncated, info. At the end of an episode
            the observation is its last one.

        Raises:
            gymnasium.error.ResetNeeded: Before ``reset``, and after an episode's end.
            gymnasium.error.InvalidAction: If the action does not fit the space.
        """
        if self._carry is None or self._first_obs is not None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        action = check_action(self.action_space, action)
        self._carry, outputs = step_with_key(
            self._env, self._params, self._carry, action
        )
        terminated, truncated = bool(outputs.terminated), bool(outputs.truncated)
        if terminated or truncated:
            self._first_obs = outputs.obs
        next_obs = self._shown(outputs.next_obs)
        info = jax.tree.map(_info_value, outputs.info)
        return next_obs, float(outputs.reward), terminated, truncated, info

    def _shown(self, obs: Any) -> Any:
        self._watch.look(np.asarray(obs)[None] if self._is_single else (), 4)
        if self._is_flat:
            return unflatten_obs(self.observation_space, obs)
        return to_numpy(self.observation_space, obs)


@functools.partial(jax.jit, static_argnums=0)
def reset_with_key(env: Any, params: Any, key: jax.Array) -> tuple[Any, Any]:
    """Reset with a fresh key of the stream; return ((key, state), obs)."""
    key, reset_key = jax.random.split(jax.random.wrap_key_data(key))
    obs, state = env.reset(reset_key, params)
    return (jax.random.key_data(key), state), obs


@functools.partial(jax.jit, static_argnums=0)
def step_with_key(
    env: Any, params: Any, carry: tuple[jax.Array, Any], action: Any
) -> tuple[Any, Step]:
    """Step with a fresh key of the stream; return ((key, state), outputs)."""
    key, state = carry
    key, step_key = jax.random.split(jax.random.wrap_key_data(key))
    outputs = step(env, step_key, state, action, params)
    return (jax.random.key_data(key), outputs.state), outputs._replace(state=None)


def make_key(seed: int) -> jax.Array:
    """Make the data of a key from a seed; different seeds give different keys.

    Between steps the adapters keep the plain array, with which a call of a jitted
    function costs a tenth of what it costs with a typed key.
    """
    return jax.random.key_data(seed_key(int(seed)))


def draw_seed(generator: np.random.Generator) -> int:
    """Draw a seed for an environment that was given none."""
    return int(generator.integers(2**32))


def _info_value(x: Any) -> Any:
    """Single numbers are scalars in Gymnasium's infos, flags Python bools."""
    x = np.array(x)
    return bool(x) if x.shape == () and x.dtype == bool else x[()]
