"""A task: what policies are played in, whoever asks and whatever steps it.

`open_task` makes one of a name, a gymnax pair or anything of Gymnasium's; `Task.play`
is the one way to play. `envs.external` has the tasks outside JAX.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable
from typing import Any, get_args

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces as gymnax_spaces
from jax.core import Tracer

from envs import registry
from envs.contract import check_contract
from envs.gymnasium_spaces import to_gymnasium
from envs.obs_checks import ObsWatch
from envs.old_gym import looks_old, not_gymnasium
from envs.play import (
    Episodes,
    as_pytree,
    batch_shape,
    dtype_of,
    memory_and_step,
    most_steps,
    play_watched,
    record,
)
from envs.policy_checks import action_of, report, watched_rows
from envs.spaces import Spaces
from envs.steps import StepKind, Steps, kind_of_steps
from envs.transitions import Transitions
from jaxrl_runs import values
from jaxrl_runs.checkpoints import tree_sha256
from jaxrl_runs.compilation import quick_jit
from jaxrl_runs.keywords import hint
from jaxrl_runs.values import (
    MANY,
    REQUIRED,
    THRESHOLD_OR_NONE,
    Function,
    OneOf,
    Text,
    as_key,
    as_keys,
    setting,
    shown,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A task inside JAX; `envs.ExternalTask` is its counterpart outside.

    A new kind of task is a subclass with `spaces`, `time_limit`, `digest`, `play` and
    `collect`, or, outside JAX, an engine for `ExternalTask`.

    Attributes:
      name: What reports call it.
      env: Its gymnax environment; None outside JAX.
      params: Its params: those it is tested with, where `vary` makes others.
      kind: Where its steps count: "real", "model" (of something real) or "synthetic".
      solved_return: Mean return at which it counts as solved, or None.
      vary: `(params, key, generation) -> params`, or None for a task that stays as it
        is. A horizon that grows, a family of tasks and a set of world models are this.
    """

    name: str
    env: Any
    params: Any
    kind: StepKind = setting("real", OneOf(get_args(StepKind)))
    solved_return: float | None = setting(None, THRESHOLD_OR_NONE)
    vary: Callable[[Any, jax.Array, Any], Any] | None = setting(
        None, Function("(params, key, generation) -> params", optional=True)
    )

    def __post_init__(self):
        Text().check("name", self.name)
        for field, rule in values.rules(self).items():
            rule.check(field, getattr(self, field))

    @property
    def is_external(self) -> bool:
        """Whether it is outside JAX: played between jitted programs, never in one."""
        return False

    @property
    def pair(self) -> tuple[Any, Any]:
        """`(env, params)`, for what needs a task inside JAX.

        Raises:
          TypeError: The task is outside JAX.
        """
        return self.env, self.params

    @functools.cached_property
    def spaces(self) -> Spaces:
        """Its spaces.

        Raises:
          ValueError: Observations are no vectors, or actions neither discrete nor
            vectors.
        """
        return Spaces.of(self.env, self.params)

    def action_space(self, params: Any = None) -> Any:
        """The action space, of gymnax's inside JAX and of Gymnasium's outside."""
        return self.env.action_space(self.params if params is None else params)

    @property
    def time_limit(self) -> int | None:
        """Steps after which an episode is truncated, None if nothing is known."""
        limit = getattr(self.params, "max_steps_in_episode", None)
        return None if limit is None else int(limit)

    @functools.cached_property
    def digest(self) -> str:
        """A SHA-256 of what the task is, to recognise it in a resumed run."""
        parts = [self.name, self.kind, self.env.name, tree_sha256(self.params)]
        if self.vary is not None:
            varied = self.params_at(jax.random.key(0), 0)
            parts += [_qualname(self.vary), tree_sha256(varied)]
        return sha256(_qualname(type(self.env)), *parts)

    def params_at(self, key: Any, generation: Any, params: Any = None) -> Any:
        """The params that one generation of an evolution is scored with.

        Args:
          key: A seed or a PRNG key.
          generation: int32, from 0; may be traced.
          params: In the place of `self.params`: inside a compiled program the
            argument that holds them.
        """
        params = self.params if params is None else params
        if self.vary is None:
            return params
        return self.vary(params, as_key(key), generation)

    def play(
        self,
        policies: Any,
        key: Any,
        num_episodes: int = 10,
        *,
        params: Any = None,
        num_axes: int | None = None,
    ) -> tuple[Episodes, Steps]:
        """Plays whole episodes, from reset to termination or truncation.

        Args:
          policies: A `Policy` or a `RecurrentPolicy`: one of `jaxrl_se.policies`, any
            pytree, or a plain function (compiled anew for each function object). Or
            a batch of them: a pytree whose leaves share leading axes `[...]`, as
            training several agents gives it.
          key: A seed or a PRNG key; all episodes are independent of each other. Or
            keys `[...]`, one for each policy of a batch: policies with the same key
            meet the same episodes.
          num_episodes: How many episodes each policy plays.
          params: Params to play with instead of `self.params`.
          num_axes: How many leading axes count policies, 0 for a single one; None to
            tell it by the shape of their actions.

        Returns:
          `Episodes` with arrays `[..., num_episodes]`, and the steps that were taken
          (inside JAX an int32, outside an integer of Python).

        Raises:
          ValueError: `num_episodes` is not positive, the policies' actions are not the
            task's, keys are not as many as policies, or `num_axes` is wrong, or needed
            (more than one number of axes fits). Or the task cannot be stepped.
          RuntimeError: An episode does not end.

        A RuntimeWarning says where an action left its bounds, and where a reward or an
        observation was NaN.
        """
        check_num_episodes(num_episodes)
        policies = as_pytree(policies)
        params = self.params if params is None else params
        check_contract(self.env, params)
        key = as_keys(key)
        batch = self._batch_of(policies, params, num_axes)
        keys = keys_of(key, batch)
        episodes, number, watched = _play(
            policies, self.env, params, keys, num_episodes, len(batch)
        )
        if not isinstance(number, Tracer):
            space, most = self.action_space(params), int(most_steps(params))
            report(jax.device_get(watched), space, self.name, most)
        return episodes, Steps.of(self.kind, number)

    def _batch_of(
        self, policies: Any, params: Any, num_axes: int | None
    ) -> tuple[int, ...]:
        """The leading axes of a batch of policies whose actions are the task's."""
        space = self.action_space(params)

        def trace(one):
            return _first_action.eval_shape(one, self.env, params)

        try:
            batch = batch_shape(
                policies, trace, action_shape_of(space), num_axes, self.env
            )
        except ValueError as error:
            if str(error).startswith(("policy", "num_axes")):
                raise
            batch = ()  # The policy's own; it is told below.
        except Exception:
            batch = ()
        one = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(np.shape(x)[len(batch) :], dtype_of(x)),
            policies,
        )
        seen = jax.tree.leaves(_first_obs.eval_shape(self.env, params))[0]
        action_of(lambda: trace(one), space, seen, self.name)
        return batch

    def collect(
        self,
        num_transitions: int,
        key: Any,
        policy: Any = None,
        *,
        num_axes: int | None = None,
    ) -> Transitions:
        """Transitions of one episode after another; see `envs.collect`."""
        MANY.check("num_transitions", num_transitions)
        check_contract(self.env, self.params)
        policy = as_pytree(policy)
        if policy is not None:
            check_single(self._batch_of(policy, self.params, num_axes))
        log = record(policy, self.env, self.params, as_key(key), num_transitions)
        self._check_log(log)
        return log

    def _check_log(self, log: Transitions) -> None:
        """Says what is odd about a log."""
        space = self.action_space()
        report(watched_rows(log, space), space, self.name, unit="transitions")
        obs_space = self.env.observation_space(self.params)
        if isinstance(obs_space, gymnax_spaces.Box | gymnax_spaces.Discrete):
            watch = ObsWatch(to_gymnasium(obs_space), self.name)
            watch.look(np.concatenate([log.obs, log.next_obs]))


