"""Synthetic environments: small networks that stand in for a task.

Two variants of one family, both gymnax environments whose evolved networks are the
`weights` field of their params:

* `OneStepEnv`: an initial-state distribution and a reward; every episode has length one
  (a contextual bandit; Liesen et al., 2024, arXiv 2406.12589).
* `MultiStepEnv`: next state, reward and optionally termination (Ferreira et al., 2022,
  ICLR, arXiv 2202.02790).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from envs.spaces import Spaces
from jaxrl_se.networks import MLP, Weights

VARIANTS = ("one-step", "multi-step")


@struct.dataclass
class SyntheticState(environment.EnvState):
    """What a synthetic environment remembers.

    Attributes:
      obs: float32 `[obs_size]`; the state is the observation.
      time: int32 scalar, steps since the reset.
    """

    obs: jax.Array
    time: jax.Array


@struct.dataclass
class SyntheticParams(environment.EnvParams):
    """Parameters of a synthetic environment.

    Attributes:
      weights: The evolved pytree, and the only thing that evolves.
      max_steps_in_episode: int, the time limit (unused by the one-step variant).
      target_params: Params of the target task where initial states come from it.
    """

    weights: Weights = None
    max_steps_in_episode: int = 1
    target_params: Any = None


class SyntheticEnv(environment.Environment):
    """What both variants share; equal by static configuration, not by identity.

    gymnax jits `reset` and `step` with the environment as a static argument, so two
    environments that compare equal share one compiled program.

    Args:
      spaces: Spaces of the target task.
      hidden_sizes: Hidden layers of each network.
      activation: Activation of each network.
      target: The target task's gymnax environment if initial states are drawn from it,
        None if they are learned.
      reward_heads: Whether the reward network has one output per action (fewer weights
        to evolve for the same function) instead of taking the action as an input, as
        Ferreira et al. do. For continuous actions `u`, scaled to [-1, 1], output `g_i`
        per dimension gives the reward `sum_i g_i u_i - u_i^2 / 2`, which is concave in
        the action and highest at `clip(g)`, like the advantage of Gu et al. (2016,
        arXiv 1603.00748, equation 6).
      obs_range: Range of each observation that the networks see as [-1, 1], or None to
        leave observations as they are.
      learn_initial_states: Whether initial states that do not come from the target are
        learned; if not they are standard normal, as the networks see them.
      reward_bound: Bound `b` of the reward network's outputs `x`, `b * tanh(x / b)`, or
        None. Evolution follows the order of rewards, not their size; where nothing
        keeps them small they grow out of proportion to any agent's learning rates.
    """

    variant: str
    step_kind = "synthetic"
    max_steps = 1

    def __init__(
        self,
        spaces: Spaces,
        hidden_sizes: tuple[int, ...] = (16,),
        activation: str = "relu",
        target: environment.Environment | None = None,
        reward_heads: bool = True,
        obs_range: tuple[tuple[float, float], ...] | None = None,
        learn_initial_states: bool = True,
        reward_bound: float | None = None,
    ):
        self.spaces = spaces
        self.hidden_sizes = tuple(hidden_sizes)
        self.activation = activation
        self.target = target
        self.reward_heads = reward_heads
        self.obs_range = obs_range
        self.learn_initial_states = learn_initial_states and target is None
        self.reward_bound = reward_bound

    def _static(self) -> tuple:
        return (
            type(self),
            self.spaces,
            self.hidden_sizes,
            self.activation,
            self.target,
            self.reward_heads,
            self.obs_range,
            self.learn_initial_states,
            self.reward_bound,
        )

    def __eq__(self, other):
        return isinstance(other, SyntheticEnv) and self._static() == other._static()

    def __hash__(self):
        return hash(self._static())

    @property
    def name(self) -> str:
        """Environment name."""
        return f"Synthetic-{self.variant}"

    @property
    def num_actions(self) -> int:
        """Number of discrete actions, or the size of a continuous one."""
        return self.spaces.action_size

    def action_space(self, params: SyntheticParams | None = None):
        """The target's action space."""
        return self.spaces.action_space()

    def observation_space(self, params: SyntheticParams | None = None):
        """Unbounded float32 vectors of the target's observation size."""
        return spaces.Box(-jnp.inf, jnp.inf, (self.spaces.obs_size,), jnp.float32)

    def _net(self, in_size: int, out_size: int) -> MLP:
        return MLP(in_size, self.hidden_sizes, out_size, self.activation)

    @property
    def default_params(self) -> SyntheticParams:
        """Untrained weights and the default time limit."""
        return SyntheticParams(
            weights=self.init_weights(jax.random.key(0)),
            max_steps_in_episode=self.max_steps,
        )

    def networks(self) -> dict[str, MLP]:
        """The networks by the name under which `params.weights` holds them."""
        raise NotImplementedError

    def init_weights(self, key: jax.Array) -> Weights:
        """Draws the weights from which an evolution starts."""
        networks = self.networks()
        keys = jax.random.split(key, len(networks))
        return {
            name: net.init(k)
            for (name, net), k in zip(networks.items(), keys, strict=True)
        }

    @staticmethod
    def population_axes(params: SyntheticParams) -> SyntheticParams:
        """Which leaves of `params` carry the population axis: the weights alone."""
        shared = jax.tree.map(lambda _: None, params)
        return shared.replace(weights=jax.tree.map(lambda _: 0, params.weights))

    def reset_env(
        self, key: jax.Array, params: SyntheticParams
    ) -> tuple[jax.Array, SyntheticState]:
        """Draws an initial observation from the learned or the target's distribution.

        A learned one is a network's image of a latent drawn from N(0, I).
        """
        if self.target is not None:
            obs, _ = self.target.reset_env(key, params.target_params)
            obs = obs.astype(jnp.float32)
            return obs, SyntheticState(time=jnp.int32(0), obs=obs)
        obs = jax.random.normal(key, (self.spaces.obs_size,), jnp.float32)
        if self.learn_initial_states:
            obs = self._apply("initial_state", params, obs)
        obs = self._from_networks(obs)
        return obs, SyntheticState(time=jnp.int32(0), obs=obs)

    def observe(self, key, state, action, params) -> jax.Array:
        """The state is the observation."""
        del key, action, params
        return state.obs

    def _to_networks(self, obs: jax.Array) -> jax.Array:
        """An observation as the networks see it."""
        if self.obs_range is None:
            return obs
        low, high = jnp.asarray(self.obs_range, jnp.float32).T
        return (2 * obs - low - high) / (high - low)

    def _from_networks(self, obs: jax.Array) -> jax.Array:
        """The inverse of `_to_networks`."""
        if self.obs_range is None:
            return obs
        low, high = jnp.asarray(self.obs_range, jnp.float32).T
        return (low + high + obs * (high - low)) / 2

    def _apply(self, name: str, params: SyntheticParams, inputs: jax.Array):
        return self.networks()[name](params.weights[name], inputs)

    def _shared_networks(self) -> dict[str, MLP]:
        """The reward, and the initial state where it is learned."""
        size = self.spaces.obs_size
        if self.reward_heads:
            reward = self._net(size, self.spaces.action_size)
        else:
            reward = self._net(self.spaces.action_size + size, 1)
        if not self.learn_initial_states:
            return {"reward": reward}
        return {"reward": reward, "initial_state": self._net(size, size)}

    def _reward(self, params: SyntheticParams, obs: jax.Array, action: Any):
        obs = self._to_networks(obs)
        if self.reward_heads and self.spaces.num_actions is None:
            unit = self.spaces.normalized_action(action)
            heads = bounded(self._apply("reward", params, obs), self.reward_bound)
            return jnp.sum(heads * unit - 0.5 * jnp.square(unit))
        vector = self.spaces.action_vector(action)
        inputs = obs if self.reward_heads else jnp.concatenate([vector, obs])
        outputs = bounded(self._apply("reward", params, inputs), self.reward_bound)
        return jnp.sum(outputs * vector) if self.reward_heads else outputs[0]


