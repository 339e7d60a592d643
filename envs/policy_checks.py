"""What a policy's actions must be: checked before a compilation, and while played.

Shapes and dtypes are told by tracing. Values are known when episodes are over: inside
JAX they are looked at in the program that plays, and reported once it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs.spaces import OneHot
from jaxrl_runs.values import shown
from jaxrl_runs.warn import warn_user

_ROOM = 1e-5  # Scaling to bounds rounds: relative to them.


@struct.dataclass
class Watched:
    """What was odd about episodes, `[..., E]`.

    Attributes:
      outside: bool, whether an action was outside its space.
      action: `[..., E, *action_shape]`, the first such action.
      nan: bool, whether an observation or a reward was NaN.
      unended: bool, whether the episode was cut since it did not end.
    """

    outside: Any
    action: Any
    nan: Any
    unended: Any


def is_discrete(space: Any) -> bool:
    """Whether actions are one integer."""
    return hasattr(space, "n") and not isinstance(space, OneHot)


def outside(space: Any, action: Any) -> jax.Array:
    """Whether a single action is outside its space; False for composite spaces.

    Args:
      space: Of gymnax's or Gymnasium's; continuous bounds have some room for rounding.
      action: In its shape.
    """
    if is_discrete(space):
        action = jnp.asarray(action)
        return jnp.any((action < 0) | (action >= space.n))
    if not (hasattr(space, "low") and hasattr(space, "high")):
        return jnp.bool_(False)
    low, high = jnp.asarray(space.low), jnp.asarray(space.high)
    action = jnp.asarray(action, jnp.float32)
    room = [_ROOM * (1 + jnp.abs(jnp.nan_to_num(end))) for end in (low, high)]
    return ~jnp.all((action >= low - room[0]) & (action <= high + room[1]))


def described(space: Any) -> str:
    """The actions of a space in words."""
    if is_discrete(space):
        return f"one of the integers 0 ... {int(space.n) - 1}"
    shape = getattr(space, "shape", None)
    if shape is None or not hasattr(space, "low"):
        return f"an element of {space}"
    try:
        low, high = np.min(np.asarray(space.low)), np.max(np.asarray(space.high))
    except jax.errors.JAXTypeError:  # bounds that depend on traced params
        return f"an array of shape {tuple(shape)}"
    return f"an array of shape {tuple(shape)} in [{low:g}, {high:g}]"


def action_of(
    trace: Callable[[], Any], space: Any, obs: jax.ShapeDtypeStruct, label: str
) -> Any:
    """Shape and dtype of a policy's action, checked against the space.

    Args:
      trace: Gives them, without computing anything.
      space: The task's action space.
      obs: Shape and dtype of an observation, for the message.
      label: The task's name.

    Raises:
      ValueError: The policy raises, or its actions are none of the space.
    """
    try:
        action = trace()
    except Exception as error:
        raise cannot_act(obs, label, error) from error
    check_action(action, space, label)
    return action


def cannot_act(obs: Any, label: str, error: Exception) -> ValueError:
    """What a policy that raises is told with.

    Args:
      obs: An observation, or its shape and dtype.
      label: The task's name.
      error: What it raised.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    what = f"{type(error).__name__}: {' '.join(lines[:2])[:300]}"
    if "Tracer" in type(error).__name__:
        what = (
            f"{type(error).__name__}: inside JAX it has to be written with jax.numpy, "
            "without Python's if on values and without state of its own"
        )
    return ValueError(
        f"policy must act on observations of shape {tuple(obs.shape)} and dtype "
        f"{np.dtype(obs.dtype).name}, as task {label!r} gives them, but it raised "
        f"{what}"
    )


