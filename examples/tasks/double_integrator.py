"""A double integrator: push a mass to the origin and hold it there.

A task of one's own is a gymnax environment and its params; nothing here is special to
this toolkit.

python -m benchmarks.evolve --task examples.tasks.double_integrator:make
"""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

DT = 0.1  # s


@struct.dataclass
class State(environment.EnvState):
    """Position (m) and velocity (m/s), float32 scalars; time, int32 steps."""

    position: jax.Array
    velocity: jax.Array
    time: jax.Array


@struct.dataclass
class Params(environment.EnvParams):
    """The time limit, in steps."""

    max_steps_in_episode: int = 50


class DoubleIntegrator(environment.Environment):
    """Observations `[position, velocity]`; the action is a force in [-3, 3]."""

    @property
    def default_params(self) -> Params:
        """Fifty steps."""
        return Params()

    def reset_env(self, key, params):
        """Start anywhere in [-2, 2], at up to 1 m/s."""
        position, velocity = jax.random.uniform(key, (2,), minval=-1, maxval=1)
        state = State(position=2 * position, velocity=velocity, time=jnp.int32(0))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        """One step of symplectic Euler; the cost is quadratic."""
        force = jnp.clip(jnp.reshape(action, ()), -3.0, 3.0)
        velocity = state.velocity + DT * force
        position = state.position + DT * velocity
        cost = position**2 + 0.1 * velocity**2 + 0.01 * force**2
        state = State(position=position, velocity=velocity, time=state.time + 1)
        obs = self.observe(key, state, action, params)
        return obs, state, -cost, jnp.bool_(False), {}

    def observe(self, key, state, action, params):
        """Everything, float32 `[2]`."""
        return jnp.stack([state.position, state.velocity])

    def is_terminated(self, state, params):
        """Never; the time limit truncates."""
        return jnp.bool_(False)

    def action_space(self, params=None):
        """A force."""
        return spaces.Box(-3.0, 3.0, (1,))

    def observation_space(self, params=None):
        """Unbounded."""
        return spaces.Box(-jnp.inf, jnp.inf, (2,))


def make():
    """The task: an environment and its params."""
    env = DoubleIntegrator()
    return env, env.default_params


def controller(obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Linear state feedback."""
    return -jnp.clip(5.0 * obs[:1] + 3.0 * obs[1:], -3.0, 3.0)
