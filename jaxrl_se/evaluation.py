"""How good is a policy? One function: policy, task, key, episodes -> returns."""

from __future__ import annotations

from typing import Any, overload

import jax

from envs.play import Episodes, RecurrentPolicy, play
from envs.policy_checks import is_discrete
from envs.spaces import Spaces
from envs.task import open_task, split_arguments
from jaxrl_runs.values import REQUIRED, Function, Integer
from jaxrl_se.flat_policies import FlatPolicy
from jaxrl_se.policies import HoldsPolicy

__all__ = ["Episodes", "evaluate", "play"]

Key = int | jax.Array
POLICY = Function("(obs, key) -> action, such as train(...).policy")


@overload
def evaluate(
    policy: Any,
    task: Any,
    params: Any,
    key: Key,
    num_episodes: int = 10,
    *,
    num_axes: int | None = None,
) -> Episodes: ...
@overload
def evaluate(
    policy: Any,
    task: Any,
    key: Key,
    num_episodes: int = 10,
    *,
    num_axes: int | None = None,
) -> Episodes: ...


def evaluate(
    policy: Any, task: Any, *args: Any, num_axes: int | None = None, **kwargs: Any
) -> Episodes:
    """Plays whole episodes, from reset to termination or truncation.

    `evaluate(policy, task, key, num_episodes=10)`, or with a gymnax environment and its
    params `evaluate(policy, env, params, key, num_episodes=10)`.

    Args:
      policy: A callable `(obs, key) -> action`: one of `jaxrl_se.policies`, any pytree
        with `__call__`, or a plain function (compiled anew for each function object).
        Or one that remembers (`envs.RecurrentPolicy`). Or a batch of either, a pytree
        with leading axes `[...]`, such as the policies of `train(num_agents=16)`. Or
        what `train` or `load_agent` gave, whose policy is taken. One that was trained
        on vectors sees pictures of as many numbers flattened.
      task: Whatever `envs.open_task` takes: a name, a gymnax pair `(env, params)`, a
        `gymnasium.Env`, an `envs.Task`; or a gymnax environment.
      *args: Its params, if `task` is a gymnax environment; a seed or a PRNG key, all
        episodes are independent of each other; how many episodes each policy plays.
      num_axes: How many leading axes of the policy count policies, 0 for a single one.
        By default it is told by the shape of the actions, which is an error where
        several numbers fit.
      **kwargs: The same by name: `params`, `key`, `num_episodes`.

    Returns:
      `Episodes` with arrays of shape `[..., num_episodes]`.

    Raises:
      ValueError: `num_episodes` is not positive, the policy's actions are not the
        task's (of another shape or dtype, or none of the discrete ones), it was trained
        for other spaces, or `num_axes` is wrong or needed.
      TypeError: `task` is no task, or arguments are missing.
      RuntimeError: An episode does not end, and no time limit is known.

    A RuntimeWarning says where actions left their bounds, and where a reward or an
    observation was NaN.
    """
    params, (key, num_episodes) = split_arguments(
        "evaluate", task, args, kwargs, {"key": REQUIRED, "num_episodes": 10}
    )
    if hasattr(policy, "policy_weights"):
        raise TypeError(
            "policy must be a trained one, jaxrl_se.train(agent, ...).policy, got the "
            f"agent {type(policy).__name__}"
        )
    spaces = getattr(policy, "spaces", None)
    # A policy of somebody's own may well call the one that it wraps `policy`.
    policy = policy.policy if isinstance(policy, HoldsPolicy) else policy
    if not isinstance(policy, RecurrentPolicy):
        POLICY.check("policy", policy)
    Integer(0, optional=True).check("num_axes", num_axes)
    opened = open_task(task, params)
    spaces = spaces or getattr(policy, "spaces", None)
    if _sees_vectors_of(opened, policy, spaces):
        policy, spaces = FlatPolicy(policy, opened.spaces), opened.spaces
    _check_spaces(policy, spaces, opened)
    return opened.play(policy, key, num_episodes, num_axes=num_axes)[0]


def _sees_vectors_of(task: Any, policy: Any, spaces: Any) -> bool:
    """Whether an agent was trained on vectors of what a task shows as pictures."""
    size = getattr(getattr(policy, "network", None), "in_size", None)
    seen = spaces.obs_shape if isinstance(spaces, Spaces) else (size,)
    return seen != (None,) and task.spaces.obs_shape != seen == (task.spaces.obs_size,)


def _check_spaces(policy: Any, spaces: Any, task: Any) -> None:
    """Raises ValueError for an agent of other spaces than the task's."""
    if not isinstance(spaces, Spaces):
        # One that takes the best of the outputs of a network, whose sizes are known.
        network, space = getattr(policy, "network", None), task.action_space()
        size = getattr(network, "out_size", None)
        is_other = size is not None and is_discrete(space) and size != space.n
        if is_other and type(policy).__name__ == "GreedyPolicy":
            raise ValueError(
                f"policy must choose among the {space.n} actions of task "
                f"{task.name!r}, got one of an agent with {size}"
            )
        return
    own = task.spaces
    for what, ours, theirs in (
        ("observation shape", spaces.obs_shape, own.obs_shape),
        ("number of discrete actions", spaces.num_actions, own.num_actions),
        ("action size", spaces.action_size, own.action_size),
    ):
        if ours != theirs:
            raise ValueError(
                f"policy must be one for the spaces of task {task.name!r}, whose "
                f"{what} is {theirs}, got an agent trained for {ours}"
            )
