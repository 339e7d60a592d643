"""Saving, loading and shipping of synthetic environments and reward networks.

A file is an npz of float32 arrays, one per weight, and a JSON text; nothing is pickled.
The shipped ones lie in `jaxrl_se/pretrained/`, each beside a card in Markdown that says
how it was evolved and how agents that train on it do.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import envs
from envs.spaces import Spaces
from jaxrl_se.config import SyntheticConfig
from jaxrl_se.reward_network import RewardConfig, RewardEnv
from jaxrl_se.synthetic_env import (
    VARIANTS,
    MultiStepEnv,
    SyntheticEnv,
    SyntheticParams,
)

FORMAT_VERSION = 1
REWARD_NETWORK = "reward-network"
SHIPPED = (*VARIANTS, REWARD_NETWORK)
_PRETRAINED = Path(__file__).parent / "pretrained"


def save(
    path: str | Path,
    env: SyntheticEnv | RewardEnv,
    params: Any,
    *,
    task: str | None = None,
    report: dict | None = None,
) -> Path:
    """Saves a synthetic environment or a reward network.

    Args:
      path: The file to write; `.npz` is added if it has no such suffix.
      env: A `OneStepEnv`, `MultiStepEnv` or `RewardEnv`.
      params: Its params.
      task: Name of the target task; `load` makes it for a reward network, or if initial
        states come from it.
      report: JSON-serialisable facts about how it was evolved and how it does.

    Returns:
      The path written.

    Raises:
      ValueError: The weights contain NaN or infinity, or initial states or dynamics
        come from a task that `load` could not make by its name.
    """
    _check_task(env, params, task)
    path = Path(path)
    if path.suffix != ".npz":
        path = path.with_name(path.name + ".npz")
    arrays = _flatten(params.weights)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"params.weights{name} contains NaN or infinity")
    metadata = {
        "format_version": FORMAT_VERSION,
        "task": task,
        "spaces": dataclasses.asdict(env.spaces),
        **_describe(env, params),
        "report": report or {},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    np.savez(
        temporary, allow_pickle=False, metadata=np.array(json.dumps(metadata)), **arrays
    )
    os.replace(temporary, path)
    return path


def load(name_or_path: str | Path, variant: str = "one-step") -> tuple[Any, Any]:
    """Loads a synthetic environment or a reward network, shipped or saved.

    Args:
      name_or_path: A task's name (see `available`) or the path of a saved file.
      variant: For a shipped one, "one-step", "multi-step" or "reward-network".

    Returns:
      A gymnax `(env, params)` pair. Loading twice gives equal environments, so that
      nothing compiles twice.

    Raises:
      ValueError: No such shipped environment, or a file that is damaged, of another
        format version, or whose shapes do not fit its own description.
      FileNotFoundError: No such file.
    """
    path = Path(name_or_path)
    if path.suffix != ".npz":
        path = _shipped(str(name_or_path), variant)
    metadata, arrays = _read(path)
    try:
        is_reward = "kind" in metadata["config"]
        return (_build_reward if is_reward else _build)(metadata, arrays)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path}: does not describe a synthetic environment "
            f"({type(error).__name__}: {error})"
        ) from error


def report(name_or_path: str | Path, variant: str = "one-step") -> dict:
    """The facts saved with an environment: how it was evolved, how agents do on it."""
    path = Path(name_or_path)
    if path.suffix != ".npz":
        path = _shipped(str(name_or_path), variant)
    return _read(path)[0]["report"]


def available() -> dict[tuple[str, str], float]:
    """Shipped environments: `(task, variant)` to the mean return of unseen agents."""
    result = {}
    for path in sorted(_PRETRAINED.glob("*.npz")):
        metadata = _read(path)[0]
        key = (metadata["task"], metadata["config"].get("variant", REWARD_NETWORK))
        result[key] = metadata["report"]["return_mean"]
    return result


def shipped() -> list[tuple[str, str]]:
    """`(task, variant)` of the shipped environments by their files, variants first."""
    names = [path.name.removesuffix(".npz") for path in _PRETRAINED.glob("*.npz")]
    pairs = [tuple(name.rsplit(".", 1)) for name in names]
    return sorted(pairs, key=lambda pair: (SHIPPED.index(pair[1]), pair[0]))  # type: ignore


def _shipped(name: str, variant: str) -> Path:
    if variant not in SHIPPED:
        raise ValueError(
            f"variant must be one of {', '.join(SHIPPED)}, got {variant!r}"
        )
    path = _PRETRAINED / f"{name}.{variant}.npz"
    if not path.exists():
        shipped = [p.name.removesuffix(".npz") for p in _PRETRAINED.glob("*.npz")]
        close = difflib.get_close_matches(path.name.removesuffix(".npz"), shipped, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"name: no shipped synthetic environment {name!r} ({variant}){hint}. "
            f"Shipped: {', '.join(sorted(shipped))}. A saved file's path ends in .npz."
        )
    return path


def _build(metadata: dict, arrays: dict[str, np.ndarray]) -> tuple[SyntheticEnv, Any]:
    """Builds what the metadata describes; the arrays have to fit it."""
    spaces = Spaces(**_tuples(metadata["spaces"]))
    # Files of the first format version may be older than `obs_range`.
    config = SyntheticConfig(**{"obs_range": None} | _tuples(metadata["config"]))
    target, target_params = None, None
    if config.initial_states == "target":
        target, target_params = envs.make(metadata["task"])
    env = config.build(spaces, target)
    return env, SyntheticParams(
        weights=_weights(env, arrays),
        max_steps_in_episode=int(metadata["max_steps_in_episode"]),
        target_params=target_params,
    )


def _build_reward(
    metadata: dict, arrays: dict[str, np.ndarray]
) -> tuple[RewardEnv, Any]:
    """The same for a reward network."""
    config = RewardConfig(**_tuples(metadata["config"]))
    target, target_params = envs.make(metadata["task"])
    if metadata["action_repeat"] != 1:
        target = envs.ActionRepeat(target, metadata["action_repeat"])
    env, params = config.make(target, target_params, metadata["discount"])
    if env.spaces != Spaces(**_tuples(metadata["spaces"])):
        raise ValueError(
            f"spaces {metadata['spaces']} are not those of {metadata['task']}"
        )
    return env, dataclasses.replace(params, weights=_weights(env, arrays))


def _weights(env: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The weights of an environment, checked."""
    template = jax.eval_shape(env.init_weights, jax.random.key(0))
    expected = {
        jax.tree_util.keystr(path): (leaf.shape, str(leaf.dtype))
        for path, leaf in jax.tree_util.tree_leaves_with_path(template)
    }
    found = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    if expected != found:
        raise ValueError(f"weights have shapes {found}, expected {expected}")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"weight {name} contains NaN or infinity")
    leaves = [jnp.asarray(arrays[name]) for name in expected]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        metadata = json.loads(str(arrays.pop("metadata")))
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path}: not a readable synthetic environment ({error})"
        ) from error
    version = metadata.get("format_version") if isinstance(metadata, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format version {version}, this version reads {FORMAT_VERSION}"
        )
    return metadata, arrays


