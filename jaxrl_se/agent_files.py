"""Agents that outlive their script: saved, loaded, acting on NumPy, shipped.

A file is an npz of arrays and a JSON text (see `jaxrl_runs.weight_files`); nothing in
it is executed, and the task it was trained on is not needed to act.
"""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.spaces import Spaces
from jaxrl_runs.describe import describe
from jaxrl_runs.values import PATH, Like, shown
from jaxrl_runs.weight_files import WeightFileError, read_weights, write_weights
from jaxrl_se.encoded import NetworkMissingError, decode, encode, is_known
from jaxrl_se.policies import SPACES, HoldsPolicy, with_memory

_FORMAT_VERSION = 1
_WHAT = "an agent"
CARD = Like("a mapping that JSON can hold", kinds=(dict,), optional=True)
SPACES_OR_NONE = dataclasses.replace(SPACES, optional=True)
_SHIPPED = Path(__file__).parent / "pretrained" / "agents"


class SavedAgent(HoldsPolicy):
    """A policy that acts on NumPy observations.

    A policy that remembers (recurrent ones do) is told by `first` or `reset` where an
    episode begins; this object then holds what it remembers.

    Args:
      policy: A single policy.
      spaces: The spaces of its task.
      hyperparameters: What it was trained with, as `jaxrl_runs.describe` says it.
      card: Facts that were saved with it.
    """

    def __init__(
        self,
        policy: Any,
        spaces: Spaces,
        hyperparameters: Any = None,
        card: dict | None = None,
    ):
        self.policy = policy
        self.spaces = spaces
        self.hyperparameters = hyperparameters
        self.card = card or {}
        self._start, step = with_memory(policy)
        self._act = jax.jit(jax.vmap(step))
        self._key = jax.random.key(0)
        self._memory: Any = None

    def __repr__(self) -> str:
        kind = (self.hyperparameters or {}).get("class", "agent").rsplit(".", 1)[-1]
        actions = self.spaces.num_actions or f"{self.spaces.action_size} continuous"
        return (
            f"SavedAgent: {kind}, observations {self.spaces.obs_shape}, "
            f"{actions} actions"
        )

    def reset(self) -> None:
        """Forgets: the next observations are the first of their episodes."""
        self._memory = None

    def __call__(self, obs: Any, first: Any = None) -> Any:
        """Acts.

        Args:
          obs: `[*obs_shape]`, or several at once, `[..., *obs_shape]`, of any dtype
            that the task's own can hold.
          first: bool `[...]`, which of them begin an episode; only for policies that
            remember. By default those after `reset` and those of a new shape.

        Returns:
          An int or a float32 array `[action_size]`, or arrays `[...]` and
          `[..., action_size]`.

        Raises:
          ValueError: `obs` has another shape, values that its dtype has not, or some
            that are not finite.
        """
        shape = self.spaces.obs_shape
        assert shape is not None
        obs = _observation(obs)
        num_axes = obs.ndim - len(shape)
        if num_axes < 0 or obs.shape[num_axes:] != shape:
            sizes = ", ".join(map(str, ("...", *shape)))
            raise ValueError(f"obs must have shape [{sizes}], got {obs.shape}")
        if obs.dtype.kind == "f" and not np.isfinite(obs).all():
            place = np.argwhere(~np.isfinite(obs))[0]
            raise ValueError(
                f"obs must be finite, got {obs[tuple(place)]} at {place.tolist()}"
            )
        batch = obs.shape[:num_axes]
        rows = obs.reshape(-1, *shape).astype(self.spaces.obs_dtype)
        if rows.dtype.kind != "f" and not np.array_equal(rows.reshape(obs.shape), obs):
            raise ValueError(
                f"obs must be what {self.spaces.obs_dtype} holds, got {obs.dtype}"
            )
        self._key, key = jax.random.split(self._key)
        keys = jax.random.split(key, len(rows))
        memory = self._remembered(len(rows), first)
        action, self._memory = self._act(memory, rows, keys)
        action = np.asarray(action)
        action = action.reshape((*batch, *action.shape[1:]))
        return int(action) if action.shape == () else action

    def _remembered(self, count: int, first: Any) -> Any:
        """What is remembered of each row's episode."""
        fresh = jax.tree.map(
            lambda x: np.broadcast_to(x, (count, *np.shape(x))), self._start()
        )
        leaves = jax.tree.leaves(self._memory)
        if self._memory is None or any(len(leaf) != count for leaf in leaves):
            return fresh
        if first is None:
            return self._memory
        is_first = np.broadcast_to(np.asarray(first, bool).reshape(-1), (count,))

        def chosen(new, old):
            return np.where(is_first.reshape(-1, *[1] * (np.ndim(new) - 1)), new, old)

        return jax.tree.map(chosen, fresh, self._memory)


