"""Does a task outside JAX keep Gymnasium's contract? What is wrong, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np

from envs.check_shapes import first_line
from envs.external import ExternalTask, external
from envs.gymnasium_spaces import flat_space, flattened
from envs.obs_checks import outside
from envs.old_gym import OldInterfaceError, as_reset, as_step, takes_no_seed
from envs.outside import for_space

_NUM_LANES = 4
_FLAGS = (bool, np.bool_)


def findings_outside(task: Any, num_steps: int, seed: int) -> Iterator[str]:
    """Everything that is wrong with a task outside JAX.

    Args:
        task: A ``gymnasium.Env``, a ``gymnasium.vector.VectorEnv``, a function that
            makes one, or an `ExternalTask`.
        num_steps: Random steps in each of up to four copies.
        seed: Of actions and episodes.
    """
    if isinstance(task, gymnasium.Env):
        found = list(_single_environment(task, num_steps, seed))
        yield from found
        if found:
            return
    try:
        opened = task if isinstance(task, ExternalTask) else external(task)
    except (TypeError, ValueError) as error:
        yield first_line(error)
        return
    try:
        yield from _engine(opened, num_steps, seed)
    except (OldInterfaceError, ValueError, TypeError) as error:
        yield first_line(error)


def _single_environment(env: gymnasium.Env, num_steps: int, seed: int) -> Iterator[str]:
    """What only the environment itself shows: kinds of what it returns."""
    space, action_space = env.observation_space, env.action_space
    for name, one in (("observation_space", space), ("action_space", action_space)):
        if not isinstance(one, gymnasium.spaces.Space):
            yield f"{name} must be a space of Gymnasium's, got {type(one).__name__}"
            return
    action_space.seed(seed)
    try:
        obs, _ = as_reset(env.reset(seed=seed))
        yield from _observation("reset", space, obs)
        seen: set[str] = set()
        for _ in range(num_steps):
            outputs = as_step(env.step(action_space.sample()))
            for finding in _step(space, outputs):
                if finding.split(" gave ")[0] not in seen:
                    seen.add(finding.split(" gave ")[0])
                    yield finding
            if outputs[2] or outputs[3]:
                as_reset(env.reset())
    except OldInterfaceError as error:
        yield first_line(error)
    except Exception as error:
        yield f"it raised {first_line(takes_no_seed(error) or error)}"


def _step(space: Any, outputs: tuple[Any, ...]) -> Iterator[str]:
    obs, reward, terminated, truncated, info = outputs
    yield from _observation("step", space, obs)
    if np.ndim(reward) or not np.issubdtype(np.asarray(reward).dtype, np.number):
        yield f"reward must be one number, step gave {reward!r:.60}"
    elif not np.isfinite(reward):
        yield f"reward must be finite, step gave {reward}"
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, _FLAGS):
            kind = type(flag).__name__
            yield f"{name} must be True or False, step gave {flag!r:.60} ({kind})"
    if not isinstance(info, dict):
        yield f"info must be a dict, step gave {type(info).__name__}"


def _observation(method: str, space: Any, obs: Any) -> Iterator[str]:
    is_box = isinstance(space, gymnasium.spaces.Box)
    if is_box and not isinstance(obs, np.ndarray | np.generic):
        yield f"obs must be an array of NumPy, {method} gave a {type(obs).__name__}"
        return
    if space.contains(obs):
        return
    if is_box or isinstance(space, gymnasium.spaces.Discrete):
        array = np.asarray(obs)
        if array.shape != space.shape:
            yield f"obs must have shape {space.shape}, {method} gave {array.shape}"
            return
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            yield f"obs must be finite, {method} gave NaN or infinity"
            return
        how = outside(space, array[None])
        if how is not None:
            yield f"obs leaves its space: {method} gave one that {how}"
        elif array.dtype != space.dtype:
            yield f"obs must be of dtype {space.dtype}, {method} gave {array.dtype}"
        return
    try:
        flattened(space, obs)
    except Exception as error:
        yield f"obs is no element of {space}: {method} gave {first_line(error)}"
    else:
        yield f"obs is no element of {space}, as {method} gave it"


def _engine(task: ExternalTask, num_steps: int, seed: int) -> Iterator[str]:
    """What several copies show: seeds, ends of episodes, time limits, spaces."""
    engine = task.session.engine(_NUM_LANES)
    number = engine.num_envs
    seeds = np.random.default_rng(seed).integers(2**31, size=number)
    first = _played(task, seeds, num_steps, seed)
    if first.faults:
        lane, text = next(iter(first.faults.items()))
        yield f"an episode failed (lane {lane}): {text}"
        return
    again = _played(task, seeds, num_steps, seed)
    if not _equal(first.obs, again.obs) or not _equal(first.reward, again.reward):
        when = "at reset" if not _equal(first.obs[:1], again.obs[:1]) else "in steps"
        yield (
            f"the same seeds and actions give other episodes a second time, {when}: "
            "draw everything from self.np_random, which reset(seed=...) seeds"
        )
    space = flat_space(task.obs_space)
    how = outside(space, first.obs.reshape(-1, *first.obs.shape[2:]))
    if how is not None:
        yield f"obs leaves its space: it {how}"
    if not np.isfinite(first.reward).all():
        yield "reward is infinite in some step"
    longest = first.lengths.max()
    if task.limit is not None and longest > task.limit:
        yield (
            f"with a time limit of {task.limit} an episode went on for {longest} steps"
        )
    late = first.lengths == (task.limit or -1)
    if late.any() and first.terminated[late].all() and late.sum() > number / 2:
        yield (
            f"episodes that reach the time limit of {task.limit} are marked as "
            "terminated, not truncated: learners would take the limit for a failure"
        )


class _Played:
    """Episodes of all lanes, the first after a reset: arrays [T + 1, N], [T, N]."""

    def __init__(self, obs: np.ndarray):
        number = len(obs)
        self.obs: Any = [obs]
        self.reward: Any = []
        self.lengths = np.zeros(number, int)
        self.terminated = np.zeros(number, bool)
        self.faults: dict[int, str] = {}


def _played(task: ExternalTask, seeds: np.ndarray, num_steps: int, seed: int):
    session = task.session
    choose = _random_actions(task.act_space, seed)
    obs, faults = session.reset(seeds)
    played = _Played(obs)
    played.faults |= faults
    alive = np.ones(len(seeds), bool)
    for _ in range(num_steps):
        outcome = session.step(choose(len(seeds)), alive)
        played.faults |= outcome.faults
        if played.faults:
            break
        kept = outcome.obs.copy()
        kept[~alive] = played.obs[-1][~alive]
        played.obs.append(kept)
        played.reward.append(np.where(alive, outcome.reward, 0.0))
        played.lengths += alive
        played.terminated |= alive & outcome.terminated & ~outcome.truncated
        alive &= ~(outcome.terminated | outcome.truncated)
        if not alive.any():
            break
    played.obs = np.stack(played.obs)
    played.reward = np.array(played.reward)
    return played


def _random_actions(space: Any, seed: int) -> Callable[[int], np.ndarray]:
    space.seed(seed)
    start = getattr(space, "start", 0)
    is_discrete = isinstance(space, gymnasium.spaces.Discrete)

    def draw(number: int) -> np.ndarray:
        rows = np.stack([np.asarray(space.sample()) for _ in range(number)])
        return for_space(rows - start if is_discrete else rows, space)

    return draw


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
    return first.shape == second.shape and bool(
        np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
    )