def _flatten(weights: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(weights)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _check_task(env: SyntheticEnv | RewardEnv, params: Any, task: str | None) -> None:
    """Raises ValueError if `load` could not make the target by its name."""
    if env.target is None:
        return
    role = (
        "rewards are for" if isinstance(env, RewardEnv) else "initial states come from"
    )
    made, made_params = (None, None) if task is None else envs.make(task)
    if made is not None and _action_repeat(env.target) != 1:
        made = envs.ActionRepeat(made, _action_repeat(env.target))
    if made != env.target:
        raise ValueError(
            f"task must name the task that {role}, got {task!r}; see envs.register"
        )
    if isinstance(env, RewardEnv):
        ours, theirs = (jax.tree.leaves(p) for p in (params.target_params, made_params))
        if not all(map(np.array_equal, ours, theirs)):
            raise ValueError(
                f"task: the reward network's target_params are not those of {task!r}; "
                "register the task with them, see envs.register"
            )


def _action_repeat(target: Any) -> int:
    return target.num_repeats if isinstance(target, envs.ActionRepeat) else 1


def _describe(env: SyntheticEnv | RewardEnv, params: Any) -> dict[str, Any]:
    """What `load` builds an environment from, besides its task and weights."""
    if isinstance(env, SyntheticEnv):
        return {
            "config": dataclasses.asdict(_config_of(env)),
            "max_steps_in_episode": int(params.max_steps_in_episode),
        }
    return {
        "config": dataclasses.asdict(env.config),
        "action_repeat": _action_repeat(env.target),
        "discount": float(params.discount),
    }


def _config_of(env: SyntheticEnv) -> SyntheticConfig:
    config = SyntheticConfig(
        variant=env.variant,  # type: ignore
        hidden_sizes=env.hidden_sizes,
        activation=env.activation,
        initial_states=_initial_states(env),
        reward_heads=env.reward_heads,
        reward_bound=env.reward_bound,
        obs_range=env.obs_range,
    )
    if isinstance(env, MultiStepEnv):
        config = dataclasses.replace(
            config,
            max_steps=env.max_steps,
            obs_bound=env.obs_bound,
            learn_termination=env.learn_termination,
            soft_termination=env.soft_termination,
        )
    return config


def _initial_states(env: SyntheticEnv) -> Literal["learned", "target", "normal"]:
    if env.target is not None:
        return "target"
    return "learned" if env.learn_initial_states else "normal"


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, at any depth."""
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
