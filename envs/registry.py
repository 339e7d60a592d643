"""Target tasks by name: ``envs.make("CartPole-v1")``.

A task is gymnax's pair of an environment and its params. The registry is a
convenience; everything else in the toolkit takes any such pair.
"""

import dataclasses
import difflib
import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import gymnax
import jax
from gymnax.environments.environment import Environment

from envs.classic_control import Acrobot, CartPole, MountainCar, Pendulum
from envs.cliff import Cliff
from envs.grid_world import GridWorld
from envs.half_cheetah import make_half_cheetah
from envs.mountain_car_continuous import MountainCarContinuous
from envs.simple_env import SimpleEnv
from jaxrl_runs.values import THRESHOLD_OR_NONE, Function, Text, shown

Pair = tuple[Environment, Any]
"""An environment and its params, as ``gymnax.make`` returns them."""


@dataclasses.dataclass(frozen=True)
class TaskSpec:
    """What is known about a registered task.

    Attributes:
        name: The name that `make` takes.
        gymnasium_id: The id of the same task for ``gymnasium.make``; None if it has
            no counterpart there.
        solved_return: Mean return at which the task counts as solved; None if nobody
            has agreed on one. For built-in tasks it is Gymnasium's
            ``reward_threshold``, which Pendulum-v1 does not have: its best return
            depends on the initial angle.
    """

    name: str
    gymnasium_id: str | None = None
    solved_return: float | None = None


_specs: dict[str, TaskSpec] = {}
_factories: dict[str, Callable[[], Pair]] = {}
_made: dict[str, Pair] = {}


def make(name: str) -> Pair:
    """Make a registered task, or one of gymnax's.

    Args:
        name: One of `available`, for instance ``"CartPole-v1"``, or a name that only
            gymnax has, such as ``"Catch-bsuite"`` (``gymnax.registered_envs``).

    Returns:
        The environment and its default params. Each name is built once and the same
        pair is returned ever after, so nothing is compiled twice; change params with
        ``params.replace(...)``.

    Raises:
        ValueError: If there is no task of this name.

    Example:
        >>> env, params = make("CartPole-v0")
        >>> params.max_steps_in_episode
        200
    """
    _check_known(name)
    if name not in _made:
        factory = _factories.get(name, functools.partial(gymnax.make, name))
        # Arrays among the params must not become tracers when the first call for a
        # name happens inside a jitted function.
        with jax.ensure_compile_time_eval():
            _made[name] = _check_task(name, factory())
    return _made[name]


def pair_of(env: Any, params: Any = None) -> tuple[Any, Any]:
    """An environment and its params, from these, from a pair or from a name.

    Args:
        env: A gymnax environment, a pair, or the name of a task.
        params: Its params; by default those of the pair or the name, else None.
    """
    own = None
    if isinstance(env, str):
        try:
            env, own = make(env)
        except ValueError as error:
            raise ValueError(str(error).replace("name: ", "env: ", 1)) from error
    elif isinstance(env, tuple) and len(env) == 2:
        env, own = env
    return env, own if params is None else params


def available() -> tuple[str, ...]:
    """Return the names of all registered tasks, in order of registration."""
    return tuple(_factories)


def spec(name: str) -> TaskSpec:
    """Return the `TaskSpec` of a task that `make` knows.

    Raises:
        ValueError: If there is no task of this name.
    """
    _check_known(name)
    return _specs.get(name, TaskSpec(name))


def solved_return(name: str) -> float | None:
    """Return the mean return at which a task counts as solved, or None.

    Raises:
        ValueError: If there is no task of this name.
    """
    return spec(name).solved_return


def name_of(env: Any, params: Any) -> str | None:
    """Return the name under which `make` gave this very pair, or None."""
    for name, (made, default) in _made.items():
        if made is env and default is params:
            return name
    return None


