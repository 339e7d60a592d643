"""Momentum pairs of the reference prior: a position and its velocity, in five kinds.

Position and velocity are latent; what is observed is the position, its sine, its cosine
or a wrapped angle, and the velocity up to a sign. The formulas are those of the
reference, oddities included (gravity proportional to the height, five times the time
step in angular gravity, hidden velocities): see ``oswm/prior/paper.py``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

SIN, COS, X, Y, RAD = range(5)
TIME_STEP = 0.01
MAX_SPEED = 7.0


@struct.dataclass
class Momentum:
    """Constants of one pair; leading axes are allowed.

    Attributes:
        kind: SIN, COS, X, Y or RAD.
        control: Which component of the action pushes it, one-hot ``[..., A]``.
        velocity_sign: The observed velocity is this times the latent one; 0 hides it.
        has_gravity: Whether gravity (and the damping of angles) acts.
        gravity: Its strength.
        damping: Factor on the velocity of angles, where gravity acts.
        elasticity: Share of the speed that is left after a contact (X and Y).
        offset: Added to the cosine that RAD observes.
    """

    kind: jax.Array
    control: jax.Array
    velocity_sign: jax.Array
    has_gravity: jax.Array
    gravity: jax.Array
    damping: jax.Array
    elasticity: jax.Array
    offset: jax.Array


def init_momentum(
    key: jax.Array, action_dim: jax.Array, max_actions: int, hides_velocity: bool = True
) -> Momentum:
    """Draw one pair.

    Args:
        key: Random key.
        action_dim: Number of action components, at most ``max_actions``.
        max_actions: Length of ``control``.
        hides_velocity: The reference's behaviour, where an inverted velocity is seen
            as its negative and any other one as zero; otherwise the sign is +-1.
    """
    keys = jax.random.split(key, 9)
    kind = jax.random.randint(keys[0], (), 0, 5)
    inverted = jax.random.bernoulli(keys[2])
    is_angle = (kind != X) & (kind != Y)
    elastic = jax.random.uniform(keys[6], minval=0.3)
    is_inelastic = (kind == X) & jax.random.bernoulli(keys[7])
    bounces = ~is_angle & ~is_inelastic
    return Momentum(
        kind=kind,
        control=jax.nn.one_hot(
            jax.random.randint(keys[1], (), 0, action_dim), max_actions
        ),
        velocity_sign=jnp.where(inverted, -1.0, 0.0 if hides_velocity else 1.0),
        has_gravity=(kind == Y) | (is_angle & jax.random.bernoulli(keys[3])),
        gravity=jax.random.uniform(keys[4], minval=5.0, maxval=10.0),
        damping=jax.random.uniform(keys[5], minval=0.9),
        elasticity=jnp.where(bounces, elastic, 0.0),
        offset=jnp.pi * ((kind == RAD) & jax.random.bernoulli(keys[8])),
    )


def reset_momentum(key: jax.Array, pair: Momentum) -> tuple[jax.Array, jax.Array]:
    """Draw the latent position and velocity that an episode starts from."""
    position_key, velocity_key = jax.random.split(key)
    u = jax.random.uniform(position_key)
    position = jnp.where(
        pair.kind == X, 2 * u - 1, jnp.where(pair.kind == Y, u, 2 * jnp.pi * u)
    )
    return position, jax.random.uniform(velocity_key, minval=-3.0, maxval=3.0)


def step_momentum(
    pair: Momentum, position: jax.Array, velocity: jax.Array, effect: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Advance one pair: first the velocity, then the position.

    Args:
        pair: Its constants.
        position: Latent position.
        velocity: Latent velocity.
        effect: What the action does, ``[A]``.
    """
    is_x, is_y = pair.kind == X, pair.kind == Y
    velocity = velocity + TIME_STEP * (pair.control @ effect)
    fall = velocity - TIME_STEP * pair.gravity * position
    swing = velocity - 5 * TIME_STEP * pair.gravity * jnp.cos(position)
    pulled = jnp.where(is_y, fall, pair.damping * swing)
    velocity = jnp.where(pair.has_gravity, pulled, velocity)
    velocity = jnp.clip(velocity, -MAX_SPEED, MAX_SPEED)
    position = position + TIME_STEP * velocity
    low = jnp.where(is_x, -1.0, jnp.where(is_y, 0.0, -jnp.inf))
    high = jnp.where(is_x | is_y, 1.0, jnp.inf)
    touches = (position < low) | (position > high)
    velocity = jnp.where(touches, -pair.elasticity * velocity, velocity)
    return jnp.clip(position, low, high), velocity


def observe_momentum(
    pair: Momentum, position: jax.Array, velocity: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What is seen of a latent position and velocity."""
    is_angle = (pair.kind != X) & (pair.kind != Y)
    angle = jnp.where(
        pair.kind == SIN, jnp.sin(position), jnp.cos(position) + pair.offset
    )
    return jnp.where(is_angle, angle, position), pair.velocity_sign * velocity
