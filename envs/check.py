"""Does an environment keep gymnax's contract? `check` says what is wrong, in words."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnax.environments.environment import Environment
from jax.core import Tracer

from envs.check_shapes import find_in_shapes, first_line, paired
from envs.gymnasium_spaces import to_gymnasium
from envs.old_gym import looks_old, not_gymnasium
from envs.registry import make
from envs.stepping import has_raw_step
from jaxrl_runs.compilation import quick_jit
from jaxrl_runs.values import COUNT, SEED, seed_key

_NUM_LANES = 4
_METHODS = ("reset", "step", "observation_space", "action_space")
_RAW_METHODS = ("reset_env", "step_env", "is_truncated", "is_terminated")
_TOLERANCE = 1e-5  # Programs of different shape differ in last bits.


class ContractError(ValueError):
    """An environment does not keep the contract; the message lists all findings.

    Attributes:
        findings: The findings one by one.
    """

    def __init__(
        self, name: str, findings: tuple[str, ...], contract: str = "gymnax's"
    ):
        lines = "".join(f"\n* {finding}" for finding in findings)
        super().__init__(f"{name} does not keep {contract} contract:{lines}")
        self.findings = findings


def check(env: Any, params: Any = None, *, num_steps: int = 60, seed: int = 0) -> None:
    """Try an environment out and report everything that is wrong with it.

    Looked at are the methods, the spaces, shapes and dtypes, tracing with traced
    params, ``jax.vmap``, equal results for equal keys, finite numbers, observations
    within their space, ``step`` against ``step_env``, the reset at the end of an
    episode, the last observation in ``info["final_observation"]`` and the time limit.

    Of tasks outside JAX: what ``reset`` and ``step`` return and its dtypes,
    observations within their space, equal episodes for equal seeds, finite numbers,
    and whether a time limit truncates.

    Args:
        env: An environment with the interface of gymnax 1.x, the name of a task, or
            a pair of an environment and its params; or a ``gymnasium.Env``, a
            ``gymnasium.vector.VectorEnv`` or what `envs.external` made.
        params: Its params; ``env.default_params`` by default.
        num_steps: Random steps in each of four copies. If the time limit of the params
            is longer than a third of that, a shorter one is set.
        seed: Of actions and randomness.

    Raises:
        ContractError: Lists the findings.

    Example:
        >>> import envs
        >>> envs.check(*envs.make("CartPole-v1"))
    """
    COUNT.check("num_steps", num_steps)
    SEED.check("seed", seed)
    if isinstance(env, type):
        raise TypeError(
            f"env must be a gymnax environment, got the class {env.__name__}; write "
            f"{env.__name__}()"
        )
    if params is None and isinstance(env, str):
        env = make(env)
    if params is None and isinstance(env, tuple) and len(env) == 2:
        env, params = env
    name = getattr(env, "name", None) or type(env).__name__
    found = tuple(findings(env, params, num_steps=num_steps, seed=seed))
    if found:
        is_outside = params is None and _is_outside(env)
        contract = "Gymnasium's" if is_outside else "gymnax's"
        raise ContractError(str(name), found, contract)


def findings(
    env: Any, params: Any = None, *, num_steps: int = 60, seed: int = 0
) -> list[str]:
    """As `check`, but returns the findings, an empty list if there are none."""
    if params is None and _is_outside(env):
        from envs.check_outside import findings_outside  # It imports the engines.

        return list(findings_outside(env, num_steps, seed))
    found = list(_interface(env))
    if found:
        return found
    params = env.default_params if params is None else params
    try:
        spaces = tuple(
            to_gymnasium(space(params))
            for space in (env.observation_space, env.action_space)
        )
    except Exception as error:
        return [f"its spaces cannot be read: {first_line(error)}"]
    before = dict(getattr(env, "__dict__", {}))
    found = list(find_in_shapes(env, params, spaces[0]))
    found += _leaks(env, before)
    if found:
        return found
    return [*_repeats(env, params), *_plays(env, params, spaces[0], num_steps, seed)]


def _is_outside(env: Any) -> bool:
    """Whether it is Gymnasium's, or `envs.external` made it."""
    kinds = gymnasium.Env | gymnasium.vector.VectorEnv
    return isinstance(env, kinds) or getattr(env, "is_external", False) is True


