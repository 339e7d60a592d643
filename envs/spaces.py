"""The spaces of a task as hashable numbers, which networks are sized by."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from jaxrl_runs.values import Like


class OneHot(spaces.Box):
    """One-hot float32 vectors, which stand for the numbers below ``n``.

    A task whose observations are states by number has them in this space: for a network
    they are vectors, and an agent with a table knows that it can look them up.

    Args:
        n: The size of the vectors.
    """

    def __init__(self, n: int):
        super().__init__(0.0, 1.0, (n,), jnp.float32)
        self.n = n

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw one of the ``n`` vectors."""
        return jax.nn.one_hot(jax.random.randint(key, (), 0, self.n), self.n)

    def contains(self, x: jax.Array) -> jax.Array:
        """Whether one entry is 1 and all others are 0."""
        return jnp.all((x == 0) | (x == 1)) & (jnp.sum(x) == 1)


@dataclasses.dataclass(frozen=True)
class Spaces:
    """The observation and action space that an agent meets, as hashable numbers.

    Attributes:
      obs_size: Numbers in an observation; perceptrons take it as a float32 vector of
        this size (`flatten_obs`).
      num_actions: Number of discrete actions, or None for continuous ones.
      action_low: Lower bound per action dimension, empty for discrete actions.
      action_high: Upper bound per action dimension, empty for discrete actions.
      num_states: Number of states where observations are states by number, as one-hot
        vectors (`envs.OneHot`) or as integers (`Discrete`); None otherwise.
      obs_shape: Shape of an observation as the task gives it, `(H, W, C)` of a picture,
        say; `(obs_size,)` by default.
      obs_dtype: Its dtype by name; "float32" for vectors, which all are made.

    `action_size` is the size of an action as a vector, `scaled_action` and
    `normalized_action` go from [-1, 1] to the bounds and back.
    """

    obs_size: int
    num_actions: int | None = None
    action_low: tuple[float, ...] = ()
    action_high: tuple[float, ...] = ()
    num_states: int | None = None
    obs_shape: tuple[int, ...] | None = None
    obs_dtype: str = "float32"

    def __post_init__(self):
        if self.obs_shape is None:
            object.__setattr__(self, "obs_shape", (self.obs_size,))

    @classmethod
    def of(cls, env: Any, params: Any = None) -> Spaces:
        """Reads the spaces of a task.

        Args:
          env: A gymnax environment, a pair of one and its params, the name of a task,
            or an `envs.Task`.
          params: Its params; by default the pair's or the environment's own.

        Raises:
          ValueError: The observation is neither one array nor `Discrete`, or the action
            is neither `Discrete` nor a vector `Box`.
        """
        env, params = _pair(env, params)
        observation = _observation(env, params, env.observation_space(params))
        action_space = env.action_space(params)
        if hasattr(action_space, "n"):
            return cls(num_actions=int(action_space.n), **observation)
        shape = getattr(action_space, "shape", None)
        if shape is None or len(shape) > 1:
            raise ValueError(
                f"task {env.name!r}: actions must be Discrete or a vector Box, got "
                f"{type(action_space).__name__} of shape {shape}"
            )
        size = int(shape[0]) if shape else 1
        try:
            low, high = (
                np.broadcast_to(np.asarray(bound, np.float32), (size,)).tolist()
                for bound in (action_space.low, action_space.high)
            )
        except jax.errors.TracerArrayConversionError as error:
            raise ValueError(
                f"task {env.name!r}: its params are traced and its action bounds "
                "depend on them; pass spaces=Spaces.of(env, params), read before"
            ) from error
        return cls(action_low=tuple(low), action_high=tuple(high), **observation)

    @property
    def vectors(self) -> Spaces:
        """The spaces of the same task where its observations are flattened."""
        return dataclasses.replace(self, obs_shape=None, obs_dtype="float32")

    @property
    def are_vectors(self) -> bool:
        """Whether observations are vectors as they are."""
        return self.obs_shape == (self.obs_size,)

    def flatten_obs(self, obs: Any) -> jax.Array:
        """Observations `[..., *obs_shape]` as float32 vectors `[..., obs_size]`.

        The bytes of a picture become shares of 255, a state by number a one-hot vector.
        """
        if self.num_states is not None and self.obs_shape == ():
            return jax.nn.one_hot(obs, self.num_states, dtype=jnp.float32)
        obs = jnp.asarray(obs)
        assert self.obs_shape is not None
        num_axes = obs.ndim - len(self.obs_shape)
        if num_axes < 0 or obs.shape[num_axes:] != self.obs_shape:
            raise ValueError(
                f"obs must have shape [..., {', '.join(map(str, self.obs_shape))}], "
                f"got {obs.shape}"
            )
        flat = jnp.reshape(obs, (*obs.shape[:num_axes], self.obs_size))
        flat = flat.astype(jnp.float32)
        is_picture = obs.dtype == jnp.uint8 and len(self.obs_shape) > 1
        return flat / 255 if is_picture else flat

    @property
    def action_size(self) -> int:
        """Size of an action as a network input (one-hot if discrete)."""
        return len(self.action_low) if self.num_actions is None else self.num_actions

    def action_vector(self, action: Any) -> jax.Array:
        """An action as a float32 vector `[action_size]` for a network."""
        return action_vector(action, self.num_actions, self.action_size)

    def normalized_action(self, action: Any) -> jax.Array:
        """A continuous action as a vector in [-1, 1], clipped to its bounds."""
        low, high = jnp.asarray(self.action_low), jnp.asarray(self.action_high)
        unit = 2 * (self.action_vector(action) - low) / (high - low) - 1
        return jnp.clip(unit, -1.0, 1.0)

    def scaled_action(self, unit: jax.Array) -> jax.Array:
        """The action of vectors `[..., action_size]`, clipped to [-1, 1]."""
        low, high = jnp.asarray(self.action_low), jnp.asarray(self.action_high)
        return low + (high - low) * (jnp.clip(unit, -1.0, 1.0) + 1) / 2

    def action_space(self) -> Any:
        """The gymnax action space."""
        if self.num_actions is not None:
            return spaces.Discrete(self.num_actions)
        # numpy's, so that they are concrete while a program is traced.
        low: Any = np.asarray(self.action_low, np.float32)
        high: Any = np.asarray(self.action_high, np.float32)
        return spaces.Box(low, high, (self.action_size,), jnp.float32)


