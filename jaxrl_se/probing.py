"""What a few thousand steps, random or logged, say about a task that nobody knows."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs import Transitions, known_episodes
from envs.spaces import Spaces
from envs.steps import StepKind
from jaxrl_runs.compilation import quick_jit
from jaxrl_se.policies import RandomPolicy

_PERCENTILES = (2.0, 98.0)
_NUM_ENVS = 16
_CHUNK = 64  # Steps of each environment between two looks at what is known.
_ROWS = 4096  # Likewise outside JAX, in all.


@dataclasses.dataclass(frozen=True)
class Probe:
    """What random play showed.

    Attributes:
      spaces: Spaces of the task.
      obs_range: Second and 98th percentile of each observation, in the task's units.
        One that hardly varies gets its median -+ 1.
      steps: Steps taken in the task.
      episodes: Finished episodes.
      mean_length: Their mean length, in steps; without one, the steps that each
        environment took, which is less than the length.
      max_length: The longest.
      random_return: Their mean undiscounted return; NaN without one.
      random_std: Its standard deviation over episodes.
      reward_min: Smallest reward of a step.
      reward_max: Largest.
      kind: Where the steps were taken; None for where the task's own are.
      policy: Whose play it was, in words.
    """

    spaces: Spaces
    obs_range: tuple[tuple[float, float], ...]
    steps: int
    episodes: int
    mean_length: float
    max_length: int
    random_return: float
    random_std: float
    reward_min: float
    reward_max: float
    kind: StepKind | None = None
    policy: str = "random"

    @classmethod
    def from_transitions(cls, transitions: Transitions, spaces: Spaces) -> Probe:
        """What the rows of a log show, under whichever policy they came about.

        Args:
          transitions: Rows; those of one episode in order of time.
          spaces: Spaces of the task.

        Raises:
          ValueError: Observations have another size than the spaces say.
        """
        found = known_episodes(transitions)
        rows = found.rows
        obs = np.asarray(rows.obs, np.float64).reshape(len(rows), -1)
        reward = np.asarray(rows.reward, np.float64)
        if obs.shape[1] != spaces.obs_size:
            raise ValueError(
                f"transitions: observations must have {spaces.obs_size} numbers, got "
                f"{obs.shape[1]}"
            )
        ended = found.is_complete
        returns = found.returns[ended]
        lengths = found.lengths[ended] if ended.any() else found.lengths
        return cls(
            spaces=spaces,
            obs_range=range_of(obs),
            steps=len(rows),
            episodes=int(ended.sum()),
            mean_length=float(lengths.mean()),
            max_length=int(lengths.max()),
            random_return=float(returns.mean()) if ended.any() else float("nan"),
            random_std=float(returns.std()) if ended.any() else 0.0,
            reward_min=float(reward.min()),
            reward_max=float(reward.max()),
            kind="real",
            policy="logged",
        )

    @property
    def reward_varies(self) -> bool:
        """Whether random play ever saw two different rewards or returns."""
        return self.reward_max > self.reward_min or self.random_std > 0

    def __str__(self) -> str:
        """One line for a log."""
        if not self.episodes:
            return f"{self.steps:,} {self.policy} steps, no episode ended"
        return (
            f"{self.steps:,} {self.policy} steps: {self.episodes} episodes of "
            f"{self.mean_length:.0f} steps, return {self.random_return:.4g} "
            f"(deviation {self.random_std:.2g})"
        )


@struct.dataclass
class _Play:
    """Where the random environments are: arrays `[num_envs]` and sums so far."""

    obs: jax.Array
    state: Any
    total: jax.Array
    length: jax.Array


def probe(
    task: Any,
    key: jax.Array,
    *,
    min_episodes: int = 16,
    min_steps: int = 4096,
    max_steps: int = 32_768,
) -> Probe:
    """Plays a task at random until its episodes have been seen.

    Args:
      task: A gymnax pair `(env, params)` with vector observations, or a task outside
        JAX, whose random episodes are collected.
      key: A PRNG key.
      min_episodes: Finished episodes to see.
      min_steps: Steps to take at least.
      max_steps: Steps after which it ends all the same; all of these are rounded up to
        whole chunks of 64 steps in 16 environments, or about 4,096 outside JAX.

    Returns:
      A `Probe`; its `steps` are steps in the real task and count as such.

    Raises:
      ValueError: The task has other than vector observations, unbounded actions, or
        returns observations or rewards that are not finite.
    """
    if not 1 <= min_steps <= max_steps:
        raise ValueError(
            f"min_steps must be in 1..max_steps ({max_steps}), got {min_steps}"
        )
    outside = not isinstance(task, tuple)
    spaces = task.spaces if outside else Spaces.of(*task)
    if outside and not spaces.are_vectors:
        kind = "states by number" if spaces.obs_shape == () else "arrays"
        raise ValueError(
            f"task {task.name!r}: a task outside JAX is evolved on with vectors as "
            f"observations, got {kind} of shape {spaces.obs_shape}; wrap it in "
            "gymnasium.wrappers.FlattenObservation, which makes vectors of both"
        )
    if not np.isfinite(spaces.action_low + spaces.action_high).all():
        raise ValueError(
            "task: random play needs bounded actions, but this task's bounds are "
            f"{spaces.action_low}, {spaces.action_high}; clip them in the task"
        )
    chunks = _chunks_outside(task, key) if outside else _chunks(task, spaces, key)
    seen, taken = [], []
    for chunk, steps in chunks:
        seen.append(chunk)
        taken.append(steps)
        episodes = sum(int(ended.sum()) for *_, ended in seen)
        enough = sum(taken) >= min_steps and episodes >= min_episodes
        if sum(taken) >= max_steps or enough:
            break
    obs, reward, total, length, ended = map(np.concatenate, zip(*seen, strict=True))
    name = task.name if outside else task[0].name
    if not (np.isfinite(obs).all() and np.isfinite(reward).all()):
        raise ValueError(
            f"task {name!r}: random play met an observation or a reward that is not "
            "finite"
        )
    returns, lengths = total[ended].astype(np.float64), length[ended]
    if not len(returns):
        lengths = np.array([length.max() if outside else sum(taken) // _NUM_ENVS])
    return Probe(
        spaces=spaces,
        obs_range=range_of(obs.reshape(-1, spaces.obs_size)),
        steps=sum(taken),
        episodes=len(returns),
        mean_length=float(lengths.mean()),
        max_length=int(lengths.max()),
        random_return=float(returns.mean()) if len(returns) else float("nan"),
        random_std=float(returns.std()) if len(returns) else 0.0,
        reward_min=float(reward.min()),
        reward_max=float(reward.max()),
    )


def _chunks(task: tuple[Any, Any], spaces: Spaces, key: jax.Array) -> Iterator:
    """Observations, rewards, sums, lengths and ends of random play, and its steps."""
    env, params = task
    key_reset, key = jax.random.split(key)
    play = _start(env, params, key_reset)
    for number in itertools.count():
        key_chunk = jax.random.fold_in(key, number)
        play, chunk = _advance(env, spaces, params, key_chunk, play)
        yield jax.device_get(chunk), _CHUNK * _NUM_ENVS


def _chunks_outside(task: Any, key: jax.Array) -> Iterator:
    """The same of a task outside JAX, which plays whole episodes."""
    for number in itertools.count():
        before = task.cost.steps
        rows = task.collect(_ROWS, jax.random.fold_in(key, number))
        reward = np.asarray(rows.reward, np.float64)
        ended = np.asarray(rows.terminated) | np.asarray(rows.truncated)
        ends = np.flatnonzero(ended)
        # Of each row, how long its episode has been going on, and the sum of rewards.
        starts = np.concatenate([[0], ends + 1])
        start = starts[np.searchsorted(starts, np.arange(len(reward)), "right") - 1]
        sums = np.cumsum(reward)
        total = sums - sums[start] + reward[start]
        length = np.arange(len(reward)) - start + 1
        chunk = np.asarray(rows.obs), reward, total, length, ended
        yield chunk, task.cost.steps - before


def range_of(obs: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Percentiles of observations `[N, obs_size]`, never of no width."""
    low, high = np.percentile(obs.astype(np.float64), _PERCENTILES, axis=0)
    middle = np.median(obs, axis=0).astype(np.float64)
    # Numerical noise is no range, and neither is a flag that is hardly ever set.
    flat = high - low <= 1e-5 * np.maximum(np.abs(middle), 1.0)
    low, high = np.where(flat, middle - 1, low), np.where(flat, middle + 1, high)
    return tuple(zip(low.tolist(), high.tolist(), strict=True))


