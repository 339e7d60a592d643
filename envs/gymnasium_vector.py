"""A gymnax environment as a ``gymnasium.vector.VectorEnv``."""

import functools
from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.vector import AutoresetMode, utils

from envs import gymnasium_env
from envs.gymnasium_env import draw_seed, make_key
from envs.gymnasium_spaces import check_action, to_gymnasium, to_numpy


class GymnasiumVectorEnv(gymnasium.vector.VectorEnv):
    """N copies of any gymnax pair, stepped as one batch.

    Step for step it equals ``gymnasium.vector.SyncVectorEnv`` over N
    :class:`envs.GymnasiumEnv` with the same autoreset mode, which is *same step*: an
    episode that ends is reset within that step, ``obs`` is the first observation of
    the next episode, and the last one of the ended episode is in
    ``infos["final_obs"]`` (its info in ``infos["final_info"]``). This is what gymnax
    does; Gymnasium's default, *next step*, would put one step without an action or a
    reward between any two episodes, and with it rows that a replay buffer must leave
    out.

    Args:
        env: Environment with the interface of gymnax 1.x.
        params: Its params; ``env.default_params`` by default.
        num_envs: Number of copies.

    Raises:
        ValueError: If ``num_envs`` is less than 1.
    """

    metadata = {  # noqa: RUF012 (Gymnasium's own declaration)
        "render_modes": [],
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(self, env: Any, params: Any = None, num_envs: int = 1):
        if num_envs < 1:
            raise ValueError(f"num_envs: expected at least 1, got {num_envs}")
        self._env = env
        params = env.default_params if params is None else params
        self._params = jax.device_put(params)  # once, not at every step
        self.num_envs = num_envs
        self.single_observation_space = to_gymnasium(env.observation_space(params))
        self.single_action_space = to_gymnasium(env.action_space(params))
        self.observation_space = utils.batch_space(
            self.single_observation_space, num_envs
        )
        self.action_space = utils.batch_space(self.single_action_space, num_envs)
        self._carry: tuple[jax.Array, Any] | None = None  # keys and states [N]

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode in every copy.

        Args:
            seed: ``s`` seeds the copies with ``s, s + 1, ...``; a sequence seeds each
                (None among them at random). Without one the streams go on.
            options: Not used; a ``reset_mask`` is refused, because copies whose
                episode ended are reset in the same step.

        Returns:
            The first observations [N, ...] and an empty info.

        Raises:
            ValueError: If there are not N seeds, or ``options`` has a ``reset_mask``.
        """
        if options and "reset_mask" in options:
            raise ValueError(
                "options: reset_mask is for environments without autoreset; this one "
                "resets each copy in the step that ends its episode"
            )
        keys = self._next_keys(seed)
        self._carry, obs = _reset_all(self._env, self._params, keys)
        return to_numpy(self.observation_space, obs), {}

    def step(
        self, actions: Any
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Take one step in every copy.

        Args:
            actions: An element of ``action_space``; continuous ones may leave the
                bounds, as far as the task allows.

        Returns:
            Observations [N, ...], rewards [N] float64, terminations [N] bool,
            truncations [N] bool, infos as Gymnasium lays them out: beside each entry
            ``name`` a mask ``_name`` [N] of the copies that it belongs to.

        Raises:
            gymnasium.error.ResetNeeded: Before ``reset``.
            gymnasium.error.InvalidAction: If the actions do not fit the space.
        """
        if self._carry is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        actions = check_action(self.action_space, actions)
        self._carry, outputs = _step_all(self._env, self._params, self._carry, actions)
        terminations = np.array(outputs.terminated)
        truncations = np.array(outputs.truncated)
        done = terminations | truncations
        infos = _masked(outputs.info, ~done)
        if done.any():
            infos |= _for_each(
                "final_obs", self._final_obs(outputs.next_obs, done), done
            )
            if outputs.info:
                final_info = _masked(outputs.info, done)
                infos |= _for_each("final_info", final_info, done)
        return (
            to_numpy(self.observation_space, outputs.obs),
            np.array(outputs.reward, np.float64),
            terminations,
            truncations,
            infos,
        )

    def _next_keys(self, seed: int | Sequence[int | None] | None) -> jax.Array:
        if seed is None and self._carry is not None:
            return self._carry[0]
        if seed is None:
            seed = [None] * self.num_envs
        elif isinstance(seed, int | np.integer):
            seed = [int(seed) + i for i in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(
                f"seed: expected one seed or {self.num_envs} (one for each copy), got "
                f"{len(seed)}"
            )
        seeds = [draw_seed(self.np_random) if s is None else s for s in seed]
        return jnp.stack([make_key(s) for s in seeds])

    def _final_obs(self, next_obs: Any, done: np.ndarray) -> np.ndarray:
        """An array of objects [N]: the last observation of each episode that ended."""
        next_obs = jax.device_get(next_obs)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(done):
            row = jax.tree.map(lambda x, i=i: x[i], next_obs)
            final_obs[i] = to_numpy(self.single_observation_space, row)
        return final_obs


@functools.partial(jax.jit, static_argnums=0)
def _reset_all(env, params, keys):
    reset = functools.partial(gymnasium_env.reset_with_key, env, params)
    return jax.vmap(reset)(keys)


@functools.partial(jax.jit, static_argnums=0)
def _step_all(env, params, carry, actions):
    step = functools.partial(gymnasium_env.step_with_key, env, params)
    return jax.vmap(step)(carry, actions)


def _masked(info: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
    """Lay infos out as Gymnasium does: zeros and a mask where they are not meant."""
    if not mask.any():
        return {}
    infos = {}
    for name, value in info.items():
        if isinstance(value, dict):
            value = _masked(value, mask)
        else:
            value = np.array(value)
            value[~mask] = 0
        infos |= _for_each(name, value, mask)
    return infos


def _for_each(name: str, value: Any, mask: np.ndarray) -> dict[str, Any]:
    return {name: value, f"_{name}": mask.copy()}
