"""What a task inside JAX must keep for programs to step it, told by tracing alone.

`envs.check` looks at all of the contract; this at what would otherwise end in an error
of JAX's, far from its cause. `train`, `evaluate`, `evolve` and `collect` ask it first.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.check_shapes import first_line, same_shapes
from envs.stepping import has_raw_step, raw_step, step
from jaxrl_runs.values import shown

_MOST_KEPT = 256
_FOUND: dict[Hashable, tuple[str, ...]] = {}


def check_contract(env: Any, params: Any) -> None:
    """Raises if an environment cannot be stepped with these params.

    A pair of the same structure is looked at once; nothing is compiled.

    Args:
      env: A gymnax environment.
      params: Its params.

    Raises:
      TypeError: The params are another environment's, or hold what is no number.
      ValueError: Observations, states, rewards or flags have wrong shapes or dtypes;
        the message says which.
    """
    label = getattr(env, "name", type(env).__name__)
    _check_params(env, params, label)
    try:
        hash(env)
    except TypeError:
        raise TypeError(
            f"task {label!r}: env must be hashable, since jax.jit takes it as a static "
            f"argument, got {shown(env)}"
        ) from None
    leaves, tree = jax.tree.flatten(params)
    kind = (
        env,
        tree,
        tuple((np.shape(x), getattr(x, "dtype", None) or type(x)) for x in leaves),
    )
    if kind not in _FOUND:
        while len(_FOUND) >= _MOST_KEPT:
            _FOUND.pop(next(iter(_FOUND)))
        _FOUND[kind] = tuple(_findings(env, params))
    if _FOUND[kind]:
        raise ValueError(
            f"task {label!r} must keep gymnax's contract: {'; '.join(_FOUND[kind])}. "
            "envs.check(env, params) looks at all of it"
        )


def _check_params(env: Any, params: Any, label: str) -> None:
    own = getattr(env, "default_params", None)
    is_tree = own is not None and not jax.tree_util.all_leaves([own])
    if is_tree and not isinstance(params, type(own)):
        raise TypeError(
            f"params must be those of {label!r}, {type(own).__name__}, such as "
            f"env.default_params.replace(...), got {shown(params)}"
        )
    limit = getattr(params, "max_steps_in_episode", None)
    if isinstance(limit, int | float | np.generic) and not (
        limit >= 1 and (math.isinf(limit) or limit == round(limit))
    ):
        raise ValueError(
            f"params of {label!r}: max_steps_in_episode must be a whole number of at "
            f"least 1, got {shown(limit)}"
        )
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not isinstance(leaf, int | float | complex | np.generic) and not (
            hasattr(leaf, "dtype") and hasattr(leaf, "shape")
        ):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} must be a number or an array, "
                f"got {shown(leaf)}"
            )


def _findings(env: Any, params: Any) -> Iterator[str]:
    key = jax.random.key(0)
    try:
        obs, state = jax.eval_shape(env.reset, key, params)
    except Exception as error:
        yield f"reset(key, params) cannot be traced: {first_line(error)}"
        return
    if jax.tree_util.all_leaves([obs]):
        yield from _against_space(env.observation_space(params), obs)
    own_step = step if not has_raw_step(env) else raw_step

    def take(key, params, state):
        action = env.action_space(params).sample(key)
        return own_step(env, key, state, action, params)

    try:
        taken = jax.eval_shape(take, key, params, state)
    except Exception as error:
        yield f"a step cannot be traced: {first_line(error)}"
        return
    yield from same_shapes("step: obs", taken.next_obs, "reset", obs)
    yield from same_shapes("step: state", taken.state, "reset", state)
    for name in ("terminated", "truncated"):
        dtype = getattr(taken, name).dtype
        if dtype != jnp.bool_:
            yield f"{name} must be a bool, got {dtype}: flag != 0, or flag > 0.5"
    if not jnp.issubdtype(taken.reward.dtype, jnp.number):
        yield f"reward must be a number, got {taken.reward.dtype}"


def _against_space(space: Any, obs: Any) -> Iterator[str]:
    """Against the shape that networks are built for."""
    shape = () if hasattr(space, "n") and not hasattr(space, "low") else None
    shape = getattr(space, "shape", None) if shape is None else shape
    if shape is not None and tuple(obs.shape) != tuple(shape):
        yield (
            f"reset: obs must have shape {tuple(shape)}, as its observation_space "
            f"says, got {tuple(obs.shape)}"
        )
    if shape == () and hasattr(space, "n") and obs.dtype.kind not in "iu":
        yield f"reset: obs is {obs.dtype}, a Discrete observation_space has integers"
