"""Random networks: one per state dimension, and one for the reward (OSWM, section 3.2).

``h = W_in x``, ``z = act(h) + h``, ``z = act(LayerNorm(W_hidden z)) + h``, ``W_out z``:
two skips from the first layer, so that a network is a linear map plus a bounded one.
No biases. Weights are uniform in +-1/sqrt(fan_in), PyTorch's default for ``nn.Linear``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

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


def init_network(key: jax.Array, input_mask: jax.Array) -> RandomNetwork:
    """Draw the weights of one network.

    Args:
        key: Random key.
        input_mask: Which inputs it has, ``[I]``; their number is the fan-in.
    """
    in_key, hidden_key, out_key, activation_key = jax.random.split(key, 4)

    def uniform(key, shape, fan_in):
        bound = 1 / jnp.sqrt(fan_in)
        return jax.random.uniform(key, shape, minval=-1.0) * bound

    fan_in = jnp.maximum(input_mask.sum(), 1)
    w_in = uniform(in_key, (NUM_HIDDEN, input_mask.shape[0]), fan_in)
    is_sin = jax.random.bernoulli(activation_key, shape=(2,))
    return RandomNetwork(
        w_in=w_in * input_mask,
        w_hidden=uniform(hidden_key, (NUM_HIDDEN, NUM_HIDDEN), NUM_HIDDEN),
        w_out=uniform(out_key, (NUM_HIDDEN,), NUM_HIDDEN),
        sin_in=is_sin[0],
        sin_hidden=is_sin[1],
    )


def apply_network(network: RandomNetwork, x: jax.Array) -> jax.Array:
    """Evaluate one network at ``[I]``."""

    def activate(is_sin, x):
        return jnp.where(is_sin, jnp.sin(x), jnp.tanh(x))

    first = network.w_in @ x
    z = activate(network.sin_in, first) + first
    z = network.w_hidden @ z
    z = z - z.mean()
    z = z * jax.lax.rsqrt(jnp.square(z).mean() + _EPSILON)
    z = activate(network.sin_hidden, z) + first
    return network.w_out @ z
