"""Hyperparameters drawn anew for every agent, inside one compiled program."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces
from jaxrl_runs import values
from jaxrl_runs.keywords import hint
from jaxrl_runs.values import (
    ANY_NUMBER,
    FLAG,
    POSITIVE,
    REQUIRED,
    Like,
    TupleOf,
    setting,
)
from jaxrl_se.agents.agent import Agent
from jaxrl_se.agents.off_policy import Variation
from jaxrl_se.networks import NetworkShape, Weights

_VARIABLE = Like("an agent, such as jaxrl_se.PPO(), or a bonus", ("check", "replace"))
_SIZES = ("width", "depth", "batch_size")


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """Log-uniform between two positive numbers.

    Attributes:
      low: Lower end.
      high: Upper end; can itself be drawn where `integer` is set.
      integer: Whether to draw whole numbers.
    """

    low: float = setting(REQUIRED, POSITIVE)
    high: float = setting(REQUIRED, POSITIVE)
    integer: bool = setting(False, FLAG)

    def __post_init__(self):
        values.check(self)
        if not self.low <= self.high:
            raise ValueError(
                f"low and high must satisfy low <= high, got {self.low}, {self.high}"
            )

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws a float32 or int32 scalar."""
        high = self.high + 1 if self.integer else self.high
        low, high = math.log(self.low), math.log(high)
        value = jnp.exp(jax.random.uniform(key, (), jnp.float32, low, high))
        if not self.integer:
            return value
        return jnp.clip(jnp.floor(value), self.low, self.high).astype(jnp.int32)

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value."""
        return self.low, self.high


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Uniform between two numbers.

    Attributes:
      low: Lower end.
      high: Upper end.
    """

    low: float = setting(REQUIRED, ANY_NUMBER)
    high: float = setting(REQUIRED, ANY_NUMBER)

    def __post_init__(self):
        values.check(self)
        if not self.low <= self.high:
            raise ValueError(
                f"low and high must satisfy low <= high, got {self.low}, {self.high}"
            )

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws a float32 scalar."""
        return jax.random.uniform(key, (), jnp.float32, self.low, self.high)

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value."""
        return self.low, self.high


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several values, each as likely.

    Attributes:
      values: Numbers or booleans.
    """

    values: tuple[Any, ...]

    def __post_init__(self):
        TupleOf(ANY_NUMBER, min_size=1).check(
            "Choice.values",
            tuple(int(v) if isinstance(v, bool) else v for v in self.values)
            if isinstance(self.values, tuple)
            else self.values,
        )

    def sample(self, key: jax.Array) -> jax.Array:
        """Draws a scalar of the values' type."""
        choices = jnp.asarray(self.values)
        return choices[jax.random.randint(key, (), 0, len(self.values))]

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value."""
        return min(self.values), max(self.values)


@struct.dataclass
class Varied(Agent):
    """An agent whose hyperparameters are drawn anew for every training run.

    It is an agent itself: whatever trains agents trains it. Members of a group, which
    share their key, share the draw.

    Attributes:
      agent: The agent whose fields are replaced; its sizes are the padded maxima.
      ranges: Static pairs of a field's name and its distribution. Besides the agent's
        traced fields there are `width` and `depth` of its hidden layers and
        `batch_size`, which need not exceed the agent's own.
    """

    agent: Any
    ranges: tuple[tuple[str, Any], ...] = struct.field(pytree_node=False)

    @classmethod
    def of(cls, agent: Any, **ranges: Any) -> Varied:
        """Checks the ranges against the agent.

        Args:
          agent: An agent with one hidden width, repeated.
          **ranges: A `LogUniform`, `Uniform` or `Choice` by field name, or by `width`,
            `depth` or `batch_size`.

        Raises:
          ValueError: A field that the agent has not or that is static, a range that is
            no distribution, or one that does not fit in the padded sizes.
        """
        _VARIABLE.check("agent", agent)
        values.check(agent)
        fields = {field.name: field for field in dataclasses.fields(agent)}
        rules = values.rules(agent)
        for name, distribution in ranges.items():
            if not isinstance(distribution, LogUniform | Uniform | Choice):
                raise ValueError(
                    f"{name}: its range must be a LogUniform(low, high), a "
                    f"Uniform(low, high) or a Choice(values), got {distribution!r}"
                )
            if name in _SIZES:
                _check_size(agent, name, distribution)
            elif name not in fields:
                raise ValueError(
                    f"{name}: {type(agent).__name__} has no such hyperparameter"
                    f"{hint(name, [*fields, *_SIZES])}"
                )
            elif not fields[name].metadata.get("pytree_node", True):
                raise ValueError(
                    f"{name}: fixes the shapes of {type(agent).__name__} and cannot "
                    f"vary; what can: {', '.join(_SIZES)} and its traced numbers"
                )
            elif name in rules:
                for bound in distribution.bounds:
                    rules[name].check(f"{name}: its range's ends", bound)
        return cls(agent, tuple(sorted(ranges.items())))

    def draw(self, key: jax.Array) -> Any:
        """The agent with freshly drawn hyperparameters."""
        keys = jax.random.split(key, len(self.ranges))
        drawn = {
            name: distribution.sample(k)
            for k, (name, distribution) in zip(keys, self.ranges, strict=True)
        }
        sizes = {name: drawn.pop(name) for name in _SIZES if name in drawn}
        if sizes:
            agent = self.agent
            shape = NetworkShape(
                sizes.get("width", agent.hidden_sizes[0]),
                sizes.get("depth", len(agent.hidden_sizes)),
            )
            batch_size = sizes.get("batch_size", getattr(agent, "batch_size", None))
            drawn["variation"] = Variation(shape, batch_size)
        return self.agent.replace(**drawn)

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if the agent cannot learn in these spaces."""
        self.draw(jax.random.key(0)).check(spaces)

    def policy_weights(self, spaces: Spaces, state: Any) -> Weights:
        """The agent's."""
        return self.agent.policy_weights(spaces, state)

    def policy(self, spaces: Spaces, weights: Weights) -> Any:
        """The agent's test policy; traced sizes are part of the weights."""
        return self.agent.policy(spaces, weights)

    @property
    def num_envs(self) -> int:
        """The agent's."""
        return self.agent.num_envs

    @property
    def rollout_steps(self) -> int:
        """The agent's."""
        return self.agent.rollout_steps

    def prepare(self, key: jax.Array) -> tuple[Any, jax.Array]:
        """The agent with freshly drawn hyperparameters, and the key of its training."""
        key_draw, key_train = jax.random.split(key)
        return self.draw(key_draw), key_train