def _observation(obs: Any) -> np.ndarray:
    """As an array, where it is one.

    Raises:
      ValueError: It is what `reset` or `step` gave as a whole, a mapping, or ragged.
    """
    if isinstance(obs, tuple) and len(obs) in (2, 4, 5) and isinstance(obs[-1], dict):
        wanted = (
            "obs, info = env.reset()"
            if len(obs) == 2
            else "obs, reward, terminated, truncated, info = env.step(action)"
        )
        raise ValueError(
            f"obs must be an observation alone, got a tuple of {len(obs)}, as "
            f"Gymnasium's environments give it; write {wanted}"
        )
    try:
        array = np.asarray(obs)
    except ValueError as error:
        raise ValueError(f"obs must be one array, got {shown(obs)} ({error})") from None
    if array.dtype.kind not in "fiub":
        raise ValueError(
            f"obs must be numbers, got {shown(obs)}; of a mapping, gymnasium.spaces."
            "flatten(space, obs) makes the vector that agents see"
        )
    return array


def save_agent(
    path: str | Path,
    trained: Any,
    *,
    spaces: Spaces | None = None,
    card: dict | None = None,
) -> Path:
    """Saves a trained agent: its policy, network, spaces, hyperparameters and a card.

    Args:
      path: The file to write; `.npz` is added if it has no such suffix.
      trained: What `train` gave for one agent, `solve` or `load_agent`; or a policy.
      spaces: The task's spaces (`Spaces.of(env, params)`), needed for a policy alone.
      card: JSON-serialisable facts about the agent: its task, its returns.

    Returns:
      The path written.

    Raises:
      ValueError: `trained` is no single policy, its weights are not finite, or it holds
        what a file could not bring back.
    """
    PATH.check("path", path)
    CARD.check("card", card)
    policy, spaces = policy_and_spaces(trained, spaces)
    if not is_known(policy):
        raise ValueError(
            "trained must be what train gave, or a policy of this package, got one of "
            f"your own ({shown(policy)}), which a file could not bring back without "
            "running code of its own; jaxrl_se.export_policy(path, policy, spaces) "
            "writes what it computes, numpy.savez its arrays"
        )
    problem = _problem(policy, spaces)
    if problem is not None:
        number = _number_of(policy, spaces)
        if number is not None:
            raise ValueError(
                f"trained must be one policy, got {number}; take one of them: "
                "save_agent(path, jax.tree.map(lambda x: x[0], trained.policy), "
                "spaces=trained.spaces)"
            )
        raise ValueError(
            f"trained must be one policy, finite and of these spaces: {problem}"
        )
    known = getattr(trained, "hyperparameters", None)
    agent = getattr(trained, "agent", None)
    arrays: dict[str, np.ndarray] = {}
    metadata = {
        "format_version": _FORMAT_VERSION,
        "spaces": encode(spaces, arrays),
        "policy": encode(policy, arrays),
        "hyperparameters": known if agent is None else describe(agent),
        "card": getattr(trained, "card", {}) if card is None else card,
    }
    return write_weights(_with_suffix(Path(path)), arrays, metadata)


