"""Reward networks: a task whose reward is replaced or added to by a small network.

The dynamics are the real task's, so agents act in it as they would in the task, and
policies are tested there. After Ferreira et al. (2022, ICLR, arXiv 2202.02790); the
potential-based kinds after Ng, Harada and Russell (1999).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment

from envs.spaces import Spaces
from envs.stepping import scalar
from envs.wrapper import Wrapper
from jaxrl_runs import values
from jaxrl_runs.values import (
    DISCOUNT,
    FLAG,
    LAYERS,
    POSITIVE,
    OneOf,
    Text,
    TupleOf,
    setting,
)
from jaxrl_se.networks import ACTIVATION, MLP, Weights, count
from jaxrl_se.obs_ranges import check_ranges, ranges_of, to_unit

KINDS = (
    "exclusive-potential",
    "additive-potential",
    "exclusive",
    "additive",
    "exclusive-potential-info",
    "additive-potential-info",
    "exclusive-info",
    "additive-info",
    "exclusive-info-only",
    "additive-info-only",
)
# What gymnax and wrappers add to `info`, and what is no feature of a transition.
_NOT_FEATURES = (
    "discount",
    "final_observation",
    "num_repeats",
    "terminated",
    "truncated",
)


def check_discount(discount: Any) -> None:
    """Raises ValueError for a discount outside (0, 1]; a traced one is believed."""
    DISCOUNT.check("discount", discount)


@struct.dataclass
class RewardState(environment.EnvState):
    """What a `RewardEnv` remembers.

    Attributes:
      time: int32 scalar, the task's.
      state: The task's state.
      obs: The task's observation, which the next step's potential is taken at.
    """

    time: jax.Array
    state: Any
    obs: Any


@struct.dataclass
class RewardParams(environment.EnvParams):
    """Parameters of a `RewardEnv`.

    Attributes:
      weights: The evolved pytree, and the only thing that evolves.
      target_params: Params of the task.
      discount: The discount of potential-based shaping, in (0, 1]. It has to be the
        agent's: our agents put their own here when they train. For one of another
        library, `params.replace(discount=...)`.
      obs_range: float32 `[obs_size, 2]`, low and high of each observation, that the
        network sees as [-1, 1]; None leaves observations as they are.
    """

    weights: Weights = None
    target_params: Any = None
    discount: Any = 0.99
    obs_range: Any = None

    def __repr__(self) -> str:
        """How many weights, not which."""
        return (
            f"{type(self).__name__}({count(self.weights)} weights, "
            f"discount={self.discount})"
        )


def with_discount(params: Any, discount: Any) -> Any:
    """The params for an agent of this discount; those of other environments as is."""
    if isinstance(params, RewardParams):
        return params.replace(discount=jnp.asarray(discount, jnp.float32))  # type: ignore
    return params


def check_shaping(params: Any, agent: Any) -> None:
    """Raises ValueError if a reward network could not shape for this agent."""
    if not isinstance(params, RewardParams):
        return
    while hasattr(agent, "agent"):  # one around another
        agent = agent.agent
    check_discount(params.discount)
    check_discount(getattr(agent, "discount", 1.0))


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """Shape of a reward network.

    With the potential `f(s)` of a network, the task's reward `r` and the discount `g`,
    an agent is paid for the step from `s` to `s'`

    * "exclusive-potential": `g f(s') - f(s)`;
    * "additive-potential": `r + g f(s') - f(s)`, which keeps optimal policies optimal
      whatever the network (Ng et al., 1999);
    * "exclusive": `f(s')`;
    * "additive": `r + f(s')`;
    * the same with "-info" (before it as in "additive-potential-info"): the network
      also sees the info vector of the step, in both terms of a potential-based reward
      the same one;
    * "exclusive-info-only" and "additive-info-only": a linear function of the info
      vector alone, the baselines after Faust et al. (2019).

    Attributes:
      kind: One of `KINDS`.
      hidden_sizes: Hidden layers of the network; empty makes it linear.
      activation: Their activation.
      obs_range: Range of each observation, pairs of low and high, that the network sees
        as [-1, 1]; "task" reads it off the task's observation space, where infinite
        ends leave an observation as it is; None leaves all.
      zero_at_termination: Whether the potential of a terminated (not of a truncated)
        state is 0, without which additive shaping changes optimal policies of episodic
        tasks. False is what the code of Ferreira et al. does.
      info_keys: The entries of the task's step info that make the info vector, in this
        order; None for all numbers that there are, by name. Kinds without info have
        none.
      quadratic: Whether the network also sees the products of each two observations
        and their squares. Without hidden layers it is then a quadratic form, the
        smallest network that can pay for energy.
      scale: Factor on the network's output. Policies of TD3 that are paid much early on
        saturate and stay as they are: for them it has to be small.
    """

    kind: str = setting("additive-potential", OneOf(KINDS))
    hidden_sizes: tuple[int, ...] = setting((64,), LAYERS)
    activation: str = setting("prelu", ACTIVATION)
    obs_range: tuple[tuple[float, float], ...] | str | None = "task"
    zero_at_termination: bool = setting(True, FLAG)
    info_keys: tuple[str, ...] | None = None
    quadratic: bool = setting(False, FLAG)
    scale: float = setting(1.0, POSITIVE)

    def __post_init__(self):
        values.check(self)
        check_ranges(self.obs_range)
        if self.info_keys is not None:
            TupleOf(Text(), min_size=1).check("RewardConfig.info_keys", self.info_keys)

    @property
    def is_potential(self) -> bool:
        """Whether the network is a potential, paid by its differences."""
        return "potential" in self.kind

    @property
    def is_additive(self) -> bool:
        """Whether the task's reward is paid too."""
        return self.kind.startswith("additive")

    @property
    def sees_info(self) -> bool:
        """Whether the network sees the info vector."""
        return self.kind.endswith(("-info", "-only"))

    @property
    def is_info_only(self) -> bool:
        """Whether the reward is a linear function of the info vector."""
        return self.kind.endswith("info-only")

    def make(
        self, env: Any, params: Any, discount: float = 0.99
    ) -> tuple[RewardEnv, RewardParams]:
        """Builds the untrained reward network of a task `(env, params)`.

        Raises:
          ValueError: The discount is outside (0, 1], or the kind needs an info vector
            that the task's steps do not give.
        """
        check_discount(discount)
        spaces = Spaces.of(env, params)
        ranges = self.obs_range
        if ranges == "task" and spaces.num_states is not None:
            ranges = None  # One-hot vectors are what networks want to see already.
        config, info_size = dataclasses.replace(self, info_keys=None), 0
        if self.sees_info:
            keys, info_size = _info_shape(env, params, self.kind, self.info_keys)
            config = dataclasses.replace(self, info_keys=keys)
        reward_env = RewardEnv(config, spaces, env, info_size)
        reward_params = RewardParams(
            weights=reward_env.init_weights(jax.random.key(0)),
            target_params=params,
            discount=discount,
            obs_range=ranges_of(ranges, env, params),
        )
        return reward_env, reward_params


