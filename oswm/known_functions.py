"""A reward or an end that is known: functions of users, tried before a model is fitted.

Agents train inside compiled programs, so that JAX traces these functions: it calls them
with stand-ins for arrays, of which Python's `if` and `max` and NumPy know nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl_runs.values import Function, shown
from oswm.context import Context

_VALUES = {"terminated": "bool", "reward": "float"}
_TRACING = (jax.errors.JAXTypeError, jax.errors.JAXIndexError)


def check_callable(name: str, function: Any) -> None:
    """Raises TypeError unless it is None or takes a step.

    Args:
        name: Of the argument, `terminated` or `reward`.
        function: What a user gave.
    """
    rule = Function(f"(obs, action, next_obs) -> {_VALUES[name]}", optional=True)
    rule.check(name, function)


def check_traced(name: str, function: Callable[..., Any], context: Context) -> None:
    """Calls it as the environment will, without computing anything.

    Args:
        name: Of the argument, `terminated` or `reward`.
        function: `(obs, action, next_obs) -> bool` or `-> float`.
        context: Says how large observations and actions are.

    Raises:
        ValueError: JAX cannot trace it, it fails for another reason, or its result is
            not one number, or of the wrong kind.
    """
    obs = jax.ShapeDtypeStruct((context.obs_size,), jnp.float32)
    action = jax.ShapeDtypeStruct((), jnp.int32)
    if context.num_actions is None:
        action = jax.ShapeDtypeStruct((context.action_size,), jnp.float32)
    given = f"obs and next_obs float32 [{context.obs_size}] and action " + (
        f"float32 [{context.action_size}]" if action.shape else "int32 []"
    )

    def called(obs: Any, action: Any, next_obs: Any) -> jax.Array:
        try:
            result = function(obs, action, next_obs)
        except _TRACING as error:
            raise ValueError(
                f"{name} is traced by JAX, with {given}, and must be written with "
                "jax.numpy (import jax.numpy as jnp): jnp.maximum instead of max, "
                "jnp.where instead of if, & instead of and, jnp.sqrt instead of "
                f"math.sqrt; got {_first_line(error)}"
            ) from error
        except Exception as error:
            raise ValueError(
                f"{name} must be a function that takes {given}, as traced by JAX; got "
                f"{_first_line(error)}"
            ) from error
        return _as_array(name, result)

    _check_result(name, jax.eval_shape(called, obs, action, obs))


def _as_array(name: str, result: Any) -> jax.Array:
    """What it returned; None is no number, though JAX has taken it for one."""
    try:
        if result is not None:
            return jnp.asarray(result)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{name} must return a {_VALUES[name]}, got {shown(result)}")


def _check_result(name: str, result: jax.ShapeDtypeStruct) -> None:
    got = f"{result.dtype} of shape {result.shape}"
    if result.size != 1:
        raise ValueError(
            f"{name} must return one {_VALUES[name]}, got {got}: it is called for one "
            "step, with obs [S], not for a batch; pick a column (next_obs[0])"
        )
    if name == "reward" and not (
        jnp.issubdtype(result.dtype, jnp.floating)
        or jnp.issubdtype(result.dtype, jnp.integer)
        or result.dtype == bool
    ):
        raise ValueError(f"reward must return a real number, got {got}")
    if name == "terminated" and not (
        jnp.issubdtype(result.dtype, jnp.integer) or result.dtype == bool
    ):
        raise ValueError(
            f"terminated must return a bool, got {got}, of which anything but 0 would "
            "be an end; give a comparison (next_obs[0] > 1.0)"
        )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
