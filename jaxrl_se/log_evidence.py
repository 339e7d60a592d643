"""What a log must show for anything to be learned from it, said before it is tried."""

from __future__ import annotations

import dataclasses

import numpy as np

from envs import Transitions
from envs.spaces import Spaces
from envs.task import Task
from jaxrl_runs.checkpoints import tree_sha256
from jaxrl_runs.warn import warn_user
from jaxrl_se.probing import Probe

FEWEST_ROWS = 50
FEW_ROWS = 300  # All measurements were made with 1,000 and more.
_FEW_REWARDS = 5


def digest_of(rows: Transitions) -> str:
    """A SHA-256 of the numbers of a log."""
    fields = {f.name: getattr(rows, f.name) for f in dataclasses.fields(rows)}
    fields = {k: np.asarray(v) for k, v in fields.items() if v is not None}
    return tree_sha256(fields)


def says_where_to_go(rows: Transitions) -> bool:
    """Whether rewards or ends of episodes tell one state from another.

    They do not where no row terminates and the reward is the action's alone, as long as
    the goal of a task that charges each step, or each push, has never been met.
    """
    if np.asarray(rows.terminated).any():
        return True
    reward = np.asarray(rows.reward, np.float64)
    if np.ptp(reward) == 0:
        return False
    action = np.asarray(rows.action)
    if action.dtype.kind in "iu":
        groups = [np.ptp(reward[action == value]) for value in np.unique(action)]
        return bool(max(groups) > 1e-5 * np.ptp(reward))
    inputs = action.reshape(len(rows), -1).astype(np.float64)
    inputs = (inputs - inputs.mean(axis=0)) / np.maximum(inputs.std(axis=0), 1e-9)
    first, second = np.triu_indices(inputs.shape[1])
    products = inputs[:, first] * inputs[:, second]
    features = np.concatenate([np.ones((len(rows), 1)), inputs, products], axis=1)
    weights = np.linalg.lstsq(features, reward, rcond=None)[0]
    return bool(np.std(reward - features @ weights) > 1e-3 * np.std(reward))


def check_fits(rows: Transitions, task: Task) -> None:
    """Raises where a log has other observations or actions than a task.

    Raises:
      ValueError: Names both sizes, or kinds of actions.
    """
    spaces = task.spaces if task.is_external else Spaces.of(*task.pair)
    seen = int(np.prod(np.shape(rows.obs)[1:]))
    wanted = 1 if spaces.num_states is not None else spaces.obs_size
    if seen not in (wanted, spaces.obs_size):
        raise ValueError(
            f"log must have the observations of {task.name}, {wanted} numbers each, "
            f"got {seen}"
        )
    action = np.asarray(rows.action)
    is_numbered = action.dtype.kind in "iu" and action.ndim == 1
    if is_numbered != (spaces.num_actions is not None):
        kinds = "numbered actions", "actions of real numbers"
        raise ValueError(
            f"log must have the actions of {task.name}, "
            f"{kinds[spaces.num_actions is None]}, got {kinds[not is_numbered]} "
            f"({action.dtype}, {list(action.shape[1:])})"
        )
    number = spaces.num_actions
    if number is not None and int(action.max()) >= number:
        raise ValueError(
            f"log must have the {number} actions of {task.name}, "
            f"0 ... {number - 1}, got {int(action.max())}"
        )
    if number is None and action.reshape(len(rows), -1).shape[1] != spaces.action_size:
        raise ValueError(
            f"log must have the actions of {task.name}, {spaces.action_size} numbers "
            f"each, got {action.reshape(len(rows), -1).shape[1]}"
        )


def check_log(rows: Transitions, *, reward_is_known: bool = False) -> None:
    """Raises for a log that nothing can be learned from, and warns of a poor one.

    Args:
      rows: The log.
      reward_is_known: Whether rewards are given as a function, so that those of the
        rows do not matter.

    Raises:
      ValueError: Too few rows, or nothing in them is better than anything else.
    """
    if len(rows) < FEWEST_ROWS:
        raise ValueError(
            f"log must hold at least {FEWEST_ROWS} transitions, got {len(rows)}; a "
            "thousand are usual"
        )
    if len(rows) < FEW_ROWS:
        warn_user(
            f"log: {len(rows)} transitions are few, a thousand are usual: the model of "
            "them may be wrong about most of the task",
        )
    if reward_is_known:
        return
    reward = np.asarray(rows.reward)
    terminated = np.asarray(rows.terminated)
    if np.ptp(reward) == 0 and (reward[0] == 0 or not terminated.any()):
        raise ValueError(
            f"log: its reward never varies (it is {reward[0]:g} in all {len(rows):,} "
            f"rows) and {_ends(terminated)}, so that nothing in it is better than "
            "anything else. Add rows that reach the goal, give the reward as a "
            "function (reward=), or, where the task itself can be played, have them "
            "found: jaxrl_se.evolve(task, real_steps=10_000)"
        )
    if not says_where_to_go(rows):
        warn_user(
            "log: no row terminates and the reward depends on the action alone: if the "
            "task has a goal, no row reaches it. Add rows that do, or, where the task "
            "itself can be played, have them found: jaxrl_se.evolve(task, "
            "real_steps=10_000)",
        )
    usual = np.median(reward)
    rare = int(np.sum(np.abs(reward - usual) > 1e-6 * max(np.ptp(reward), 1e-30)))
    if 0 < rare < _FEW_REWARDS and not terminated.any():
        warn_user(
            f"log: all rewards but {rare} are {usual:g}: so few do not show what earns "
            "them",
        )


def _ends(terminated: np.ndarray) -> str:
    count = int(terminated.sum())
    return "no row terminates" if not count else f"{count} rows terminate"


def survival_return(found: Probe, max_steps: int) -> float | None:
    """The return of an episode that lasts, where lasting is all that a log rewards.

    Args:
      found: What the log shows.
      max_steps: The time limit.

    Returns:
      The reward of each step times the limit if all rewards are the same positive
      number, else None.
    """
    if found.reward_min == found.reward_max and found.reward_max > 0:
        return found.reward_max * max_steps
    return None


def novelty(rows: Transitions, neighbours: int = 5) -> np.ndarray:
    """How little a log shows of the state that each of its rows led to.

    Args:
      rows: N rows.
      neighbours: Which nearest other row's distance is taken.

    Returns:
      float32 [N]: the distance of `next_obs` to that of its fifth nearest other row,
      each observation in its standard deviations.
    """
    reached = np.asarray(rows.next_obs, np.float64).reshape(len(rows), -1)
    std = reached.std(axis=0)
    reached = reached / np.where(std > 0, std, 1.0)
    place = min(neighbours, len(rows) - 1)
    found = []
    for start in range(0, len(rows), 1000):
        gaps = reached[start : start + 1000, None] - reached
        squares = np.square(gaps).sum(axis=2)
        found.append(np.partition(squares, place, axis=1)[:, place])
    return np.sqrt(np.concatenate(found)).astype(np.float32)
