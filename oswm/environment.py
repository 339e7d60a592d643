"""A world model as an environment; `oswm.condition` makes one of a log."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces
from jax.core import Tracer

from envs.spaces import action_vector
from jaxrl_runs.compilation import quick_jit
from oswm.context import Prediction
from oswm.ends import Ends
from oswm.noise import Noise
from oswm.support import Support
from oswm.world_model import WorldModel

DEFAULT_MAX_STEPS = 200


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
            units of the context's typical reward. A step costs a share of it: by how
            much the predicted deviation of an observation exceeds that of nine in ten
            rows (`Prediction.unknown_std`), the largest over the context's, at most 1;
            and 1 where the prediction leaves the context's range.
        max_steps_in_episode: The time limit.
        noise: What happens by chance between observations on a grid, if something does.
        ends: What ends pay beside the steps that lead to them, if it is anything.
    """

    cache: Any = None
    support: Support | None = None
    initial_obs: Any = None
    num_initial_obs: Any = 0
    uncertainty_penalty: Any = 0.0
    max_steps_in_episode: int = DEFAULT_MAX_STEPS
    noise: Noise | None = None
    ends: Ends | None = None


class WorldModelEnv(environment.Environment):
    """Steps a world model; equal by static configuration, not by identity.

    Args:
        model: A world model, such as `KernelRidge()`.
        obs_size: Size of an observation.
        num_actions: Number of discrete actions, None for continuous ones.
        action_low: Lower bound per action dimension, empty for discrete actions.
        action_high: Upper bound likewise.
        sample: Whether steps are drawn from the predicted distribution, or its mean;
            None draws observations and ends, and takes the mean reward of what was
            drawn.
        terminated: `(obs, action, next_obs) -> bool`, or None to let the model say.
        reward: `(obs, action, next_obs) -> float`, or None to let the model say.
        penalized: Whether `params.uncertainty_penalty` is looked at.

    Attributes:
        task_kind: "model": its steps are steps in a model of a task, not real ones.
    """

    task_kind: ClassVar[str] = "model"

    def __init__(
        self,
        model: WorldModel[Any],
        obs_size: int,
        num_actions: int | None = None,
        action_low: tuple[float, ...] = (),
        action_high: tuple[float, ...] = (),
        *,
        sample: bool | None = None,
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

    def __repr__(self) -> str:
        """The model and the sizes; the model's weights would fill pages."""
        kind = "continuous" if self._num_actions is None else "discrete"
        return (
            f"{type(self).__name__}({type(self.model).__name__}, {self.obs_size} "
            f"observations, {self.num_actions} {kind} actions)"
        )

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
        """What the model says about one step, or about several at once.

        The reward is that of the step; what an end pays beside it is `end_pay`.
        Deviations are not those of Gaussians: `prediction.cdf` and `prediction.sample`
        know how errors are spread, as `oswm.assess` does.

        Args:
            params: Of `oswm.condition`.
            obs: Observation [S], or K of them [K, S].
            action: As `step` takes it, or as a vector [A], one-hot if it is discrete;
                with a leading axis [K] for K observations.

        Raises:
            ValueError: They are not of the context's task.
        """
        obs = jnp.asarray(obs)
        if obs.ndim not in (1, 2) or obs.shape[-1] != self.obs_size:
            raise ValueError(
                f"obs must be of shape ({self.obs_size},), or (K, {self.obs_size}) for "
                f"several, got {obs.shape}"
            )
        if obs.ndim == 1:
            vector = self._any_action(action)
        else:
            vector = jax.vmap(self._any_action)(jnp.asarray(action))
            if len(vector) != len(obs):
                raise ValueError(
                    f"action must be {len(obs)}, one for each obs, got {len(vector)}"
                )
        leaves = (obs, vector, *jax.tree.leaves(params.cache))
        if obs.ndim == 1 and any(isinstance(x, Tracer) for x in leaves):
            return self.model.predict(params.cache, obs, vector)
        return predicted(self.model, params.cache, obs, vector)

    def end_pay(self, params: Any, next_obs: jax.Array, action: jax.Array) -> jax.Array:
        """What is paid beside the predicted reward if steps end the episode, [K].

        Args:
            params: Of `oswm.condition`.
            next_obs: Where the steps led, [K, S].
            action: As for `predict`, with a leading axis [K].
        """
        if params.ends is None:
            return jnp.zeros(len(next_obs))
        vector = jax.vmap(self._any_action)(jnp.asarray(action))
        return jax.vmap(params.ends.pay)(jnp.asarray(next_obs), vector)

    def _any_action(self, action: Any) -> jax.Array:
        """As a vector [A], whichever way it is given."""
        is_vector = jnp.shape(action) == (self.num_actions,) and jnp.issubdtype(
            jnp.result_type(action), jnp.inexact
        )
        return jnp.asarray(action) if is_vector else self._action_vector(action)

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
            raise ValueError("params must be those that oswm.condition returned")
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
                f"params must be of a context with {self.obs_size} observations, as "
                f"this environment, got {len(params.support.low)}"
            )
        prediction = self.predict(params, state.obs, vector)
        if self.sample:
            next_obs, reward, terminated = self.draw(params, state.obs, vector, key)
        else:
            next_obs, reward = prediction.next_obs_mean, prediction.reward_mean
            terminated = prediction.terminated_prob > 0.5
        is_inside = params.support.contains(next_obs)
        if self.sample is None:
            next_obs, reward, terminated = self._by_chance(
                params, state.obs, vector, prediction, key
            )
        next_obs = params.support.project(next_obs)
        if self.terminated is not None:
            terminated = self.terminated(state.obs, action, next_obs)
        reward = params.support.clip_reward(reward)
        if params.ends is not None:
            pay = params.ends.pay(next_obs, vector)
            reward = reward + jnp.where(terminated, pay, 0.0)
        if self.reward is not None:
            reward = self.reward(state.obs, action, next_obs)
        if self.penalized:
            std = prediction.unknown_std
            std = prediction.next_obs_std if std is None else std
            spread = jnp.max(std / params.support.std)
            unknown = jnp.where(is_inside, jnp.minimum(spread, 1.0), 1.0)
            cost = params.uncertainty_penalty * params.support.reward_unit
            reward = reward - cost * unknown
        reward = jnp.asarray(reward, jnp.float32).reshape(())
        terminated = jnp.asarray(terminated, bool).reshape(())
        state = WorldModelState(
            time=state.time + 1, obs=next_obs, terminated=terminated
        )
        return next_obs, state, reward, terminated, {}

    def _by_chance(
        self, params: Any, obs: jax.Array, action: jax.Array, prediction, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draws where the step leads; then reward, and whether it ends there."""
        key_obs, key_row, key_end = jax.random.split(key, 3)
        support = params.support
        next_obs, _, _ = prediction.sample(key_obs)
        next_obs = jnp.where(support.step > 0, prediction.next_obs_mean, next_obs)
        drawn = None
        if params.noise is not None:
            drawn = params.noise.draw(support, next_obs, obs, action, key_row)
            next_obs = drawn.next_obs
        next_obs = support.project(next_obs)
        reward, end = outcome(
            self.model, params.cache, obs, action, next_obs, prediction
        )
        if drawn is not None:
            reward = reward + drawn.reward
            end = jnp.where(drawn.is_known, drawn.terminated, end)
        return next_obs, reward, jax.random.uniform(key_end) < end

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
                    f"action must be one of the integers 0 ... {self.num_actions - 1} "
                    f"of the context's task, got {action.dtype} of shape {action.shape}"
                )
            if not isinstance(action, Tracer) and not 0 <= action < self.num_actions:
                raise ValueError(
                    f"action must be one of the integers 0 ... {self.num_actions - 1} "
                    f"of the context's task, got {action}"
                )
            return action_vector(action, self._num_actions, 0)
        if action.size != self.num_actions:
            raise ValueError(
                f"action must be a vector of size {self.num_actions}, as in the "
                f"context, got shape {action.shape}"
            )
        low = np.asarray(self.action_low, np.float32)
        high = np.asarray(self.action_high, np.float32)
        return jnp.clip(action.reshape(-1).astype(jnp.float32), low, high)


def outcome(
    model: WorldModel[Any],
    cache: Any,
    obs: jax.Array,
    action: jax.Array,
    next_obs: jax.Array,
    prediction: Prediction,
) -> tuple[jax.Array, jax.Array]:
    """Mean reward, and probability of an end, of a step that led to `next_obs` [S].

    They are what `prediction` says unless the model has an `outcome`.
    """
    ask = getattr(model, "outcome", None)
    if ask is None:
        return prediction.reward_mean, prediction.terminated_prob
    shift, end = ask(cache, obs, action, next_obs, prediction)
    return prediction.reward_mean + shift, end


@functools.partial(quick_jit, static_argnums=0)
def explained(
    model: WorldModel[Any],
    cache: Any,
    obs: jax.Array,
    action: jax.Array,
    next_obs: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """What a model says of rows [N]: next observations [N, S], and rewards given them.

    Args:
        model: A world model.
        cache: Of its `fit`.
        obs: Observations [N, S].
        action: Vectors [N, A].
        next_obs: Where the steps led, [N, S].
    """

    def one(row):
        obs, action, next_obs = row
        prediction = model.predict(cache, obs, action)
        reward, _ = outcome(model, cache, obs, action, next_obs, prediction)
        return prediction.next_obs_mean, reward

    return jax.lax.map(one, (obs, action, next_obs), batch_size=100)


@functools.partial(quick_jit, static_argnums=0)
def predicted(
    model: WorldModel[Any], cache: Any, obs: jax.Array, action: jax.Array
) -> Prediction:
    """Of one query, or of several with a leading axis; op by op it would take long.

    Args:
        model: A world model.
        cache: Of its `fit`.
        obs: Observations, [S] or [K, S].
        action: Vectors, [A] or [K, A].
    """
    if obs.ndim == 1:
        return model.predict(cache, obs, action)
    return jax.lax.map(
        lambda query: model.predict(cache, *query), (obs, action), batch_size=100
    )
