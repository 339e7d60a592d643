"""What came of NaN: looked at in outputs, since compiled programs cannot speak up."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from envs.play import record
from envs.policy_checks import watched_rows
from jaxrl_runs.compilation import quick_jit
from jaxrl_runs.warn import warn_user

_PROBED = 1_000  # Random steps in a task that is suspected.


def say_nan(
    weights: Any, num_agents: int | None, env: Any, params: Any, key: jax.Array
) -> None:
    """Warns if weights of trained agents are NaN or infinite, and says where from.

    Args:
      weights: Of one agent, or with a leading axis `[num_agents]`.
      num_agents: None for one.
      env: What they were trained in; it is played at random if something is wrong.
      params: Its params.
      key: Of the training.
    """
    leaves = jax.tree.leaves(weights)
    if any(isinstance(leaf, Tracer) for leaf in leaves):
        return
    axes = 0 if num_agents is None else 1
    finite = np.asarray(_all_finite(weights, axes))
    if finite.all():
        return
    who = "the policy's weights are"
    if num_agents is not None:
        who = f"the weights of {int((~finite).sum())} of {num_agents} policies are"
    warn_user(
        f"train: {who} NaN or infinite: {nan_of_task(env, params, key)}",
        RuntimeWarning,
    )


def nan_of_task(env: Any, params: Any, key: jax.Array) -> str:
    """Whether NaN comes from a task, in words; plays it at random.

    Args:
      env: A gymnax environment.
      params: Its params.
      key: A PRNG key.
    """
    name = getattr(env, "name", type(env).__name__)
    log = record(None, env, params, key, _PROBED)
    watched = watched_rows(log, env.action_space(params))
    wrong = [
        what
        for what, values in (("rewards", log.reward), ("observations", log.next_obs))
        if not np.isfinite(np.asarray(values, np.float64)).all()
    ]
    if wrong:
        first = int(np.argmax(watched.nan)) if watched.nan.any() else None
        where = "" if first is None else f", NaN first in random step {first}"
        return (
            f"{' and '.join(wrong)} of task {name!r} are NaN or infinite{where}; "
            "envs.check(env, params) tells more"
        )
    return (
        f"task {name!r} gives finite numbers under random actions, so that what was "
        "trained diverged; try a smaller learning_rate, or rewards of a smaller scale"
    )


@functools.partial(quick_jit, static_argnames="num_axes")
def _all_finite(weights: Any, num_axes: int) -> jax.Array:
    """Whether all numbers are finite, for each entry of the leading axes."""
    finite = jnp.bool_(True)
    for leaf in jax.tree.leaves(weights):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            axes = tuple(range(num_axes, leaf.ndim))
            finite &= jnp.isfinite(leaf).all(axis=axes)
    return finite