@functools.partial(quick_jit, static_argnames=("env", "num_episodes", "num_axes"))
def _play(policies, env, params, keys, num_episodes, num_axes):
    def one(policy, key):
        return play_watched(policy, env, params, key, num_episodes)

    for _ in range(num_axes):
        one = jax.vmap(one)
    episodes, watched = one(policies, keys)
    return episodes, jnp.sum(episodes.lengths), watched


@functools.partial(jax.jit, static_argnames="env")
def _first_obs(env, params):
    return env.reset(jax.random.key(0), params)[0]


@functools.partial(jax.jit, static_argnames="env")
def _first_action(policy, env, params):
    key = jax.random.key(0)
    memory, act = memory_and_step(policy)
    return act(memory, env.reset(key, params)[0], key)[0]


def open_task(
    task: Any,
    params: Any = None,
    *,
    name: str | None = None,
    kind: StepKind | None = None,
    solved_return: float | None = None,
    vary: Callable[[Any, jax.Array, Any], Any] | None = None,
) -> Task:
    """Opens a task; the one place where it is decided what kind of thing it is.

    Args:
      task: A name for `envs.make`; a gymnax pair `(env, params)`, or its environment
        with `params`; a `Task`; or, outside JAX, a `gymnasium.Env`, a
        `gymnasium.vector.VectorEnv`, or a function without arguments that makes
        either (`envs.external` has more options for these).
      params: Params where `task` is a gymnax environment; by default its own.
      name: In the place of the environment's own name.
      kind: In the place of what the environment says (its attribute `task_kind`, or
        that of the environment it wraps), which is "real" where it says nothing.
      solved_return: In the place of what is registered for the name or for the pair
        that `envs.make` gave.
      vary: See `Task`.

    Raises:
      ValueError: An unknown name or kind.
      TypeError: `task` is none of these.

    Example:
      >>> task = open_task("CartPole-v1")
      >>> task.kind, task.solved_return, task.time_limit
      ('real', 475.0, 500)
    """
    if not isinstance(task, Task):
        task = _open(task, params)
    elif params is not None:
        task = dataclasses.replace(task, params=params)
    changes: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "solved_return": solved_return,
        "vary": vary,
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    return dataclasses.replace(task, **changes) if changes else task


