"""The same rewards over other starts.

Who learns from an environment of one step depends on where its episodes start. An agent
that acts by sampling becomes as decided as rewards differ where it trained: states that
are wide of those that good agents meet pay differences beside which the ones that
matter are small. Starts can be chosen after an evolution, at no step in the task: the
first layer of the reward takes up the change of units.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl_runs.values import Number
from jaxrl_se.networks import Weights
from jaxrl_se.obs_ranges import checked
from jaxrl_se.synthetic_env import (
    MetStarts,
    OneStepEnv,
    SyntheticEnv,
    SyntheticParams,
)


def with_starts(
    env: SyntheticEnv,
    params: SyntheticParams,
    obs_range: tuple[tuple[float, float], ...],
    *,
    advantage: bool = True,
) -> tuple[SyntheticEnv, SyntheticParams]:
    """An environment of one step with normal starts elsewhere, and the same rewards.

    Args:
      env: A `OneStepEnv` with `reward_heads`.
      params: Its params.
      obs_range: Low and high of each observation, one deviation of the starts below
        and above their middle.
      advantage: Whether rewards become those of the action less that of the best one,
        see `SyntheticConfig`.

    Returns:
      A gymnax pair `(env, params)`. Learned starts, if there were any, are gone.

    Raises:
      ValueError: The environment is of another kind, or there is not one range per
        observation.

    Example:
      >>> import jaxrl_se
      >>> env, params = jaxrl_se.load("Pendulum-v1")
      >>> env, params = with_starts(env, params, ((-1, 1), (-1, 1), (-8, 8)))
      >>> env.config.initial_states
      'normal'
    """
    check_one_step(env)
    new = checked(obs_range, env.spaces.obs_size)
    old = params.obs_range
    old = checked([(-1.0, 1.0)] * len(new) if old is None else old, len(new))
    old_middle, old_half = _middle_and_half(old)
    middle, half = _middle_and_half(new)
    reward = _in_other_units(
        params.weights["reward"], half / old_half, (middle - old_middle) / old_half
    )
    moved = dataclasses.replace(
        env.config,
        initial_states="normal",
        obs_range=tuple(map(tuple, new.tolist())),
        advantage=advantage,
    ).build(env.spaces)
    return moved, dataclasses.replace(
        params,
        weights={"reward": reward},
        obs_range=new,
        target_params=None,
        starts=None,
    )


def with_met_starts(
    env: SyntheticEnv,
    params: SyntheticParams,
    obs: Any,
    share: float = 0.5,
    *,
    advantage: bool = True,
) -> tuple[SyntheticEnv, SyntheticParams]:
    """An environment of which a share of episodes starts from states that were met.

    Args:
      env: A `OneStepEnv` with `reward_heads`.
      params: Its params.
      obs: Observations `[M, obs_size]` of the task, such as `rows.obs` of a good
        policy's (`envs.collect`); a few hundred are enough.
      share: Of the episodes, from 0 to 1.
      advantage: See `with_starts`.

    Returns:
      A gymnax pair `(env, params)`, with the same rewards.

    Raises:
      ValueError: The environment is of another kind, or the observations are not its.
    """
    check_one_step(env)
    Number(at_least=0, at_most=1).check("share", share)
    met = np.asarray(obs, np.float32)
    size = env.spaces.obs_size
    if met.ndim != 2 or met.shape[1] != size or not len(met):
        raise ValueError(f"obs must be observations [M, {size}], got {met.shape}")
    if not np.isfinite(met).all():
        raise ValueError("obs must be finite, got NaN or infinity")
    moved = dataclasses.replace(env.config, advantage=advantage)
    starts = MetStarts(jnp.asarray(met), float(share))
    return moved.build(env.spaces, env.target), dataclasses.replace(
        params, starts=starts
    )


def check_one_step(env: Any) -> None:
    """Raises ValueError unless it is a `OneStepEnv` with `reward_heads`."""
    if not (isinstance(env, OneStepEnv) and env.config.reward_heads):
        raise ValueError(
            "env must be a OneStepEnv with reward_heads, got "
            f"{getattr(env, 'name', type(env).__name__)}"
        )


def _middle_and_half(ranges: Any) -> tuple[jax.Array, jax.Array]:
    low, high = jnp.asarray(ranges, jnp.float32).T
    return (low + high) / 2, (high - low) / 2


def _in_other_units(weights: Weights, scale: jax.Array, shift: jax.Array) -> Weights:
    """Weights of a network of `x` that is the given one's of `scale * x + shift`."""
    first, *others = weights
    kernel = jnp.asarray(first["kernel"])
    if others:  # Hidden kernels are `[in, out]`, the output's is `[out, in]`.
        moved = {"kernel": kernel * scale[:, None], "bias": shift @ kernel}
    else:
        moved = {"kernel": kernel * scale, "bias": kernel @ shift}
    return (first | moved | {"bias": first["bias"] + moved["bias"]}, *others)
