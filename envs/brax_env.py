"""Any environment of Brax's as a gymnax pair; needs an optional extra."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import warnings
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from envs.typed import TypedEnvironment
from jaxrl_runs.values import OneOf, Text

BACKENDS = ("generalized", "positional", "spring", "mjx")


@struct.dataclass
class BraxState(environment.EnvState):
    """Brax's state, and the time.

    Attributes:
      time: int32 scalar, steps since the reset.
      inner: A `brax.envs.State`.
    """

    time: jax.Array
    inner: Any


@struct.dataclass
class BraxParams(environment.EnvParams):
    """Params of an environment of Brax's; what else it has is chosen in `brax`.

    Attributes:
      max_steps_in_episode: Time limit, which Brax's wrappers for training have too.
    """

    max_steps_in_episode: int = 1000


class _BraxEnv(environment.Environment):
    """The dynamics alone; see `BraxEnv`."""

    def __init__(self, brax_name: str, backend: str, options: tuple):
        self.brax_name, self.backend, self.options = brax_name, backend, options

    @property
    def name(self) -> str:
        """Brax's name and back end."""
        return f"brax-{self.brax_name}-{self.backend}"

    @property
    def inner(self) -> Any:
        """Brax's own environment."""
        return _made(self.brax_name, self.backend, self.options)

    @property
    def num_actions(self) -> int:
        """Size of an action."""
        return self.inner.action_size

    @property
    def default_params(self) -> BraxParams:
        """A time limit of 1,000 steps."""
        return BraxParams()

    def reset_env(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        """Start as Brax does."""
        inner = self.inner.reset(key)
        return inner.obs, BraxState(time=jnp.int32(0), inner=inner)

    def step_env(
        self, key: jax.Array, state: Any, action: Any, params: Any
    ) -> tuple[jax.Array, Any, jax.Array, jax.Array, dict[Any, Any]]:
        """One step of Brax's; the info has its metrics."""
        action = jnp.reshape(action, (self.num_actions,)).astype(jnp.float32)
        inner = self.inner.step(state.inner, action)
        state = BraxState(time=state.time + 1, inner=inner)
        terminated = self.is_terminated(state, params)
        return inner.obs, state, inner.reward, terminated, dict(inner.metrics)

    def observe(self, key: jax.Array, state: Any, action: Any, params: Any) -> Any:
        """Brax's observation, float32 `[obs_size]`."""
        del key, action, params
        return state.inner.obs

    def is_terminated(self, state: Any, params: Any) -> jax.Array:
        """Where Brax says `done`, which without its wrappers is no time limit."""
        del params
        return state.inner.done > 0

    def action_space(self, params: Any = None) -> spaces.Box:
        """Brax's actions are in [-1, 1]."""
        return spaces.Box(-1.0, 1.0, (self.num_actions,), jnp.float32)

    def observation_space(self, params: Any = None) -> spaces.Box:
        """Unbounded vectors."""
        limit = float(jnp.finfo(jnp.float32).max)
        size = int(self.inner.observation_size)
        return spaces.Box(-limit, limit, (size,), jnp.float32)


class BraxEnv(TypedEnvironment, _BraxEnv):
    """An environment of Brax's; `brax` makes one.

    Two of one name, back end and options are equal and share compiled programs.
    """


def brax(
    name: str, backend: str = "generalized", **options: Any
) -> tuple[BraxEnv, BraxParams]:
    """Makes an environment of Brax's a task inside JAX (tested: Brax 0.14.2).

    Returns are on the scale of Brax and of its back end, not on Gymnasium's: compare
    inside one simulator only.

    Args:
      name: As Brax has it, "hopper" for instance.
      backend: "generalized", "positional", "spring" or "mjx".
      **options: Of Brax's class, numbers for instance: `healthy_reward=0.0`.

    Raises:
      ModuleNotFoundError: The extra is not installed.
      ValueError: Brax has no environment of that name, or not with such options.

    Example:
      >>> env, params = brax("hopper")  # doctest: +SKIP
    """
    Text().check("name", name)
    OneOf(BACKENDS).check("backend", backend)
    env = BraxEnv(name, backend, tuple(sorted(options.items())))
    try:
        hash(env)
        env.inner  # noqa: B018, built once, here
    except KeyError as error:
        raise ValueError(f"name must be one that Brax has, got {name!r}") from error
    except TypeError as error:
        raise ValueError(
            f"options must be numbers and names that Brax's {name!r} takes, got "
            f"{options}: {error}"
        ) from error
    return env, env.default_params


@functools.cache
def _brax_envs() -> Any:
    try:
        # MuJoCo's part in JAX prints that it found no Warp, which is not used here, and
        # Brax takes packages that warn of their age.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("brax.envs")
    except ImportError as error:
        raise ModuleNotFoundError(
            "Brax is an optional extra: pip install 'jaxrl-se[brax]'"
        ) from error


@functools.cache
def _made(name: str, backend: str, options: tuple) -> Any:
    # Arrays among its attributes must not become tracers of a jitted caller.
    with jax.ensure_compile_time_eval():
        return _brax_envs().get_environment(name, backend=backend, **dict(options))
