"""A sliding puck with two thrusters that follows a target on the plane.

python -m benchmarks.evolve --task examples.tasks.planar_reach:make
"""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

DT, DRAG, TURN = 0.1, 0.2, 0.3  # s, 1/s, rad/s of the target around the origin


@struct.dataclass
class State(environment.EnvState):
    """Positions of puck and target, velocity of the puck, `[2]` each; time in steps."""

    position: jax.Array
    velocity: jax.Array
    target: jax.Array
    time: jax.Array


@struct.dataclass
class Params(environment.EnvParams):
    """The time limit, in steps."""

    max_steps_in_episode: int = 60


class PlanarReach(environment.Environment):
    """Observations `[position, velocity, target]`, two numbers each.

    The action is a force in [-1, 1] per axis; the cost is the distance.
    """

    @property
    def default_params(self) -> Params:
        """Sixty steps."""
        return Params()

    def reset_env(self, key, params):
        """Everything anywhere in a square, at rest."""
        position, target = jax.random.uniform(key, (2, 2), minval=-1.0)
        state = State(
            position=position, velocity=jnp.zeros(2), target=target, time=jnp.int32(0)
        )
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        """The puck slides, the target circles."""
        force = 2 * jnp.clip(jnp.reshape(action, (2,)), -1.0, 1.0)
        velocity = state.velocity + DT * (force - DRAG * state.velocity)
        cos, sin = jnp.cos(DT * TURN), jnp.sin(DT * TURN)
        target = jnp.array([[cos, -sin], [sin, cos]]) @ state.target
        position = state.position + DT * velocity
        state = State(
            position=position, velocity=velocity, target=target, time=state.time + 1
        )
        cost = jnp.linalg.norm(position - target)
        obs = self.observe(key, state, action, params)
        return obs, state, -cost, jnp.bool_(False), {}

    def observe(self, key, state, action, params):
        """Everything, float32 `[6]`."""
        return jnp.concatenate([state.position, state.velocity, state.target])

    def is_terminated(self, state, params):
        """Never; the time limit truncates."""
        return jnp.bool_(False)

    def action_space(self, params=None):
        """A force per axis."""
        return spaces.Box(-1.0, 1.0, (2,))

    def observation_space(self, params=None):
        """Unbounded."""
        return spaces.Box(-jnp.inf, jnp.inf, (6,))


def make():
    """The task: an environment and its params."""
    env = PlanarReach()
    return env, env.default_params


def controller(obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Linear feedback on position and velocity."""
    position, velocity, target = obs.reshape(3, 2)
    return jnp.clip(4.0 * (target - position) - 2.0 * velocity, -1.0, 1.0)
