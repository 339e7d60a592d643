"""Environments outside JAX that go on: whichever ends an episode begins another."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.engines import Outcome
from envs.outside import for_space
from envs.session import Session


class Ongoing:
    """N lanes of a task outside JAX, for agents that train in it.

    Every lane has a stream of seeds of its own, so that what it shows does not depend
    on when others end their episodes.

    Args:
      session: The engine, which is left at the end of this one's use as it is.
      space: The action space.
      seeds: Integers `[N]`, of the lanes' streams; those of the same seed begin the
        same episodes.
      limit: Steps after which an episode is truncated, in addition to the task's own
        limit; None for no other.

    Attributes:
      obs: `[N, ...]`, what the lanes show now.

    Raises:
      TypeError: The engine cannot begin an episode in one lane alone.
      ValueError: It has not so many lanes.
    """

    def __init__(
        self,
        session: Session,
        space: Any,
        seeds: np.ndarray,
        limit: int | None = None,
    ):
        num_lanes = len(seeds)
        engine = session.engine(num_lanes)
        if engine.num_envs < num_lanes:
            raise ValueError(
                f"num_envs of task {session.name!r} must be at least {num_lanes} to "
                f"train in, got {engine.num_envs}"
            )
        if not getattr(engine, "restarts", False):
            raise TypeError(
                f"task {session.name!r} must be an id or a function that makes an "
                f"environment to be trained in, got a {type(engine).__name__}, which "
                "cannot begin an episode in one lane alone"
            )
        self._session, self._space, self._limit = session, space, limit
        self._streams = [np.random.default_rng(int(seed)) for seed in seeds]
        self._time = np.zeros(num_lanes, np.int64)
        obs, faults = session.reset(self._seeds(np.arange(num_lanes)))
        self.obs = self._valid("reset", obs, faults)

    def step(self, actions: np.ndarray) -> Outcome:
        """Steps all lanes.

        Args:
          actions: `[N, ...]` as policies give them: discrete ones count from 0.

        Returns:
          What the actions led to, also where that ends an episode; `obs` shows the
          beginning of the next one there.

        Raises:
          RuntimeError: An environment raised, or gave NaN: training cannot leave a step
            out.
        """
        everyone = np.ones(len(self._time), bool)
        rows = for_space(np.asarray(actions), self._space)
        outcome = self._session.step(rows, everyone)
        self._valid("step", outcome.obs, outcome.faults)
        self._valid("step", outcome.reward, {})
        self._time += 1
        if self._limit is not None:
            over_limit = self._time >= self._limit
            outcome.truncated = outcome.truncated | (over_limit & ~outcome.terminated)
        over = np.flatnonzero(outcome.terminated | outcome.truncated)
        self.obs = outcome.obs
        if len(over):
            obs, faults = self._session.restart(over, self._seeds(over))
            self.obs = outcome.obs.copy()
            self.obs[over] = self._valid("reset", obs[over], faults)
            self._time[over] = 0
        return outcome

    def _seeds(self, lanes: np.ndarray) -> np.ndarray:
        return np.array([self._streams[i].integers(2**31) for i in lanes], np.int64)

    def _valid(self, what: str, values: np.ndarray, faults: dict[int, str]):
        """The values, unless an environment failed."""
        faults = {i: x for i, x in faults.items() if i < len(self._time)}
        if not faults and np.issubdtype(values.dtype, np.floating):
            flat = np.isnan(values.reshape(len(values), -1)).any(axis=1)
            faults = {int(i): f"{what} gave NaN" for i in np.flatnonzero(flat)}
        for lane, message in faults.items():
            raise RuntimeError(
                f"task {self._session.name!r}: lane {lane}: {message}; an agent that "
                "trains cannot leave a step out"
            )
        return values