def vary_like_ferreira2022(agent: Any) -> Varied:
    """Learning rate, minibatch, width and depth around the agent's own (their 4.1).

    Learning rate, minibatch and width are log-uniform between a third and three times
    the agent's, the depth one less, the same or one more. One hidden layer is the
    least: their 0 and 1 build the same network, so 1 is twice as likely then.
    """
    width, depth = agent.hidden_sizes[0], len(agent.hidden_sizes)
    padded = agent.replace(hidden_sizes=(3 * width,) * (depth + 1))
    ranges: dict[str, Any] = {
        "learning_rate": LogUniform(agent.learning_rate / 3, 3 * agent.learning_rate),
        "width": LogUniform(max(width // 3, 1), 3 * width, True),
        "depth": Choice((max(depth - 1, 1), depth, depth + 1)),
    }
    if hasattr(agent, "batch_size"):
        size = agent.batch_size
        padded = padded.replace(batch_size=3 * size)
        ranges["batch_size"] = LogUniform(max(size // 3, 1), 3 * size, True)
    return Varied.of(padded, **ranges)


def _check_size(agent: Any, name: str, distribution: Any) -> None:
    low, high = distribution.bounds
    if name == "batch_size" and not hasattr(agent, name):
        raise ValueError(
            f"batch_size: {type(agent).__name__} has none; the minibatches of PPO are "
            "a fixed part of an iteration's num_envs * rollout_steps"
        )
    if name == "batch_size":
        largest = agent.batch_size
    elif len(set(agent.hidden_sizes)) != 1:
        raise ValueError(
            f"{name} varies only where the agent's hidden_sizes are one width, "
            f"repeated, got {agent.hidden_sizes}"
        )
    else:
        largest = agent.hidden_sizes[0] if name == "width" else len(agent.hidden_sizes)
    if low < 1 or high > largest:
        raise ValueError(
            f"{name}: its range [{low}, {high}] must lie between 1 and the agent's own "
            f"{largest}, which is what the arrays are padded to"
        )
