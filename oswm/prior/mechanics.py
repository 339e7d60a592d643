"""Mechanical families: coordinates with velocities, forces, friction and contacts.

Each of four coordinates is a line or an angle. Its acceleration is a sum of a force
field (none, constant, a spring, or sines of the position), the action (added, or times
the cosine of the position), damping, dry friction and a coupling to the others;
integrated by semi-implicit Euler steps. Lines may have walls, which stop what touches
them or throw it back. An angle is seen wrapped, or as its cosine and sine.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from oswm.prior.actions import NUM_CHANNELS
from oswm.prior.draws import Draws
from oswm.prior.sine import sine

NUM_COORDINATES = 4
NUM_OBS = 3 * NUM_COORDINATES  # (position or cosine, sine or nothing, velocity) each
_NONE, _CONSTANT, _SPRING, _SINE = range(4)


@struct.dataclass
class Mechanics:
    """Constants of a system; arrays [4] unless noted.

    Attributes:
        is_used: Coordinates in use.
        is_angle: Whether a coordinate is an angle.
        shows_circle: Whether an angle is seen as cosine and sine.
        field: Kind of the force field.
        strength: Of the field.
        frequency: Of its sine.
        phase: Of its sine.
        gain: Of the action's channels, [4, NUM_CHANNELS].
        multiplies: Whether the gain is times the cosine of the position.
        damping: Force per velocity.
        friction: Dry friction, of constant size against the motion.
        coupling: Of pairs of coordinates, [4, 4].
        wall: Lines end at plus and minus this; infinite without walls.
        elasticity: Share of the speed that is left after a contact.
        max_speed: Velocities are cut off there.
        time_step: Seconds of a step, a number.
        spread: Of the initial position and velocity, [2, 4].
    """

    is_used: jax.Array
    is_angle: jax.Array
    shows_circle: jax.Array
    field: jax.Array
    strength: jax.Array
    frequency: jax.Array
    phase: jax.Array
    gain: jax.Array
    multiplies: jax.Array
    damping: jax.Array
    friction: jax.Array
    coupling: jax.Array
    wall: jax.Array
    elasticity: jax.Array
    max_speed: jax.Array
    time_step: jax.Array
    spread: jax.Array

    @property
    def obs_mask(self) -> jax.Array:
        """Observation columns in use, [12]."""
        used = self.is_used[:, None]
        second = used & self.shows_circle[:, None]
        return jnp.concatenate([used, second, used], 1).reshape(-1)


def init_mechanics(draws: Draws, number: jax.Array) -> Mechanics:
    """Draw a system of ``number`` coordinates (at most 4)."""
    shape = (NUM_COORDINATES,)

    def between(low, high):
        return draws.log_uniform(low, high, shape)

    def sparse(probability, low, high):
        return jnp.where(draws.chance(probability, shape), between(low, high), 0.0)

    is_used = jnp.arange(NUM_COORDINATES) < number
    is_angle = draws.chance(0.5, shape)
    field = draws.below(4, shape)
    field = jnp.where(is_angle & (field == _SPRING), _SINE, field)
    channel = jax.nn.one_hot(draws.below(2, shape), NUM_CHANNELS)
    gain = draws.normal(shape) * between(0.3, 10.0)
    has_walls = draws.chance(0.6, shape) & ~is_angle
    wall = jnp.where(has_walls, between(0.3, 5.0), jnp.inf)
    coupling = draws.normal((NUM_COORDINATES, NUM_COORDINATES)) * is_used
    coupling = coupling * draws.chance(0.5) * draws.log_uniform(0.1, 10.0)
    elastic = draws.uniform(0.3, 1.0, shape)
    position = jnp.minimum(between(0.03, 3.2), 0.95 * wall)
    return Mechanics(
        is_used=is_used,
        is_angle=is_angle,
        shows_circle=is_angle & draws.chance(0.6, shape),
        field=field,
        strength=between(0.3, 15.0),
        frequency=1.0 + draws.below(3, shape),
        phase=draws.uniform(0, 2 * jnp.pi, shape),
        gain=gain[:, None] * channel,
        multiplies=draws.chance(0.25, shape),
        damping=sparse(0.5, 0.01, 1.0),
        friction=sparse(0.3, 0.05, 1.0),
        coupling=coupling,
        wall=wall,
        elasticity=jnp.where(draws.chance(0.5, shape), elastic, 0.0),
        max_speed=between(1.0, 20.0),
        time_step=draws.log_uniform(0.01, 0.2),
        spread=jnp.stack([position, between(0.03, 2.0)]),
    )


def reset_mechanics(u: jax.Array, system: Mechanics) -> jax.Array:
    """Initial positions and velocities [2, 4] from as many uniform draws."""
    return (2 * u - 1) * system.spread * system.is_used


def step_mechanics(system: Mechanics, state: jax.Array, effect: jax.Array):
    """Advance positions and velocities [2, 4] by one time step."""
    q, v = state
    wave = sine(system.frequency * q + system.phase)
    field = system.field
    push = jnp.where(field == _CONSTANT, 1.0, jnp.where(field == _SPRING, q, wave))
    force = -system.strength * jnp.where(field == _NONE, 0.0, push)
    control = system.gain @ effect
    force = force + control * jnp.where(system.multiplies, sine(q + jnp.pi / 2), 1.0)
    force = force + (system.coupling * sine(q[None] - q[:, None])).sum(1)
    v = v + system.time_step * (force - system.damping * v)
    slowed = jnp.maximum(jnp.abs(v) - system.time_step * system.friction, 0.0)
    v = jnp.clip(jnp.sign(v) * slowed, -system.max_speed, system.max_speed)
    q = q + system.time_step * v
    touches = jnp.abs(q) > system.wall
    v = jnp.where(touches, -system.elasticity * v, v)
    q = jnp.clip(q, -system.wall, system.wall)
    q = jnp.where(system.is_angle, wrap(q), q)
    return jnp.stack([q, v]) * system.is_used


def observe_mechanics(system: Mechanics, state: jax.Array) -> jax.Array:
    """What is seen of it, [12]."""
    q, v = state
    first = jnp.where(system.shows_circle, jnp.cos(q), q)
    second = jnp.where(system.shows_circle, jnp.sin(q), 0.0)
    seen = jnp.stack([first, second, v], 1) * system.is_used[:, None]
    return seen.reshape(-1)


def wrap(angle: jax.Array) -> jax.Array:
    """To -pi ... pi."""
    return (angle + jnp.pi) % (2 * jnp.pi) - jnp.pi
