"""Training that one holds in one's hands: `start` gives a state, `advance` goes on.

The bits do not depend on where a training is cut, and a state is a pytree: it can be
kept, saved and gone on from.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces
from envs.task import as_pair, split_arguments
from jaxrl_runs.compilation import quick_jit
from jaxrl_runs.values import COUNT, REQUIRED, Like, as_key
from jaxrl_se.agents.agent import AGENT, Agent, check_agent
from jaxrl_se.agents.stopping import StopRule
from jaxrl_se.rounds import (
    TrainState,
    begin,
    check_rounds,
    check_training,
    proceed,
    rounded_up,
)
from jaxrl_se.task_tests import TaskTest

STATE = Like("a TrainState, which start and advance give", kinds=(TrainState,))


@struct.dataclass
class Metrics:
    """What happened in one call of `advance`.

    Attributes:
      steps: int32, environment steps taken, fewer than asked for where a rule fired.
      episodes: int32, episodes finished.
      episode_return: float32, mean return of these episodes, NaN without any.
      agent: What the agent says about itself, by name.
    """

    steps: jax.Array
    episodes: jax.Array
    episode_return: jax.Array
    agent: dict[str, jax.Array]


def start(
    agent: Agent,
    task: Any,
    *args: Any,
    num_snapshots: int = 1,
    stop: StopRule | None = None,
    test: TaskTest | None = None,
    **kwargs: Any,
) -> TrainState:
    """The beginning of a training run, to be taken further by `advance`.

    `start(agent, task, key, num_steps)`, or with a gymnax environment and its params
    `start(agent, env, params, key, num_steps)`, as in `jaxrl_se.train`.

    Args:
      agent: An algorithm with its hyperparameters.
      task: A gymnax pair `(env, params)`, a name for `envs.make`, an `envs.Task`; or a
        gymnax environment.
      *args: Its params, if `task` is a gymnax environment; a PRNG key or a seed; the
        environment steps of the whole training, which size buffers and learning
        curves; rounded up, with a warning, to whole rounds of the agent.
      num_snapshots: With the same key and number of snapshots `jaxrl_se.train` gives
        the same bits: the piece in which randomness is drawn divides the steps
        between them.
      stop: A rule that ends training earlier, or None.
      test: Tests on the real task, or None.
      **kwargs: What is in `args` by name: `params`, `key`, `num_steps`.

    Returns:
      A `TrainState`: a pytree of arrays (and of PRNG keys).

    Raises:
      ValueError: A value is out of its range, or the agent cannot learn in the
        environment's spaces.
      TypeError: An argument is missing or of another kind.
    """
    params, (key, num_steps) = split_arguments(
        "start",
        task,
        args,
        kwargs,
        {"key": REQUIRED, "num_steps": REQUIRED},
        ("agent", "num_snapshots", "stop", "test"),
    )
    env, params = as_pair(task, params)
    check_training(num_steps, num_snapshots, stop, test)
    spaces = Spaces.of(env, params)
    check_agent(agent, spaces)
    num_steps = rounded_up(agent, num_steps, num_snapshots, test)
    key = jax.random.split(as_key(key), 1)[0]  # as `train` does for its agents
    return begin_jitted(
        agent, params, key, stop, test, env, spaces, num_steps, num_snapshots
    )


def advance(
    agent: Agent,
    task: Any,
    *args: Any,
    stop: StopRule | None = None,
    test: TaskTest | None = None,
    **kwargs: Any,
) -> tuple[TrainState, Metrics]:
    """Takes a training run further, compiled once for any `num_steps`.

    `advance(agent, task, state, num_steps)`, or with a gymnax environment and its
    params `advance(agent, env, params, state, num_steps)`.

    Advancing twice by 500 steps gives the bits of advancing once by 1,000. A state can
    be kept and advanced again, with the same result.

    Args:
      agent: The agent that `start` was given; numbers among its hyperparameters may
        have changed since, unless they are drawn (`Varied`).
      task: What `start` was given.
      *args: Its params, if `task` is a gymnax environment; where the run is, a
        `TrainState`; and the steps to take, over all of the agent's environments.
      stop: The stop rule that `start` was given.
      test: The tests that `start` was given.
      **kwargs: What is in `args` by name: `params`, `state`, `num_steps`.

    Returns:
      The state afterwards and `Metrics` of these steps.

    Raises:
      ValueError: `num_steps` is no multiple of the agent's rounds, or a rule or test
        was not there at the start.
    """
    if args and isinstance(args[0], TrainState):
        args = (None, *args)  # A state is no key, by which params are told.
    params, (state, num_steps) = split_arguments(
        "advance", task, args, kwargs, {"state": REQUIRED, "num_steps": REQUIRED}
    )
    env, params = as_pair(task, params)
    AGENT.check("agent", agent)
    COUNT.check("num_steps", num_steps)
    STATE.check("state", state)
    check_rounds(agent, num_steps)
    for name, rule, has in (
        ("stop", stop, state.stopping),
        ("test", test, state.tests),
    ):
        if (rule is None) != (has is None):
            raise ValueError(
                f"{name} must be what start was given, which was "
                f"{'none' if has is None else 'one'}, got {rule!r}"
            )
    running = agent if state.drawn is None else state.drawn
    round_steps = running.num_envs * running.rollout_steps
    num_rounds = num_steps // round_steps if round_steps else 0
    return _advance(agent, params, state, stop, test, num_rounds, env)


@partial(quick_jit, static_argnames=("env", "spaces", "num_steps", "num_snapshots"))
def begin_jitted(agent, params, key, stop, test, env, spaces, num_steps, num_snapshots):
    """`jaxrl_se.rounds.begin` with arguments that have been checked."""
    state = begin(
        agent,
        env,
        params,
        key,
        spaces=spaces,
        num_steps=num_steps,
        num_snapshots=num_snapshots,
        stop=stop,
        test=test,
    )
    return jax.tree.map(_strong, state)


def _strong(leaf: Any) -> jax.Array:
    """Without a weak type.

    An environment's state may begin with some; none that was advanced or loaded has
    any, and `advance` would be compiled for both.
    """
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return jax.lax.convert_element_type(leaf, leaf.dtype)


@partial(jax.jit, static_argnames="env")
def _advance(agent, params, state, stop, test, num_rounds, env):
    state = state.replace(finished_return=jnp.float32(0.0))
    after = proceed(agent, env, params, state, num_rounds, stop=stop, test=test)
    return after, _metrics(agent, state, after)


def _metrics(agent: Agent, before: TrainState, after: TrainState) -> Metrics:
    """What happened between two states of one run."""
    agent = agent if after.drawn is None else after.drawn
    episodes = after.episodes - before.episodes
    return Metrics(
        steps=after.steps - before.steps,
        episodes=episodes,
        episode_return=after.finished_return / episodes,
        agent=agent.metrics(after.spaces, after.agent),
    )
