"""Saving, loading and shipping of synthetic environments and reward networks.

A file is an npz of float32 arrays, one per weight, and a JSON text (see
`jaxrl_runs.weight_files`); nothing is pickled. The shipped ones lie in
`jaxrl_se/pretrained/`, each beside a card in Markdown that says how it was evolved and
how agents that train on it do.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from envs.spaces import Spaces
from envs.task import open_named
from jaxrl_runs.values import PATH, Like, OneOf, Text, shown
from jaxrl_runs.weight_files import (
    WeightFileError,
    check_arrays,
    read_weights,
    write_weights,
)
from jaxrl_se.networks import check_weights
from jaxrl_se.obs_ranges import checked
from jaxrl_se.one_line import from_line, is_line
from jaxrl_se.outside_task import SpacesOnly, is_outside
from jaxrl_se.reward_network import RewardConfig, RewardEnv
from jaxrl_se.synthetic_env import (
    VARIANTS,
    MetStarts,
    SyntheticConfig,
    SyntheticEnv,
    SyntheticParams,
)

FORMAT_VERSION = 1
REWARD_NETWORK = "reward-network"
SHIPPED = (*VARIANTS, REWARD_NETWORK)
_STARTS = "starts"  # The array of observations that episodes start from.
_PRETRAINED = Path(__file__).parent / "pretrained"


def save(
    path: str | Path,
    env: SyntheticEnv | RewardEnv,
    params: Any,
    *,
    task: str | None = None,
    card: dict | None = None,
) -> Path:
    """Saves a synthetic environment or a reward network.

    Args:
      path: The file to write; `.npz` is added if it has no such suffix.
      env: A `OneStepEnv`, `MultiStepEnv` or `RewardEnv`.
      params: Its params.
      task: Name of the target task; `load` makes it for a reward network, or if initial
        states come from it. A reward network of a task without a name is saved without
        one, and `load` is given the task.
      card: JSON-serialisable facts about how it was evolved and how it does.

    Returns:
      The path written.

    Raises:
      ValueError: The weights contain NaN or infinity, or initial states or dynamics
        come from a task that `load` could not make by its name.
      TypeError: An argument is of another kind.
    """
    if isinstance(params, str | Path):
        raise TypeError("path must come first: save(path, env, params), got it last")
    PATH.check("path", path)
    _check_pair(env, params)
    Text(optional=True).check("task", task)
    _check_card(card)
    _check_task(env, params, task)
    check_weights(env, params)
    arrays = _flatten(params.weights)
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"params.weights{name} contains NaN or infinity")
    starts = getattr(params, "starts", None)
    if starts is not None:
        arrays[_STARTS] = np.asarray(starts.obs, np.float32)
    metadata = {
        "format_version": FORMAT_VERSION,
        "task": task,
        "spaces": dataclasses.asdict(env.spaces),
        **_built_from(env, params),
        "report": card or {},
    }
    return write_weights(_with_suffix(Path(path)), arrays, metadata)


def load(
    name_or_path: str | Path, variant: str = "one-step", *, task: Any = None
) -> tuple[Any, Any]:
    """Loads a synthetic environment or a reward network, shipped or saved.

    Args:
      name_or_path: The path of a saved file, with or without `.npz`, a task's name
        (see `available`), or the text "base64:..." of one (see
        `jaxrl_se.one_line.to_line`).
      variant: For a shipped one, "one-step", "multi-step" or "reward-network".
      task: The task of a reward network that was saved without the name of one:
        whatever `envs.open_task` takes, or one of `envs.external`.

    Returns:
      A gymnax `(env, params)` pair. Loading twice gives equal environments, so that
      nothing compiles twice.

    Raises:
      ValueError: No such shipped environment, a name that is also a file's, or a file
        that is damaged, of another format version, or whose shapes do not fit its own
        description.
      FileNotFoundError: No such file.
    """
    if is_line(str(name_or_path)):
        return from_line(str(name_or_path))
    path = _find(name_or_path, variant)
    metadata, arrays = _read(path)
    given = None if task is None else _target_of(task)
    if given is not None and not _is_reward(metadata):
        raise ValueError(
            f"task must be left out: {path.name} is a synthetic environment, which "
            "needs none"
        )
    if given is None and metadata.get("task") is None and _is_reward(metadata):
        raise ValueError(
            f"task must be the one that the rewards of {path} are for, which has no "
            "name: load(path, task=(env, params))"
        )
    try:
        if _is_reward(metadata):
            env, params = _build_reward(metadata, given)
        else:
            env, params = _build(metadata)
        template = jax.eval_shape(env.init_weights, jax.random.key(0))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        is_agent = isinstance(metadata, dict) and "policy" in metadata
        hint = "; jaxrl_se.load_agent reads an agent" if is_agent else ""
        raise ValueError(
            f"{path}: does not describe a synthetic environment "
            f"({type(error).__name__}: {error}){hint}"
        ) from error
    if isinstance(env, SyntheticEnv) and "start_share" in metadata:
        starts = _read_starts(path, env, arrays.pop(_STARTS, None), metadata)
        params = dataclasses.replace(params, starts=starts)
    return env, dataclasses.replace(params, weights=_weights(path, template, arrays))


def _read_starts(
    path: Path, env: SyntheticEnv, obs: np.ndarray | None, metadata: dict
) -> MetStarts:
    """Raises WeightFileError unless they are observations of the environment's."""
    size, share = env.spaces.obs_size, metadata["start_share"]
    is_table = obs is not None and obs.dtype == np.float32 and obs.ndim == 2
    if (
        obs is None
        or not is_table
        or not len(obs)
        or obs.shape[1] != size
        or not np.isfinite(obs).all()
    ):
        raise WeightFileError(
            f"{path}: starts must be finite float32 observations of {size} numbers"
        )
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise WeightFileError(f"{path}: start_share must be in [0, 1], got {share}")
    return MetStarts(jnp.asarray(obs), float(share))


