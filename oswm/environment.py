"""A world model as an environment: `condition` on transitions, then train agents."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from envs import Transitions, episodes_of, in_order, read_transitions
from envs.spaces import action_vector
from oswm.context import Context, Prediction
from oswm.selection import LeaveOneOut
from oswm.support import Support
from oswm.weights import PRETRAINED, load_model

_DEFAULT_MAX_STEPS = 200


@struct.dataclass
class WorldModelState(environment.EnvState):
    """What a world-model environment remembers; the context is not part of it.

    Attributes:
        obs: float32 [S].
        time: int32 scalar, steps since the reset.
        terminated: bool scalar.
    """

    obs: jax.Array
    time: jax.Array
    terminated: jax.Array


@struct.dataclass
class WorldModelParams(environment.EnvParams):
    """A context, ready for use; all of it is traced.

    Attributes:
        cache: What the model computed of the context.
        support: Where the context's observations and rewards are.
        initial_obs: Observations that episodes start from, float32 [K, S],
            repeated up to the context's number of rows, so that contexts of as many
            rows share compiled programs.
        num_initial_obs: How many of them, from the first on, are in use.
        uncertainty_penalty: What a step that the model knows nothing about costs, in
            units of the context's typical reward. A step costs a share of it: the
            largest predicted standard deviation of an observation over the context's,
            at most 1, and 1 where the prediction leaves the context's range.
        max_steps_in_episode: The time limit.
    """

    cache: Any = None
    support: Any = None
    initial_obs: Any = None
    num_initial_obs: Any = 0
    uncertainty_penalty: Any = 0.0
    max_steps_in_episode: int = _DEFAULT_MAX_STEPS


class WorldModelEnv(environment.Environment):
    """Steps a world model; equal by static configuration, not by identity.

    Args:
        model: A world model, such as `KernelRidge()`.
        obs_size: Size of an observation.
        num_actions: Number of discrete actions, None for continuous ones.
        action_low: Lower bound per action dimension, empty for discrete actions.
        action_high: Upper bound likewise.
        sample: Whether steps are drawn from the predicted distribution, or its mean.
        terminated: `(obs, action, next_obs) -> bool`, or None to let the model say.
        reward: `(obs, action, next_obs) -> float`, or None to let the model say.
        penalized: Whether `params.uncertainty_penalty` is looked at.
    """

    task_kind = "model"

    def __init__(
        self,
        model: Any,
        obs_size: int,
        num_actions: int | None = None,
        action_low: tuple[float, ...] = (),
        action_high: tuple[float, ...] = (),
        *,
        sample: bool = False,
        terminated: Callable[..., Any] | None = None,
        reward: Callable[..., Any] | None = None,
        penalized: bool = True,
    ):
        self.model = model
        self.obs_size = obs_size
        self._num_actions = num_actions
        self.action_low = tuple(action_low)
        self.action_high = tuple(action_high)
        self.sample = sample
        self.terminated = terminated
        self.reward = reward
        self.penalized = penalized

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    @property
    def name(self) -> str:
        """Environment name."""
        return f"OneShotWorldModel-{type(self.model).__name__}"

    @property
    def num_actions(self) -> int:
        """Number of discrete actions, or the size of a continuous one."""
        return self._num_actions or len(self.action_low)

    @property
    def default_params(self) -> WorldModelParams:
        """Params without a context, which cannot be stepped: `condition` gives some."""
        return WorldModelParams()

    def action_space(self, params: WorldModelParams | None = None) -> Any:
        """The task's, as it was given or read from the context."""
        if self._num_actions is not None:
            return spaces.Discrete(self._num_actions)
        low: Any = np.asarray(self.action_low, np.float32)
        high: Any = np.asarray(self.action_high, np.float32)
        return spaces.Box(low, high, low.shape, jnp.float32)

    def observation_space(self, params: WorldModelParams | None = None) -> Any:
        """The range of the context with its margin; unbounded without params."""
        if params is None or params.support is None:
            return spaces.Box(-jnp.inf, jnp.inf, (self.obs_size,), jnp.float32)
        support = params.support
        return spaces.Box(support.low, support.high, (self.obs_size,), jnp.float32)

    def predict(self, params: Any, obs: jax.Array, action: jax.Array) -> Prediction:
        """What the model says about one step, from vectors [S] and [A]."""
        return self.model.predict(params.cache, obs, action)

    def draw(
        self, params: Any, obs: jax.Array, action: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Next observation, reward and termination, drawn by the model."""
        return self.model.sample(params.cache, obs, action, key)

    def reset_env(
        self, key: jax.Array, params: WorldModelParams
    ) -> tuple[jax.Array, WorldModelState]:
        """Draw one of the initial observations.

        Raises:
            ValueError: If the params have no context.
        """
        if params.initial_obs is None:
            raise ValueError("params: expected those that condition() returned")
        row = jax.random.randint(key, (), 0, params.num_initial_obs)
        obs = params.initial_obs[row]
        return obs, WorldModelState(
            time=jnp.int32(0), obs=obs, terminated=jnp.bool_(False)
        )

    def step_env(
        self, key: jax.Array, state: WorldModelState, action: Any, params: Any
    ) -> tuple[jax.Array, WorldModelState, jax.Array, jax.Array, dict[Any, Any]]:
        """Predict one step and keep it in the form of the context's observations."""
        vector = self._action_vector(action)
        if state.obs.shape != params.support.low.shape:
            raise ValueError(
                f"params: their context has {len(params.support.low)} observations, "
                f"this environment {self.obs_size}"
            )
        prediction = self.predict(params, state.obs, vector)
        if self.sample:
            next_obs, reward, terminated = self.draw(params, state.obs, vector, key)
        else:
            next_obs, reward = prediction.next_obs_mean, prediction.reward_mean
            terminated = prediction.terminated_prob > 0.5
        is_inside = params.support.contains(next_obs)
        next_obs = params.support.project(next_obs)
        if self.terminated is not None:
            terminated = self.terminated(state.obs, action, next_obs)
        reward = params.support.clip_reward(reward)
        if self.reward is not None:
            reward = self.reward(state.obs, action, next_obs)
        if self.penalized:
            spread = jnp.max(prediction.next_obs_std / params.support.std)
            unknown = jnp.where(is_inside, jnp.minimum(spread, 1.0), 1.0)
            cost = params.uncertainty_penalty * params.support.reward_unit
            reward = reward - cost * unknown
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        terminated = jnp.asarray(terminated, bool).reshape(())
        state = WorldModelState(
            time=state.time + 1, obs=next_obs, terminated=terminated
        )
        return next_obs, state, reward, terminated, {}

    def observe(self, key, state, action, params) -> jax.Array:
        """The state is the observation."""
        del key, action, params
        return state.obs

    def is_terminated(self, state: WorldModelState, params: Any) -> jax.Array:
        """Whether the last step ended the episode."""
        del params
        return state.terminated

    def _action_vector(self, action: Any) -> jax.Array:
        action = jnp.asarray(action)
        if self._num_actions is not None:
            if action.shape != () or not jnp.issubdtype(action.dtype, jnp.integer):
                raise ValueError(
                    f"action: expected one of the integers 0 ... {self.num_actions - 1}"
                    f" of the context's task, got {action.dtype} of shape "
                    f"{action.shape}"
                )
            return action_vector(action, self._num_actions, 0)
        if action.size != self.num_actions:
            raise ValueError(
                f"action: expected a vector of size {self.num_actions}, as in the "
                f"context, got shape {action.shape}"
            )
        low = np.asarray(self.action_low, np.float32)
        high = np.asarray(self.action_high, np.float32)
        return jnp.clip(action.reshape(-1).astype(jnp.float32), low, high)


def condition(
    transitions: Transitions,
    action_space: Any = None,
    max_steps: int | None = None,
    initial_obs: Any = None,
    model: Any = None,
    terminated: Callable[..., Any] | None = None,
    *,
    reward: Callable[..., Any] | None = None,
    sample: bool = False,
    uncertainty_penalty: float = 1.0,
    margin: float = 0.05,
) -> tuple[WorldModelEnv, WorldModelParams]:
    """Turn transitions of a task into an environment that behaves like it.

    Args:
        transitions: About a thousand, under any policy; what they do not show, the
            model cannot know. Rows of one episode in order of time tell where episodes
            start.
        action_space: The task's, of gymnax or Gymnasium. Without it integer actions are
            discrete, and continuous ones are bounded by those in the context.
        max_steps: Time limit, after which an episode is truncated. By default the
            length of the longest truncated episode, or 200 without one.
        initial_obs: Observations [K, S] to start episodes from; "context" for all of
            the context's, which makes rare rewards easier to find; by default the first
            ones of the context's episodes.
        model: A world model; the shipped one by default.
        terminated: `(obs, action, next_obs) -> bool` where it is known when the task
            ends an episode; by default it is learned from the context.
        reward: `(obs, action, next_obs) -> float` where the reward is known; by default
            it is learned from the context.
        sample: Draw each step from the predicted distribution instead of taking its
            mean.
        uncertainty_penalty: See `WorldModelParams`; 0 trusts the model everywhere.
        margin: How far predictions may leave the range of the context's observations,
            as a share of that range.

    Returns:
        A gymnax pair `(env, params)`. Params of another context with as many rows work
        with the same environment and compile nothing.

    Raises:
        ValueError: Names the argument or the field that does not fit.
    """
    transitions = in_order(read_transitions(transitions))
    context = Context.of(transitions, action_space)
    if model is None:
        model = default_model()
    if max_steps is None:
        max_steps = _longest_truncated(transitions) or _DEFAULT_MAX_STEPS
    if max_steps < 1:
        raise ValueError(f"max_steps: expected at least 1, got {max_steps}")
    for name, value in (
        ("uncertainty_penalty", uncertainty_penalty),
        ("margin", margin),
    ):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: expected a number of at least 0, got {value}")
    for name, function in (("terminated", terminated), ("reward", reward)):
        if function is not None and not callable(function):
            raise ValueError(
                f"{name}: expected a function (obs, action, next_obs), got "
                f"{type(function).__name__}"
            )
    low, high = _action_bounds(context, action_space)
    env = WorldModelEnv(
        model,
        context.obs_size,
        context.num_actions,
        low,
        high,
        sample=sample,
        terminated=terminated,
        reward=reward,
        penalized=uncertainty_penalty > 0,
    )
    initial_obs = _initial_obs(context, transitions, initial_obs)
    support = Support.of(context, margin).including(initial_obs)
    num_initial = len(initial_obs)
    return env, WorldModelParams(
        cache=fit(model, context),
        support=support,
        initial_obs=jnp.resize(
            initial_obs, (max(num_initial, len(context.obs)), context.obs_size)
        ),
        num_initial_obs=jnp.int32(num_initial),
        uncertainty_penalty=jnp.float32(uncertainty_penalty),
        max_steps_in_episode=max_steps,
    )


def fit(model: Any, context: Context) -> Any:
    """A model's cache of a context, compiled once for each model and shape."""
    return _fitter(jax.default_backend())(model, context)


@functools.cache
def _fitter(backend: str) -> Callable[[Any, Context], Any]:
    """`model.fit`, compiled for a backend.

    A context is fitted once. On CPUs the optimised program takes 20 seconds longer to
    compile than this one, and saves two when it runs.
    """
    options: dict[str, Any] = {}
    if backend == "cpu":
        options["xla_backend_optimization_level"] = 0
        options["xla_llvm_disable_expensive_passes"] = True
        if version("jaxlib").startswith("0.10."):  # Others may not know it.
            options["xla_cpu_use_fusion_emitters"] = False
    return jax.jit(
        lambda model, context: model.fit(context),
        static_argnums=0,
        compiler_options=options,
    )


@functools.cache
def default_model() -> Any:
    """The model that `condition` takes without one: the shipped transformer.

    An installation without its weights takes the best of the closed-form models.
    """
    if (PRETRAINED / "card.json").exists():
        return load_model()
    return LeaveOneOut()


def first_rows(transitions: Transitions) -> np.ndarray:
    """Rows [K] that start an episode.

    Raises:
        envs.OrderError: The rows are not in order of time.
    """
    return episodes_of(transitions).starts


def _longest_truncated(transitions: Transitions) -> int:
    return episodes_of(transitions).time_limit or 0


def _initial_obs(context: Context, transitions: Transitions, given: Any) -> jax.Array:
    if given is None:
        return context.obs[first_rows(transitions)]
    if isinstance(given, str):
        if given != "context":
            raise ValueError(
                f'initial_obs: expected an array, "context" or None, got {given!r}'
            )
        return context.obs
    given = np.asarray(given, np.float32)
    if given.ndim != 2 or given.shape[1] != context.obs_size or not len(given):
        raise ValueError(
            f"initial_obs: expected observations [K, {context.obs_size}], got shape "
            f"{given.shape}"
        )
    if not np.isfinite(given).all():
        raise ValueError("initial_obs: expected finite numbers, found NaN or infinity")
    return jnp.asarray(given)


def _action_bounds(
    context: Context, action_space: Any
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if context.num_actions is not None:
        return (), ()
    bounds = np.min(context.action, axis=0), np.max(context.action, axis=0)
    if isinstance(action_space, gymnasium.spaces.Box | spaces.Box):
        given = np.asarray(action_space.low), np.asarray(action_space.high)
        shape = (context.action_size,)
        given = [np.broadcast_to(x.reshape(-1), shape) for x in given]
        bounds = [
            np.where(np.isfinite(x), x, seen)
            for x, seen in zip(given, bounds, strict=True)
        ]
    low, high = (tuple(np.asarray(x, np.float32).tolist()) for x in bounds)
    return low, high
