"""A cart-pole that hangs at first: swing the pole up and balance it on the track.

python -m benchmarks.evolve --task examples.tasks.cart_pole_swing_up:make
"""

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

CART, POLE, LENGTH, GRAVITY, DT = 0.5, 0.1, 0.5, 9.81, 0.04  # kg, kg, m, m/s^2, s
TRACK, FORCE = 2.0, 6.0  # m to each side, N


@struct.dataclass
class State(environment.EnvState):
    """Position, velocity, angle from upright, its velocity `[4]`; time in steps."""

    body: jax.Array
    time: jax.Array


@struct.dataclass
class Params(environment.EnvParams):
    """The time limit, in steps."""

    max_steps_in_episode: int = 200


class CartPoleSwingUp(environment.Environment):
    """The reward is the pole's height in [0, 1], less the cart's offset.

    The action is a force in units of 6 N; running into an end of the track stops the
    cart. Observations are `[position, velocity, cos, sin, angular velocity]`.
    """

    @property
    def default_params(self) -> Params:
        """Eight seconds."""
        return Params()

    def reset_env(self, key, params):
        """Hang still, but for a little noise."""
        noise = 0.1 * jax.random.normal(key, (4,))
        body = noise + jnp.array([0.0, 0.0, jnp.pi, 0.0])
        state = State(body=body, time=jnp.int32(0))
        return self.observe(key, state, None, params), state

    def step_env(self, key, state, action, params):
        """Semi-implicit Euler steps of a point mass on a massless rod."""
        force = FORCE * jnp.clip(jnp.reshape(action, ()), -1.0, 1.0)
        x, v, angle, omega = state.body
        for _ in range(2):
            sin, cos = jnp.sin(angle), jnp.cos(angle)
            pull = POLE * sin * (LENGTH * omega**2 - GRAVITY * cos)
            accel = (force + pull) / (CART + POLE * sin**2)
            omega += DT / 2 * (GRAVITY * sin - accel * cos) / LENGTH
            v += DT / 2 * accel
            x, angle = x + DT / 2 * v, angle + DT / 2 * omega
            hit = jnp.abs(x) > TRACK
            x, v = jnp.clip(x, -TRACK, TRACK), jnp.where(hit, 0.0, v)
        state = State(body=jnp.stack([x, v, angle, omega]), time=state.time + 1)
        reward = (1 + jnp.cos(angle)) / 2 - 0.1 * jnp.square(x / TRACK)
        obs = self.observe(key, state, action, params)
        return obs, state, reward, jnp.bool_(False), {}

    def observe(self, key, state, action, params):
        """The angle as a point on the circle, float32 `[5]`."""
        x, v, angle, omega = state.body
        return jnp.stack([x, v, jnp.cos(angle), jnp.sin(angle), omega])

    def is_terminated(self, state, params):
        """Never; the time limit truncates."""
        return jnp.bool_(False)

    def action_space(self, params=None):
        """A force in units of 6 N."""
        return spaces.Box(-1.0, 1.0, (1,))

    def observation_space(self, params=None):
        """Unbounded, as velocities are."""
        return spaces.Box(-jnp.inf, jnp.inf, (5,))


def make():
    """The task: an environment and its params."""
    env = CartPoleSwingUp()
    return env, env.default_params


def controller(obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Pumps energy, then catches the pole by linear feedback."""
    x, v, cos, sin, omega = obs
    energy = 0.5 * (LENGTH * omega) ** 2 / (GRAVITY * LENGTH) + cos - 1
    pump = 6.0 * energy * omega * cos - 0.4 * x - 0.2 * v
    catch = 4.0 * sin + 0.8 * omega + 0.25 * x + 0.4 * v
    near = (cos > 0.85) & (jnp.abs(omega) < 4)
    return jnp.clip(jnp.where(near, catch, pump), -1.0, 1.0)[None]