def _is_reward(metadata: Any) -> bool:
    return isinstance(metadata, dict) and "kind" in metadata.get("config", ())


def _target_of(task: Any) -> tuple[Any, Any]:
    """A gymnax pair of the task; one outside JAX has spaces only."""
    opened = open_named("task", task)
    return (SpacesOnly(opened), None) if is_outside(opened) else opened.pair


def read_card(name_or_path: str | Path, variant: str = "one-step") -> dict:
    """The facts saved with an environment: how it was evolved, how agents do on it.

    Args:
      name_or_path: See `load`.
      variant: See `load`.
    """
    return _read(_find(name_or_path, variant))[0]["report"]


def available() -> tuple[tuple[str, str], ...]:
    """Shipped environments, each a task's name and a variant."""
    names = sorted(path.stem for path in _PRETRAINED.glob("*.npz"))
    pairs = [tuple(name.rsplit(".", 1)) for name in names]
    return tuple((task, variant) for task, variant in pairs)


def _check_pair(env: Any, params: Any) -> None:
    """Raises TypeError unless this is a pair that `save` knows how to write."""
    kinds = (SyntheticEnv, RewardEnv)
    Like("a OneStepEnv, MultiStepEnv or RewardEnv", kinds=kinds).check("env", env)
    if not hasattr(params, "weights"):
        raise TypeError(
            f"params must be those of {type(env).__name__}, with weights, got "
            f"{shown(params)}"
        )


def _check_card(card: Any) -> None:
    Like("a dict", kinds=(dict,), optional=True).check("card", card)
    for name, value in (card or {}).items():
        try:
            json.dumps({name: value})
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"card must be JSON-serialisable, got {error} in {name!r}"
            ) from error


def _with_suffix(path: Path) -> Path:
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")


def _find(name_or_path: str | Path, variant: str) -> Path:
    """The file that is meant: a saved one, or a shipped one by its task's name."""
    PATH.check("name_or_path", name_or_path)
    OneOf(SHIPPED).check("variant", variant)
    path = Path(name_or_path)
    saved, shipped = _with_suffix(path), _PRETRAINED / f"{name_or_path}.{variant}.npz"
    is_name = path.suffix != ".npz" and path.name == str(name_or_path)
    if not is_name:
        if not saved.exists():
            other = "" if saved == path or not path.is_file() else f", not {path.name}"
            raise FileNotFoundError(
                f"name_or_path: there is no file {saved} (environments are saved as "
                f".npz{other})"
            )
        return saved
    if saved.exists() and shipped.exists():
        raise ValueError(
            f"name_or_path must say whether the shipped environment or the file "
            f"{saved} is meant, got {str(name_or_path)!r}; the file is './{saved}'"
        )
    if saved.exists() or shipped.exists():
        return saved if saved.exists() else shipped
    known = {".".join(pair): pair for pair in available()}
    wanted = path.name if path.name in known else shipped.stem
    close = difflib.get_close_matches(wanted, known, n=1)
    hint = ""
    if close:
        name, other = known[close[0]]
        call = repr(name) if other == "one-step" else f"{name!r}, {other!r}"
        hint = f"; did you mean load({call})?"
    raise ValueError(
        f"name_or_path must name a saved file or a shipped environment, got "
        f"{name_or_path!r} ({variant}){hint or '.'} Shipped: {', '.join(known)}"
    )