def action_vector(action: Any, num_actions: int | None, size: int) -> jax.Array:
    """An action as a float32 vector: one-hot if it is discrete.

    Args:
      action: An integer, or a number or array of `size` numbers.
      num_actions: Number of discrete actions, None for continuous ones.
      size: Size of a continuous action.

    Returns:
      float32 `[num_actions]` or `[size]`.

    Raises:
      ValueError: An action of another kind or size.
    """
    action = jnp.asarray(action)
    if num_actions is None:
        if action.size != size:
            raise ValueError(
                f"action must be a vector of size {size}, got shape {action.shape}"
            )
        return jnp.reshape(action, (size,)).astype(jnp.float32)
    if action.size != 1 or not jnp.issubdtype(action.dtype, jnp.integer):
        raise ValueError(
            f"action must be one of the integers 0 ... {num_actions - 1}, got "
            f"{action.dtype} of shape {action.shape}"
        )
    return jax.nn.one_hot(action.reshape(()), num_actions, dtype=jnp.float32)


def _pair(env: Any, params: Any) -> tuple[Any, Any]:
    from envs.registry import pair_of  # It imports tasks, and these this file.

    if hasattr(env, "time_limit") and hasattr(env, "params") and params is None:
        env, params = (env, None) if env.is_external else env.pair
    env, params = pair_of(env, params)
    _TASK.check("env", env)
    if params is None:
        params = getattr(env, "default_params", None)
    return env, params


_TASK = Like(
    "a gymnax environment, a pair, or the name of a task",
    ("observation_space", "action_space"),
)


def _observation(env: Any, params: Any, space: Any) -> dict[str, Any]:
    """What `Spaces` says about an observation space."""
    if hasattr(space, "n") and not isinstance(space, OneHot):
        size = int(space.n)
        dtype = np.dtype(space.dtype).name
        return {
            "obs_size": size,
            "num_states": size,
            "obs_shape": (),
            "obs_dtype": dtype,
        }
    shape = getattr(space, "shape", None)
    if shape is None:
        raise ValueError(
            f"task {env.name!r}: an observation must be one array, got the space "
            f"{type(space).__name__}; join its parts into one vector, in the task or "
            "in an envs.Wrapper around it"
        )
    shape = tuple(int(n) for n in shape)
    size = math.prod(shape)
    if size == 0:
        raise ValueError(
            f"task {env.name!r}: an observation must hold at least one number, got the "
            f"shape {shape}"
        )
    dtype = "float32"
    if len(shape) != 1:  # What is seen counts: some tasks' spaces name another dtype.
        seen = jax.eval_shape(lambda key: env.reset(key, params)[0], jax.random.key(0))
        dtype = np.dtype(seen.dtype).name
    return {
        "obs_size": size,
        "num_states": size if isinstance(space, OneHot) else None,
        "obs_shape": shape,
        "obs_dtype": dtype,
    }


def obs_range(env: Any, params: Any) -> tuple[tuple[float, float], ...]:
    """The ends of a flattened observation; [-1, 1] where they are infinite."""
    space = env.observation_space(params)
    low, high = (
        np.broadcast_to(np.asarray(end, np.float64), space.shape).reshape(-1)
        for end in (space.low, space.high)
    )
    # gymnax writes infinity as the largest float in some tasks.
    finite = (np.abs(low) < 1e30) & (np.abs(high) < 1e30) & (high > low)
    return tuple(
        (float(a), float(b)) if ok else (-1.0, 1.0)
        for a, b, ok in zip(low, high, finite, strict=True)
    )
