"""Training of agents in any gymnax environment, real or learned."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, overload

import jax
import numpy as np
from flax import struct
from jax.core import Tracer

from envs.spaces import Spaces
from envs.task import as_pair, split_arguments
from jaxrl_runs import values
from jaxrl_runs.compilation import fits_steps, quick_jit
from jaxrl_runs.devices import map_agents
from jaxrl_runs.values import MANY, REQUIRED, Integer, as_key
from jaxrl_se.agents.agent import AGENT, Agent, check_agent
from jaxrl_se.agents.stopping import StopRule
from jaxrl_se.networks import Weights
from jaxrl_se.not_finite import say_nan
from jaxrl_se.policies import HoldsPolicy
from jaxrl_se.reward_network import check_shaping
from jaxrl_se.rounds import begin, check_rounds, check_training, proceed, rounded_up
from jaxrl_se.task_tests import Record, TaskTest
from jaxrl_se.watched import Watch, train_watched, train_with_bar

Key = int | jax.Array


@struct.dataclass
class Trained:
    """What training leaves behind.

    Attributes:
      weights: The policy's weights with a leading `[num_snapshots]` axis.
      steps: int32, environment steps until the end, fewer than the budget if a stop
        rule fired.
      episodes: int32, episodes finished until then.
      tests: What tests on the real task gave along the way, if there were any.
    """

    weights: Weights
    steps: jax.Array
    episodes: jax.Array
    tests: Record | None = None


@struct.dataclass
class TrainResult(HoldsPolicy):
    """Trained agents.

    Attributes:
      policy: The policy at the end of training, a pytree callable `(obs, key) ->
        action`; with a leading `[num_agents]` axis if several were trained.
      snapshots: Policies along the way, with leading axes `[num_snapshots]` or
        `[num_agents, num_snapshots]`; the last equals `policy`.
      steps_taken: int32 array, scalar or `[num_agents]`: environment steps until the
        end of training, fewer than the budget where a stop rule fired.
      episodes: int32 array, likewise: episodes finished until then.
      steps: int array `[num_snapshots]`, environment steps at each snapshot.
      tests: With a `TaskTest`, its record: the learning curve on the real task and what
        it took.
      agent: The agent as it was trained, with its hyperparameters.
      spaces: Static; the spaces of the environment it was trained in.
    """

    policy: Any
    snapshots: Any
    steps_taken: jax.Array
    episodes: jax.Array
    steps: np.ndarray = struct.field(pytree_node=False)
    tests: Record | None = None
    agent: Any = None
    spaces: Spaces | None = struct.field(pytree_node=False, default=None)


# What `train` takes by name alone, for messages.
_BY_NAME = (
    "agent",
    "num_agents",
    "num_snapshots",
    "stop",
    "test",
    "on_progress",
    "log_every",
    "test_task",
    "test_episodes",
    "progress",
)


@overload
def train(
    agent: Agent,
    task: Any,
    params: Any,
    key: Key,
    num_steps: int = 500,
    *,
    num_agents: int | None = None,
    num_snapshots: int = 1,
    stop: StopRule | None = None,
    test: TaskTest | None = None,
    on_progress: Callable[[dict[str, Any]], Any] | None = None,
    log_every: int | None = None,
    test_task: Any = None,
    test_episodes: int = 10,
    progress: bool | None = None,
) -> TrainResult: ...
@overload
def train(
    agent: Agent,
    task: Any,
    key: Key,
    num_steps: int = 500,
    *,
    num_agents: int | None = None,
    num_snapshots: int = 1,
    stop: StopRule | None = None,
    test: TaskTest | None = None,
    on_progress: Callable[[dict[str, Any]], Any] | None = None,
    log_every: int | None = None,
    test_task: Any = None,
    test_episodes: int = 10,
    progress: bool | None = None,
) -> TrainResult: ...


def train(
    agent: Agent,
    task: Any,
    *args: Any,
    num_agents: int | None = None,
    num_snapshots: int = 1,
    stop: StopRule | None = None,
    test: TaskTest | None = None,
    on_progress: Callable[[dict[str, Any]], Any] | None = None,
    log_every: int | None = None,
    test_task: Any = None,
    test_episodes: int = 10,
    progress: bool | None = None,
    **kwargs: Any,
) -> TrainResult:
    """Trains fresh agents in one environment, compiled as a whole.

    `train(agent, task, key, num_steps=500)`, or with a gymnax environment and its
    params `train(agent, env, params, key, num_steps=500)`. It is one program unless it
    is watched; then it is the same in pieces.

    Args:
      agent: An algorithm with its hyperparameters, such as `DDQN()`.
      task: A gymnax pair `(env, params)`, a name for `envs.make`, an `envs.Task`; or a
        gymnax environment.
      *args: Its params, if `task` is a gymnax environment; a PRNG key or a seed; the
        environment steps of each agent, rounded up, with a warning, to whole rounds of
        the agent.
      num_agents: None for one agent, or how many independent ones to train at once
        on all local devices.
      num_snapshots: How many evenly spaced policies to keep; divides `num_steps`.
      stop: A rule that ends training earlier, `jaxrl_se.Solved` or `jaxrl_se.Plateau`.
      test: `jaxrl_se.TaskTest.of(task, ...)`: tests on the real task after every
        training episode, which give learning curves and can end training.
      on_progress: Called with a row of metrics every `log_every` steps, of one agent: a
        dictionary with `steps`, `episodes`, `episode_return` (the mean of the episodes
        since the last row, NaN without any), the agent's losses by name, `test_return`
        if there is a `test_task`, and `seconds`. See `jaxrl_se.sinks`.
      log_every: Steps between rows, rounded up to whole rounds of the agent; a
        twentieth of the training by default.
      test_task: Another task in which the policy is tested for each row, such as the
        real one of a synthetic environment: whatever `envs.open_task` takes inside JAX.
      test_episodes: Test episodes of a row.
      progress: Whether to show a progress bar, after three seconds; by default with
        `on_progress` only.
      **kwargs: What is in `args` by name: `params`, `key`, `num_steps`.

    Returns:
      A `TrainResult`.

    Raises:
      ValueError: A value is out of its range, `num_snapshots` or the test's
        `num_points` does not divide `num_steps`, the weights of a learned environment
        contain NaN or infinity, or the agent cannot act in the environment's spaces.
      TypeError: An argument is missing or of another kind, or the environment is
        Gymnasium's and not a gymnax pair.

    A RuntimeWarning says where the policy's weights are NaN or infinite in the end, and
    whether the task's rewards or observations are.
    """
    params, (key, num_steps) = split_arguments(
        "train", task, args, kwargs, {"key": REQUIRED, "num_steps": 500}, _BY_NAME
    )
    env, params = as_pair(task, params)
    key = as_key(key)
    check_training(num_steps, num_snapshots, stop, test)
    Integer(at_most=MANY.at_most, optional=True).check("num_agents", num_agents)
    AGENT.check("agent", agent)
    values.check(agent)
    watch = Watch(on_progress, log_every, test_task, test_episodes, progress)
    watch.check(num_agents)
    check_weights(params)
    check_shaping(params, agent)
    spaces = Spaces.of(env, params)
    check_agent(agent, spaces)
    num_steps = rounded_up(agent, num_steps, num_snapshots, test)
    keys = jax.random.split(key, num_agents or 1)
    rules: dict[str, Any] = {"num_snapshots": num_snapshots, "stop": stop, "test": test}
    if watch.is_on:
        task = agent, env, params
        if num_agents is None:
            weights, state = train_watched(*task, keys[0], num_steps, watch, **rules)
        else:
            weights, state = train_with_bar(*task, keys, num_steps, **rules)
        trained = Trained(weights, state.steps, state.episodes, state.tests)
    else:
        run = fits_steps(_train, num_steps * len(keys))
        sizes: Any = (env, spaces, num_steps, num_snapshots)
        trained = run(agent, params, keys, stop, test, *sizes)
        if num_agents is None:
            trained = jax.tree.map(lambda leaf: leaf[0], trained)
    last = jax.tree.map(
        lambda leaf: leaf[-1] if num_agents is None else leaf[:, -1], trained.weights
    )
    say_nan(last, num_agents, env, params, key)
    return TrainResult(
        policy=agent.policy(spaces, last),
        snapshots=agent.policy(spaces, trained.weights),
        steps=np.arange(1, num_snapshots + 1) * (num_steps // num_snapshots),
        steps_taken=trained.steps,
        episodes=trained.episodes,
        tests=trained.tests,
        agent=agent,
        spaces=spaces,
    )


def train_once(
    agent: Agent,
    env: Any,
    params: Any,
    key: jax.Array,
    *,
    num_steps: int,
    num_snapshots: int = 1,
    stop: StopRule | None = None,
    spaces: Spaces | None = None,
    test: TaskTest | None = None,
) -> Trained:
    """Trains one agent; not jitted, to be used inside a larger jitted program.

    Args:
      agent: An algorithm with its hyperparameters.
      env: A gymnax environment.
      params: Its params.
      key: A PRNG key.
      num_steps: Environment steps.
      num_snapshots: How many times the policy's weights are kept.
      stop: A rule of `jaxrl_se.agents.stopping`, or None.
      spaces: The environment's spaces, read from it by default.
      test: Tests on the real task, or None.

    Returns:
      `Trained`, whose weights have a leading `[num_snapshots]` axis.
    """
    spaces = spaces or Spaces.of(env, params)
    check_rounds(agent, num_steps, num_snapshots)
    budget: dict[str, Any] = {"stop": stop, "test": test}
    state = begin(
        agent,
        env,
        params,
        key,
        spaces=spaces,
        num_steps=num_steps,
        num_snapshots=num_snapshots,
        **budget,
    )

    round_steps = agent.num_envs * agent.rollout_steps
    num_rounds = num_steps // num_snapshots // round_steps if round_steps else 0

    def one_snapshot(state, _):
        state = proceed(agent, env, params, state, num_rounds, **budget)
        return state, agent.policy_weights(spaces, state.agent)

    state, weights = jax.lax.scan(one_snapshot, state, length=num_snapshots)
    return Trained(weights, state.steps, state.episodes, state.tests)


def train_group(
    agent: Agent,
    env: Any,
    params: Any,
    params_axes: Any,
    key: jax.Array,
    *,
    num_members: int,
    num_steps: int,
    stop: StopRule | None = None,
    spaces: Spaces | None = None,
) -> Any:
    """Trains agents that share all their randomness. Not jitted.

    Members differ by their environments alone, which is what comparing the candidates
    of one generation by common random numbers asks for, and it is fast: what is drawn
    is drawn once, and every network operation is one batched matrix product.

    Args:
      agent: An algorithm with its hyperparameters.
      env: A gymnax environment.
      params: Its params, with a leading member axis where `params_axes` says so.
      params_axes: `jax.vmap` axes of `params`: a pytree prefix of 0 and None.
      key: One key for the whole group.
      num_members: Size of the group, `G`.
      num_steps: Environment steps of each member.
      stop: A rule of `jaxrl_se.agents.stopping`, or None.
      spaces: The environment's spaces, read from it by default.

    Returns:
      Weights at the end of training with a leading axis `[G]`.
    """

    def one(params):
        trained = train_once(
            agent, env, params, key, num_steps=num_steps, stop=stop, spaces=spaces
        )
        return jax.tree.map(lambda leaf: leaf[-1], trained.weights)

    return jax.vmap(one, (params_axes,), axis_size=num_members)(params)


@partial(quick_jit, static_argnames=("env", "spaces", "num_steps", "num_snapshots"))
def _train(agent, params, keys, stop, test, env, spaces, num_steps, num_snapshots):
    def one(key, agent, params, stop, test):
        return train_once(
            agent,
            env,
            params,
            key,
            num_steps=num_steps,
            num_snapshots=num_snapshots,
            stop=stop,
            spaces=spaces,
            test=test,
        )

    # Agents that stop or test at different times are not worth vectorising on a CPU.
    batch_size = 1 if stop is not None or test is not None else None
    return map_agents(one, keys, agent, params, stop, test, batch_size=batch_size)


def check_weights(params: Any) -> None:
    """Raises ValueError for a learned environment that would answer with NaN."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(
        getattr(params, "weights", None)
    ):
        is_known = not isinstance(leaf, Tracer)
        if is_known and not np.isfinite(np.asarray(leaf)).all():
            raise ValueError(
                f"params.weights{jax.tree_util.keystr(path)} contains NaN or infinity"
            )
