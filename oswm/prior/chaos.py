"""A chaotic family: rings of coupled variables that neither settle nor escape.

``z_i' = (z_{i+1} - z_{i-2}) z_{i-1} - z_i + force + control`` (Lorenz 1996), a ring
of 4 to 8 variables; from a force of about 4 upwards nearby trajectories part ways.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from oswm.prior.actions import NUM_CHANNELS
from oswm.prior.draws import Draws

NUM_VARIABLES = 8
_NUM_SUBSTEPS = 2


@struct.dataclass
class Chaos:
    """Constants of a ring.

    Attributes:
        number: Variables in it.
        force: Constant drive, a number.
        control: What the action adds to it, [8, NUM_CHANNELS].
        time_step: Of a step.
    """

    number: jax.Array
    force: jax.Array
    control: jax.Array
    time_step: jax.Array

    @property
    def is_used(self) -> jax.Array:
        """Variables in use, [8] bool."""
        return jnp.arange(NUM_VARIABLES) < self.number


def init_chaos(draws: Draws) -> Chaos:
    """Draw a ring."""
    control = draws.normal((NUM_VARIABLES, NUM_CHANNELS))
    return Chaos(
        number=4 + draws.below(NUM_VARIABLES - 3),
        force=draws.uniform(4.0, 12.0),
        control=control * draws.log_uniform(0.3, 10.0),
        time_step=draws.log_uniform(0.01, 0.08),
    )


def reset_chaos(u: jax.Array, ring: Chaos) -> jax.Array:
    """An initial state [8] from as many uniform draws."""
    return ring.force * (2 * u - 0.5) * ring.is_used


def step_chaos(ring: Chaos, z: jax.Array, effect: jax.Array) -> jax.Array:
    """Advance a state [8]."""
    place = jnp.arange(NUM_VARIABLES)

    def neighbour(shift):
        return jnp.where(ring.is_used, (place + shift) % ring.number, place)

    after, before, second = neighbour(1), neighbour(-1), neighbour(-2)
    drive = ring.force + ring.control @ effect
    for _ in range(_NUM_SUBSTEPS):
        drift = (z[after] - z[second]) * z[before] - z + drive
        z = jnp.clip(z + ring.time_step / _NUM_SUBSTEPS * drift, -30, 30)
    return z * ring.is_used
