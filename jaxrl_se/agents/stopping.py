"""When training ends before its budget: rules on the returns of training episodes."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl_runs.values import (
    ANY_NUMBER,
    FLAG,
    MANY,
    POSITIVE,
    REQUIRED,
    STEPS,
    Like,
    static,
    traced,
)

STOP = Like(
    "a stop rule, such as jaxrl_se.Plateau()",
    ("init", "update", "fired"),
    optional=True,
)


class StopRule(Protocol):
    """A rule as pure functions of the training episodes' returns."""

    def init(self) -> Any:
        """The state before the first step."""
        ...

    def update(self, state: Any, total: jax.Array, done: jax.Array) -> Any:
        """The state after a step: the episode's return so far and whether it ended."""
        ...

    def fired(self, state: Any) -> jax.Array:
        """Whether training ends."""
        ...


@struct.dataclass
class _Window:
    """The last returns, newest first, and the number of episodes."""

    returns: jax.Array
    episodes: jax.Array

    @classmethod
    def empty(cls, size: int) -> _Window:
        return cls(jnp.zeros(size, jnp.float32), jnp.int32(0))

    def push(self, total: jax.Array, done: jax.Array) -> _Window:
        shifted = jnp.concatenate([total[None], self.returns[:-1]])
        returns = jnp.where(done, shifted, self.returns)
        return _Window(returns, self.episodes + done)


@struct.dataclass
class Solved:
    """Ends when the mean return of the last training episodes reaches a threshold.

    Attributes:
      threshold: The solved return.
      min_episodes: Episodes before which it never ends.
      window: Static; episodes in the mean.
    """

    threshold: float = traced(REQUIRED, ANY_NUMBER)
    min_episodes: int = traced(10, STEPS)
    window: int = static(10, MANY)

    def init(self) -> _Window:
        """See `StopRule`."""
        return _Window.empty(self.window)

    def update(self, state: _Window, total, done) -> _Window:
        """See `StopRule`."""
        return state.push(total, done)

    def fired(self, state: _Window) -> jax.Array:
        """See `StopRule`."""
        enough = state.episodes >= jnp.maximum(self.min_episodes, self.window)
        return enough & (jnp.mean(state.returns) >= self.threshold)


@struct.dataclass
class Plateau:
    """Ends when the mean returns of two consecutive windows hardly differ.

    With A the mean return of the last `window` episodes and B that of the ones before,
    training ends when |A - B| < tolerance * |B| (Ferreira et al., 2022).

    Attributes:
      tolerance: Largest relative difference.
      min_episodes: Episodes before which it never ends.
      window: Static; episodes in each mean.
      full_windows: Static; whether both windows have to be full. If not, B is a mean of
        as many as there are, at least one, as in the code of Ferreira et al.
    """

    tolerance: float = traced(0.01, POSITIVE)
    min_episodes: int = traced(20, STEPS)
    window: int = static(10, MANY)
    full_windows: bool = static(True, FLAG)

    def init(self) -> _Window:
        """See `StopRule`."""
        return _Window.empty(2 * self.window)

    def update(self, state: _Window, total, done) -> _Window:
        """See `StopRule`."""
        return state.push(total, done)

    def fired(self, state: _Window) -> jax.Array:
        """See `StopRule`."""
        new = jnp.mean(state.returns[: self.window])
        num_old = jnp.clip(state.episodes - self.window, 1, self.window)
        old = jnp.sum(state.returns[self.window :]) / num_old
        least = 2 * self.window if self.full_windows else self.window + 1
        enough = state.episodes >= jnp.maximum(self.min_episodes, least)
        close = jnp.abs(new - old) / (jnp.abs(old) + 1e-9) < self.tolerance
        return enough & close
