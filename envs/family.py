"""A family of tasks as one: every episode has params of its own, and shows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs.registry import pair_of
from envs.stepping import check_env
from envs.wrapper import Wrapper
from jaxrl_runs.values import Function, shown

Finish = Callable[[Any], Any]


@struct.dataclass
class FamilyParams(environment.EnvParams):
    """Params of a family.

    Attributes:
        inner: Those of the task, from which an episode's differ by what varies.
        low: Of each value that varies, float32 [C].
        high: Likewise.
        max_steps_in_episode: The task's time limit.
    """

    inner: Any = None
    low: Any = None
    high: Any = None
    max_steps_in_episode: int | jax.Array = 0


@struct.dataclass
class FamilyState(environment.EnvState):
    """The task's state and the values of its params.

    Attributes:
        inner: The task's own.
        values: As they are seen, in [-1, 1], float32 [C].
        time: Steps since the reset, int32.
    """

    inner: Any
    values: jax.Array
    time: jax.Array


class TaskFamily(Wrapper):
    """A task whose params are drawn for every episode and are part of what is seen.

    Observations are the task's, followed by one number for each value that varies: -1
    at the low end of its range, 1 at the high end. It is domain randomisation for an
    agent that sees the domain, and what an environment for a whole family is evolved
    on: `jaxrl_se.member` makes that of one task from it. `envs.family` builds the pair.

    Args:
        env: Environment whose observations are vectors.
        names: Numbers among the task's params, which vary.
        finish: `(params) -> params` for what follows from them, such as a product that
            the task's params hold beside its factors; pure JAX.

    Raises:
        ValueError: Observations are no vectors.

    Example:
        >>> import envs
        >>> env, params = envs.family("Pendulum-v1", {"m": (0.5, 1.5), "l": (0.5, 1.5)})
        >>> env.observation_space(params).shape
        (5,)
    """

    def __init__(self, env: Any, names: tuple[str, ...], finish: Finish | None = None):
        check_env(env)
        Function("(params) -> params", optional=True).check("finish", finish)
        super().__init__(env, (tuple(names), finish))
        self._names, self._finish = tuple(names), finish
        shape = env.observation_space(env.default_params).shape
        if len(shape) != 1:
            raise ValueError(
                f"env must have observations that are vectors, got shape {shape}; see "
                "envs.flat_observations"
            )

    @property
    def name(self) -> str:
        """The task's name and what varies."""
        return f"{self._env.name}-family-{'-'.join(self._names)}"

    @property
    def names(self) -> tuple[str, ...]:
        """The params that vary, in the order in which they are seen."""
        return self._names

    @property
    def default_params(self) -> FamilyParams:
        """The task's, with ranges of half to one and a half times each value."""
        inner = self._env.default_params
        ranges = {}
        for name in self._names:
            value = float(getattr(inner, name))
            ranges[name] = sorted((0.5 * value, 1.5 * value))
        return params_of(inner, ranges)

    def member_params(self, params: FamilyParams, unit: jax.Array) -> Any:
        """Params of the task.

        Args:
            params: Those of the family.
            unit: The values as they are seen, [-1, 1], float32 [C].
        """
        values = params.low + (unit + 1) / 2 * (params.high - params.low)
        inner = params.inner.replace(
            **{name: values[place] for place, name in enumerate(self._names)}
        )
        return inner if self._finish is None else self._finish(inner)

    def seen(self, params: FamilyParams, values: Mapping[str, float]) -> jax.Array:
        """Values of the task's params as they are seen, float32 [C].

        Args:
            params: Those of the family.
            values: All that vary, by name; ends of the ranges may be passed.

        Raises:
            ValueError: The names are not those that vary.
        """
        if set(values) != set(self._names):
            raise ValueError(
                f"values must be of {', '.join(self._names)}, got {shown(values)}"
            )
        for name in self._names:
            number = values[name]
            if isinstance(number, float | int) and not np.isfinite(number):
                raise ValueError(f"values[{name!r}] must be finite, got {number}")
        given = jnp.asarray([values[name] for name in self._names], jnp.float32)
        return 2 * (given - params.low) / (params.high - params.low) - 1

    def inner_params(self, params: FamilyParams) -> Any:
        """The task's without variation."""
        return params.inner

    def inner_state(self, state: FamilyState) -> Any:
        """The task's."""
        return state.inner

    def observation_space(self, params: Any = None) -> Any:
        """The task's, then the values in [-1, 1]."""
        space = super().observation_space(params)
        ends = [
            np.broadcast_to(np.asarray(end, np.float32), space.shape)
            for end in (space.low, space.high)
        ]
        one = np.ones(len(self._names), np.float32)
        low, high = (
            np.concatenate([end, sign * one])
            for end, sign in zip(ends, (-1, 1), strict=True)
        )
        return spaces.Box(low, high, low.shape, jnp.float32)  # type: ignore

    def reset_env(self, key: jax.Array, params: FamilyParams):
        """Draws a task, uniformly, and resets it."""
        key_values, key_reset = jax.random.split(key)
        unit = jax.random.uniform(key_values, (len(self._names),), minval=-1.0)
        obs, inner = self._env.reset_env(key_reset, self.member_params(params, unit))
        return self._show(obs, unit), FamilyState(
            inner=inner, values=unit, time=jnp.int32(0)
        )

    def step_env(self, key, state: FamilyState, action, params: FamilyParams):
        """Steps the episode's task."""
        member = self.member_params(params, state.values)
        obs, inner, reward, terminated, info = self._env.step_env(
            key, state.inner, action, member
        )
        state = dataclasses.replace(state, inner=inner, time=state.time + 1)
        return self._show(obs, state.values), state, reward, terminated, info

    def observe(self, key, state: FamilyState, action, params: FamilyParams):
        """The task's observation and the values."""
        member = self.member_params(params, state.values)
        obs = self._env.observe(key, state.inner, action, member)
        return self._show(obs, state.values)

    def is_terminated(self, state: FamilyState, params: FamilyParams):
        """Whether the episode's task has terminated."""
        member = self.member_params(params, state.values)
        return self._env.is_terminated(state.inner, member)

    def is_truncated(self, state: FamilyState, params: FamilyParams):
        """Whether the episode has reached the time limit."""
        inner = self._env.is_truncated(
            state.inner, self.member_params(params, state.values)
        )
        return inner | (state.time >= params.max_steps_in_episode)

    @staticmethod
    def _show(obs: jax.Array, unit: jax.Array) -> jax.Array:
        return jnp.concatenate([obs.astype(jnp.float32), unit])