def load_agent(name_or_path: str | Path, *, network: Any = None) -> SavedAgent:
    """Loads an agent, saved or shipped; nothing in the file is executed.

    Args:
      name_or_path: The path of a file, with or without `.npz`, or the name of a task
        that an agent is shipped for (see `available_agents`).
      network: The flax module that the agent was trained with, if that was the user's
        own: code is not part of a file.

    Returns:
      A `SavedAgent`: `agent(obs)` acts on NumPy observations.

    Raises:
      FileNotFoundError: No such file, and no such shipped agent.
      WeightFileError: The file is damaged, foreign, or of another version.
      ValueError: The agent needs `network`.
    """
    PATH.check("name_or_path", name_or_path)
    path = _find(name_or_path)
    metadata, arrays = read_weights(path, what=_WHAT, format_version=_FORMAT_VERSION)
    try:
        spaces = decode(metadata["spaces"], arrays)
        policy = decode(metadata["policy"], arrays, network)
        if not isinstance(spaces, Spaces):
            raise ValueError("its spaces are none")
        problem = _problem(policy, spaces)
    except NetworkMissingError as error:
        raise ValueError(str(error)) from None
    except Exception as error:  # Whatever a forged description brings about.
        problem = f"{type(error).__name__}: {error}"
        spaces = policy = None
    if problem is not None and network is not None:
        raise ValueError(
            "network must be the flax module that the agent was trained with, of the "
            f"same sizes, got {shown(network)} ({problem.splitlines()[0][:300]})"
        )
    if problem is not None or spaces is None:
        raise WeightFileError(f"{path}: does not describe {_WHAT} ({problem})")
    return SavedAgent(
        policy, spaces, metadata.get("hyperparameters"), metadata.get("card")
    )


def available_agents() -> tuple[str, ...]:
    """Names of the tasks for which an agent is shipped."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.npz")))


def policy_and_spaces(
    trained: Any, spaces: Spaces | None, name: str = "trained"
) -> tuple[Any, Spaces]:
    """The policy of what `train` or `load_agent` gave, or of itself, and its spaces.

    Raises:
      ValueError: It is no policy, or spaces are neither given nor known.
    """
    SPACES_OR_NONE.check("spaces", spaces)
    policy = trained.policy if isinstance(trained, HoldsPolicy) else trained
    if not callable(policy) and not hasattr(policy, "step"):
        raise ValueError(
            f"{name} must be the result of jaxrl_se.train or a policy, got "
            f"{type(trained).__name__}"
        )
    spaces = (
        spaces or getattr(trained, "spaces", None) or getattr(policy, "spaces", None)
    )
    if spaces is None:
        raise ValueError(
            "spaces must be given for a policy alone: Spaces.of(env, params)"
        )
    return policy, spaces


def observation_struct(spaces: Spaces, *batch: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of observations of these spaces."""
    return jax.ShapeDtypeStruct((*batch, *spaces.obs_shape), spaces.obs_dtype)  # type: ignore


def _problem(policy: Any, spaces: Spaces) -> str | None:
    """Why a policy cannot act in these spaces; nothing is computed."""
    for leaf in jax.tree.leaves(policy):
        if not isinstance(leaf, jax.Array | np.ndarray):
            return f"it holds a {type(leaf).__name__}"
        if not np.isfinite(np.asarray(leaf)).all():
            return "its weights contain NaN or infinity"
    start, step = with_memory(policy)
    wanted = () if spaces.num_actions is not None else (spaces.action_size,)
    try:
        action = jax.eval_shape(
            lambda obs, key: step(start(), obs, key)[0],
            observation_struct(spaces),
            jax.random.key(0),
        )
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    if action.shape != wanted:
        return f"it gives actions of shape {action.shape}, not {wanted}"
    is_discrete = jnp.issubdtype(action.dtype, jnp.integer)
    if is_discrete != (spaces.num_actions is not None):
        return f"it gives actions of {action.dtype}"
    return None


def _number_of(policy: Any, spaces: Spaces) -> int | None:
    """How many policies there are along the first axis of all leaves, if any are."""
    leaves = jax.tree.leaves(policy)
    sizes = {np.shape(leaf)[:1] for leaf in leaves}
    if len(sizes) != 1 or sizes == {()} or sizes == {(0,)}:
        return None
    first = jax.tree.map(lambda leaf: leaf[0], policy)
    return sizes.pop()[0] if _problem(first, spaces) is None else None


def _find(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    shipped = _SHIPPED / f"{name_or_path}.npz"
    saved = _with_suffix(path)
    if saved.exists() or path.suffix == ".npz" or not shipped.exists():
        if saved.exists():
            return saved
        close = difflib.get_close_matches(str(name_or_path), available_agents(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise FileNotFoundError(
            f"name_or_path: no file {saved}, and no shipped agent of that name{hint}. "
            f"Shipped: {', '.join(available_agents())}"
        )
    return shipped


def _with_suffix(path: Path) -> Path:
    return path if path.suffix == ".npz" else path.with_name(path.name + ".npz")
