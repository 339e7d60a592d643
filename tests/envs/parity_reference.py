"""Single steps of Gymnasium's own tasks from chosen states, to compare with."""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Batch:
    """N states with the actions taken there."""

    states: np.ndarray  # [N, S] float32, columns in the order of the state's fields
    actions: np.ndarray  # [N] int32 or [N, 1] float32


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one step from each of N states gives."""

    next_obs: np.ndarray  # [N, O]
    reward: np.ndarray  # [N]
    terminated: np.ndarray  # [N] bool


def join(parts: list) -> Any:
    """Concatenate batches or outcomes along their rows."""
    fields = [f.name for f in dataclasses.fields(parts[0])]
    return type(parts[0])(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in fields)
    )


def rows(table, where: slice):
    """Take some rows of a batch or of an outcome."""
    return type(table)(*(column[where] for column in vars(table).values()))


def make_gymnasium(gymnasium_id: str) -> gymnasium.Env:
    """``gymnasium.make`` without its notice that CartPole-v0 is old."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return gymnasium.make(gymnasium_id)


def gymnasium_outcome(gymnasium_id: str, batch: Batch) -> Outcome:
    """Step Gymnasium's task once from every state, in float64."""
    env: Any = make_gymnasium(gymnasium_id).unwrapped
    env.reset(seed=0)
    steps = []
    for state, action in zip(*_float64(batch), strict=True):
        env.state = state.copy()
        env.steps_beyond_terminated = None  # CartPole's memory of an earlier end
        obs, reward, terminated, _, _ = env.step(action)
        steps.append((np.array(obs), reward, terminated))
    next_obs, reward, terminated = zip(*steps, strict=True)
    return Outcome(np.stack(next_obs), np.array(reward), np.array(terminated))


def gymnax_outcome(env, params, make_state: Callable, batch: Batch) -> Outcome:
    """Step a gymnax environment once from every state, in JAX's float type."""
    states, actions = map(jnp.asarray, _float64(batch))
    state = make_state(*states.T)
    next_obs, reward, terminated = _step_all(env, params, state, actions)
    return Outcome(np.array(next_obs), np.array(reward), np.array(terminated))


@functools.partial(jax.jit, static_argnums=0)
def _step_all(env, params, states, actions):
    def step(state, action):
        key = jax.random.key(0)
        next_obs, _, reward, terminated, _ = env.step_env(key, state, action, params)
        return next_obs, reward, terminated

    return jax.vmap(step)(states, actions)


def _float64(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """The same numbers in float64, discrete actions left alone."""
    actions = batch.actions
    if actions.dtype == np.float32:
        actions = actions.astype(np.float64)
    return batch.states.astype(np.float64), actions


def rollout_batch(gymnasium_id: str, num_states: int) -> Batch:
    """States and actions that a uniformly random policy meets in Gymnasium."""
    env: Any = make_gymnasium(gymnasium_id)
    env.action_space.seed(0)
    env.reset(seed=0)
    states, actions = [], []
    while len(states) < num_states:
        states.append(np.array(env.unwrapped.state, np.float32))
        actions.append(env.action_space.sample())
        _, _, terminated, truncated, _ = env.step(actions[-1])
        if terminated or truncated:
            env.reset()
    dtype = np.float32 if env.action_space.shape else np.int32
    return Batch(np.stack(states), np.array(actions, dtype))