def _interface(env: Any) -> Iterator[str]:
    if isinstance(env, gymnasium.Env | gymnasium.vector.VectorEnv):
        yield "it is a Gymnasium environment, which has no params"
        return
    if looks_old(env):
        yield not_gymnasium(env, "env")
        return
    if isinstance(env, tuple):
        yield "it is a tuple; a pair is (env, params)"
        return
    for name in _METHODS + (_RAW_METHODS if isinstance(env, Environment) else ()):
        if not callable(getattr(env, name, None)):
            yield f"it has no method {name}"
    try:
        hash(env)
    except TypeError:
        yield "it is not hashable, which jax.jit asks of static arguments"


def _leaks(env: Any, before: dict[str, Any]) -> Iterator[str]:
    after = dict(getattr(env, "__dict__", {}))
    for name, value in after.items():
        if any(isinstance(x, Tracer) for x in jax.tree.leaves(value)):
            yield (
                f"tracing left a traced value in env.{name}; what changes belongs into "
                "the state"
            )
        elif name not in before or before[name] is not value:
            yield f"tracing changed env.{name}; what changes belongs into the state"


def _repeats(env: Any, params: Any) -> Iterator[str]:
    """Whether tracing twice gives one program; host randomness would be baked in."""
    names = ("reset_env",) if has_raw_step(env) else ()
    for name in names:
        function: Callable[..., Any] = getattr(env, name)
        jaxprs = [
            jax.make_jaxpr(lambda *args, f=function: f(*args))(
                jax.random.key(0), params
            )
            for _ in range(2)
        ]
        texts = [str(jaxpr) for jaxpr in jaxprs]
        consts = [[np.asarray(c) for c in jaxpr.consts] for jaxpr in jaxprs]
        same = texts[0] == texts[1] and all(map(np.array_equal, *consts))
        if not same:
            yield (
                f"{name} is another program each time it is traced; randomness must "
                "come from the key alone"
            )


