"""The rounds of a training: environments are stepped, an agent acts, observes, updates.

Nothing here has its own jit; `jaxrl_se.loop` is for users. All that is random is drawn
ahead in large pieces. Under `jax.vmap` with the environment's params as the only mapped
argument these draws and all counters stay unbatched: the members of a group share their
randomness and cost little more than their matrix products.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from envs.spaces import Spaces
from envs.stepping import Step, draw_steps
from jaxrl_runs import values
from jaxrl_runs.values import COUNT, Like
from jaxrl_runs.warn import warn_user
from jaxrl_se.agents.agent import (
    Agent,
    Transition,
    acted,
    alone,
    only,
    same_state,
)
from jaxrl_se.agents.stopping import STOP, StopRule
from jaxrl_se.reward_network import with_discount
from jaxrl_se.task_tests import Record, TaskTest

_TEST = Like("a TaskTest, such as TaskTest.of(task)", kinds=(TaskTest,), optional=True)
_CHUNK = 1000  # Rounds whose randomness is drawn at once, about.


@struct.dataclass
class TrainState:
    """A training run somewhere on its way: all that it takes to go on.

    Attributes:
      agent: The agent's own state.
      drawn: The agent that is trained where it is another one than was asked for
        (`Varied` draws it), None elsewhere.
      obs: `[N, ...]`, what the agent's environments show.
      env_state: Their states, `[N, ...]`.
      episode_return: float32 `[N]`, sum of the rewards of the episodes in progress.
      steps: int32, environment steps taken, over all environments.
      episodes: int32, episodes finished.
      finished_return: float32, sum of the returns of the episodes that finished since
        `advance` was called last.
      rounds: int32, rounds that were asked for, also those that a rule stopped.
      keys: Keys of resets and draws, and of tests.
      stopping: State of the stop rule, None without one.
      tests: Record of the tests on the real task, None without any.
      spaces: Static; the environments' spaces.
      num_steps: Static; the steps of the whole training.
      chunk: Static; rounds whose randomness is drawn at once.
    """

    agent: Any
    drawn: Any
    obs: Any
    env_state: Any
    episode_return: jax.Array
    steps: jax.Array
    episodes: jax.Array
    finished_return: jax.Array
    rounds: jax.Array
    keys: tuple[jax.Array, jax.Array]
    stopping: Any
    tests: Record | None
    spaces: Spaces = struct.field(pytree_node=False)
    num_steps: int = struct.field(pytree_node=False)
    chunk: int = struct.field(pytree_node=False)


def whole_steps(num_steps: int, agents: tuple[Any, ...], num_pieces: int = 1) -> int:
    """Steps rounded up to what every agent trains in whole rounds of.

    Args:
      num_steps: Environment steps, over all of an agent's environments.
      agents: The agents.
      num_pieces: Pieces of equal size that the steps are divided into.
    """
    rounds = [agent.num_envs * agent.rollout_steps or 1 for agent in agents]
    piece = math.lcm(*rounds)
    return -(-num_steps // (piece * num_pieces)) * piece * num_pieces


def say_rounded(name: str, steps: int, whole: int) -> None:
    """Warns that a budget was rounded up."""
    warn_user(
        f"{name}: {steps} is rounded up to {whole}, a whole number of the agent's "
        "rounds (num_envs * rollout_steps)",
    )


def check_training(
    num_steps: int,
    num_snapshots: int,
    stop: StopRule | None,
    test: TaskTest | None,
) -> None:
    """Checks what a training is asked for, whoever the agent is.

    Raises:
      ValueError: A number is out of its range, or one does not divide another.
      TypeError: An argument is of another kind.
    """
    COUNT.check("num_steps", num_steps)
    COUNT.check("num_snapshots", num_snapshots)
    if num_steps % num_snapshots:
        raise ValueError(
            f"num_snapshots must divide num_steps ({num_steps}), got {num_snapshots}"
        )
    STOP.check("stop", stop)
    values.check(stop)
    _TEST.check("test", test)


def rounded_up(
    agent: Agent, num_steps: int, num_pieces: int = 1, test: TaskTest | None = None
) -> int:
    """The steps in whole rounds of an agent; a warning says where these are more.

    Raises:
      ValueError: The test's points do not divide them.
    """
    whole = whole_steps(num_steps, (agent,), num_pieces)
    if whole != num_steps:
        say_rounded("num_steps", num_steps, whole)
    if test is not None:
        test.check(whole)
    return whole


def check_rounds(agent: Agent, num_steps: int, num_snapshots: int = 1) -> None:
    """Raises ValueError for steps that are no whole number of the agent's rounds."""
    round_steps = agent.num_envs * agent.rollout_steps
    if round_steps > 1 and num_steps % (round_steps * num_snapshots):
        raise ValueError(
            f"num_steps must be a multiple of {type(agent).__name__}'s num_envs * "
            f"rollout_steps ({round_steps}), times num_snapshots ({num_snapshots}), "
            f"got {num_steps}"
        )


