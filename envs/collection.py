"""Transitions from a task, under any policy."""

import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from envs.stepping import step
from envs.transitions import Transitions

Policy = Callable[[Any, jax.Array], Any]
"""``policy(obs, key) -> action`` for a single observation."""


def collect(
    task: gymnasium.Env | tuple[Any, Any],
    num_transitions: int,
    key: jax.Array | int,
    policy: Policy | None = None,
) -> Transitions:
    """Collect transitions, one episode after another.

    Args:
        task: A ``gymnasium.Env``, stepped in a Python loop, or a gymnax pair ``(env,
            params)``, stepped in one compiled scan.
        num_transitions: Number of rows, exactly. The last episode is cut there
            without being marked.
        key: PRNG key, or a seed. The same key gives the same transitions.
        policy: ``policy(obs, key) -> action``. For a gymnax pair it must be a pure
            JAX function, or a callable pytree: its arrays are traced, so it compiles
            once for all weights (``jax.tree_util.Partial(apply, weights)`` is one).
            Default: actions drawn uniformly from the action space.

    Returns:
        Transitions of NumPy arrays, in the dtypes that JAX would give them.

    Raises:
        TypeError: If ``task`` is neither of the two, or observations are no arrays.
        ValueError: If ``num_transitions`` is less than 1, or the task or the policy
            gave numbers that are not valid (the field is named).

    Example:
        >>> import envs
        >>> data = envs.collect(envs.make("CartPole-v1"), 1_000, key=0)
        >>> data.obs.shape
        (1000, 4)
    """
    if num_transitions < 1:
        raise ValueError(f"num_transitions: expected at least 1, got {num_transitions}")
    if policy is not None and not callable(policy):
        raise TypeError(
            "policy: expected a function (obs, key) -> action, got "
            f"{type(policy).__name__}"
        )
    if isinstance(key, int | np.integer):
        key = jax.random.key(int(key))
    if isinstance(task, gymnasium.Env):
        transitions = _collect_gymnasium(task, num_transitions, key, policy)
    elif isinstance(task, tuple) and len(task) == 2:
        if jax.tree_util.all_leaves([policy]):  # a plain function
            policy = jax.tree_util.Partial(policy)  # is a pytree, so jit takes it
        transitions = _collect_gymnax(*task, num_transitions, key, policy)
    else:
        raise TypeError(
            "task: expected a gymnasium.Env or a gymnax pair (env, params), got "
            f"{type(task).__name__}"
        )
    return jax.tree.map(np.array, transitions).validate()


@functools.partial(jax.jit, static_argnames=("env", "num_transitions"))
def _collect_gymnax(
    env: Any, params: Any, num_transitions: int, key: jax.Array, policy: Policy | None
) -> Transitions:
    reset_key, scan_key = jax.random.split(key)

    def one(carry, key):
        obs, state = carry
        policy_key, step_key = jax.random.split(key)
        if policy is None:
            action = env.action_space(params).sample(policy_key)
        else:
            action = policy(obs, policy_key)
        outputs = step(env, step_key, state, action, params)
        transition = Transitions(
            obs=obs,
            action=action,
            reward=jnp.asarray(outputs.reward, float),
            next_obs=outputs.next_obs,
            terminated=jnp.asarray(outputs.terminated, bool),
            truncated=jnp.asarray(outputs.truncated, bool),
        )
        return (outputs.obs, outputs.state), transition

    start = env.reset(reset_key, params)
    _check_obs(start[0])
    keys = jax.random.split(scan_key, num_transitions)
    return jax.lax.scan(one, start, keys)[1]


def _collect_gymnasium(
    env: gymnasium.Env, num_transitions: int, key: jax.Array, policy: Policy | None
) -> Transitions:
    seed_key, policy_key = jax.random.split(key)
    seed = int(jax.random.bits(seed_key))
    env.action_space.seed(seed)
    keys = iter(jax.random.split(policy_key, num_transitions))

    rows = []
    obs, _ = env.reset(seed=seed)
    _check_obs(obs)
    obs = np.array(obs)
    # The bar appears only if this takes a while, and only on a terminal.
    for _ in tqdm.trange(num_transitions, desc="transitions", delay=3, disable=None):
        if policy is None:
            action = env.action_space.sample()
        else:
            action = np.asarray(policy(obs, next(keys)))[()]
        next_obs, reward, terminated, truncated, _ = env.step(action)
        next_obs = np.array(next_obs)  # a copy, as some tasks reuse their array
        rows.append((obs, action, float(reward), next_obs, terminated, truncated))
        obs = np.array(env.reset()[0]) if terminated or truncated else next_obs
    # Through JAX, for its dtypes: float32 and int32, unless x64 is enabled.
    columns = map(np.stack, zip(*rows, strict=True))
    return Transitions(*map(jnp.asarray, columns))


def _check_obs(obs: Any) -> None:
    if not jax.tree_util.all_leaves([obs]):
        raise TypeError(
            "task: expected observations that are single arrays, got "
            f"{type(obs).__name__}; flatten them first"
        )