def _build(metadata: dict) -> tuple[SyntheticEnv, SyntheticParams]:
    """Builds what the metadata describes, without its weights."""
    spaces = Spaces(**_tuples(metadata["spaces"]))
    # Files of the first format version may be older than `obs_range`.
    config = SyntheticConfig(**{"obs_range": None} | _tuples(metadata["config"]))
    target, target_params = None, None
    if config.initial_states == "target":
        target, target_params = envs.make(metadata["task"])
    return config.build(spaces, target), SyntheticParams(
        max_steps_in_episode=int(metadata["max_steps_in_episode"]),
        target_params=target_params,
        obs_range=None
        if config.obs_range is None
        else checked(config.obs_range, spaces.obs_size),
    )


def _build_reward(
    metadata: dict, given: tuple[Any, Any] | None
) -> tuple[RewardEnv, Any]:
    """The same for a reward network, of a given task or one with a name."""
    config = RewardConfig(**_tuples(metadata["config"]))
    target, target_params = given or envs.make(metadata["task"])
    if given is None and metadata["action_repeat"] != 1:
        target = envs.ActionRepeat(target, metadata["action_repeat"])
    if Spaces.of(target, target_params) != Spaces(**_tuples(metadata["spaces"])):
        raise ValueError(
            f"spaces {metadata['spaces']} are not those of "
            f"{metadata['task'] or target.name}"
        )
    return config.make(target, target_params, metadata["discount"])


def _weights(path: Path, template: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The weights of an environment, checked against their shapes and dtypes."""
    leaves = jax.tree_util.tree_leaves_with_path(template)
    expected = {jax.tree_util.keystr(at): leaf for at, leaf in leaves}
    for name, array in arrays.items():
        if name in expected and array.dtype != expected[name].dtype:
            raise WeightFileError(
                f"{path}: {name} must be {expected[name].dtype}, got {array.dtype}"
            )
    check_arrays(path, arrays, expected)
    return jax.tree.unflatten(
        jax.tree.structure(template), [jnp.asarray(arrays[name]) for name in expected]
    )


def _read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    what = "a synthetic environment"
    return read_weights(path, what=what, format_version=FORMAT_VERSION)


def _flatten(weights: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(weights)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _check_task(env: SyntheticEnv | RewardEnv, params: Any, task: str | None) -> None:
    """Raises ValueError if `load` could not make the target by its name."""
    if env.target is None or (task is None and isinstance(env, RewardEnv)):
        return
    role = (
        "rewards are for" if isinstance(env, RewardEnv) else "initial states come from"
    )
    made, made_params = (None, None) if task is None else envs.make(task)
    if made is not None and _action_repeat(env.target) != 1:
        made = envs.ActionRepeat(made, _action_repeat(env.target))
    if made != env.target:
        raise ValueError(
            f"task must name the task that {role}, got {task!r}"
            + ("; see envs.register" if made is None else _OTHER_OBJECT)
        )
    if isinstance(env, RewardEnv):
        ours, theirs = (jax.tree.leaves(p) for p in (params.target_params, made_params))
        if not all(map(np.array_equal, ours, theirs)):
            raise ValueError(
                f"task: the reward network's target_params are not those of {task!r}; "
                "register the task with them, see envs.register"
            )


_OTHER_OBJECT = (
    ", which makes another environment object. Make the task by that name before, or "
    "leave task out and give it to load(path, task=...)"
)


def _action_repeat(target: Any) -> int:
    return target.num_repeats if isinstance(target, envs.ActionRepeat) else 1


def _built_from(env: SyntheticEnv | RewardEnv, params: Any) -> dict[str, Any]:
    """What `load` builds an environment from, besides its task and weights."""
    ranges = params.obs_range
    config = dataclasses.asdict(env.config) | {
        "obs_range": None if ranges is None else np.asarray(ranges).tolist()
    }
    if isinstance(env, SyntheticEnv):
        limit = int(params.max_steps_in_episode)
        starts = params.starts
        share = {} if starts is None else {"start_share": float(starts.share)}
        return share | {"config": config, "max_steps_in_episode": limit}
    return {
        "config": config,
        "action_repeat": _action_repeat(env.target),
        "discount": float(params.discount),
    }


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, at any depth."""
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
