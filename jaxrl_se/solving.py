"""From a log to a trained policy in one line: `solve`."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import envs
import oswm
from envs.spaces import Spaces
from jaxrl_runs.values import COUNT, FLAG, Integer, as_key
from jaxrl_se.agents import PPO, SAC
from jaxrl_se.agents.agent import AGENT
from jaxrl_se.defaults import whole_steps
from jaxrl_se.log_evidence import check_log
from jaxrl_se.policies import HoldsPolicy
from jaxrl_se.training import train
from oswm.fitting import fit

_EPISODES = 16
_AGREED = "models of parts agree; a test in the task itself is still due"
# Share of the reward's variance that a model may leave before it is told.
_UNKNOWN_REWARD = 0.5
# Kernels fit what is smooth. Where more than this share of a target's variance is left
# out of reach, walls or grids are likely, for which the transformer was trained.
_SMOOTH = 0.1
_MOSTLY = 0.3  # Or chance, where other models leave as much.


@dataclasses.dataclass(frozen=True)
class Solution(HoldsPolicy):
    """A policy that was trained inside a world model of a log.

    Attributes:
      policy: `(obs, key) -> action`, the best agent's.
      env: The world model's environment.
      params: Its params, those of the whole log.
      agent: The algorithm.
      policies: All agents', with a leading axis `[A]`.
      returns: float64 `[A, 1 + W]`, mean return of each agent in the model of all rows
        and in each of W models of parts of them, as these say the task pays: nothing is
        taken off where they are unsure, as it is in training.
      chosen: The row of `policy` in both.
      rows: Transitions in the log.
      logged_return: Mean return of the log's complete episodes, NaN without one.
      model: The world model.
      left_out: float64 `[S + 1]`, squared leave-one-out error of the model over the
        variance, of the change of each observation and of the reward; that of what ends
        pay is of parts of the log. NaN where nothing varies, and of a reward that was
        given.
      num_steps: Training steps of each agent, all of them inside the model.
      cpu_seconds: CPU time of everything.
    """

    policy: Any
    env: Any
    params: Any
    agent: Any
    policies: Any
    returns: np.ndarray
    chosen: int
    rows: int
    logged_return: float
    model: Any
    left_out: np.ndarray
    num_steps: int
    cpu_seconds: float

    @property
    def spaces(self) -> Spaces:
        """Of the policy, for files."""
        return Spaces.of(self.env, self.params)

    @property
    def inside(self) -> float:
        """Mean return of the policy in the model of all rows."""
        return float(self.returns[self.chosen, 0])

    @property
    def range_of_worlds(self) -> tuple[float, float]:
        """Lowest and highest mean return over models of parts of the log."""
        worlds = self.returns[self.chosen, 1:]
        return float(worlds.min()), float(worlds.max())

    def __repr__(self) -> str:
        """Model and errors, agent, return inside, and how sure that is."""
        low, high = self.range_of_worlds
        errors = ", ".join("-" if np.isnan(e) else f"{e:.2g}" for e in self.left_out)
        others = np.delete(self.returns[:, 0], self.chosen)
        limit = int(self.params.max_steps_in_episode)
        logged = f"{self.logged_return:.4g}"
        if np.isnan(self.logged_return):
            logged = "unknown, as none is complete"
        return "\n".join(
            [
                f"Solution: {type(self.agent).__name__} trained for {self.num_steps:,} "
                f"steps in {type(self.model).__name__} of {self.rows:,} rows",
                "  leave-one-out errors (share of variance; observations, reward): "
                + errors,
                f"  return inside {self.inside:.4g}; in models of parts of the log "
                f"{low:.4g} to {high:.4g}; mean of logged episodes {logged}",
                f"  episodes inside last {limit} steps at most",
                f"  {len(others)} other agents inside: "
                + ", ".join(f"{r:.4g}" for r in others),
                f"  {self.doubt() or _AGREED}",
                f"  {self.cpu_seconds:.0f} CPU-s",
            ]
        )

    def doubt(self) -> str | None:
        """Why not to trust the policy, None if models of parts agree about it."""
        low, high = self.range_of_worlds
        if self.left_out[-1] > _UNKNOWN_REWARD:
            return (
                f"not to be trusted: {self.left_out[-1]:.0%} of the variance of the "
                "reward are not known to the model. Give it as a function of what is "
                "observed (reward=...), or observe what it depends on"
            )
        if np.isnan(self.logged_return):
            return (
                "not known to be better than the log, which holds no complete episode: "
                "test the policy in the task itself"
            )
        if max(self.inside, high) < self.logged_return:
            return (
                "not trained enough: in every one of these models, that of all rows "
                "too, the policy does worse than the log did. Train longer "
                "(num_steps=...), or give another agent"
            )
        if low < self.logged_return:
            return (
                "doubtful: in one of these models the policy does no better than the "
                "log did. Record more rows, best under this policy"
            )
        gap = self.inside - self.logged_return
        if gap > 0 and self.inside - low > 0.25 * gap:
            return (
                "unsure: models of parts of the log disagree about the policy. Record "
                "more rows, best under this policy"
            )
        return None


def default_solver(spaces: Spaces) -> tuple[Any, int]:
    """The agent for these actions and its training steps."""
    if spaces.num_actions is None:
        return SAC(hidden_sizes=(64, 64)), 20_000
    return PPO(num_envs=8, rollout_steps=128, num_minibatches=8), 102_400


def solve(
    log: Any,
    key: int | jax.Array = 0,
    *,
    agent: Any = None,
    num_steps: int | None = None,
    num_agents: int = 4,
    num_worlds: int = 5,
    model: Any = None,
    action_space: Any = None,
    max_steps: int | None = None,
    terminated: Callable[..., Any] | None = None,
    reward: Callable[..., Any] | None = None,
    uncertainty_penalty: float = 1.0,
    initial_obs: Any = None,
    progress: bool = True,
) -> Solution:
    """Trains a policy from logged transitions, with settings that work.

    A few agents are trained in a world model of all rows; the one that does best in
    models of parts of them, which it has never met, is the result. At defaults SAC
    takes 20,000 steps and PPO 102,400, and all of it a minute or a few on two cores.
    Continuous actions are kept to the log's range unless `action_space` gives another.

    Args:
      log: About a thousand transitions, in any form that `oswm.condition` takes.
      key: A seed or a PRNG key.
      agent: The algorithm; by default SAC for continuous actions and PPO for discrete
        ones, with sizes for small tasks.
      num_steps: Training steps of each agent, rounded up to whole iterations.
      num_agents: Agents to choose from.
      num_worlds: Models of parts of the log, at least 2.
      model: The world model: `oswm.Ridge()`, `oswm.KernelRidge()`,
        `oswm.FastKernelRidge()`, `oswm.MLPEnsemble()`, `oswm.NearestNeighbours()`,
        `oswm.LeaveOneOut()`, or `oswm.load_model()`, the shipped transformer; by
        default `oswm.FastKernelRidge()`, or the shipped transformer where leave-one-out
        errors say that the task is not smooth.
      action_space: As for `oswm.condition`.
      max_steps: As for `oswm.condition`.
      terminated: As for `oswm.condition`.
      reward: As for `oswm.condition`.
      uncertainty_penalty: As for `oswm.condition`.
      initial_obs: As for `oswm.condition`.
      progress: Whether to say on standard error what is being done.

    Returns:
      A `Solution`, which says when printed what was done and how sure it is.

    Raises:
      ValueError: The log is too small, or nothing in it is better than anything else;
        otherwise as `oswm.condition` and `train`.
    """
    started, key = time.process_time(), as_key(key)
    COUNT.check("num_agents", num_agents)
    Integer(2).check("num_worlds", num_worlds)
    Integer(optional=True).check("num_steps", num_steps)
    FLAG.check("progress", progress)
    if agent is not None:
        AGENT.check("agent", agent)
    rows = oswm.read_log(log)
    check_log(rows, reward_is_known=reward is not None)
    settings = {
        "action_space": action_space,
        "max_steps": max_steps,
        "terminated": terminated,
        "reward": reward,
        "uncertainty_penalty": uncertainty_penalty,
        "initial_obs": initial_obs,
        "progress": progress,
    }
    first = oswm.FastKernelRidge() if model is None else model
    env, params = oswm.condition_worlds(rows, num_worlds, model=first, **settings)
    left_out = leave_one_out_errors(rows, params.cache)
    rough = np.where(is_chance(rows, left_out, action_space), np.nan, left_out)
    if model is None and np.nanmax(rough, initial=0.0) > _SMOOTH:
        worst = int(np.nanargmax(rough))
        what = "the reward" if worst == len(left_out) - 1 else f"observation {worst}"
        _say(
            progress,
            f"kernels leave {left_out[worst]:.0%} of the variance of {what}: there are "
            "jumps or walls, for which the shipped transformer is better",
        )
        env, params = oswm.condition_worlds(rows, num_worlds, **settings)
    spaces = Spaces.of(env, params)
    usual, usual_steps = default_solver(spaces)
    agent = usual if agent is None else agent
    num_steps = whole_steps(num_steps or usual_steps, (agent,))
    what = f"{num_agents} agents ({type(agent).__name__}, {num_steps:,} steps each)"
    _say(progress, f"training {what} inside")
    key_train, key_play = jax.random.split(key)
    trained = train(
        agent,
        env,
        params,
        key_train,
        num_steps,
        num_agents=num_agents,
        progress=progress,
    )
    _say(progress, f"testing them in models of {num_worlds} parts of the log")
    returns, paid = _returns(trained.policy, env, params, key_play, progress)
    chosen = int(np.argmax(paid[:, 1:].mean(axis=1)))
    left_out[-1] += params.end_pay_error / max(float(np.var(rows.reward)), 1e-12)
    if reward is not None:
        left_out[-1] = np.nan
    return Solution(
        policy=jax.tree.map(lambda leaf: leaf[chosen], trained.policy),
        env=env,
        params=params,
        agent=agent,
        policies=trained.policy,
        returns=returns,
        chosen=chosen,
        rows=len(rows),
        logged_return=_logged_return(rows),
        model=env.model,
        left_out=left_out,
        num_steps=num_steps,
        cpu_seconds=time.process_time() - started,
    )


def is_chance(
    rows: envs.Transitions, left_out: np.ndarray, action_space: Any
) -> np.ndarray:
    """Targets [S + 1] of which kernels leave much, and neighbours no less: chance."""
    is_much = left_out > _MOSTLY
    if not is_much.any():
        return is_much
    context = oswm.Context.of(rows, action_space)
    neighbours = fit(oswm.NearestNeighbours(), context)
    return is_much & (leave_one_out_errors(rows, neighbours) > 0.9 * left_out)


def leave_one_out_errors(rows: envs.Transitions, cache: Any) -> np.ndarray:
    """Squared errors over variances [S + 1], NaN where unknown or nothing varies."""
    size = int(np.prod(np.shape(rows.obs)[1:], dtype=int))
    residual = getattr(cache, "residual", None)
    if hasattr(cache, "scales"):  # The transformer's: of the best model underneath.
        residual = np.asarray(cache.scales.residual)[None]
    if residual is None or np.shape(residual)[-1] != size + 1:
        return np.full(size + 1, np.nan)
    change = np.asarray(rows.next_obs, float) - np.asarray(rows.obs, float)
    targets = np.column_stack([change.reshape(len(rows), -1), rows.reward])
    variance = targets.var(axis=0)
    errors = np.square(np.asarray(residual, float)[: len(rows)]).mean(axis=0)
    return np.where(variance > 1e-12, errors / np.maximum(variance, 1e-12), np.nan)


def _returns(
    policies: Any, env: Any, params: Any, key: jax.Array, progress: bool
) -> np.ndarray:
    """Mean returns `[2, A, 1 + W]` in the model of the log and in those of its parts.

    First as they say the task pays, then less the price of what they are unsure of.
    """
    task = envs.open_task((env, params))
    members = jax.device_get(params.members)  # whose parts compile nothing
    num_worlds = jax.tree.leaves(members)[0].shape[0]
    worlds = [{}] + [
        jax.tree.map(lambda leaf, place=place: leaf[place], members)
        for place in range(num_worlds)
    ]
    found, usual = [], params.uncertainty_penalty
    for part in tqdm(worlds, unit="model", delay=3.0, disable=not progress):
        each = []
        for price in (jnp.zeros_like(usual), usual):
            world = params.replace(**part, uncertainty_penalty=price)
            episodes, _ = task.play(policies, key, _EPISODES, params=world, num_axes=1)
            each.append(np.asarray(episodes.returns).mean(axis=-1))
        found.append(each)
    return np.stack(found, axis=-1).astype(np.float64)


def _logged_return(rows: envs.Transitions) -> float:
    found = envs.known_episodes(rows)
    returns = found.returns[found.is_complete]
    return float(returns.mean()) if returns.size else float("nan")


def _say(progress: bool, text: str) -> None:
    if progress:
        print(f"solve: {text}", file=sys.stderr, flush=True)
