"""From the environment of a family of tasks to that of one of them.

An environment that was evolved on `envs.family(...)` reads the values that vary beside
the observation. For one task they are constants, so what they add to the first layer's
units goes into its biases, and a smaller environment without them is left.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxrl_runs.values import shown
from jaxrl_se.networks import Weights
from jaxrl_se.obs_ranges import to_unit
from jaxrl_se.synthetic_env import SyntheticEnv, SyntheticParams

# A little outside of a family's ranges an environment may still do; raw params are not
# meant to pass for what is seen.
_FARTHEST = 2.0


def member(
    env: SyntheticEnv, params: SyntheticParams, values: Any
) -> tuple[SyntheticEnv, SyntheticParams]:
    """The environment of one task of a family.

    Args:
      env: What was evolved on a family, with starts drawn from a normal distribution.
      params: Its params.
      values: What of the observation's end is fixed, float32 `[C]`: what
        `envs.TaskFamily.seen` gives for the task's values. Several tasks at once,
        `[..., C]`, under `jax.vmap`.

    Returns:
      An environment of the same variant whose observations are the task's, with
      params that can be saved, loaded and trained in like any other.

    Raises:
      ValueError: `values` are no vector shorter than the observation, or the
        environment's starts are learned or the task's.
      TypeError: `env` is no synthetic environment.

    Example:
      >>> import envs
      >>> from jaxrl_se import member
      >>> family, ranges = envs.family("Pendulum-v1", {"l": (0.5, 1.5)})
      >>> env, params = SyntheticConfig(initial_states="normal").make(family, ranges)
      >>> env.spaces.obs_size
      4
      >>> env, params = member(env, params, family.seen(ranges, {"l": 1.0}))
      >>> env.spaces.obs_size
      3
    """
    if not isinstance(env, SyntheticEnv):
        raise TypeError(
            f"env must be a synthetic environment, got {type(env).__name__}"
        )
    size = env.spaces.obs_size
    try:
        fixed = jnp.asarray(values, jnp.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(
            "values must be what envs.TaskFamily.seen gives for the task's values, got "
            f"{shown(values)}"
        ) from error
    if fixed.ndim != 1 or not 0 < len(fixed) < size:
        raise ValueError(
            f"values must be a vector of fewer than the {size} numbers that the "
            f"environment observes, got shape {fixed.shape}"
        )
    if not isinstance(fixed, Tracer):
        _check_values(np.asarray(fixed))
    if env.config.initial_states != "normal":
        raise ValueError(
            "env must start from a normal distribution (initial_states='normal'), got "
            f"{env.config.initial_states!r}"
        )
    kept = size - len(fixed)
    ranges = params.obs_range
    if ranges is not None:
        ranges = jnp.asarray(ranges, jnp.float32)
        fixed, ranges = to_unit(ranges[kept:], fixed), ranges[:kept]
    spaces = dataclasses.replace(
        env.spaces, obs_size=kept, obs_shape=(kept,), num_states=None
    )
    smaller = type(env)(env.config, spaces)
    weights = dict(params.weights)
    for name in smaller.networks():
        weights[name] = _without_last(weights[name], fixed)
    if "next_obs" in weights:
        *hidden, output = weights["next_obs"]
        output = {"kernel": output["kernel"][:kept], "bias": output["bias"][:kept]}
        weights["next_obs"] = (*hidden, output)
    starts = params.starts
    if starts is not None:
        starts = dataclasses.replace(starts, obs=jnp.asarray(starts.obs)[:, :kept])
    return smaller, dataclasses.replace(
        params, weights=weights, obs_range=ranges, starts=starts
    )


def _check_values(values: np.ndarray) -> None:
    """Raises ValueError for values that are no part of a family's observation."""
    if not np.isfinite(values).all():
        raise ValueError(f"values must be finite, got {values.tolist()}")
    if np.abs(values).max() > _FARTHEST:
        raise ValueError(
            "values must be as the family shows them, from -1 to 1 within its ranges "
            f"(envs.TaskFamily.seen), got {values.tolist()}"
        )


def _without_last(weights: Weights, fixed: jax.Array) -> Weights:
    """A network's weights with its last inputs fixed."""
    first, *rest = weights
    kernel = first["kernel"]
    is_output = not rest  # whose kernel is [out, in]
    kernel = kernel.T if is_output else kernel
    bias = first["bias"] + fixed @ kernel[-len(fixed) :]
    kernel = kernel[: -len(fixed)]
    layer = first | {"kernel": kernel.T if is_output else kernel, "bias": bias}
    return (layer, *rest)
