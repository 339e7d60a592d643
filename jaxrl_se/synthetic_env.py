"""Synthetic environments: small networks that stand in for a task.

Two variants of one family, both gymnax environments whose evolved networks are the
`weights` field of their params:

* `OneStepEnv`: an initial-state distribution and a reward; every episode has length one
  (a contextual bandit; Liesen et al., 2024, arXiv 2406.12589).
* `MultiStepEnv`: next state, reward and optionally termination (Ferreira et al., 2022,
  ICLR, arXiv 2202.02790).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from envs.spaces import Spaces
from jaxrl_runs import values
from jaxrl_runs.values import COUNT, FLAG, LAYERS, POSITIVE_OR_NONE, OneOf, setting
from jaxrl_se.networks import ACTIVATION, MLP, Weights, count
from jaxrl_se.obs_ranges import Ranges, check_ranges, from_unit, ranges_of, to_unit

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
class MetStarts:
    """Observations that were met in the task, for episodes to start from.

    Attributes:
      obs: float32 `[M, obs_size]`, in the task's units.
      share: Of the episodes that start from one of them; the others are as they would
        be without.
    """

    obs: jax.Array
    share: jax.Array | float


@struct.dataclass
class SyntheticParams(environment.EnvParams):
    """Parameters of a synthetic environment.

    Attributes:
      weights: The evolved pytree, and the only thing that evolves.
      max_steps_in_episode: int, the time limit (unused by the one-step variant).
      target_params: Params of the target task where initial states come from it.
      obs_range: float32 `[obs_size, 2]`, low and high of each observation, that the
        networks see as [-1, 1]; None leaves observations as they are.
      starts: Observations that a share of the episodes starts from, or None.
    """

    weights: Weights = None
    max_steps_in_episode: int = 1
    target_params: Any = None
    obs_range: Any = None
    starts: MetStarts | None = None

    def __repr__(self) -> str:
        """How many weights, not which."""
        return f"{type(self).__name__}({count(self.weights)} weights)"


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """Shape of a synthetic environment.

    Attributes:
      variant: "one-step" or "multi-step".
      hidden_sizes: Hidden layers of each network; empty makes them linear.
      activation: Their activation.
      initial_states: "learned", "target" to draw them from the real task's reset, or
        "normal" for standard normal ones, as the networks see them.
      reward_heads: Whether the reward network has one output per action (fewer weights
        to evolve for the same function) instead of taking the action as an input, as
        Ferreira et al. do. For continuous actions `u`, scaled to [-1, 1], output `g_i`
        per dimension gives the reward `sum_i g_i u_i - u_i^2 / 2`, which is concave in
        the action and highest at `clip(g)`, like the advantage of Gu et al. (2016,
        arXiv 1603.00748, equation 6).
      reward_bound: Bound `b` of the reward network's outputs `x`, `b * tanh(x / b)`, or
        None. Evolution follows the order of rewards, not their size; where nothing
        keeps them small they grow out of proportion to any agent's learning rates.
      obs_range: Range of each observation, pairs of low and high, that the networks see
        as [-1, 1], so that a weight means as much for one as for another. "task" reads
        it off the task's observation space, where infinite ends leave an observation as
        it is; None leaves all. "running", on a task outside JAX, has it follow the
        mean -+ one deviation of what policies meet. It becomes part of the params.
      max_steps: Default time limit of a multi-step episode, which is truncated there.
      obs_bound: A multi-step next observation is `obs_bound * tanh(output)` as the
        networks see it, which keeps long episodes finite; None leaves it linear, as
        Ferreira et al. do.
      learn_termination: Whether a third network ends multi-step episodes, by an output
        above 0.5.
      soft_termination: Whether that network's output `d` also weighs the bootstrap, by
        a real-valued `info["discount"]` of `1 - d`, as in the code of Ferreira et al.
      advantage: Whether a reward is that of the action less that of the best one, at
        most 0 then, as the advantage of an optimal policy is. Which action is best
        stays the same, whatever follows it and whatever an agent's discount; and no
        agent has to learn what a state is worth. Needs `reward_heads`.
    """

    variant: Literal["one-step", "multi-step"] = setting("one-step", OneOf(VARIANTS))
    hidden_sizes: tuple[int, ...] = setting((16,), LAYERS)
    activation: str = setting("tanh", ACTIVATION)
    initial_states: Literal["learned", "target", "normal"] = setting(
        "learned", OneOf(("learned", "target", "normal"))
    )
    reward_heads: bool = setting(True, FLAG)
    reward_bound: float | None = setting(None, POSITIVE_OR_NONE)
    obs_range: Ranges = "task"
    max_steps: int = setting(20, COUNT)
    obs_bound: float | None = setting(3.0, POSITIVE_OR_NONE)
    learn_termination: bool = setting(False, FLAG)
    soft_termination: bool = setting(False, FLAG)
    advantage: bool = setting(False, FLAG)

    def __post_init__(self):
        values.check(self)
        check_ranges(self.obs_range)
        if self.soft_termination and not self.learn_termination:
            raise ValueError(
                "learn_termination must be True with soft_termination, got False"
            )
        if self.advantage and not self.reward_heads:
            raise ValueError("reward_heads must be True with advantage, got False")

    def make(self, env: Any, params: Any) -> tuple[SyntheticEnv, SyntheticParams]:
        """Builds the untrained synthetic environment of a task `(env, params)`.

        Raises:
          ValueError: `obs_range` has not one range per observation.
        """
        from_target = self.initial_states == "target"
        synthetic = self.build(Spaces.of(env, params), env if from_target else None)
        return synthetic, dataclasses.replace(
            synthetic.default_params,
            target_params=params if from_target else None,
            obs_range=ranges_of(self.obs_range, env, params),
        )

    def build(self, spaces: Spaces, target: Any = None) -> SyntheticEnv:
        """Builds the environment for `spaces`; `target` gives the initial states.

        Its `default_params` have no ranges of observations: `make` reads them off the
        task.
        """
        kinds = {kind.variant: kind for kind in (OneStepEnv, MultiStepEnv)}
        return kinds[self.variant](self, spaces, target)


class SyntheticEnv(environment.Environment):
    """What both variants share; equal by static configuration, not by identity.

    gymnax jits `reset` and `step` with the environment as a static argument, so two
    environments that compare equal share one compiled program. Ranges of observations
    are params; environments that differ by them alone are equal.

    Args:
      config: Its shape.
      spaces: Spaces of the target task.
      target: The target task's gymnax environment if initial states are drawn from it.

    Raises:
      ValueError: The configuration is another variant's, or a target is missing or not
        asked for.
    """

    variant: str
    task_kind = "synthetic"

    def __init__(
        self,
        config: SyntheticConfig,
        spaces: Spaces,
        target: environment.Environment | None = None,
    ):
        if config.variant != self.variant:
            raise ValueError(
                f"config.variant must be {self.variant!r} for a {type(self).__name__}, "
                f"got {config.variant!r}"
            )
        if (config.initial_states == "target") != (target is not None):
            raise ValueError(
                "target must be given where initial_states is 'target', and only "
                f"there, got {target!r} with {config.initial_states!r}"
            )
        self.config = config
        self.spaces = spaces
        self.target = target
        without_ranges = dataclasses.replace(config, obs_range=None)
        self._static = (type(self), without_ranges, spaces, target)

    def __eq__(self, other):
        return isinstance(other, SyntheticEnv) and self._static == other._static

    def __hash__(self):
        return hash(self._static)

    def __repr__(self) -> str:
        """Its name and spaces."""
        spaces = self.spaces
        actions = f"{spaces.num_actions} actions"
        if spaces.num_actions is None:
            actions = f"actions of {spaces.action_size}"
        return f"{type(self).__name__}({spaces.obs_size} observations, {actions})"

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
        config = self.config
        return MLP(in_size, config.hidden_sizes, out_size, config.activation)

    @property
    def default_params(self) -> SyntheticParams:
        """Untrained weights, the default time limit, no ranges of observations."""
        is_one_step = self.variant == "one-step"
        return SyntheticParams(
            weights=self.init_weights(jax.random.key(0)),
            max_steps_in_episode=1 if is_one_step else self.config.max_steps,
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

        A learned one is a network's image of a latent drawn from N(0, I). Some are
        those of `params.starts`, if there are any.
        """
        if self.target is not None:
            obs, _ = self.target.reset_env(key, params.target_params)
            obs = obs.astype(jnp.float32)
            return obs, SyntheticState(time=jnp.int32(0), obs=obs)
        key_met, key_share = key, key
        if params.starts is not None:
            key, key_met, key_share = jax.random.split(key, 3)
        obs = jax.random.normal(key, (self.spaces.obs_size,), jnp.float32)
        if self.config.initial_states == "learned":
            obs = self._apply("initial_state", params, obs)
        obs = from_unit(params.obs_range, obs)
        if params.starts is not None:
            met = jnp.asarray(params.starts.obs)
            met = met[jax.random.randint(key_met, (), 0, len(met))]
            is_met = jax.random.uniform(key_share) < params.starts.share
            obs = jnp.where(is_met, met, obs)
        return obs, SyntheticState(time=jnp.int32(0), obs=obs)

    def observe(self, key, state, action, params) -> jax.Array:
        """The state is the observation."""
        del key, action, params
        return state.obs

    def _apply(self, name: str, params: SyntheticParams, inputs: jax.Array):
        return self.networks()[name](params.weights[name], inputs)

    def _shared_networks(self) -> dict[str, MLP]:
        """The reward, and the initial state where it is learned."""
        size = self.spaces.obs_size
        if self.config.reward_heads:
            reward = self._net(size, self.spaces.action_size)
        else:
            reward = self._net(self.spaces.action_size + size, 1)
        if self.config.initial_states != "learned":
            return {"reward": reward}
        return {"reward": reward, "initial_state": self._net(size, size)}

    def _reward(self, params: SyntheticParams, obs: jax.Array, action: Any):
        heads, bound = self.config.reward_heads, self.config.reward_bound
        is_discrete = self.spaces.num_actions is not None
        obs = to_unit(params.obs_range, obs)
        vector = self.spaces.action_vector(action)
        inputs = obs if heads else jnp.concatenate([vector, obs])
        outputs = bounded(self._apply("reward", params, inputs), bound)
        if not heads:
            return outputs[0]
        if is_discrete:
            reward, best = jnp.sum(outputs * vector), jnp.max(outputs)
        else:
            reward = _concave(outputs, self.spaces.normalized_action(action))
            best = _concave(outputs, jnp.clip(outputs, -1.0, 1.0))
        return reward - best if self.config.advantage else reward


