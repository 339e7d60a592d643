"""Agents that train in a task outside JAX: the loop is split at the environment's step.

A batch of agents acts as one jitted call, all of their environments take a step, and
the batch observes and learns as a second call. Any `Agent` will do that reads no
environment: those with a replay buffer, and PPO.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.external import ExternalTask
from jaxrl_runs.values import COUNT, Integer, Like, as_key, shown
from jaxrl_se.agents.agent import Agent, Transition, acted, check_agent
from jaxrl_se.reward_network import (
    RewardEnv,
    RewardParams,
    check_shaping,
    with_discount,
)
from jaxrl_se.rounds import rounded_up
from jaxrl_se.training import TrainResult

_CHUNK = 100  # Rounds whose randomness is drawn at once.
_TASK = Like(
    "a task outside JAX, which envs.external gives (jaxrl_se.train trains inside JAX)",
    kinds=(ExternalTask,),
)


def train_outside(
    agent: Agent,
    task: ExternalTask,
    key: int | jax.Array,
    num_steps: int,
    *,
    num_agents: int | None = None,
    reward: tuple[RewardEnv, RewardParams] | None = None,
) -> TrainResult:
    """Trains fresh agents in a task outside JAX, side by side.

    Args:
      agent: An algorithm with its hyperparameters.
      task: What `envs.external` gives.
      key: A PRNG key or a seed. The same one gives the same agents, with a fixed engine
        and number of threads.
      num_steps: Environment steps of each agent, rounded up, with a warning, to whole
        rounds.
      num_agents: None for one agent, or how many independent ones.
      reward: A reward network that evolved on such a task (`result.env`,
        `result.params`), which pays the agents in the task's place; None for the task.

    Returns:
      A `TrainResult`, with one snapshot.

    Raises:
      TypeError: The task is none outside JAX, or cannot restart a single environment.
      ValueError: A number is out of its range, or the agent cannot learn in the task.
      RuntimeError: An environment failed.

    Example:
      >>> task = envs.external("Hopper-v5")  # doctest: +SKIP
      >>> trained = train_outside(TD3(), task, 0, 10_000)  # doctest: +SKIP
    """
    _TASK.check("task", task)
    COUNT.check("num_steps", num_steps)
    Integer(optional=True).check("num_agents", num_agents)
    check_agent(agent, task.spaces)
    check_trains_outside(agent)
    num_steps = rounded_up(agent, num_steps)
    keys = jax.random.split(as_key(key), num_agents or 1)
    if reward is not None:
        _check_reward(reward, task)
        check_shaping(reward[1], agent)
        every = jax.tree.map(lambda x: jnp.stack([x] * len(keys)), reward[1].weights)
        reward = reward[0], reward[1].replace(weights=every)  # type: ignore
    weights, episodes = train_batch(agent, task, keys, num_steps, reward)
    if num_agents is None:
        weights, episodes = jax.tree.map(lambda x: x[0], (weights, episodes))
    axis = 0 if num_agents is None else 1
    snapshots = jax.tree.map(lambda x: jnp.expand_dims(x, axis), weights)
    return TrainResult(
        policy=agent.policy(task.spaces, weights),
        snapshots=agent.policy(task.spaces, snapshots),
        steps=np.array([num_steps]),
        steps_taken=jnp.full(jnp.shape(episodes), num_steps, jnp.int32),
        episodes=jnp.asarray(episodes, jnp.int32),
        agent=agent,
        spaces=task.spaces,
    )


def _check_reward(reward: Any, task: Any) -> None:
    """Raises TypeError or ValueError unless it is a reward network for such a task."""
    is_pair = isinstance(reward, tuple) and len(reward) == 2
    if not (is_pair and isinstance(reward[0], RewardEnv)):
        raise TypeError(
            "reward must be a reward network's pair (env, params), such as "
            f"(result.env, result.params), got {shown(reward)}"
        )
    if not isinstance(reward[1], RewardParams):
        raise TypeError(
            f"reward must be a pair whose params are a reward network's, got "
            f"{shown(reward[1])}"
        )
    if reward[0].spaces != task.spaces:
        raise ValueError(
            f"reward must be for the spaces of task {task.name!r}, {task.spaces}, got "
            f"{reward[0].spaces}"
        )


def check_trains_outside(agent: Any) -> None:
    """Raises ValueError for an agent that takes no steps."""
    if not agent.rollout_steps:
        raise ValueError(
            f"agent must take steps to train in a task, got a {type(agent).__name__}"
        )


def train_batch(
    agent: Agent,
    task: ExternalTask,
    keys: jax.Array,
    num_steps: int,
    reward: tuple[RewardEnv, RewardParams] | None = None,
) -> tuple[Any, np.ndarray]:
    """Trains P agents in lock step; what `train_outside` does, without checks.

    Args:
      agent: An algorithm.
      task: The task.
      keys: `[P]`, each agent's. Those of the same key draw the same numbers, and
        their environments begin the same episodes.
      num_steps: Of each agent, whole rounds.
      reward: Pays the agents in the task's place: a reward network, and params whose
        weights have a leading axis `[P]`.

    Returns:
      Weights of their policies, with a leading axis `[P]`, and int `[P]`, the episodes
      that they finished.
    """
    static: dict[str, Any] = {"spaces": task.spaces}
    pays, paid = (None, None) if reward is None else reward
    drawn, state, key_rounds = _start(agent, keys, num_steps=num_steps, **static)
    shape = (len(keys), agent.num_envs)
    lanes = task.ongoing(_lane_keys(keys, agent.num_envs).reshape(-1))
    episodes = np.zeros(len(keys), np.int64)
    draws: Any = None
    for number in range(num_steps // (agent.num_envs * agent.rollout_steps)):
        index, i = divmod(number, _CHUNK)
        if i == 0:
            draws = _draw(agent, drawn, key_rounds, index, **static)
        for t in range(agent.rollout_steps):
            obs = lanes.obs.reshape(*shape, *lanes.obs.shape[1:])
            action, kept = _act(agent, drawn, state, obs, draws, i, t, **static)
            rows = np.asarray(action)
            outcome = lanes.step(rows.reshape(-1, *rows.shape[2:]))
            done = (outcome.terminated | outcome.truncated).reshape(shape)
            episodes += done.sum(axis=1)
            step = (
                outcome.obs.reshape(obs.shape),
                outcome.reward.reshape(shape).astype(np.float32),
                outcome.terminated.reshape(shape),
                done,
            )
            state = _observe(
                agent, drawn, state, obs, kept, step, paid, pays=pays, **static
            )
        state = _update(agent, drawn, state, draws, i, **static)
    return _weights(agent, drawn, state, **static), episodes


def _each(function: Any, agent: Agent, drawn: Any, *batched: Any) -> Any:
    """`function(agent, *batched)` for each of P agents; `drawn` are theirs if any."""
    if drawn is None:
        return jax.vmap(partial(function, agent))(*batched)
    return jax.vmap(function)(drawn, *batched)


@partial(jax.jit, static_argnames=("spaces", "num_steps"))
def _start(agent, keys, *, spaces, num_steps):
    """Drawn agents or None, states, and keys of rounds; as `jaxrl_se.rounds.begin`."""

    def one(key):
        trained, key = agent.prepare(key)
        key_start, _, key_rounds, _, _ = jax.random.split(key, 5)
        state = trained.start(spaces, key_start, num_steps=num_steps)
        return None if trained is agent else trained, state, key_rounds

    return jax.vmap(one)(keys)


@partial(jax.jit, static_argnames="num_envs")
def _lane_keys(keys, num_envs):
    def one(key):
        return jax.random.split(jax.random.split(key, 5)[1], num_envs)

    return jax.vmap(one)(keys)


@partial(jax.jit, static_argnames="spaces")
def _draw(agent, drawn, keys, index, *, spaces):
    def one(agent, key):
        _, key_act, key_update = jax.random.split(jax.random.fold_in(key, index), 3)
        return agent.draw(spaces, key_act, key_update, _CHUNK)

    return _each(one, agent, drawn, keys)


@partial(jax.jit, static_argnames="spaces")
def _act(agent, drawn, state, obs, draws, i, t, *, spaces):
    def one(agent, state, obs, draw):
        return acted(agent, agent.act(spaces, state, obs, draw), agent.num_envs)

    draw = jax.tree.map(lambda x: x[:, i, t], draws[0])
    return _each(one, agent, drawn, state, obs, draw)


@partial(jax.jit, static_argnames=("spaces", "pays"), donate_argnames="state")
def _observe(agent, drawn, state, obs, kept, step, paid, *, spaces, pays):
    next_obs, reward, terminated, done = step

    def one(agent, state, obs, kept, next_obs, reward, terminated, done, weights):
        if pays is not None:
            params = paid.replace(weights=weights)  # which alone differ
            params = with_discount(params, getattr(agent, "discount", 1.0))
            pay = partial(pays.reward, params, info={})
            reward = jax.vmap(pay)(obs, next_obs, reward, terminated)
        transition = Transition(
            obs=obs,
            action=kept,
            reward=reward,
            next_obs=next_obs,
            bootstrap_weight=1.0 - terminated.astype(jnp.float32),
            done=done,
        )
        return agent.observe(spaces, state, transition)

    weights = None if paid is None else paid.weights
    rows = (state, obs, kept, next_obs, reward, terminated, done, weights)
    return _each(one, agent, drawn, *rows)


@partial(jax.jit, static_argnames="spaces", donate_argnames="state")
def _update(agent, drawn, state, draws, i, *, spaces):
    def one(agent, state, draw):
        return agent.update(spaces, state, draw)

    draw = jax.tree.map(lambda x: x[:, i], draws[1])
    return _each(one, agent, drawn, state, draw)


@partial(jax.jit, static_argnames="spaces")
def _weights(agent, drawn, state, *, spaces):
    def one(agent, state):
        return agent.policy_weights(spaces, state)

    return _each(one, agent, drawn, state)