def check_action(action: Any, space: Any, label: str) -> None:
    """Raises ValueError where an action's shape or dtype is not the space's.

    Args:
      action: An array or its shape and dtype.
      space: The task's action space; composite ones are not looked at.
      label: The task's name.
    """
    shape = () if is_discrete(space) else getattr(space, "shape", None)
    if shape is None:
        return
    wanted = f"policy must give {described(space)} for task {label!r}, got"
    if not hasattr(action, "shape") or not hasattr(action, "dtype"):
        raise ValueError(f"{wanted} {shown(action)}; return the action alone")
    found = f"{wanted} {action.dtype} of shape {tuple(action.shape)}"
    if tuple(action.shape) != tuple(shape) and not (
        np.prod(action.shape) == np.prod(shape) == 1
    ):
        hint = ""
        if is_discrete(space) and tuple(action.shape)[-1:] == (int(space.n),):
            hint = "; of a number for each action take jnp.argmax(..., axis=-1)"
        raise ValueError(found + hint)
    dtype = np.dtype(action.dtype)
    if is_discrete(space) and dtype.kind not in "iub":
        raise ValueError(f"{found}; discrete actions are integers")
    if dtype.kind not in "iubf" and dtype.name != "bfloat16":
        raise ValueError(found)


def report(
    watched: Watched, space: Any, label: str, most: int = 0, unit: str = "episodes"
) -> None:
    """Says what was odd about what has been played.

    Args:
      watched: Arrays of NumPy.
      space: The task's action space.
      label: The task's name.
      most: Steps after which episodes were cut.
      unit: What is counted.

    Raises:
      ValueError: An action was none of a discrete space's.
      RuntimeError: An episode did not end.
    """
    number = np.size(watched.outside)
    if watched.outside.any():
        count = int(np.sum(watched.outside))
        first = np.asarray(watched.action)[watched.outside][0]
        text = (
            f"policy must give {described(space)} for task {label!r}, got "
            f"{np.array2string(first, precision=5)} in {count} of {number} {unit}"
        )
        if is_discrete(space):
            raise ValueError(text)
        warn_user(f"{text}; they were played as they are", RuntimeWarning)
    if watched.unended.any():
        raise RuntimeError(unended(label, most))
    if watched.nan.any():
        warn_user(
            f"task {label!r} gave NaN, as a reward or in an observation, in "
            f"{int(np.sum(watched.nan))} of {number} {unit}",
            RuntimeWarning,
        )


def watched_rows(log: Any, space: Any) -> Watched:
    """What is odd about the rows of `Transitions` `[N, ...]`."""
    if jax.tree_util.all_leaves([log.action]):
        odd = np.asarray(jax.vmap(lambda action: outside(space, action))(log.action))
    else:
        odd = np.zeros(len(log.reward), bool)
    nan = np.isnan(np.asarray(log.reward))
    for obs in (log.obs, log.next_obs):
        values = np.asarray(obs)
        if values.dtype.kind == "f":
            nan |= np.isnan(values).reshape(len(values), -1).any(axis=1)
    return Watched(odd, np.asarray(log.action), nan, np.zeros(len(nan), bool))


def check_rows(actions: np.ndarray, space: Any, label: str) -> bool:
    """Checks the actions of several lanes `[N, ...]`, of NumPy.

    Args:
      actions: As a policy gave them.
      space: Of Gymnasium's, for one lane; discrete actions are counted from 0.
      label: The task's name.

    Returns:
      Whether some action is outside of the bounds of a continuous space.

    Raises:
      ValueError: Actions have another shape or dtype, or are none of a discrete space.
    """
    one = np.empty(actions.shape[1:], actions.dtype)
    check_action(one, space, label)
    if is_discrete(space):
        odd = (actions < 0) | (actions >= space.n)
        if odd.any():
            raise ValueError(
                f"policy must give {described(space)} for task {label!r}, got "
                f"{actions[odd].ravel()[0]}"
            )
        return False
    if not (hasattr(space, "low") and hasattr(space, "high")):
        return False
    room = [_ROOM * (1 + np.abs(np.nan_to_num(x))) for x in (space.low, space.high)]
    rows = actions.reshape(len(actions), *space.shape)
    return bool(((rows < space.low - room[0]) | (rows > space.high + room[1])).any())


def say_outside(space: Any, label: str) -> None:
    """Warns that continuous actions leave their bounds."""
    warn_user(
        f"policy must give {described(space)} for task {label!r}, got some outside; "
        "they were played as they are",
        RuntimeWarning,
    )


def unended(label: str, most: int) -> str:
    """The message for an episode without an end."""
    return (
        f"task {label!r}: an episode did not end within {most:,} steps, and no time "
        "limit is known; give it one: max_steps_in_episode among a gymnax task's "
        "params, or envs.external(task, time_limit=...)"
    )
