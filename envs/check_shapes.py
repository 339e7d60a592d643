"""What is wrong with the shapes and dtypes of an environment, by tracing it alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp

from envs.stepping import has_raw_step


def find_in_shapes(env: Any, params: Any, obs_space: gymnasium.Space) -> Iterator[str]:
    """What tracing alone tells about an environment, in words; nothing is compiled."""
    key = jax.random.key(0)
    try:
        obs, state = jax.eval_shape(env.reset, key, params)
    except Exception as error:
        yield f"reset(key, params) cannot be traced: {first_line(error)}"
        return
    try:
        action = jax.eval_shape(lambda k, p: env.action_space(p).sample(k), key, params)
    except Exception as error:
        yield f"its action space cannot be sampled: {first_line(error)}"
        return
    yield from _against_space(obs_space, obs)
    if has_raw_step(env):
        raw = list(_raw_shapes(env, params, key, obs, state, action))
        yield from raw
        if raw:
            return  # gymnax's step would fail over the same, less clearly.
    try:
        outputs = jax.eval_shape(env.step, key, state, action, params)
    except Exception as error:
        yield f"step(key, state, action, params) cannot be traced: {first_line(error)}"
        return
    if len(outputs) != 6:
        yield f"step must return six values as in gymnax 1.x, got {len(outputs)}"
        return
    next_obs, next_state, reward, terminated, truncated, info = outputs
    yield from same_shapes("step: obs", next_obs, "reset", obs)
    yield from same_shapes("step: state", next_state, "reset", state)
    yield from _scalars("step", reward, terminated=terminated, truncated=truncated)
    if not isinstance(info, dict) or "final_observation" not in info:
        yield "step must return info['final_observation'], the one before a reset"
    else:
        yield from same_shapes(
            "step: info['final_observation']", info["final_observation"], "reset", obs
        )


def _raw_shapes(env, params, key, obs, state, action) -> Iterator[str]:
    try:
        outputs = jax.eval_shape(env.step_env, key, state, action, params)
    except Exception as error:
        yield (
            "step_env(key, state, action, params) cannot be traced: "
            f"{first_line(error)}"
        )
        return
    if len(outputs) != 5:
        yield f"step_env must return five values as in gymnax 1.x, got {len(outputs)}"
        return
    next_obs, next_state, reward, terminated, info = outputs
    yield from same_shapes("step_env: obs", next_obs, "reset", obs)
    yield from same_shapes("step_env: state", next_state, "reset", state)
    try:
        truncated = jax.eval_shape(env.is_truncated, next_state, params)
    except Exception as error:
        yield f"is_truncated(state, params) cannot be traced: {first_line(error)}"
        return
    yield from _scalars("step_env", reward, terminated=terminated)
    yield from _scalars("is_truncated", None, flag=truncated)
    if not isinstance(info, dict):
        yield f"step_env: info must be a dict, got {type(info).__name__}"


def _scalars(where: str, reward: Any, **flags: Any) -> Iterator[str]:
    if reward is not None:
        reward = jax.eval_shape(jnp.asarray, reward)
        if reward.shape != ():
            yield f"{where}: reward must be a single number, got shape {reward.shape}"
        if not jnp.issubdtype(reward.dtype, jnp.floating):
            yield f"{where}: reward must be a float, got {reward.dtype}"
    for name, flag in flags.items():
        flag = jax.eval_shape(jnp.asarray, flag)
        if flag.shape != ():
            yield f"{where}: {name} must be a single flag, got shape {flag.shape}"
        if flag.dtype != jnp.bool_:
            yield f"{where}: {name} must be a bool, got {flag.dtype}"


def same_shapes(what: str, value: Any, where: str, expected: Any) -> Iterator[str]:
    """Where two trees of arrays differ in structure, shapes or dtypes, in words."""
    value, expected = (jax.eval_shape(lambda x=x: x) for x in (value, expected))
    trees = [jax.tree.structure(x) for x in (value, expected)]
    if trees[0] != trees[1]:
        yield f"{what} is built differently than by {where}: {trees[0]}, not {trees[1]}"
        return
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(value),
        jax.tree.leaves(expected),
        strict=True,
    )
    for (path, ours), theirs in pairs:
        if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
            yield (
                f"{what}{jax.tree_util.keystr(path)} is {ours.dtype}"
                f"{list(ours.shape)}, by {where} {theirs.dtype}{list(theirs.shape)}"
            )


def _against_space(space: gymnasium.Space, obs: Any) -> Iterator[str]:
    try:
        leaves = list(paired(space, obs))
    except (KeyError, TypeError, ValueError, AttributeError):
        yield f"reset: obs is not built as its space {space} says"
        return
    for leaf_space, leaf in leaves:
        is_number = isinstance(leaf_space, gymnasium.spaces.Discrete)
        fits = leaf.dtype == leaf_space.dtype
        if is_number:  # int64 in Gymnasium, int32 in JAX
            fits = jnp.issubdtype(leaf.dtype, jnp.integer)
        if leaf.shape != leaf_space.shape or not fits:
            yield (
                f"reset: obs is {leaf.dtype}{list(leaf.shape)}, its space says "
                f"{leaf_space.dtype}{list(leaf_space.shape or ())}"
            )


def paired(space: Any, obs: Any) -> Iterator[tuple[Any, Any]]:
    """The single spaces with what belongs to them."""
    if isinstance(space, gymnasium.spaces.Dict):
        for name, child in space.items():
            yield from paired(child, obs[name])
    elif isinstance(space, gymnasium.spaces.Tuple):
        for child, part in zip(space, obs, strict=True):
            yield from paired(child, part)
    else:
        yield space, obs


def first_line(error: Exception) -> str:
    """An error of JAX in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:300]}"