@partial(quick_jit, static_argnames="env")
def _start(env: Any, params: Any, key: jax.Array) -> _Play:
    keys = jax.random.split(key, _NUM_ENVS)
    obs, state = jax.vmap(env.reset, (0, None))(keys, params)
    zero = jnp.zeros(_NUM_ENVS, jnp.float32)
    return _Play(obs.astype(jnp.float32), state, zero, zero.astype(jnp.int32))


@partial(quick_jit, static_argnames=("env", "spaces"))
def _advance(env: Any, spaces: Spaces, params: Any, key: jax.Array, play: _Play):
    """Takes a chunk of steps; also observations, rewards, sums and ends `[T, N]`."""
    policy = RandomPolicy(spaces)

    def one(obs, state, key):
        key_action, key_step = jax.random.split(key)
        out = env.step(key_step, state, policy(obs, key_action), params)
        obs, state, reward, terminated, truncated, _ = out
        reward = jnp.asarray(reward, jnp.float32)
        return obs.astype(jnp.float32), state, reward, terminated | truncated

    def step(play, key):
        keys = jax.random.split(key, _NUM_ENVS)
        obs, state, reward, done = jax.vmap(one)(play.obs, play.state, keys)
        total, length = play.total + reward, play.length + 1
        seen = (play.obs, reward, total, length, done)
        kept = 1 - done.astype(jnp.int32)
        return _Play(obs, state, total * kept, length * kept), seen

    return jax.lax.scan(step, play, jax.random.split(key, _CHUNK))
