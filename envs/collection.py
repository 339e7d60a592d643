"""Transitions from a task, under any policy."""

from __future__ import annotations

from typing import Any, overload

import jax
import numpy as np

from envs.play import POLICY_OR_NONE, Policy, RecurrentPolicy
from envs.task import open_task, split_arguments
from envs.transitions import Transitions
from jaxrl_runs.values import MANY, REQUIRED, Integer, as_key

AnyPolicy = Policy | RecurrentPolicy


@overload
def collect(
    task: Any,
    num_transitions: int,
    key: jax.Array | int,
    policy: AnyPolicy | None = None,
    *,
    num_axes: int | None = None,
) -> Transitions: ...
@overload
def collect(
    task: Any,
    params: Any,
    num_transitions: int,
    key: jax.Array | int,
    policy: AnyPolicy | None = None,
    *,
    num_axes: int | None = None,
) -> Transitions: ...


def collect(task: Any, *args: Any, **kwargs: Any) -> Transitions:
    """Collect transitions, one episode after another.

    ``collect(task, num_transitions, key, policy=None)``, or with a gymnax environment
    and its params ``collect(env, params, num_transitions, key, policy=None)``.

    Args:
        task: Whatever `open_task` takes: a name, a gymnax pair ``(env, params)``,
            which is stepped in one compiled scan, a `Task`; or outside JAX a
            ``gymnasium.Env``, a ``gymnasium.vector.VectorEnv`` or an
            `ExternalTask`, whose environments play whole episodes side by side.
        *args: Params, if ``task`` is a gymnax environment; the number of rows, exactly
            (the last episode is cut there without being marked); a PRNG key or a seed
            (the same key gives the same transitions); and the policy,
            ``policy(obs, key) -> action``, or one that remembers
            (`RecurrentPolicy`). Inside JAX it must be a pure JAX function, or a
            callable pytree: its arrays are traced, so it compiles once for all weights
            (``jax.tree_util.Partial(apply, weights)`` is one). Default: actions drawn
            uniformly from the action space.
        **kwargs: The same by name; and ``num_axes=0`` to say that the policy is a
            single one, where the shape of its actions does not tell.

    Returns:
        Transitions of NumPy arrays, in the dtypes that JAX would give them. Discrete
        actions count from 0.

    Raises:
        TypeError: If ``task`` is no task, or observations are no arrays.
        ValueError: If the number of rows is less than 1, or the task or the policy
            gave numbers that are not valid (the field is named), or the policy is a
            batch of them.
        RuntimeError: If every episode outside JAX failed.

    Example:
        >>> import envs
        >>> data = envs.collect("CartPole-v1", 1_000, key=0)
        >>> data.obs.shape
        (1000, 4)
    """
    params, (num_transitions, key, policy, num_axes) = split_arguments(
        "collect",
        task,
        args,
        kwargs,
        {
            "num_transitions": REQUIRED,
            "key": REQUIRED,
            "policy": None,
            "num_axes": None,
        },
    )
    MANY.check("num_transitions", num_transitions)
    key = as_key(key)
    if not isinstance(policy, RecurrentPolicy):
        POLICY_OR_NONE.check("policy", policy)
    Integer(0, optional=True).check("num_axes", num_axes)
    transitions = open_task(task, params).collect(
        num_transitions, key, policy, num_axes=num_axes
    )
    return jax.tree.map(np.array, transitions).validate()
