"""Environments of the old gym, told from Gymnasium's before anything is played.

There `reset` gives an observation alone and `step` four values, of which `done` does
not say whether the task ended the episode or a time limit did (Gymnasium, 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

_REMEDY = (
    "This is the interface of the old gym. Wrap it: gymnasium.make("
    "'GymV21Environment-v0', env=env), with pip install 'shimmy[gym-v21]'; or let "
    "reset(seed=None, options=None) return (obs, info), and step(action) return (obs, "
    "reward, terminated, truncated, info)"
)
_STEP = ("obs", "reward", "terminated", "truncated", "info")
_ARGUMENTS = ("'seed'", "'options'")


class OldInterfaceError(TypeError):
    """An environment's `reset` or `step` is not as Gymnasium has them."""


def looks_old(env: Any) -> bool:
    """Whether it is stepped as in the old gym, and is no environment of Gymnasium's."""
    return (
        not isinstance(env, gymnasium.Env | gymnasium.vector.VectorEnv | type)
        and callable(getattr(env, "reset", None))
        and callable(getattr(env, "step", None))
        and callable(getattr(getattr(env, "action_space", None), "sample", None))
    )


def not_gymnasium(env: Any, argument: str = "task") -> str:
    """The message for such an environment."""
    return (
        f"{argument} must be a gymnasium.Env, got {type(env).__name__}, which is none. "
        f"{_REMEDY}"
    )


def as_reset(outputs: Any) -> tuple[Any, Any]:
    """What `reset` returned, if it is an observation and an info.

    Raises:
        OldInterfaceError: It is not.
    """
    if (
        isinstance(outputs, tuple)
        and len(outputs) == 2
        and isinstance(outputs[1], Mapping)
    ):
        return outputs
    raise OldInterfaceError(
        f"reset must return (obs, info), got {_kind(outputs)}. {_REMEDY}"
    )


def as_step(outputs: Any) -> tuple[Any, Any, Any, Any, Any]:
    """What `step` returned, if it is five values.

    Raises:
        OldInterfaceError: It is not.
    """
    if isinstance(outputs, tuple) and len(outputs) == 5:
        return outputs  # type: ignore
    raise OldInterfaceError(
        f"step must return ({', '.join(_STEP)}), got {_kind(outputs)}. {_REMEDY}"
    )


def takes_no_seed(error: Exception) -> OldInterfaceError | None:
    """The error for a `reset` without the arguments of Gymnasium's, or None."""
    text = str(error)
    is_unexpected = isinstance(error, TypeError) and "unexpected keyword" in text
    if is_unexpected and any(name in text for name in _ARGUMENTS):
        return OldInterfaceError(
            f"reset must take seed and options, got a TypeError ({text}). {_REMEDY}"
        )
    return None


def _kind(outputs: Any) -> str:
    if isinstance(outputs, tuple):
        return f"{len(outputs)} values"
    return f"one {type(outputs).__name__}"