def register(
    name: str,
    factory: Callable[[], Pair],
    *,
    solved_return: float | None = None,
    gymnasium_id: str | None = None,
) -> None:
    """Register a task of your own, so that `make` finds it.

    Args:
        name: A name that is not registered yet.
        factory: Returns the environment (gymnax 1.x interface) and its params.
            Called once, when the task is first made.
        solved_return: Mean return at which the task counts as solved.
        gymnasium_id: Id of the same task for ``gymnasium.make``.

    Raises:
        ValueError: If the name is taken; `unregister` frees it.
        TypeError: If ``factory`` is not callable.
    """
    Text().check("name", name)
    Function("without arguments that returns (env, params)").check("factory", factory)
    THRESHOLD_OR_NONE.check("solved_return", solved_return)
    Text(optional=True).check("gymnasium_id", gymnasium_id)
    if name in _factories:
        raise ValueError(
            f"name must be a new one: a task called {name!r} is already registered "
            "(envs.unregister forgets it)"
        )
    _specs[name] = TaskSpec(name, gymnasium_id, solved_return)
    _factories[name] = factory
    _made.pop(name, None)  # gymnax may have one of this name


def unregister(name: str) -> None:
    """Forget a registered task, so that another one can have its name.

    Raises:
        ValueError: If no task of this name is registered.
    """
    if name not in _factories:
        raise _unknown(name)
    del _specs[name], _factories[name]
    _made.pop(name, None)


def _check_known(name: str) -> None:
    if not isinstance(name, str):
        raise ValueError(f"name must be a string, got {shown(name)}")
    if name not in _factories and name not in gymnax.registered_envs:
        raise _unknown(name)


def _unknown(name: str) -> ValueError:
    known = [*_factories, *gymnax.registered_envs]
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    close = list(dict.fromkeys(close))  # some are known in two ways
    hint = (
        f"did you mean {' or '.join(map(repr, close))}?"
        if close
        else f"available: {', '.join(_factories)}, and all of gymnax's"
    )
    if isinstance(name, str) and name in gymnasium.registry:
        hint += f" Outside JAX Gymnasium has it: envs.external({name!r})"
    return ValueError(f"name: unknown task {name!r}; {hint}")


def _check_task(name: str, task: Any) -> Pair:
    is_pair = isinstance(task, tuple) and len(task) == 2
    if not is_pair or not all(hasattr(task[0], f) for f in ("reset", "step")):
        raise TypeError(
            f"factory: the factory of {name!r} must return (env, params) with a gymnax "
            f"environment, got {task!r}"
        )
    return task


def _register_builtin(
    name: str,
    environment_class: Callable[[], Environment],
    solved_return: float | None,
    **params: Any,
) -> None:
    def factory() -> Pair:
        env = environment_class()
        return env, env.default_params.replace(**params)  # type: ignore

    register(name, factory, solved_return=solved_return, gymnasium_id=name)


_register_builtin("CartPole-v0", CartPole, 195.0, max_steps_in_episode=200)
_register_builtin("CartPole-v1", CartPole, 475.0)
_register_builtin("Acrobot-v1", Acrobot, -100.0)
_register_builtin("MountainCar-v0", MountainCar, -110.0)
_register_builtin("MountainCarContinuous-v0", MountainCarContinuous, 90.0)
_register_builtin("Pendulum-v1", Pendulum, None)
# Its model is loaded, and the optional extra asked for, when it is made.
register(
    "HalfCheetah-v5",
    make_half_cheetah,
    solved_return=4800.0,
    gymnasium_id="HalfCheetah-v5",
)

# Two tasks of Ferreira et al. (2024); solved where the authors draw their lines.
register("GridWorld", lambda: (e := GridWorld(), e.default_params), solved_return=5.0)
register("SimpleEnv", lambda: (e := SimpleEnv(), e.default_params), solved_return=-7.6)

# The variant of Ferreira et al. (2022), by which the cliff ends an episode.
register("Cliff", lambda: (e := Cliff(), e.default_params), solved_return=-20.0)