class RewardEnv(Wrapper):
    """A task with another reward; `RewardConfig.make` builds one.

    Spaces, dynamics, termination and time limit are the task's. The task's own reward
    is `info["task_reward"]`. Environments of equal configuration are equal, so that
    loading one twice compiles nothing twice; ranges of observations are params, and
    those that differ by them alone are equal too.

    Args:
      config: Its shape; where it sees an info vector, with the `info_keys`.
      spaces: The task's spaces.
      target: The task's gymnax environment.
      info_size: Size of the info vector, 0 for kinds without.

    Raises:
      ValueError: The target has a `step` of its own, which this would leave out.
    """

    def __init__(
        self, config: RewardConfig, spaces: Spaces, target: Any, info_size: int = 0
    ):
        static = dataclasses.replace(config, obs_range=None)
        super().__init__(target, (static, spaces, info_size))
        self.config = config
        self.spaces = spaces
        self.info_size = info_size

    @property
    def target(self) -> Any:
        """The task's environment."""
        return self._env

    @property
    def name(self) -> str:
        """Environment name."""
        return f"{self._env.name}-{self.config.kind}"

    @property
    def default_params(self) -> RewardParams:
        """Untrained weights in the task with its default params."""
        return RewardParams(
            weights=self.init_weights(jax.random.key(0)),
            target_params=self._env.default_params,
        )

    def inner_params(self, params: RewardParams) -> Any:
        """The task's params."""
        return params.target_params

    def inner_state(self, state: RewardState) -> Any:
        """The task's state."""
        return state.state

    @property
    def network(self) -> MLP:
        """From an observation, and the info vector if it is seen, to one number."""
        size = self.spaces.obs_size
        num_products = size * (size + 1) // 2 if self.config.quadratic else 0
        in_size = size + num_products + self.info_size
        return MLP(in_size, self.config.hidden_sizes, 1, self.config.activation)

    def init_weights(self, key: jax.Array) -> Weights:
        """Draws the weights from which an evolution starts."""
        if self.config.is_info_only:
            return 0.1 * jax.random.normal(key, (self.info_size,), jnp.float32)
        return self.network.init(key)

    @staticmethod
    def population_axes(params: RewardParams) -> RewardParams:
        """Which leaves of `params` carry the population axis: the weights alone."""
        shared = jax.tree.map(lambda _: None, params)
        return shared.replace(weights=jax.tree.map(lambda _: 0, params.weights))

    def reset_env(self, key: jax.Array, params: RewardParams):
        """Resets the task."""
        obs, state = self._env.reset_env(key, params.target_params)
        return obs, RewardState(time=state.time, state=state, obs=obs)

    def step_env(self, key, state: RewardState, action, params: RewardParams):
        """Steps the task and pays the network's reward."""
        next_obs, inner, task_reward, terminated, info = self._env.step_env(
            key, state.state, action, params.target_params
        )
        task_reward = jnp.float32(scalar("reward", task_reward, self._env))
        terminated = scalar("terminated", terminated, self._env)
        reward = self.reward(params, state.obs, next_obs, task_reward, terminated, info)
        state = RewardState(time=inner.time, state=inner, obs=next_obs)
        return next_obs, state, reward, terminated, {**info, "task_reward": task_reward}

    def reward(
        self,
        params: RewardParams,
        obs: jax.Array,
        next_obs: jax.Array,
        task_reward: jax.Array,
        terminated: jax.Array,
        info: dict[str, Any],
    ) -> jax.Array:
        """What a transition pays, float32 scalar.

        Args:
          params: Params with weights and discount.
          obs: `[obs_size]`.
          next_obs: `[obs_size]`.
          task_reward: The task's own.
          terminated: Whether the task ended.
          info: The task's step info.
        """
        config = self.config
        features = [
            jnp.ravel(jnp.asarray(info[k], jnp.float32)) for k in config.info_keys or ()
        ]
        if config.is_info_only:
            learned = config.scale * jnp.dot(params.weights, jnp.concatenate(features))
        else:
            learned = self._value(params, next_obs, features)
            if config.is_potential:
                if config.zero_at_termination:
                    learned = jnp.where(terminated, 0.0, learned)
                before = self._value(params, obs, features)
                learned = params.discount * learned - before
        return task_reward + learned if config.is_additive else learned

    def potential(self, params: RewardParams, obs: jax.Array) -> jax.Array:
        """The network's output for observations `[..., obs_size]`; `[...]`.

        Raises:
          ValueError: The kind also sees an info vector.
        """
        kind, scale = self.config.kind, self.config.scale
        if self.config.info_keys:
            raise ValueError(f"kind: the network of {kind!r} also needs info")
        return scale * self.network(params.weights, self._seen(params, obs))[..., 0]

    def _value(self, params, obs, features) -> jax.Array:
        inputs = jnp.concatenate([self._seen(params, obs), *features])
        return self.config.scale * self.network(params.weights, inputs)[0]

    def _seen(self, params: RewardParams, obs: jax.Array) -> jax.Array:
        """Observations as the network sees them."""
        obs = to_unit(params.obs_range, obs.astype(jnp.float32))
        if not self.config.quadratic:
            return obs
        first, second = np.triu_indices(self.spaces.obs_size)
        return jnp.concatenate([obs, obs[..., first] * obs[..., second]], axis=-1)


def _info_shape(env, params, kind, wanted) -> tuple[tuple[str, ...], int]:
    """Names and total size of the info vector's entries."""

    def info_of_a_step(key):
        _, state = env.reset_env(key, params)
        action = env.action_space(params).sample(key)
        return env.step_env(key, state, action, params)[-1]

    info = jax.eval_shape(info_of_a_step, jax.random.key(0))
    found = {
        name: math.prod(entry.shape)
        for name, entry in sorted(info.items())
        if hasattr(entry, "shape") and name not in _NOT_FEATURES
    }
    if not found:
        raise ValueError(
            f"kind: {kind!r} needs an info vector, but the steps of {env.name!r} have "
            "none; kinds without info are " + ", ".join(KINDS[:4])
        )
    missing = [name for name in wanted or () if name not in found]
    if missing:
        raise ValueError(
            f"info_keys: {env.name!r} has no {', '.join(missing)} in its steps' info, "
            f"only {', '.join(found)}"
        )
    keys = tuple(wanted or found)
    return keys, sum(found[name] for name in keys)
