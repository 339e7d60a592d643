"""A training that is watched: pieces of it, each one jitted program, and a row of each.

Between two pieces Python has its turn; in them is what `train` computes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from envs.spaces import Spaces
from envs.task import as_pair
from jaxrl_runs.compilation import fits_steps, quick_jit
from jaxrl_runs.devices import map_agents
from jaxrl_runs.values import MANY, Flag, Function, Integer
from jaxrl_se.agents.agent import Agent
from jaxrl_se.agents.stopping import StopRule
from jaxrl_se.evaluation import play
from jaxrl_se.loop import advance, begin_jitted
from jaxrl_se.rounds import TrainState, proceed
from jaxrl_se.task_tests import TaskTest

_SECONDS_BEFORE_BAR = 3.0
_DEFAULT_ROWS = 20
ROW = Function("(row) -> None, such as jaxrl_se.sinks.CSVSink(path)", optional=True)
_TEST = 0x7E57  # folded from the training's key


@dataclasses.dataclass(frozen=True)
class Watch:
    """How a training is watched.

    Attributes:
      on_progress: Called with each row, or None.
      log_every: Environment steps between rows, rounded up to whole rounds of the
        agent; a twentieth of the training by default.
      test_task: Where the policy is tested at each row, whatever `envs.open_task` takes
        inside JAX; None for no tests.
      test_episodes: Test episodes of a row.
      progress: Whether to show a bar, which comes after three seconds.
    """

    on_progress: Callable[[dict[str, Any]], Any] | None = None
    log_every: int | None = None
    test_task: Any = None
    test_episodes: int = 10
    progress: bool | None = None

    @property
    def is_on(self) -> bool:
        """Whether there is anything to watch, and pieces to train in."""
        return self.on_progress is not None or bool(self.progress)

    def check(self, num_agents: int | None) -> None:
        """Raises ValueError for what cannot be watched."""
        ROW.check("on_progress", self.on_progress)
        Integer(optional=True).check("log_every", self.log_every)
        MANY.check("test_episodes", self.test_episodes)
        Flag(optional=True).check("progress", self.progress)
        if self.test_task is not None:
            as_pair(self.test_task, argument="test_task")
        if not self.is_on:
            given = "log_every" if self.log_every is not None else "test_task"
            if self.log_every is not None or self.test_task is not None:
                raise ValueError(f"{given} must come with on_progress, got none")
        elif num_agents is not None and self.on_progress is not None:
            raise ValueError(
                "on_progress must be left out where num_agents is given, got "
                f"num_agents={num_agents}; jaxrl_se.learning_curve is for several"
            )


def train_watched(
    agent: Agent,
    env: Any,
    params: Any,
    key: jax.Array,
    num_steps: int,
    watch: Watch,
    *,
    num_snapshots: int,
    stop: StopRule | None,
    test: TaskTest | None,
) -> tuple[Any, TrainState]:
    """Trains one agent in pieces.

    Returns:
      The policy's weights with a leading axis `[num_snapshots]`, and the last state.
    """
    rules: dict[str, Any] = {"stop": stop, "test": test}
    spaces = Spaces.of(env, params)
    state = begin_jitted(
        agent, params, key, stop, test, env, spaces, num_steps, num_snapshots
    )
    judge = _judge(agent, state.spaces, watch, jax.random.fold_in(key, _TEST))
    every = _piece(agent, watch.log_every or -(-num_steps // _DEFAULT_ROWS))
    snapshot_every = num_steps // num_snapshots
    kept, asked, began = [], 0, time.perf_counter()
    bar = Bar(num_steps, is_hidden=watch.progress is False)
    while asked < num_steps:
        next_row, next_snapshot = (
            (asked // size + 1) * size for size in (every, snapshot_every)
        )
        to = min(next_row, next_snapshot, num_steps)
        state, metrics = advance(agent, env, params, state, to - asked, **rules)
        asked = to
        if to == next_snapshot:
            kept.append(_weights(agent, state))
        if to in (next_row, num_steps):
            row = _row(state, metrics) | judge(state)
            row["seconds"] = time.perf_counter() - began
            bar.show(asked, row.get("test_return", row["episode_return"]))
            if watch.on_progress is not None:
                watch.on_progress(row)
        if int(metrics.steps) < 1 and agent.rollout_steps:  # A rule has ended it.
            break
    bar.close()
    kept += [_weights(agent, state)] * (num_snapshots - len(kept))
    return jax.tree.map(lambda *x: jnp.stack(x), *kept), state


def train_with_bar(
    agent: Agent,
    env: Any,
    params: Any,
    keys: jax.Array,
    num_steps: int,
    *,
    num_snapshots: int,
    stop: StopRule | None,
    test: TaskTest | None,
) -> tuple[Any, TrainState]:
    """Trains several agents at once in pieces, with a bar.

    Returns:
      Their weights with leading axes `[num_agents, num_snapshots]`, and last states.
    """
    spaces = Spaces.of(env, params)
    sizes: Any = (env, spaces, num_steps, num_snapshots)
    states = _begin_all(agent, params, keys, stop, test, *sizes)
    every = _piece(agent, -(-num_steps // _DEFAULT_ROWS))
    snapshot_every, kept, bar = num_steps // num_snapshots, [], Bar(num_steps)
    round_steps, asked = max(agent.num_envs * agent.rollout_steps, 1), 0
    advance = fits_steps(_advance_all, num_steps * len(keys))
    while asked < num_steps:
        next_snapshot = (asked // snapshot_every + 1) * snapshot_every
        to = min(asked + every, next_snapshot)
        num_rounds = (to - asked) // round_steps
        states, found = advance(agent, params, states, stop, test, num_rounds, env)
        asked = to
        if to == next_snapshot:
            kept.append(_weights_of_all(agent, states))
        returns = np.asarray(found)  # which waits for the piece
        is_known = not np.isnan(returns).all()
        bar.show(asked, float(np.nanmean(returns)) if is_known else float("nan"))
    bar.close()
    return jax.tree.map(lambda *x: jnp.stack(x, axis=1), *kept), states


@partial(quick_jit, static_argnames=("env", "spaces", "num_steps", "num_snapshots"))
def _begin_all(agent, params, keys, stop, test, env, spaces, num_steps, num_snapshots):
    sizes = (env, spaces, num_steps, num_snapshots)

    def one(key, agent, params, stop, test):
        return begin_jitted(agent, params, key, stop, test, *sizes)

    return map_agents(one, keys, agent, params, stop, test)


@partial(quick_jit, static_argnames="env")
def _advance_all(agent, params, states, stop, test, num_rounds, env):
    """The states, and the mean return of what episodes each agent has finished."""

    def one(state, agent, params, stop, test, num_rounds):
        before = state.replace(finished_return=jnp.float32(0.0))
        rules = {"stop": stop, "test": test}
        after = proceed(agent, env, params, before, num_rounds, **rules)
        number = after.episodes - before.episodes
        return after, after.finished_return / number

    # Agents that stop or test at different times are not worth vectorising on a CPU.
    batch_size = 1 if stop is not None or test is not None else None
    shared = agent, params, stop, test, num_rounds
    return map_agents(one, states, *shared, batch_size=batch_size)


@quick_jit
def _weights_of_all(agent: Agent, states: TrainState) -> Any:
    return jax.vmap(_weights, (None, 0))(agent, states)


def _piece(agent: Agent, num_steps: int) -> int:
    """Steps of whole rounds, at least these."""
    round_steps = max(agent.num_envs * agent.rollout_steps, 1)
    return -(-num_steps // round_steps) * round_steps


class Bar:
    """A progress bar that begins after the first piece, in which all is compiled.

    Args:
      num_steps: Steps of the whole training.
      is_hidden: Whether there is to be none.
    """

    def __init__(self, num_steps: int, is_hidden: bool = False):
        self._num_steps, self._is_hidden = num_steps, is_hidden
        self._began = time.perf_counter()
        self._bar: Any = None

    def show(self, steps: int, mean_return: float) -> None:
        """How far it is, and what episodes return."""
        if self._bar is None:
            left = _SECONDS_BEFORE_BAR - (time.perf_counter() - self._began)
            self._bar = tqdm(
                total=self._num_steps,
                initial=steps,
                unit="step",
                unit_scale=True,
                delay=max(left, 0.0),
                disable=self._is_hidden,
            )
        self._bar.update(steps - self._bar.n)
        if not np.isnan(mean_return):
            self._bar.set_postfix({"return": f"{mean_return:.4g}"})

    def close(self) -> None:
        """Ends it."""
        if self._bar is not None:
            self._bar.close()


def _weights(agent: Agent, state: TrainState) -> Any:
    agent = agent if state.drawn is None else state.drawn
    return agent.policy_weights(state.spaces, state.agent)


def _row(state: TrainState, metrics: Any) -> dict[str, Any]:
    """A row of a CSV file: numbers by name."""
    losses = {name: float(value) for name, value in metrics.agent.items()}
    return {
        "steps": int(state.steps),
        "episodes": int(state.episodes),
        "episode_return": float(metrics.episode_return),
        **losses,
    }


def _judge(
    agent: Agent, spaces: Spaces, watch: Watch, key: jax.Array
) -> Callable[[TrainState], dict[str, float]]:
    """The function that tests a state's policy on the second task."""
    if watch.test_task is None:
        return lambda state: {}
    env, params = as_pair(watch.test_task, argument="test_task")
    num_episodes = watch.test_episodes

    def judge(state):
        weights = _weights(agent, state)
        found = _test(agent, weights, params, key, env, spaces, num_episodes)
        return {"test_return": float(found)}

    return judge


@partial(quick_jit, static_argnames=("env", "spaces", "num_episodes"))
def _test(agent, weights, params, key, env, spaces, num_episodes):
    policy = agent.policy(spaces, weights)
    return jnp.mean(play(policy, env, params, key, num_episodes).returns)