def params_of(inner: Any, ranges: Mapping[str, Any]) -> FamilyParams:
    """Params of a family around those of a task."""
    ends = np.asarray([ranges[name] for name in ranges], np.float32).reshape(-1, 2)
    return FamilyParams(
        inner=inner,
        low=jnp.asarray(ends[:, 0]),
        high=jnp.asarray(ends[:, 1]),
        max_steps_in_episode=getattr(inner, "max_steps_in_episode", 2**30),
    )


def family(
    task: Any, ranges: Mapping[str, Any], *, finish: Finish | None = None
) -> tuple[TaskFamily, FamilyParams]:
    """A family of tasks as one gymnax pair.

    Args:
        task: A gymnax pair `(env, params)` or a name.
        ranges: Low and high of each number among the params that varies, by name.
        finish: As for `TaskFamily`.

    Raises:
        ValueError: The params have no such numbers, or a range is none.
        TypeError: The task is no pair with params.

    Example:
        >>> env, params = family("Pendulum-v1", {"g": (5, 15)})
        >>> obs, state = env.reset(jax.random.key(0), params)
        >>> obs.shape
        (4,)
    """
    env, params = pair_of(task)
    if not dataclasses.is_dataclass(params):
        raise TypeError(
            "task must be a gymnax pair (env, params) or a name, whose params have "
            f"numbers to vary, got {shown(task)}"
        )
    if not isinstance(ranges, Mapping) or not ranges:
        raise ValueError(
            "ranges must be low and high of params by name, such as "
            f"{{'gravity': (5, 15)}}, got {shown(ranges)}"
        )
    numbers = _numbers(params)
    for name, ends in ranges.items():
        if name not in numbers:
            raise ValueError(
                "ranges must name numbers among the task's params "
                f"({', '.join(numbers)}), got {name!r}"
            )
        try:
            low, high = (float(end) for end in ends)
            is_range = np.isfinite([low, high]).all() and low < high
        except (TypeError, ValueError):
            is_range = False
        if not is_range:
            raise ValueError(
                f"ranges[{name!r}] must be two finite numbers, low below high, got "
                f"{shown(ends)}"
            )
    return TaskFamily(env, tuple(ranges), finish), params_of(params, ranges)


def _numbers(params: Any) -> list[str]:
    """Names of the fields that are single floating-point numbers."""
    found = []
    for field in dataclasses.fields(params):
        value = getattr(params, field.name)
        if isinstance(value, float) or (
            hasattr(value, "dtype")
            and jnp.issubdtype(value.dtype, jnp.floating)
            and np.shape(value) == ()
        ):
            found.append(field.name)
    return found
