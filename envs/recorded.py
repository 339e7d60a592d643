"""Transitions of Minari's datasets and of Gymnasium's vector environments."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from envs.gymnasium_spaces import flatten_rows, flattened
from envs.old_gym import as_reset, as_step
from envs.transitions import Transitions


def from_minari(dataset: Any, max_bytes: int) -> Transitions:
    """See `Transitions.from_minari`."""
    if isinstance(dataset, str | os.PathLike):
        dataset = _load_minari(os.fspath(dataset))
    space = dataset.observation_space
    rows: list[dict[str, np.ndarray]] = []
    total = 0
    for number, episode in enumerate(dataset.iterate_episodes()):
        obs = flatten_rows(space, episode.observations)
        actions = np.asarray(episode.actions)
        if len(obs) != len(actions) + 1:
            raise ValueError(
                f"episode {number} must have one observation more than actions, got "
                f"{len(obs)} and {len(actions)}"
            )
        total += 2 * obs.nbytes + actions.nbytes
        if total > max_bytes:
            raise ValueError(
                f"dataset: its first {number + 1} episodes take more than the limit of "
                f"{max_bytes} bytes"
            )
        rows.append(
            {
                "obs": obs[:-1],
                "action": actions,
                "reward": np.asarray(episode.rewards),
                "next_obs": obs[1:],
                "terminated": np.asarray(episode.terminations),
                "truncated": np.asarray(episode.truncations),
                "episode": np.full(len(actions), number, np.int32),
            }
        )
    return _joined(rows, "dataset: it holds no episodes")


def _load_minari(name: str) -> Any:
    try:
        import minari
    except ImportError as error:
        raise ImportError(
            f"{name}: Minari's datasets are read with minari, which is not installed: "
            "pip install minari"
        ) from error
    if os.path.isdir(name):
        data = os.path.join(name, "data")
        try:
            return minari.MinariDataset(data if os.path.isdir(data) else name)
        except Exception as error:  # of many kinds
            raise ValueError(f"{name}: no dataset of Minari's ({error})") from error
    return minari.load_dataset(name)


def from_vector_env(
    vector_env: Any,
    num_steps: int,
    policy: Callable[[Any], Any] | None,
    seed: int | None,
) -> Transitions:
    """See `Transitions.from_vector_env`."""
    if not isinstance(vector_env, gymnasium.vector.VectorEnv):
        raise TypeError(
            "vector_env must be a gymnasium.vector.VectorEnv, got "
            f"{type(vector_env).__name__}"
            + ("; envs.collect takes single ones" if _is_env(vector_env) else "")
        )
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    for name in ("single_observation_space", "single_action_space"):
        space = getattr(vector_env, name)
        is_nested_action = name == "single_action_space" and space.shape is None
        if is_nested_action or not space.is_np_flattenable:
            raise TypeError(f"vector_env: {name} must be of arrays, got {space}")
    mode = vector_env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    space, num_envs = vector_env.single_observation_space, vector_env.num_envs
    vector_env.action_space.seed(seed)
    shown, _ = as_reset(vector_env.reset(seed=seed))
    obs = flatten_rows(space, shown).copy()
    only_resets = np.zeros(num_envs, bool)
    steps: list[dict[str, np.ndarray]] = []
    for _ in range(num_steps):
        actions = vector_env.action_space.sample() if policy is None else policy(shown)
        outputs = as_step(vector_env.step(actions))
        shown, rewards, terminated, truncated, infos = outputs
        done = np.asarray(terminated) | np.asarray(truncated)
        after = flatten_rows(space, shown).copy()
        steps.append(
            {
                "obs": obs,
                "action": np.array(actions),
                "reward": np.array(rewards),
                "next_obs": after,
                "terminated": np.array(terminated, bool),
                "truncated": np.array(truncated, bool),
                "episode": np.where(only_resets, -1, np.arange(num_envs)),
            }
        )
        if mode == AutoresetMode.SAME_STEP and done.any():
            steps[-1]["next_obs"] = _with_final(space, after, infos["final_obs"], done)
        elif mode == AutoresetMode.DISABLED and done.any():
            shown, _ = vector_env.reset(options={"reset_mask": done})
            after = flatten_rows(space, shown).copy()
        only_resets = done & (mode == AutoresetMode.NEXT_STEP)
        obs = after
    # One environment after another; rows are kept in order of time in each.
    columns = {
        name: np.concatenate(np.stack([step[name] for step in steps], axis=1))
        for name in steps[0]
    }
    if isinstance(vector_env.single_action_space, gymnasium.spaces.Discrete):
        columns["action"] -= vector_env.single_action_space.start
    kept = columns["episode"] >= 0
    return Transitions(**{name: x[kept] for name, x in columns.items()}).validate()


def _is_env(env: Any) -> bool:
    return isinstance(env, gymnasium.Env)


def _with_final(space: Any, obs: np.ndarray, final_obs: Any, done: Any) -> np.ndarray:
    """The observations that actions led to, where some copies were reset already."""
    next_obs = obs.copy()
    for i in np.flatnonzero(done):
        next_obs[i] = flattened(space, final_obs[i])
    return next_obs


def _joined(rows: list[dict[str, np.ndarray]], empty: str) -> Transitions:
    if not rows:
        raise ValueError(empty)
    return Transitions(
        **{name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    ).validate()
