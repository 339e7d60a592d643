"""A task whose single numbers come in arrays, and whose observation may be any."""

import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


@struct.dataclass
class OddState(environment.EnvState):
    time: int
    position: object


@struct.dataclass
class OddParams(environment.EnvParams):
    max_steps_in_episode: int = 5


class OddTask(environment.Environment):
    """Pays 1 for action 1; ends by itself where three of them were taken.

    Args:
        shape: Of rewards and flags.
        obs_shape: Of observations, which hold the number of ones so far.
        dtype: Of observations.
    """

    def __init__(self, shape=(1,), obs_shape=(), dtype=jnp.float32):
        self.shape, self.obs_shape, self.dtype = shape, obs_shape, dtype

    @property
    def name(self):
        return "Odd"

    @property
    def num_actions(self):
        return 2

    @property
    def default_params(self):
        return OddParams()

    def _obs(self, state):
        return jnp.full(self.obs_shape, state.position, self.dtype)

    def reset_env(self, key, params):
        state = OddState(time=jnp.int32(0), position=jnp.float32(0))
        return self._obs(state), state

    def step_env(self, key, state, action, params):
        reward = jnp.float32(action)
        state = OddState(time=state.time + 1, position=state.position + reward)
        terminated = jnp.full(self.shape, state.position >= 3)
        reward = jnp.full(self.shape, reward)
        return self._obs(state), state, reward, terminated, {}

    def is_truncated(self, state, params):
        return jnp.full(self.shape, state.time >= params.max_steps_in_episode)

    def is_terminated(self, state, params):
        return jnp.full(self.shape, state.position >= 3)

    def observation_space(self, params=None):
        return spaces.Box(0, 9, self.obs_shape, self.dtype)

    def action_space(self, params=None):
        return spaces.Discrete(2)

    def __eq__(self, other):
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self):
        return hash((type(self), self.shape, self.obs_shape))