def _plays(env, params, obs_space, num_steps: int, seed: int) -> Iterator[str]:
    params, limit = _with_short_limit(params, max(num_steps // 3, 2))
    keys = jax.random.split(seed_key(seed), _NUM_LANES)
    try:
        played = jax.tree.map(np.asarray, _rollouts(env, keys, params, num_steps))
    except Exception as error:
        yield f"it cannot be stepped under jax.jit and jax.vmap: {first_line(error)}"
        return
    again = jax.tree.map(np.asarray, _rollouts(env, keys, params, num_steps))
    if not _all(np.array_equal, played, again):
        yield "the same keys and actions give other results a second time"
    yield from _numbers(played, obs_space)
    yield from _episodes(played, limit)
    if has_raw_step(env):
        return
    if "raw" in played and not _all(_close, played["raw"], played["raw_again"]):
        return  # Random steps: which key a step of its own draws from is its business.
    if "raw" in played and not _all(_close, played["raw"], played["taken"]):
        yield (
            "step and step_env disagree about observation, reward or termination of "
            "the same step"
        )


@functools.partial(quick_jit, static_argnames=("env", "num_steps"))
def _rollouts(env: Any, keys: jax.Array, params: Any, num_steps: int) -> dict[str, Any]:
    return jax.vmap(lambda key: _rollout(env, key, params, num_steps))(keys)


def _rollout(env: Any, key: jax.Array, params: Any, num_steps: int) -> dict[str, Any]:
    """Random steps, and the same steps by `step_env` where there is one."""
    compares = isinstance(env, Environment) and not has_raw_step(env)

    def one(carry, key):
        obs, state = carry
        key_action, key_step = jax.random.split(key)
        action = env.action_space(params).sample(key_action)
        next_obs, next_state, reward, terminated, truncated, info = env.step(
            key_step, state, action, params
        )
        taken = (info["final_observation"], reward, terminated)
        row = {"taken": taken, "truncated": truncated, "obs": obs, "shown": next_obs}
        if compares:
            raw_keys = jax.random.split(key_step)
            for name, raw_key in zip(("raw", "raw_again"), raw_keys, strict=True):
                outputs = env.step_env(raw_key, state, action, params)
                row[name] = (outputs[0], outputs[2], outputs[3])
        return (next_obs, next_state), row

    key_reset, key_steps = jax.random.split(key)
    carry = env.reset(key_reset, params)
    return jax.lax.scan(one, carry, jax.random.split(key_steps, num_steps))[1]


def _numbers(played: dict[str, Any], obs_space: gymnasium.Space) -> Iterator[str]:
    final, reward, _ = played["taken"]
    for name, values in (("obs", played["obs"]), ("final_observation", final)):
        for space, value in paired(obs_space, values):
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                step = np.argmax(
                    ~np.isfinite(value).reshape(*value.shape[:2], -1).all(2)
                )
                yield f"{name} holds NaN or infinity, first in step {step}"
            elif isinstance(space, gymnasium.spaces.Box):
                yield from _outside(name, space, value)
    if not np.isfinite(reward).all():
        yield "reward is NaN or infinite in some step"


def _outside(name: str, space: Any, value: np.ndarray) -> Iterator[str]:
    room = _TOLERANCE * (1 + np.abs(np.where(np.isfinite(value), value, 0)))
    outside = (value < space.low - room) | (value > space.high + room)
    if outside.any():
        place = tuple(int(i) for i in np.argwhere(outside)[0][2:])
        worst = value[(slice(None), slice(None), *place)]
        low, high = space.low[place], space.high[place]
        yield (
            f"{name}{list(place)} leaves its space [{low:g}, {high:g}]: it was in "
            f"[{worst.min():g}, {worst.max():g}]"
        )


def _episodes(played: dict[str, Any], limit: int | None) -> Iterator[str]:
    final, _, terminated = played["taken"]
    done = np.asarray(terminated) | np.asarray(played["truncated"])
    shown = jax.tree.leaves(played["shown"])
    kept = [
        (a == b).reshape(*done.shape, -1).all(2)
        for a, b in zip(shown, jax.tree.leaves(final), strict=True)
    ]
    same = np.logical_and.reduce(kept)
    if not same[~done].all():
        yield "info['final_observation'] is not obs where no episode has ended"
    moves = any(np.ptp(leaf, axis=(0, 1)).any() for leaf in shown if leaf.dtype != bool)
    if done.sum() > 3 and same[done].all() and moves:
        yield (
            "obs after the end of an episode is that episode's last observation: step "
            "must reset, and return the next episode's first one"
        )
    if limit is None:
        return
    longest = max(_longest(lane) for lane in done)
    if longest > limit:
        yield (
            f"with params.max_steps_in_episode = {limit} an episode went on for "
            f"{longest} steps"
        )


def _longest(done: np.ndarray) -> int:
    """Steps of the longest episode of a copy, that at the end included."""
    ends = np.flatnonzero(done)
    return int(np.diff(np.concatenate([[-1], ends, [len(done) - 1]])).max())


def _with_short_limit(params: Any, limit: int) -> tuple[Any, int | None]:
    """The params with a time limit that episodes reach, and the limit if there is one.

    Params of a wrapper hold those of the environment inside, whose limit it is.
    """
    for name, inner in vars(params).items() if hasattr(params, "__dict__") else ():
        if hasattr(inner, "max_steps_in_episode"):
            inner, found = _with_short_limit(inner, limit)
            return params.replace(**{name: inner}), found
    own = getattr(params, "max_steps_in_episode", None)
    if own is None or np.ndim(own) or not hasattr(params, "replace"):
        return params, None
    if int(own) <= limit:
        return params, int(own)
    return params.replace(max_steps_in_episode=limit), limit


def _close(first: Any, second: Any) -> bool:
    return np.allclose(first, second, rtol=_TOLERANCE, atol=_TOLERANCE)


def _all(same: Callable[[Any, Any], bool], first: Any, second: Any) -> bool:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(same(a, b) for a, b in pairs)
