"""A user's own environment, which knows nothing of this package."""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces


@struct.dataclass
class State(environment.EnvState):
    position: jax.Array
    time: int


@struct.dataclass
class Params(environment.EnvParams):
    noise: float = 0.3
    max_steps_in_episode: int = 6


class RandomWalk(environment.Environment):
    """Leave [-1, 1] by pushing a particle that is also pushed at random.

    Observations are a dictionary; infos hold a number, a flag and a dictionary.
    """

    @property
    def default_params(self):
        return Params()

    def step_env(self, key, state, action, params):
        push = 0.5 * jnp.asarray(action - 1, jnp.float32)
        noise = params.noise * jax.random.normal(key)
        state = State(position=state.position + push + noise, time=state.time + 1)
        terminated = self.is_terminated(state, params)
        info = {
            "distance": jnp.abs(state.position),
            "right": state.position > 0,
            "cost": {"push": jnp.abs(push), "vector": jnp.stack([push, noise])},
        }
        reward = jnp.where(terminated, 1.0, -0.1)
        return self.get_obs(state), state, reward, terminated, info

    def reset_env(self, key, params):
        position = jax.random.uniform(key, minval=-0.5, maxval=0.5)
        state = State(position=position, time=0)
        return self.get_obs(state), state

    def get_obs(self, state, params=None, key=None):
        position = jnp.full((2,), state.position)
        return {"position": position, "right": (state.position > 0).astype(jnp.int32)}

    def is_terminated(self, state, params):
        return jnp.abs(state.position) > 1

    def action_space(self, params=None):
        return spaces.Discrete(3)

    def observation_space(self, params):
        limit = jnp.finfo(jnp.float32).max
        return spaces.Dict(
            {
                "position": spaces.Box(-limit, jnp.full((2,), limit), (2,)),
                "right": spaces.Discrete(2),
            }
        )
