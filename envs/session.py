"""An engine in use: made when it is needed, timed, and left when it hangs."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from envs.engines import Engine, Outcome
from envs.moments import Moments
from envs.obs_checks import ObsWatch


@dataclasses.dataclass
class Cost:
    """What playing outside JAX took, as wall time.

    Attributes:
      engine_seconds: In the engine: its making, resets and steps.
      policy_seconds: In policies.
      steps: Steps of environments.
    """

    engine_seconds: float = 0.0
    policy_seconds: float = 0.0
    steps: int = 0

    @property
    def engine_share(self) -> float:
        """Share of the time that the engine took; NaN before anything was played."""
        seconds = self.engine_seconds + self.policy_seconds
        return self.engine_seconds / seconds if seconds else float("nan")

    @property
    def steps_per_second(self) -> float:
        """Steps per second of both; NaN before anything was played."""
        seconds = self.engine_seconds + self.policy_seconds
        return self.steps / seconds if seconds else float("nan")

    def __str__(self) -> str:
        return (
            f"{self.steps:,} steps at {self.steps_per_second:,.0f} per second, "
            f"{self.engine_share:.0%} of the time in the engine"
        )


class Session:
    """The engine of a task outside JAX.

    Args:
      name: The task's name, for messages.
      make: Makes an engine of so many lanes.
      max_envs: The most lanes; fewer are made where fewer are asked for.
      is_fixed: Whether the engine always has that many lanes.
      timeout: Seconds that a reset or a step of all lanes may take, or None.

    Attributes:
      cost: What it has cost so far.
      faults: What went wrong when it was last used.
      seen: The observations that policies acted on when it was last played.
      on_steps: Called with the cost after every step.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[int], Engine],
        max_envs: int,
        *,
        is_fixed: bool = False,
        timeout: float | None = None,
    ):
        self.name, self.max_envs, self.is_fixed = name, max_envs, is_fixed
        self.timeout = timeout
        self.cost = Cost()
        self.faults: list[Any] = []
        self.seen = Moments()
        self._watch: ObsWatch | None = None
        self.on_steps: Callable[[Cost], Any] = lambda cost: None
        self._make = make
        self._engine: Engine | None = None
        self._thread: _Thread | None = None

    def engine(self, num_envs: int) -> Engine:
        """An engine of so many lanes, or of `max_envs` if that is less or fixed."""
        num_envs = self.max_envs if self.is_fixed else min(num_envs, self.max_envs)
        if self._engine is None or self._engine.num_envs != num_envs:
            self.close()
            self._engine = self.call(self._make, num_envs, timed=False)
        assert self._engine is not None
        return self._engine

    def call(self, function: Callable[..., Any], *args: Any, timed: bool = True) -> Any:
        """Calls the engine, always from the same thread.

        Raises:
          TimeoutError: It took longer than `timeout`, if it is `timed`. The engine is
            left to itself, and a new one is made when it is needed again.
        """
        self._thread = self._thread or _Thread()
        start = time.perf_counter()
        try:
            return self._thread.call(function, args, self.timeout if timed else None)
        except _NoAnswer:
            lanes = [] if self._engine is None else self._engine.busy()
            which = f"its lane {lanes[0]}" if lanes else "its engine"
            self._engine = self._thread = None
            raise TimeoutError(
                f"task {self.name!r}: {which} gave no answer within {self.timeout} s; "
                "for slower environments, envs.external(..., timeout=...)"
            ) from None
        finally:
            self.cost.engine_seconds += time.perf_counter() - start

    def reset(self, seeds: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        """Resets the engine's first lanes with these seeds, the others somehow."""
        assert self._engine is not None
        spare = self._engine.num_envs - len(seeds)
        everyone = np.concatenate([seeds, np.arange(spare, dtype=seeds.dtype)])
        obs, faults = self.call(self._engine.reset, everyone)
        return obs[: len(seeds)], {i: x for i, x in faults.items() if i < len(seeds)}

    def restart(
        self, lanes: np.ndarray, seeds: np.ndarray
    ) -> tuple[np.ndarray, dict[int, str]]:
        """Begins episodes in these lanes `[K]`; see `VectorEngine.restart`."""
        return self.call(self._engine.restart, lanes, seeds)  # type: ignore

    def choose(self, choose: Callable[..., np.ndarray], obs: Any, time_: int) -> Any:
        """Calls a policy; its time is counted."""
        start = time.perf_counter()
        actions = choose(obs, time_)
        self.cost.policy_seconds += time.perf_counter() - start
        return actions

    def step(self, actions: np.ndarray, active: np.ndarray) -> Outcome:
        """Steps the engine's first lanes."""
        assert self._engine is not None
        number = len(actions)
        spare = self._engine.num_envs - number
        if spare:
            actions = np.concatenate([actions, np.repeat(actions[:1], spare, axis=0)])
            active = np.concatenate([active, np.zeros(spare, bool)])
        outcome = self.call(self._engine.step, actions, active)
        self.cost.steps += int(active.sum())
        self.on_steps(self.cost)
        if not spare:
            return outcome
        return Outcome(
            obs=outcome.obs[:number],
            reward=outcome.reward[:number],
            terminated=outcome.terminated[:number],
            truncated=outcome.truncated[:number],
            faults={i: x for i, x in outcome.faults.items() if i < number},
        )

    def look(self, obs: np.ndarray) -> None:
        """Warns, once, where observations leave the engine's space."""
        if self._watch is None and self._engine is not None:
            self._watch = ObsWatch(self._engine.observation_space, self.name)
        if self._watch is not None:
            self._watch.look(obs)

    def close(self) -> None:
        """Closes the engine if there is one; another is made when it is needed."""
        if self._engine is not None:
            self.call(self._engine.close)
            self._engine = None


class _NoAnswer(Exception):
    pass


class _Thread:
    """One thread for all calls, which does not keep the process from ending."""

    def __init__(self):
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        self._answers: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            function, args = self._calls.get()
            try:
                self._answers.put((True, function(*args)))
            except BaseException as error:
                self._answers.put((False, error))
            del function, args

    def call(self, function: Callable[..., Any], args: tuple, timeout: float | None):
        self._calls.put((function, args))
        try:
            succeeded, answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise _NoAnswer from None
        if not succeeded:
            raise answer
        return answer
