"""Playing outside JAX: an engine steps between jitted calls of the policies."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from envs.play import as_pytree, batch_shape, dtype_of, memory_and_step
from envs.policy_checks import (
    action_of,
    cannot_act,
    check_rows,
    say_outside,
    unended,
)
from envs.session import Session

# What tracing a policy of Python or NumPy raises.
_NOT_TRACEABLE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


@dataclasses.dataclass
class Lanes:
    """One episode in each of N lanes.

    Attributes:
      returns: float64 `[N]`, undiscounted; those of failed episodes are void.
      lengths: int64 `[N]`, steps that were taken.
      faults: By lane, how its episode failed.
      policy_faults: Those of them that are the policy's and not the environment's.
    """

    returns: np.ndarray
    lengths: np.ndarray
    faults: dict[int, str]
    policy_faults: set[int]


def play_lanes(
    session: Session,
    choose: Callable[[np.ndarray, int], np.ndarray],
    seeds: np.ndarray,
    active: np.ndarray,
    *,
    time_limit: int | None = None,
    max_steps: int | None = None,
    most: int | None = None,
    on_step: Callable[..., None] | None = None,
    on_obs: Callable[[np.ndarray], None] | None = None,
) -> Lanes:
    """Plays the first episode after a reset in every active lane.

    Args:
      session: Whose engine, in its first N lanes.
      choose: `(obs [N, ...], time) -> actions [N, ...]`.
      seeds: Integers `[N]`.
      active: bool `[N]`, the lanes that play.
      time_limit: Steps after which an episode is truncated, in addition to the task's
        own limit.
      max_steps: Steps after which nothing more is played, and nothing is marked.
      most: Steps after which it is an error that an episode goes on.
      on_step: Called after every step with obs, actions and the `Outcome`.
      on_obs: Called before every step with the observations that are acted on, of the
        lanes whose episode goes on.

    Raises:
      RuntimeError: An episode goes on after `most` steps.
    """
    number = len(seeds)
    obs, faults = session.reset(seeds)
    lanes = Lanes(np.zeros(number), np.zeros(number, np.int64), {}, set())
    alive = np.array(active)

    def fail(*faults: dict[int, str]) -> None:
        for lane, message in [item for fault in faults for item in fault.items()]:
            if alive[lane]:
                lanes.faults[lane] = message
        alive[list(lanes.faults)] = False

    fail(faults, _nan(obs, "reset gave an observation"))
    session.look(obs[alive])
    time = 0
    while alive.any() and time != max_steps:
        if most is not None and time >= most:
            raise RuntimeError(unended(session.name, most))
        if on_obs is not None:
            on_obs(obs[alive])
        actions = session.choose(choose, obs, time)
        by_policy = _nan(actions, "the policy gave an action")
        if by_policy:
            lanes.policy_faults |= {i for i in by_policy if alive[i]}
            fail(by_policy)
            actions[list(by_policy)] = 0
            if not alive.any():
                break
        outcome = session.step(actions, alive)
        time += 1
        if time == time_limit:
            outcome.truncated |= ~outcome.terminated
        lanes.lengths += alive
        fail(
            outcome.faults,
            _nan(outcome.obs, "step gave an observation"),
            _nan(outcome.reward, "step gave a reward"),
        )
        session.look(outcome.obs[: len(alive)][alive])
        lanes.returns += np.where(alive, outcome.reward, 0.0)
        if on_step is not None:
            on_step(obs, actions, outcome)
        alive &= ~(outcome.terminated | outcome.truncated)
        obs = outcome.obs
    return lanes


def _nan(values: np.ndarray, what: str) -> dict[int, str]:
    """Lanes with NaN among their values; infinity can be meant."""
    if not np.issubdtype(values.dtype, np.floating) or not np.isnan(values).any():
        return {}
    flat = np.isnan(values.reshape(len(values), -1)).any(axis=1)
    return {int(lane): f"{what} with NaN" for lane in np.flatnonzero(flat)}


@dataclasses.dataclass(frozen=True)
class Policies:
    """Policies of either kind, one or a batch, for lanes of an engine.

    Attributes:
      tree: Policies with one leading axis `[P]`; for a policy of Python, itself.
      batch: Their leading axes as they were given, whose product is P.
      is_python: Whether it is one policy that JAX cannot trace, which is then called
        lane by lane.
    """

    tree: Any
    batch: tuple[int, ...]
    is_python: bool = False

    @classmethod
    def of(
        cls,
        policies: Any,
        obs_space: Any,
        action_space: Any,
        num_axes: int | None = None,
        label: str = "",
    ) -> Policies:
        """Finds out how many there are, and whether their actions are the task's.

        Raises:
          ValueError: See `envs.play.batch_shape`, and `envs.policy_checks.action_of`.
        """
        tree = as_pytree(policies)
        if not all(
            hasattr(x, "dtype") or np.isscalar(x) for x in jax.tree.leaves(tree)
        ):
            return cls(policies, (), is_python=True)  # An object that is no pytree.
        obs = jax.ShapeDtypeStruct(
            obs_space.shape, jax.dtypes.canonicalize_dtype(obs_space.dtype)
        )
        shape_of = functools.partial(_one_action.eval_shape, obs=obs)
        try:
            if not jax.tree.leaves(tree):
                shape_of(tree)
            batch = batch_shape(tree, shape_of, action_space.shape, num_axes)
        except _NOT_TRACEABLE:
            return cls(policies, (), is_python=True)
        except Exception as error:
            if not jax.tree.leaves(tree):
                return cls(policies, (), is_python=True)  # A faulty one will say so.
            if isinstance(error, ValueError) and str(error)[:6] in ("policy", "num_ax"):
                raise
            batch = ()  # It is told below.
        one = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(np.shape(x)[len(batch) :], dtype_of(x)), tree
        )
        action_of(lambda: shape_of(one), action_space, obs, label)
        number = int(np.prod(batch, dtype=int))
        flat = jax.tree.map(
            lambda x: jnp.reshape(x, (number, *jnp.shape(x)[len(batch) :])), tree
        )
        return cls(flat, batch)

    def actor(
        self,
        index: np.ndarray,
        keys: jax.Array,
        space: gymnasium.Space,
        label: str = "",
    ) -> Callable[[np.ndarray, int], np.ndarray]:
        """A function that acts in lanes.

        Args:
          index: int `[p]`, which policies act.
          keys: Keys `[p, e]`, each that of an episode.
          space: The action space.
          label: The task's name.

        Returns:
          `(obs [p * e, ...], time) -> actions [p * e, ...]`, which keeps the memories
          of policies that have one.
        """
        if self.is_python:
            return _python_actor(self.tree, keys.reshape(-1), space, label)
        tree = jax.tree.map(lambda leaf: leaf[index], self.tree)
        memory = _memories(tree, keys)

        def act(obs: np.ndarray, time: int) -> np.ndarray:
            nonlocal memory
            grid = obs.reshape(*keys.shape, *obs.shape[1:])
            actions, memory = _act(tree, memory, grid, keys, np.int32(time))
            rows = np.asarray(actions)
            return checked(rows.reshape(len(obs), *rows.shape[keys.ndim :]))

        checked = _checker(space, label)
        return act


@jax.jit
def _one_action(policy, obs):
    memory, act = memory_and_step(policy)
    return act(memory, obs, jax.random.key(0))[0]


@jax.jit
def _memories(policies, keys):
    def one(policy, keys):
        memory, _ = memory_and_step(policy)
        return jax.tree.map(
            lambda x: jnp.broadcast_to(x, (*keys.shape, *jnp.shape(x))), memory
        )

    return jax.vmap(one)(policies, keys)


@jax.jit
def _act(policies, memory, obs, keys, time):
    def one(policy, memory, obs, key):
        key_action, _ = jax.random.split(jax.random.fold_in(key, time))
        return memory_and_step(policy)[1](memory, obs, key_action)

    lanes = jax.vmap(one, (None, 0, 0, 0))
    return jax.vmap(lanes)(policies, memory, obs, keys)


@jax.jit
def _action_keys(keys, time):
    return jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, time))[0])(
        keys
    )


def _checker(space: gymnasium.Space, label: str) -> Any:
    """Makes actions `[N, ...]` elements of a space; warns once where they leave it."""
    is_said = False

    def checked(actions: np.ndarray) -> np.ndarray:
        nonlocal is_said
        if check_rows(actions, space, label) and not is_said:
            is_said = True
            say_outside(space, label)
        return for_space(actions, space)

    return checked


def _python_actor(policy: Any, keys: jax.Array, space: gymnasium.Space, label) -> Any:
    memory, act = memory_and_step(policy)
    memories = [memory] * len(keys)
    checked = _checker(space, label)

    def act_in_turn(obs: np.ndarray, time: int) -> np.ndarray:
        actions = []
        for lane, key in enumerate(_action_keys(keys, np.int32(time))):
            try:
                action, memories[lane] = act(memories[lane], obs[lane], key)
            except (TypeError, ValueError) as error:  # of shapes, mostly
                raise cannot_act(obs[lane], label, error) from error
            actions.append(np.asarray(action))
        return checked(np.stack(actions))

    return act_in_turn


def random_actor(space: gymnasium.Space, seed: int) -> Any:
    """Draws actions uniformly from a space; the same seed draws the same ones."""
    space.seed(seed)

    def act(obs: np.ndarray, time: int) -> np.ndarray:
        return np.stack([np.asarray(space.sample()) for _ in range(len(obs))])

    return act


def for_space(actions: np.ndarray, space: gymnasium.Space) -> np.ndarray:
    """Actions of policies `[N, ...]` as elements of a space, not clipped to bounds.

    Policies count discrete actions from 0, wherever the space starts.
    """
    actions = actions.reshape(len(actions), *(space.shape or ()))
    if isinstance(space, gymnasium.spaces.Discrete):
        actions = actions + space.start
    return actions.astype(space.dtype)