def _open(task: Any, params: Any) -> Task:
    if isinstance(task, str):
        env, default = registry.make(task)
        if params is None:
            params = default
        return Task(task, env, params, kind_of_steps(env), registry.solved_return(task))
    if is_gymnasium(task):
        from envs.external import external  # It imports this file.

        return external(task)
    env: Any = task
    if isinstance(task, tuple) and len(task) == 2:
        env, params = task
    if not _is_environment(env):
        raise TypeError(_not_a_task(task))
    if params is None:
        params = env.default_params
    known = registry.name_of(env, params)
    solved_return = None if known is None else registry.solved_return(known)
    name = known or getattr(env, "name", type(env).__name__)
    return Task(name, env, params, kind_of_steps(env), solved_return)


def is_gymnasium(task: Any) -> bool:
    """Whether a task is Gymnasium's: an environment, a batch of them, or a factory."""
    if isinstance(task, gymnasium.Env | gymnasium.vector.VectorEnv):
        return True
    if inspect.isclass(task):
        return issubclass(task, gymnasium.Env | gymnasium.vector.VectorEnv)
    return callable(task) and not hasattr(task, "reset")


def _is_environment(env: Any) -> bool:
    methods = ("reset", "step", "action_space", "observation_space")
    has_all = all(hasattr(env, method) for method in methods)
    return has_all and not isinstance(env, type) and not looks_old(env)


def _not_a_task(task: Any) -> str:
    found = shown(task)
    if looks_old(task):
        return not_gymnasium(task)
    if isinstance(task, type):
        found = f"the class {task.__name__}; write {task.__name__}()"
    return (
        "task must be the name of a task, a gymnax pair (env, params), an envs.Task, "
        f"or a gymnasium.Env, VectorEnv or a function that makes one, got {found}"
    )