def _concave(outputs: jax.Array, unit: jax.Array) -> jax.Array:
    """A reward that is highest at the outputs, for actions in [-1, 1]."""
    return jnp.sum(outputs * unit - 0.5 * jnp.square(unit))


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
    """Learned next observation, reward and, optionally, termination."""

    variant = "multi-step"

    def networks(self) -> dict[str, MLP]:
        """Networks `next_obs`, `reward`, and where learned the other two.

        `next_obs` and `terminated` take the action (one-hot if discrete), then the
        observation.
        """
        in_size = self.spaces.action_size + self.spaces.obs_size
        networks = {"next_obs": self._net(in_size, self.spaces.obs_size)}
        if self.config.learn_termination:
            networks["terminated"] = self._net(in_size, 1)
        return networks | self._shared_networks()

    def step_env(self, key, state, action, params):
        """Steps the learned dynamics."""
        del key
        config = self.config
        vector = self.spaces.action_vector(action)
        inputs = jnp.concatenate([vector, to_unit(params.obs_range, state.obs)])
        obs = self._apply("next_obs", params, inputs)
        if config.obs_bound is not None:
            obs = config.obs_bound * jnp.tanh(obs)
        obs = from_unit(params.obs_range, obs)
        reward = self._reward(params, state.obs, action)
        terminated, info = jnp.bool_(False), {}
        if config.learn_termination:
            output = self._apply("terminated", params, inputs)[0]
            terminated = output > 0.5
            if config.soft_termination:
                info = {"discount": 1.0 - output}
        state = state.replace(time=state.time + 1, obs=obs)
        return obs, state, reward, terminated, info