def begin(
    agent: Agent,
    env: Any,
    params: Any,
    key: jax.Array,
    *,
    spaces: Spaces,
    num_steps: int,
    num_snapshots: int = 1,
    stop: StopRule | None = None,
    test: TaskTest | None = None,
) -> TrainState:
    """`start` without checks and without its own jit."""
    trained, key = agent.prepare(key)
    params = with_discount(params, getattr(trained, "discount", 1.0))
    num_envs, rollout_steps = agent.num_envs, agent.rollout_steps
    # Children of one key: the fourth is a bonus's (`Curious.prepare`).
    key_start, key_reset, key_rounds, _, key_test = jax.random.split(key, 5)
    if num_envs == rollout_steps == 1:
        obs, env_state = env.reset(key_reset, params)
        obs, env_state = alone((obs, env_state))
    else:
        keys = jax.random.split(key_reset, num_envs)
        obs, env_state = jax.vmap(env.reset, (0, None))(keys, params)
    zero = jnp.int32(0)
    return TrainState(
        agent=trained.start(
            spaces, key_start, num_steps=num_steps, env=env, params=params
        ),
        drawn=None if trained is agent else trained,
        obs=obs,
        env_state=env_state,
        episode_return=jnp.zeros(num_envs, jnp.float32),
        steps=zero,
        episodes=zero,
        finished_return=jnp.float32(0.0),
        rounds=zero,
        keys=(key_rounds, key_test),
        stopping=None if stop is None else stop.init(),
        tests=None if test is None else test.init(),
        spaces=spaces,
        num_steps=num_steps,
        chunk=_chunk(num_steps // num_snapshots, num_envs, rollout_steps),
    )


def proceed(
    agent: Agent,
    env: Any,
    params: Any,
    state: TrainState,
    num_rounds: Any,
    *,
    stop: StopRule | None = None,
    test: TaskTest | None = None,
) -> TrainState:
    """`advance` by whole rounds, without metrics, checks and its own jit."""
    agent = agent if state.drawn is None else state.drawn
    if not agent.rollout_steps:
        return state
    params = with_discount(params, getattr(agent, "discount", 1.0))
    chunk = state.chunk
    first = state.rounds
    end = first + num_rounds
    key_rounds, _ = state.keys

    def one_chunk(index, state):
        key_env, key_act, key_update = jax.random.split(
            jax.random.fold_in(key_rounds, index), 3
        )
        env_draws, step = _draw_steps(agent, env, params, key_env, chunk)
        agent_draws = agent.draw(state.spaces, key_act, key_update, chunk)
        last = jnp.minimum(end - index * chunk, chunk)

        def goes_on(indexed):
            i, state = indexed
            more = i < last
            if stop is not None:
                more = more & ~stop.fired(state.stopping)
            return more if test is None else more & ~test.solved(state.tests)

        def body(indexed):
            i, state = indexed
            draws = jax.tree.map(lambda x: x[i], (env_draws, agent_draws))
            return i + 1, _one_round(agent, step, state, draws, stop, test)

        i = jnp.maximum(first - index * chunk, 0)
        return jax.lax.while_loop(goes_on, body, (i, state))[1]

    # One environment goes through the loop without its axis: on a CPU the reshape of
    # what a loop carries is a copy.
    is_one = agent.num_envs == 1
    state = _map_envs(only, state) if is_one else state
    state = jax.lax.fori_loop(first // chunk, -(-end // chunk), one_chunk, state)
    state = _map_envs(alone, state) if is_one else state
    return state.replace(rounds=end)  # type: ignore


def _map_envs(change, state: TrainState) -> TrainState:
    obs, env_state = change((state.obs, state.env_state))
    return state.replace(obs=obs, env_state=env_state)  # type: ignore


def _one_round(agent, step, state: TrainState, draws, stop, test) -> TrainState:
    """Steps of all environments, then the agent's update and what watches it."""
    env_draws, (for_act, for_update) = draws
    one_step = partial(_one_step, agent, step, stop)
    if agent.rollout_steps == 1:
        for_act = only(for_act)
        state, done = one_step(state, (env_draws, for_act))
        ended = only(done) if agent.num_envs == 1 else jnp.any(done)
    else:
        state, _ = jax.lax.scan(one_step, state, (env_draws, for_act))
        ended = jnp.bool_(True)
    learned = agent.update(state.spaces, state.agent, for_update)
    same_state(agent, "update", state.agent, learned)
    state = state.replace(agent=learned)  # type: ignore
    if test is None:
        return state
    policy = agent.policy(state.spaces, agent.policy_weights(state.spaces, learned))
    tests = test.after_step(
        state.tests, policy, state.keys[1], state.steps, ended, state.num_steps
    )
    return state.replace(tests=tests)  # type: ignore


def _one_step(agent, step, stop, state: TrainState, draws) -> tuple[TrainState, Any]:
    """One step of all environments."""
    env_draws, for_act = draws
    num_envs = agent.num_envs
    obs = alone(state.obs) if num_envs == 1 else state.obs
    result = agent.act(state.spaces, state.agent, obs, for_act)
    action, kept = acted(agent, result, num_envs)
    taken = step(env_draws, state.env_state, action)
    next_obs, next_env_state = taken.obs, taken.state
    taken = alone(taken) if num_envs == 1 else taken
    reward = jnp.reshape(taken.reward, (num_envs,)).astype(jnp.float32)
    done = taken.terminated | taken.truncated
    transition = Transition(
        obs=obs,
        action=kept,
        reward=reward,
        next_obs=taken.next_obs,
        bootstrap_weight=_bootstrap_weight(taken),
        done=done,
    )
    observed = agent.observe(state.spaces, state.agent, transition)
    same_state(agent, "observe", state.agent, observed)
    total = state.episode_return + reward
    stopping = state.stopping
    if stop is not None:
        stopping = _watch(stop, stopping, total, done)
    finished = jnp.where(done, total, 0.0)
    state = state.replace(  # type: ignore
        agent=observed,
        obs=next_obs,
        env_state=next_env_state,
        episode_return=jnp.where(done, 0.0, total),
        steps=state.steps + num_envs,
        episodes=state.episodes + jnp.sum(done, dtype=jnp.int32),
        finished_return=state.finished_return + jnp.sum(finished),
        stopping=stopping,
    )
    return state, done


def _bootstrap_weight(taken: Step) -> jax.Array:
    """See `Transition`."""
    if "discount" in taken.info:
        return jnp.asarray(taken.info["discount"], jnp.float32)
    return 1.0 - taken.terminated.astype(jnp.float32)


def _watch(stop: StopRule, stopping: Any, total: jax.Array, done: jax.Array) -> Any:
    """Shows a step of all environments to a stop rule, one after the other."""
    if total.shape[0] == 1:
        return stop.update(stopping, *only((total, done)))

    def one(stopping, x):
        return stop.update(stopping, *x), None

    return jax.lax.scan(one, stopping, (total, done))[0]


def _draw_steps(agent, env, params, key, num_rounds):
    """`draw_steps` for rounds of several steps of several environments."""
    num_envs, rollout_steps = agent.num_envs, agent.rollout_steps
    axes = [size for size in (rollout_steps, num_envs) if size > 1]
    draws, step = draw_steps(env, params, key, num_rounds * rollout_steps * num_envs)
    draws = jax.tree.map(lambda x: x.reshape(num_rounds, *axes, *x.shape[1:]), draws)
    if num_envs > 1:
        return draws, jax.vmap(step)

    def step_one(draw, env_state, action):  # not under a `vmap` of one, which is slower
        return step(draw, env_state, only(action))

    return draws, step_one


def _chunk(num_steps: int, num_envs: int, rollout_steps: int) -> int:
    """Rounds to draw for at once.

    One where a round is long; else the largest divisor of all rounds up to `_CHUNK`, or
    all rounds where that is tiny.
    """
    if rollout_steps != 1:
        return 1
    num_rounds = num_steps // num_envs
    sizes = range(1, min(_CHUNK, num_rounds) + 1)
    size = max(n for n in sizes if num_rounds % n == 0)
    return size if size >= 50 else num_rounds
