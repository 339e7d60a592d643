"""SimpleEnv of One-Shot World Models (Ferreira et al., 2024, arXiv 2409.14084)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from envs.typed import TypedEnvironment


@struct.dataclass
class SimpleEnvState(environment.EnvState):
    """Where the agent is.

    Attributes:
        position: float32 scalar in [-30, 30].
        time: int32 scalar, steps since the reset.
    """

    position: jax.Array
    time: jax.Array


@struct.dataclass
class SimpleEnvParams(environment.EnvParams):
    """Parameters of SimpleEnv.

    Attributes:
        max_steps_in_episode: Time limit.
    """

    max_steps_in_episode: int = 20


class _SimpleEnv(environment.Environment):
    """The dynamics alone; see `SimpleEnv`."""

    @property
    def name(self) -> str:
        """Environment name."""
        return "SimpleEnv"

    @property
    def num_actions(self) -> int:
        """Size of an action."""
        return 1

    @property
    def default_params(self) -> SimpleEnvParams:
        """The reference's."""
        return SimpleEnvParams()

    def reset_env(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        """Start uniformly in [-5, 5]."""
        position = jax.random.uniform(key, (), minval=-5.0, maxval=5.0)
        state = SimpleEnvState(time=jnp.int32(0), position=position)
        return self.observe(key, state, None, params), state

    def step_env(self, key: jax.Array, state: Any, action: Any, params: Any):
        """Move by the action, between the ends of the line."""
        move = jnp.clip(jnp.asarray(action, jnp.float32).reshape(()), -10.0, 10.0)
        position = jnp.clip(state.position + move, -30.0, 30.0)
        state = state.replace(position=position, time=state.time + 1)
        obs = self.observe(key, state, action, params)
        return obs, state, -jnp.abs(position), jnp.bool_(False), {}

    def observe(self, key, state, action, params) -> jax.Array:
        """The position, float32 [1]."""
        del key, action, params
        return state.position[None]

    def is_terminated(self, state: Any, params: Any) -> jax.Array:
        """Never; the time limit truncates."""
        del state, params
        return jnp.bool_(False)

    def action_space(self, params: Any = None) -> spaces.Box:
        """How far to move, in [-10, 10]."""
        return spaces.Box(-10.0, 10.0, (1,), jnp.float32)

    def observation_space(self, params: Any = None) -> spaces.Box:
        """The position, in [-30, 30]."""
        return spaces.Box(-30.0, 30.0, (1,), jnp.float32)


class SimpleEnv(TypedEnvironment, _SimpleEnv):
    """A point on a line of which the agent has to find the middle.

    The action in [-10, 10] is added to the position in [-30, 30]; a step pays minus the
    distance from 0, for 20 steps. The best return is 0, that of standing still about
    -50.
    """
