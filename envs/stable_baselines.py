"""A gymnax environment as a ``VecEnv`` of Stable-Baselines3, which has to be installed.

It is not imported with the package: ``from envs.stable_baselines import
StableBaselinesVecEnv``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from envs.gymnasium_vector import GymnasiumVectorEnv


class StableBaselinesVecEnv(VecEnv):
    """N copies of any gymnax pair, stepped as one batch, for Stable-Baselines3.

    At the end of an episode ``infos[i]`` has ``terminal_observation`` and
    ``TimeLimit.truncated``, as Stable-Baselines3 expects them.

    Args:
        env: Environment with the interface of gymnax 1.x.
        params: Its params; ``env.default_params`` by default.
        num_envs: Number of copies.

    Example:
        >>> import envs
        >>> from stable_baselines3 import PPO
        >>> vector = StableBaselinesVecEnv(*envs.make("CartPole-v1"), num_envs=8)
        >>> agent = PPO("MlpPolicy", vector, n_steps=16, batch_size=32).learn(128)
    """

    def __init__(self, env: Any, params: Any = None, num_envs: int = 1):
        self.vector = GymnasiumVectorEnv(env, params, num_envs)
        self._actions: Any = None
        super().__init__(
            num_envs,
            self.vector.single_observation_space,
            self.vector.single_action_space,
        )

    def reset(self) -> Any:
        """Start an episode in every copy; seeds are those given to ``seed`` before."""
        seeds = self._seeds if any(s is not None for s in self._seeds) else None
        obs, _ = self.vector.reset(seed=seeds)
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Take the step; returns observations, rewards, ends and infos."""
        obs, rewards, terminations, truncations, infos = self.vector.step(self._actions)
        done = terminations | truncations
        rows = _by_copy(infos, self.num_envs)
        for i in np.flatnonzero(done):
            rows[i] = rows[i].pop("final_info", {})
            rows[i]["terminal_observation"] = infos["final_obs"][i]
            rows[i]["TimeLimit.truncated"] = bool(truncations[i] & ~terminations[i])
        return obs, rewards.astype(np.float32), done, rows

    def close(self) -> None:
        """Nothing is open."""
        self.vector.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the adapter, which is the same for all copies."""
        value = getattr(self.vector, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Copies are one batch: they have no attributes of their own."""
        raise NotImplementedError(f"{attr_name} cannot be set for single copies")

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Copies are one batch: they have no methods of their own."""
        raise NotImplementedError(f"{method_name} cannot be called for single copies")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No copy is wrapped."""
        return [False for _ in self._get_indices(indices)]


def _by_copy(infos: dict[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """Gymnasium's batched infos as one dict for each copy."""
    rows: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for name, value in infos.items():
        mask: Sequence[bool] | None = infos.get(f"_{name}")
        if name.startswith("_") or mask is None or name == "final_obs":
            continue
        is_dict = isinstance(value, dict)
        parts = _by_copy(value, num_envs) if is_dict else value
        for i in np.flatnonzero(mask):
            rows[i][name] = parts[i]
    return rows
