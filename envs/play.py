"""Playing inside JAX: policies with and without memory, episodes, transitions."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs.policy_checks import Watched, outside
from envs.stepping import has_raw_step, raw_step, step
from envs.transitions import Transitions
from jaxrl_runs.compilation import quick_jit
from jaxrl_runs.values import Function


class Policy(Protocol):
    """A policy without memory: any callable from an observation to an action."""

    def __call__(self, obs: Any, key: jax.Array, /) -> Any:
        """Returns the action for a single observation."""
        ...


POLICY_OR_NONE = Function("(obs, key) -> action", optional=True)


@runtime_checkable
class RecurrentPolicy(Protocol):
    """A policy that remembers; whoever has `start` and `step` is one.

    Both are pure JAX, and the policy a pytree, as for policies without memory.
    """

    def start(self) -> Any:
        """Returns the memory at the start of an episode, a pytree of arrays."""
        ...

    def step(self, memory: Any, obs: Any, key: jax.Array, /) -> tuple[Any, Any]:
        """Returns the action for a single observation, and the memory after it."""
        ...


@struct.dataclass
class Episodes:
    """The outcome of evaluation episodes.

    Attributes:
      returns: float32 `[..., num_episodes]`, undiscounted sums of rewards.
      lengths: int32 `[..., num_episodes]`, environment steps.
    """

    returns: Any
    lengths: Any


def memory_and_step(policy: Any) -> tuple[Any, Callable[..., tuple[Any, Any]]]:
    """A policy of either kind as the memory it starts with and a step.

    Returns:
      The memory, `()` for a policy without one, and a function
      `(memory, obs, key) -> (action, memory)`.
    """
    if isinstance(policy, RecurrentPolicy):
        return policy.start(), policy.step
    return (), lambda memory, obs, key: (policy(obs, key), memory)


def play(
    policy: Any,
    env: Any,
    params: Any,
    key: jax.Array,
    num_episodes: int,
    active: Any = True,
) -> Episodes:
    """Plays whole episodes; not jitted, to be used inside a larger jitted program.

    Args:
      policy: One `Policy` or `RecurrentPolicy`, pure JAX.
      env: A gymnax environment.
      params: Its params.
      key: A PRNG key. Episode `i` is reset with `split(key, (num_episodes, 2))[i, 0]`;
        the second key of the pair, folded with the time, is split for the action and
        the step.
      num_episodes: How many, side by side.
      active: Nothing is played where it is False, which under `jax.vmap` saves the
        time.

    Returns:
      `Episodes` with arrays `[num_episodes]`.
    """
    return _play(policy, env, params, key, num_episodes, active, None)[0]


def play_watched(
    policy: Any, env: Any, params: Any, key: jax.Array, num_episodes: int
) -> tuple[Episodes, Watched]:
    """`play`, and what was odd about the episodes, `[num_episodes]`."""
    space = env.action_space(params)
    episodes, watched = _play(policy, env, params, key, num_episodes, True, space)
    assert watched is not None, "there is a space"
    return episodes, watched


def most_steps(params: Any) -> Any:
    """Steps after which an episode is cut: twice its time limit, 100,000 at least.

    A loop inside JAX cannot be interrupted; no task is played for ever.
    """
    limit = getattr(params, "max_steps_in_episode", None)
    if limit is None:
        return _MOST_STEPS
    limit = jnp.max(jnp.asarray(limit))
    return jnp.maximum(jnp.minimum(limit, 2**30 - 1) * 2, _MOST_STEPS)


def _play(policy, env, params, key, num_episodes, active, space):
    step_once = _step_without_reset(env)
    keys = jax.random.split(key, (num_episodes, 2))
    obs, state = jax.vmap(env.reset, (0, None))(keys[:, 0], params)
    memory, act = memory_and_step(policy)
    memory = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (num_episodes, *jnp.shape(x))), memory
    )

    def advance(key, memory, obs, state, time):
        key_action, key_step = jax.random.split(jax.random.fold_in(key, time))
        action, memory = act(memory, obs, key_action)
        return (memory, *step_once(key_step, state, action, params)), action

    def one_step(carry):
        memory, obs, state, alive, episodes, time, watched = carry
        after, action = jax.vmap(advance, (0, 0, 0, 0, None))(
            keys[:, 1], memory, obs, state, time
        )
        memory, obs, state, reward, done = after
        if watched is not None:
            watched = _watch(watched, space, alive, action, obs, reward)
        episodes = Episodes(
            returns=episodes.returns
            + jnp.where(alive, reward, 0.0).astype(episodes.returns.dtype),
            lengths=episodes.lengths + alive,
        )
        return memory, obs, state, alive & ~done, episodes, time + 1, watched

    start = Episodes(
        returns=jnp.zeros(num_episodes, jnp.float32),
        lengths=jnp.zeros(num_episodes, jnp.int32),
    )
    alive = jnp.broadcast_to(jnp.asarray(active, bool), (num_episodes,))
    watched = None
    if space is not None:
        action = jax.eval_shape(lambda m, o, k: act(m, o, k)[0], *_first(memory, obs))
        nothing = jnp.zeros(num_episodes, bool)
        action = jax.tree.map(
            lambda a: jnp.zeros((num_episodes, *a.shape), a.dtype), action
        )
        watched = Watched(nothing, action, nothing, nothing)
    most = most_steps(params)
    carry = (memory, obs, state, alive, start, jnp.int32(0), watched)
    *_, alive, episodes, _, watched = jax.lax.while_loop(
        lambda c: jnp.any(c[3]) & (c[5] < most), one_step, carry
    )
    if watched is not None:
        watched = watched.replace(unended=alive)  # type: ignore
    return episodes, watched


def _first(memory: Any, obs: Any) -> tuple[Any, Any, jax.Array]:
    """Memory and observation of the first episode, and a key."""
    return *jax.tree.map(lambda x: x[0], (memory, obs)), jax.random.key(0)


def _watch(watched, space, alive, action, obs, reward):
    """Looks at a step of all episodes `[E]`."""
    odd = jax.vmap(lambda a: outside(space, a))(action) & alive
    is_first = odd & ~watched.outside

    def chosen(new, old):
        mask = jnp.reshape(is_first, (-1, *[1] * (new.ndim - 1)))
        return jnp.where(mask, new, old)

    nan = jnp.isnan(reward)
    for leaf in jax.tree.leaves(obs):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            nan |= jnp.isnan(leaf).reshape(len(leaf), -1).any(axis=1)
    return Watched(
        outside=watched.outside | odd,
        action=jax.tree.map(chosen, action, watched.action),
        nan=watched.nan | (nan & alive),
        unended=watched.unended,
    )


@functools.partial(quick_jit, static_argnames=("env", "num_transitions"))
def record(
    policy: Any, env: Any, params: Any, key: jax.Array, num_transitions: int
) -> Transitions:
    """Plays one episode after another in one compiled scan.

    Args:
      policy: One `Policy` or `RecurrentPolicy`; None for actions drawn uniformly.
      env: A gymnax environment.
      params: Its params.
      key: A PRNG key.
      num_transitions: How many steps.

    Returns:
      `Transitions` with arrays `[num_transitions, ...]`.
    """
    reset_key, scan_key = jax.random.split(key)
    if policy is None:
        fresh, act = (), _uniform(env, params)
    else:
        fresh, act = memory_and_step(policy)
    fresh = jax.tree.map(jnp.asarray, fresh)

    def one(carry, key):
        memory, obs, state = carry
        policy_key, step_key = jax.random.split(key)
        action, memory = act(memory, obs, policy_key)
        outputs = step(env, step_key, state, action, params)
        done = jnp.logical_or(outputs.terminated, outputs.truncated)
        memory = jax.tree.map(lambda a, b: jnp.where(done, a, b), fresh, memory)
        transition = Transitions(
            obs=obs,
            action=action,
            reward=jnp.asarray(outputs.reward, float),
            next_obs=outputs.next_obs,
            terminated=jnp.asarray(outputs.terminated, bool),
            truncated=jnp.asarray(outputs.truncated, bool),
        )
        return (memory, outputs.obs, outputs.state), transition

    start = (fresh, *env.reset(reset_key, params))
    if not jax.tree_util.all_leaves([start[1]]):
        raise TypeError(
            "task: observations must be single arrays, got "
            f"{type(start[1]).__name__}; flatten them first"
        )
    keys = jax.random.split(scan_key, num_transitions)
    return _chained(jax.lax.scan(one, start, keys)[1])


def _chained(log: Transitions) -> Transitions:
    """Within an episode `next_obs` is the next row's `obs`, to the last bit.

    Compilers may compute an observation twice, for two uses, and round it otherwise.
    """
    goes_on = ~(log.terminated | log.truncated)[:-1]
    mask = jnp.reshape(goes_on, (-1, *[1] * (log.obs.ndim - 1)))
    kept = jnp.where(mask, log.obs[1:], log.next_obs[:-1])
    next_obs = jnp.concatenate([kept, log.next_obs[-1:]])
    return dataclasses.replace(log, next_obs=next_obs)


def _uniform(env: Any, params: Any) -> Callable[..., tuple[Any, Any]]:
    space = env.action_space(params)
    return lambda memory, obs, key: (space.sample(key), memory)


def _step_without_reset(env: Any):
    """A step that leaves out gymnax's autoreset where the environment allows it.

    `Environment.step` computes a reset at every step, which doubles its cost.
    """

    def without_reset(key, state, action, params):
        taken = raw_step(env, key, state, action, params)
        return taken.obs, taken.state, taken.reward, taken.terminated | taken.truncated

    def with_reset(key, state, action, params):
        taken = step(env, key, state, action, params)
        return taken.obs, taken.state, taken.reward, taken.terminated | taken.truncated

    return without_reset if has_raw_step(env) else with_reset


def as_pytree(policy: Any) -> Any:
    """A policy that `jax.jit` takes: a plain function becomes a pytree."""
    if jax.tree_util.all_leaves([policy]) and callable(policy):
        return jax.tree_util.Partial(policy)
    return policy


_MOST_KEPT = 256
_MOST_STEPS = 100_000
_NUM_AXES: dict[Hashable, int] = {}


def dtype_of(leaf: Any) -> Any:
    """Of an array, a PRNG key or a number of Python."""
    return getattr(leaf, "dtype", None) or jnp.result_type(leaf)


def batch_shape(
    policies: Any,
    action_of: Callable[[Any], jax.ShapeDtypeStruct],
    action_shape: tuple[int, ...] | None,
    num_axes: int | None = None,
    task: Hashable = None,
) -> tuple[int, ...]:
    """The leading axes of a batch of policies; `()` for a single one.

    A pytree does not say which axes of its leaves count policies. Where all leaves
    share leading axes, as many of them are taken off as it needs for the policy to
    give a single action. Nothing is computed, shapes alone are looked at.

    Args:
      policies: A pytree policy, or a batch of them.
      action_of: From the shapes of a policy to the shape of its action for a single
        observation.
      action_shape: The shape of the task's actions; None for composite ones, whose
        policies are taken for a single one.
      num_axes: How many leading axes there are, where the caller knows.
      task: What else the answer depends on; with it, policies of the same structure
        and shapes are looked at once.

    Raises:
      ValueError: Actions have another shape, however many axes are taken off. Or
        several numbers of axes give the right one, as with a policy that reduces over
        all of its axes (`jnp.argmax(obs @ weights)`): only the caller can tell then.
    """
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(policies)]
    num_shared = 0
    for sizes in zip(*shapes, strict=False):
        if len(set(sizes)) > 1:
            break
        num_shared += 1
    if num_axes is not None and not 0 <= num_axes <= num_shared:
        raise ValueError(
            f"num_axes must be in 0..{num_shared}, the leading axes that all arrays of "
            f"the policies share, got {num_axes}"
        )
    if action_shape is None or not num_shared:
        return shapes[0][:num_axes] if num_axes else ()
    kind = (task, jax.tree.structure(policies), tuple(shapes), action_shape, num_axes)
    if task is not None and kind in _NUM_AXES:
        return shapes[0][: _NUM_AXES[kind]]
    tried = range(num_shared + 1) if num_axes is None else (num_axes,)
    found, problem = {}, None
    for number in tried:
        one = jax.tree.map(
            lambda x, n=number: jax.ShapeDtypeStruct(np.shape(x)[n:], dtype_of(x)),
            policies,
        )
        try:
            found[number] = action_of(one).shape
        except Exception as error:  # It is no single policy, or a faulty one.
            problem = problem or error
    fitting = [number for number, shape in found.items() if shape == action_shape]
    if len(fitting) > 1:
        raise ValueError(
            "num_axes must be given: policy gives one action whether "
            f"{' or '.join(map(str, fitting))} of its leading axes count policies (one "
            "of them may be hidden by a reduction over all axes, such as an argmax "
            "without axis=-1), got None"
        )
    if fitting:
        if task is not None:
            while len(_NUM_AXES) >= _MOST_KEPT:
                _NUM_AXES.pop(next(iter(_NUM_AXES)))
            _NUM_AXES[kind] = fitting[0]
        return shapes[0][: fitting[0]]
    if not found and problem is not None:
        raise problem
    first = next(iter(found.values()))
    if np.prod(first) == np.prod(action_shape) == 1:
        return shapes[0][: next(iter(found))]
    raise ValueError(
        f"policy must give actions of shape {action_shape}, got {first}, and no "
        "number of leading axes for a batch of policies explains it"
    )
