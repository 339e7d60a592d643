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
from envs.contract import check_contract
from envs.gymnasium_env import draw_seed, make_key
from envs.gymnasium_spaces import (
    check_action,
    check_flat,
    to_gymnasium,
    to_numpy,
    unflatten_obs,
)
from envs.registry import pair_of
from envs.stepping import check_env
from jaxrl_runs.values import MANY, SEED, SEED_OR_NONE, shown

_MODES = (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)


class GymnasiumVectorEnv(gymnasium.vector.VectorEnv):
    """N copies of any gymnax pair, stepped as one batch.

    Step for step it equals ``gymnasium.vector.SyncVectorEnv`` over N
    `envs.GymnasiumEnv` with the same autoreset mode:

    * *same step*, the default and what gymnax does: an episode that ends is reset
      within that step, ``obs`` is the first observation of the next episode, and the
      last one of the ended episode is in ``infos["final_obs"]`` (its info in
      ``infos["final_info"]``);
    * *next step*, Gymnasium's default: ``obs`` is the last observation, and the next
      step of that copy only resets: its action is not used and its reward is 0. A
      replay buffer must leave such rows out.

    Args:
        env: As for `envs.GymnasiumEnv`.
        params: Its params; ``env.default_params`` by default.
        num_envs: Number of copies.
        autoreset_mode: One of the two, of ``gymnasium.vector.AutoresetMode`` or by its
            value, "SameStep" or "NextStep".
        observation_space: As for `envs.GymnasiumEnv`.

    Raises:
        ValueError: If ``num_envs`` is less than 1, the mode is another one, or
            ``observation_space`` does not fit.
    """

    def __init__(
        self,
        env: Any,
        params: Any = None,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        observation_space: gymnasium.Space | None = None,
    ):
        env, params = pair_of(env, params)
        check_env(env)
        MANY.check("num_envs", num_envs)
        if autoreset_mode not in _MODES and autoreset_mode not in [
            mode.value for mode in _MODES
        ]:
            raise ValueError(
                f"autoreset_mode must be one of {', '.join(map(str, _MODES))}, got "
                f"{shown(autoreset_mode)}"
            )
        mode = AutoresetMode(autoreset_mode)
        self.metadata = {"render_modes": [], "autoreset_mode": mode}
        self._only_resets = np.zeros(num_envs, bool)  # what the next step does
        self._next_step = mode is AutoresetMode.NEXT_STEP
        self._env = env
        params = env.default_params if params is None else params
        check_contract(env, params)
        self._params = jax.device_put(params)  # once, not at every step
        self.num_envs = num_envs
        own = to_gymnasium(env.observation_space(params))
        self._is_flat = observation_space is not None
        self.single_observation_space = own
        if observation_space is not None:
            self.single_observation_space = check_flat(observation_space, own.shape)
        self.single_action_space = to_gymnasium(env.action_space(params))
        self.observation_space = utils.batch_space(
            self.single_observation_space, num_envs
        )
        self.action_space = utils.batch_space(self.single_action_space, num_envs)
        self._carry: tuple[jax.Array, Any] | None = None  # keys and states [N]
        self._first_obs: Any = None  # of the next episodes, once the last have ended

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
        carry, obs = _reset_all(self._env, self._params, keys)
        if seed is None and self._only_resets.any():  # these have been reset already
            waits = self._only_resets
            carry = _choose(waits, self._carry, carry)
            obs = _choose(waits, self._first_obs, obs)
        self._carry, self._first_obs = carry, obs
        self._only_resets = np.zeros(self.num_envs, bool)
        return self._shown(obs), {}

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
        if self._next_step:
            return self._step_then_reset(actions)
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
        rewards = np.array(outputs.reward, np.float64)
        return self._shown(outputs.obs), rewards, terminations, truncations, infos

    def _step_then_reset(self, actions: Any):
        """A step in Gymnasium's own mode: copies that wait for a reset stand still.

        gymnax has reset them in the step that ended their episode, so that their first
        observation is at hand.
        """
        waits = self._only_resets
        self._carry, outputs, self._first_obs = _step_some(
            self._env, self._params, self._carry, actions, waits, self._first_obs
        )
        terminations = np.array(outputs.terminated)
        truncations = np.array(outputs.truncated)
        self._only_resets = terminations | truncations
        rewards = np.array(outputs.reward, np.float64)
        infos = _masked(outputs.info, ~waits)
        return self._shown(outputs.obs), rewards, terminations, truncations, infos

    def _shown(self, obs: Any) -> Any:
        if not self._is_flat:
            return to_numpy(self.observation_space, obs)
        space = self.single_observation_space
        rows = [unflatten_obs(space, row) for row in np.asarray(obs)]
        return utils.concatenate(
            space, rows, utils.create_empty_array(space, self.num_envs)
        )

    def _next_keys(self, seed: int | Sequence[int | None] | None) -> jax.Array:
        if seed is None and self._carry is not None:
            return self._carry[0]
        if seed is None:
            seed = [None] * self.num_envs
        elif isinstance(seed, int | np.integer):
            SEED.check("seed", seed)
            seed = [int(seed) + i for i in range(self.num_envs)]
        is_sequence = isinstance(seed, Sequence | np.ndarray) and len(seed)
        if not is_sequence or len(seed) != self.num_envs:
            raise ValueError(
                f"seed must be one seed or {self.num_envs} (one for each copy), got "
                f"{len(seed) if is_sequence else shown(seed)}"
            )
        for i, one in enumerate(seed):
            SEED_OR_NONE.check(f"seed[{i}]", one)
        seeds = [draw_seed(self.np_random) if s is None else s for s in seed]
        return jnp.stack([make_key(s) for s in seeds])

    def _final_obs(self, next_obs: Any, done: np.ndarray) -> np.ndarray:
        """An array of objects [N]: the last observation of each episode that ended."""
        next_obs = jax.device_get(next_obs)
        final_obs = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(done):
            row = jax.tree.map(lambda x, i=i: x[i], next_obs)
            space = self.single_observation_space
            final_obs[i] = (unflatten_obs if self._is_flat else to_numpy)(space, row)
        return final_obs


@functools.partial(jax.jit, static_argnums=0)
def _reset_all(env, params, keys):
    reset = functools.partial(gymnasium_env.reset_with_key, env, params)
    return jax.vmap(reset)(keys)


@functools.partial(jax.jit, static_argnums=0)
def _step_all(env, params, carry, actions):
    step = functools.partial(gymnasium_env.step_with_key, env, params)
    return jax.vmap(step)(carry, actions)


@functools.partial(jax.jit, static_argnums=0)
def _step_some(env, params, carry, actions, waits, first_obs):
    """Steps the copies that do not wait; the others show their first observation."""
    stepped, outputs = _step_all(env, params, carry, actions)

    first_obs_after = _choose(waits, first_obs, outputs.obs)
    outputs = outputs._replace(
        obs=_choose(waits, first_obs, outputs.next_obs),
        reward=jnp.where(waits, 0.0, outputs.reward),
        terminated=outputs.terminated & ~waits,
        truncated=outputs.truncated & ~waits,
    )
    return _choose(waits, carry, stepped), outputs, first_obs_after


def _choose(waits: Any, waiting: Any, going: Any) -> Any:
    """Leaves [N, ...] of the copies that wait and of those that go on."""

    def one(a, b):
        return jnp.where(jnp.reshape(waits, (-1, *[1] * (b.ndim - 1))), a, b)

    return jax.tree.map(one, waiting, going)


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
