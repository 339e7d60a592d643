"""Random networks: one per state dimension, and one for the reward (OSWM, section 3.2).

``h = W_in x``, ``z = act(h) + h``, ``z = act(LayerNorm(W_hidden z)) + h``, ``W_out z``:
two skips from the first layer, so that a network is a linear map plus a bounded one.
No biases. Weights are uniform in +-1/sqrt(fan_in), PyTorch's default for ``nn.Linear``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from oswm.prior.sine import sine

NUM_HIDDEN = 16
_EPSILON = 1e-5  # of the layer normalisation


@struct.dataclass
class RandomNetwork:
    """Weights of a network from ``[I]`` to a number; leading axes are allowed.

    Attributes:
        w_in: ``[..., H, I]``; zero for inputs that are not in use.
        w_hidden: ``[..., H, H]``.
        w_out: ``[..., H]``.
        sin_in: Whether the first activation is the sine, else tanh, ``[...]``.
        sin_hidden: The same for the second one.
    """

    w_in: jax.Array
    w_hidden: jax.Array
    w_out: jax.Array
    sin_in: jax.Array
    sin_hidden: jax.Array


def num_draws(num_inputs: int) -> int:
    """How many uniform numbers a network of so many inputs takes."""
    return NUM_HIDDEN * (num_inputs + NUM_HIDDEN + 1) + 2


def make_network(u: jax.Array, input_mask: jax.Array) -> RandomNetwork:
    """Make one network.

    Args:
        u: Uniform draws from 0 ... 1, ``[num_draws(I)]``.
        input_mask: Which inputs it has, ``[I]``; their number is the fan-in.
    """
    num_inputs = input_mask.shape[0]
    weights = 2 * u[:-2].reshape(NUM_HIDDEN, num_inputs + NUM_HIDDEN + 1) - 1
    is_sin = u[-2:] < 0.5
    fan_in = jnp.maximum(input_mask.sum(), 1)
    return RandomNetwork(
        w_in=weights[:, :num_inputs] * input_mask / jnp.sqrt(fan_in),
        w_hidden=weights[:, num_inputs:-1] / jnp.sqrt(NUM_HIDDEN),
        w_out=weights[:, -1] / jnp.sqrt(NUM_HIDDEN),
        sin_in=is_sin[0],
        sin_hidden=is_sin[1],
    )


def apply_network(network: RandomNetwork, x: jax.Array) -> jax.Array:
    """Evaluate one network at ``[I]``."""

    def activate(is_sin, x):
        return jnp.where(is_sin, sine(x), jnp.tanh(x))

    first = network.w_in @ x
    z = activate(network.sin_in, first) + first
    z = network.w_hidden @ z
    z = z - z.mean()
    z = z * jax.lax.rsqrt(jnp.square(z).mean() + _EPSILON)
    z = activate(network.sin_hidden, z) + first
    return network.w_out @ z