def split_arguments(
    function: str,
    task: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    names: dict[str, Any],
    others: tuple[str, ...] = (),
) -> tuple[Any, tuple[Any, ...]]:
    """The arguments after a task, whose first one can be its params.

    They are where `task` is a gymnax environment, and where what stands in the place of
    the key is neither a seed nor an array: `train(agent, "CartPole-v1", None, key)`.

    Args:
      function: What the user called, for messages.
      task: What came before.
      args: What followed by position.
      kwargs: What followed by name.
      names: The arguments' names in their order after `params`, with their defaults;
        `REQUIRED` where there is none.
      others: Further arguments that the function has by name, for messages.

    Returns:
      The params, None if there are none, and the arguments in the order of `names`.

    Raises:
      TypeError: Arguments are missing, too many, given twice or unknown.
    """
    if takes_params(task) and not _is_environment(task):
        raise TypeError(_not_a_task(task))
    has_params = takes_params(task) or (len(args) > 1 and _is_no_number(args[0]))
    positions = ["params", *names] if has_params else list(names)
    usage = (
        f"{function}(..., env, params, {', '.join(names)}) or "
        f"{function}(..., task, {', '.join(names)})"
    )
    given = dict(zip(positions, args, strict=False))
    twice = sorted(given.keys() & kwargs.keys())
    unknown = sorted(kwargs.keys() - names.keys() - {"params"})
    if len(args) > len(positions) or twice or unknown:
        what = ", ".join(twice + unknown) or f"{len(args)} arguments after the task"
        meant = hint(unknown[0], [*names, *others]) if unknown else ""
        raise TypeError(f"arguments must be those of {usage}, got {what}{meant}")
    given = {**names, "params": None, **given, **kwargs}
    for name in names:
        if given[name] is REQUIRED:
            raise TypeError(f"{name} must be given: {usage}")
    return given.pop("params"), tuple(given[name] for name in names)


def _is_no_number(value: Any) -> bool:
    return not isinstance(value, int | float | np.ndarray | np.generic | jax.Array)


def open_named(argument: str, task: Any) -> Task:
    """As `open_task`, with the argument's name in front of what is wrong with it."""
    try:
        opened = open_task(task)
        if not opened.is_external:
            check_contract(*opened.pair)
        return opened
    except (TypeError, ValueError) as error:
        raise type(error)(f"{argument}: {error}") from error


def takes_params(task: Any) -> bool:
    """Whether a task is a gymnax environment alone, whose params come after it."""
    return not isinstance(task, str | tuple | Task) and not is_gymnasium(task)


def as_pair(task: Any, params: Any = None, argument: str = "env") -> tuple[Any, Any]:
    """The gymnax pair of a task, for what runs in JAX alone, such as training.

    Args:
      task: Whatever `open_task` takes.
      params: Likewise.
      argument: What the caller calls it, for the message.

    Raises:
      TypeError: The task is outside JAX; the message says how to get a pair, and what
        the task can be used for as it is. Or its params are another environment's.
      ValueError: The environment cannot be stepped (`envs.contract`).
    """
    if is_gymnasium(task) or (isinstance(task, Task) and task.is_external):
        label = task.name if isinstance(task, Task) else type(task).__name__
        raise TypeError(not_a_pair(label, argument))
    try:
        pair = open_task(task, params).pair
        check_contract(*pair)
    except (TypeError, ValueError) as error:
        if argument in ("env", "task"):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{argument}: {error}") from error
    return pair


def not_a_pair(name: str, argument: str = "env") -> str:
    """The message for a task outside JAX where a pair is needed."""
    return (
        f"{argument} must be a gymnax pair (env, params), which compiled programs can "
        f"step, got {name}, which is outside JAX. For a pair, take envs.make(name) if "
        "the task is one of envs.available(), a shipped environment from "
        "jaxrl_se.load, or a model of this one: oswm.condition(envs.collect(task, "
        "1_000, 0), ...). As it is, policies can be tested in it (jaxrl_se.evaluate), "
        "transitions collected (envs.collect) and agents trained by "
        "jaxrl_se.train_outside."
    )


def check_num_episodes(num_episodes: int) -> None:
    """Raises ValueError if it is not positive."""
    MANY.check("num_episodes", num_episodes)


def check_single(batch: tuple[int, ...]) -> None:
    """Raises ValueError for a batch of policies where one is needed."""
    if batch:
        raise ValueError(f"policy must be a single one, got a batch of {batch}")


def keys_of(key: jax.Array, batch: tuple[int, ...]) -> jax.Array:
    """A key for each policy of a batch, from one key or from as many."""
    if key.shape == batch:
        return key
    if key.shape == ():
        return jax.random.split(key, batch)
    raise ValueError(
        f"key must be one key or have the policies' leading axes {batch}, got shape "
        f"{key.shape}"
    )


def action_shape_of(space: Any) -> tuple[int, ...] | None:
    """The shape of an action, None for a composite one."""
    shape = getattr(space, "shape", None)
    return () if shape is None and hasattr(space, "n") else shape


def sha256(*parts: str) -> str:
    """A digest of strings."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _qualname(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', thing)}"
