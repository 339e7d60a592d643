"""Smooth families: every dimension drifts by a random network, in Euler-like steps.

``z' = clip(z + h * (network(z, u) - decay * z + rotation z + control), +-bound)``. The
step ``h`` is log-uniform up to 1, where ``decay = 1`` gives the paper's networks that
forget the state. Without decay and with rotation the map does not contract. The action
is added, or multiplies the state.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import struct

from oswm.prior.actions import NUM_CHANNELS
from oswm.prior.draws import Draws
from oswm.prior.random_networks import (
    RandomNetwork,
    apply_network,
    make_network,
    num_draws,
)

NUM_DIMENSIONS = 8


@struct.dataclass
class Smooth:
    """Constants of a system.

    Attributes:
        is_used: Dimensions in use, [8] bool.
        networks: One per dimension, of (state, what else is seen, effect).
        weight: Of each network's output, [8].
        decay: Towards 0, [8].
        rotation: Antisymmetric, [8, 8].
        control: Added per effect, [8, NUM_CHANNELS].
        modulation: Times effect and state, [8, NUM_CHANNELS].
        step: Euler step.
        bound: Of the state, [8].
        spread: Of the initial state.
    """

    is_used: jax.Array
    networks: RandomNetwork
    weight: jax.Array
    decay: jax.Array
    rotation: jax.Array
    control: jax.Array
    modulation: jax.Array
    step: jax.Array
    bound: jax.Array
    spread: jax.Array


def init_smooth(draws: Draws, number: jax.Array, seen_mask: jax.Array) -> Smooth:
    """Draw a system of ``number`` dimensions (at most 8).

    Args:
        draws: Random numbers.
        number: Of dimensions.
        seen_mask: What else the networks may see, bool [E].
    """
    shape = (NUM_DIMENSIONS,)
    is_used = jnp.arange(NUM_DIMENSIONS) < number
    every = jnp.concatenate([is_used, seen_mask, jnp.ones(NUM_CHANNELS, bool)])
    share = draws.uniform(0.2, 1.0)
    inputs = every * draws.chance(share, (NUM_DIMENSIONS, len(every)))
    u = draws.uniform(shape=(NUM_DIMENSIONS, num_draws(len(every))))
    networks = jax.vmap(make_network)(u, inputs.astype(jnp.float32))
    # Wider weights than PyTorch's: sharper sines, steeper steps.
    sharpness = draws.log_uniform(1.0, 6.0)
    networks = dataclasses.replace(networks, w_in=networks.w_in * sharpness)
    # Of a network that sees all, the output is about as large as its inputs.
    weight = draws.log_uniform(0.3, 3.0, shape) / jnp.sqrt(sharpness)
    turn = jnp.triu(draws.normal((NUM_DIMENSIONS, NUM_DIMENSIONS)), 1) * is_used
    turn = turn * draws.chance(0.5) * draws.log_uniform(0.1, 2.0)
    decay = draws.uniform(0.0, 1.5, shape) * draws.chance(0.6, shape)
    control = draws.normal((NUM_DIMENSIONS, NUM_CHANNELS))
    control = control * draws.chance(0.5, control.shape)
    return Smooth(
        is_used=is_used,
        networks=networks,
        weight=jnp.where(draws.chance(0.2), 0.0, weight),
        decay=decay,
        rotation=(turn - turn.T) * is_used[:, None],
        control=control * draws.log_uniform(0.1, 3.0),
        modulation=draws.chance(0.4) * jnp.roll(control, 1, 0),
        step=draws.log_uniform(0.01, 1.0),
        bound=draws.log_uniform(0.5, 10.0, shape),
        spread=draws.log_uniform(0.1, 3.0),
    )


def reset_smooth(u: jax.Array, system: Smooth) -> jax.Array:
    """An initial state [8] from as many uniform draws."""
    z = (2 * u - 1) * system.spread
    return jnp.clip(z, -system.bound, system.bound) * system.is_used


def step_smooth(system: Smooth, z: jax.Array, seen: jax.Array, effect: jax.Array):
    """Advance a state [8]; ``seen`` [E] is what else the networks see."""
    inputs = jnp.concatenate([z, seen, effect])
    drift = system.weight * jax.vmap(apply_network, (0, None))(system.networks, inputs)
    drift = drift - system.decay * z + system.rotation @ z
    drift = drift + system.control @ effect + (system.modulation @ effect) * z
    z = z + system.step * drift
    return jnp.clip(z, -system.bound, system.bound) * system.is_used
