"""A chain: a small reward close by, a large one that random play does not find."""

import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

LENGTH = 20


@struct.dataclass
class ChainState(environment.EnvState):
    position: object


@struct.dataclass
class ChainParams(environment.EnvParams):
    """What the two ends pay, and how long an episode is.

    In 29 steps random play gets from the start to the far end in 2 of 10,000 episodes.
    """

    near: float = 0.01
    far: float = 1.0
    max_steps_in_episode: int = LENGTH + 9


class Chain(environment.Environment):
    """The far end is `LENGTH` steps to the right; no end is the end of an episode.

    Osband et al. (2016, "Deep exploration via bootstrapped DQN", section 5), with their
    thermometer code of the position. Continuous actions are right if positive.
    """

    def __init__(self, continuous=False):
        self.continuous = continuous

    def __eq__(self, other):
        return type(self) is type(other) and self.continuous == other.continuous

    def __hash__(self):
        return hash((Chain, self.continuous))

    @property
    def default_params(self):
        return ChainParams()

    def action_space(self, params=None):
        if self.continuous:
            return spaces.Box(-2.0, 2.0, (1,), jnp.float32)
        return spaces.Discrete(2)

    def observation_space(self, params=None):
        return spaces.Box(0.0, 1.0, (LENGTH,), jnp.float32)

    def observe(self, key, state, action, params):
        return (jnp.arange(LENGTH) < state.position).astype(jnp.float32)

    def reset_env(self, key, params):
        state = ChainState(time=jnp.int32(0), position=jnp.int32(0))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        right = jnp.reshape(action, ()) > 0
        position = jnp.clip(state.position + jnp.where(right, 1, -1), 0, LENGTH)
        state = ChainState(time=state.time + 1, position=position)
        reward = params.near * (position == 0) + params.far * (position == LENGTH)
        obs = self.observe(key, state, action, params)
        return obs, state, reward, jnp.bool_(False), {}
