"""Intrinsic rewards: what an agent pays itself for going where it has not been."""

from __future__ import annotations

from typing import Any, Protocol

import jax

from envs.spaces import Spaces
from jaxrl_runs.values import Like
from jaxrl_se.agents.replay import Batch

BONUS = Like("a bonus, such as jaxrl_se.RND()", ("check", "init", "update", "rewards"))


class Bonus(Protocol):
    """An intrinsic reward as pure functions of transitions and of what it learns.

    Implementations are frozen `flax.struct` dataclasses of hyperparameters, as agents
    are. The actions of the batches that they see are one-hot for discrete actions and
    in [-1, 1] for continuous ones, whichever agent took them; the rewards are the
    environment's. Rows with `batch.mask` 0 are padding and teach nothing.
    """

    def check(self, spaces: Spaces) -> None:
        """Raises ValueError if it cannot be paid in these spaces."""
        ...

    def init(self, spaces: Spaces, key: jax.Array) -> Any:
        """Draws its state: networks, optimiser states, running statistics."""
        ...

    def update(self, spaces: Spaces, state: Any, batch: Batch) -> Any:
        """The state after one gradient step on a minibatch."""
        ...

    def rewards(
        self, spaces: Spaces, state: Any, batch: Batch
    ) -> tuple[Any, jax.Array]:
        """The state with its running statistics, and the bonus of each row, `[B]`."""
        ...