def bounded(outputs: jax.Array, bound: float | None) -> jax.Array:
    """Outputs squashed into `[-bound, bound]`, with a slope of 1 at 0."""
    return outputs if bound is None else bound * jnp.tanh(outputs / bound)


class OneStepEnv(SyntheticEnv):
    """Episodes of length one: an initial observation, an action, a learned reward.

    The episode ends with `terminated`, so that no agent bootstraps from the observation
    after the step, which is the one before it.
    """

    variant = "one-step"

    def networks(self) -> dict[str, MLP]:
        """Networks `reward` and, where learned, `initial_state`."""
        return self._shared_networks()

    def step_env(self, key, state, action, params):
        """Pays the learned reward and terminates."""
        del key
        reward = self._reward(params, state.obs, action)
        state = state.replace(time=state.time + 1)
        return state.obs, state, reward, jnp.bool_(True), {}

    def is_terminated(self, state, params) -> jax.Array:
        """Every step is the last."""
        del params
        return state.time > 0

    def is_truncated(self, state, params) -> jax.Array:
        """Never: an agent that asks for truncation first must not bootstrap."""
        del state, params
        return jnp.bool_(False)


class MultiStepEnv(SyntheticEnv):
    """Learned next observation, reward and, optionally, termination.

    Args:
      spaces: Spaces of the target task.
      hidden_sizes: Hidden layers of each network.
      activation: Activation of each network.
      target: As in `SyntheticEnv`.
      reward_heads: As in `SyntheticEnv`.
      obs_range: As in `SyntheticEnv`.
      learn_initial_states: As in `SyntheticEnv`.
      max_steps: Default time limit; at the limit an episode is truncated.
      obs_bound: The next observation is `obs_bound * tanh(output)`, which keeps long
        episodes finite; None leaves it linear, as Ferreira et al. do.
      learn_termination: Whether a third network ends episodes (output > 0.5).
      soft_termination: Whether that network's output `d` also weighs the bootstrap, by
        a real-valued `info["discount"]` of `1 - d`, as in the code of Ferreira et al.
    """

    variant = "multi-step"

    def __init__(
        self,
        spaces: Spaces,
        hidden_sizes: tuple[int, ...] = (16,),
        activation: str = "relu",
        target: environment.Environment | None = None,
        reward_heads: bool = True,
        obs_range: tuple[tuple[float, float], ...] | None = None,
        learn_initial_states: bool = True,
        reward_bound: float | None = None,
        *,
        max_steps: int = 20,
        obs_bound: float | None = 3.0,
        learn_termination: bool = False,
        soft_termination: bool = False,
    ):
        super().__init__(
            spaces,
            hidden_sizes,
            activation,
            target,
            reward_heads,
            obs_range,
            learn_initial_states,
            reward_bound,
        )
        self.max_steps = max_steps
        self.obs_bound = obs_bound
        self.learn_termination = learn_termination
        self.soft_termination = soft_termination

    def _static(self) -> tuple:
        return (
            *super()._static(),
            self.max_steps,
            self.obs_bound,
            self.learn_termination,
            self.soft_termination,
        )

    def networks(self) -> dict[str, MLP]:
        """Networks `next_obs`, `reward`, and where learned the other two.

        `next_obs` and `terminated` take the action (one-hot if discrete), then the
        observation.
        """
        in_size = self.spaces.action_size + self.spaces.obs_size
        networks = {"next_obs": self._net(in_size, self.spaces.obs_size)}
        if self.learn_termination:
            networks["terminated"] = self._net(in_size, 1)
        return networks | self._shared_networks()

    def step_env(self, key, state, action, params):
        """Steps the learned dynamics."""
        del key
        vector = self.spaces.action_vector(action)
        inputs = jnp.concatenate([vector, self._to_networks(state.obs)])
        obs = self._apply("next_obs", params, inputs)
        if self.obs_bound is not None:
            obs = self.obs_bound * jnp.tanh(obs)
        obs = self._from_networks(obs)
        reward = self._reward(params, state.obs, action)
        terminated, info = jnp.bool_(False), {}
        if self.learn_termination:
            output = self._apply("terminated", params, inputs)[0]
            terminated = output > 0.5
            if self.soft_termination:
                info = {"discount": 1.0 - output}
        state = state.replace(time=state.time + 1, obs=obs)
        return obs, state, reward, terminated, info
