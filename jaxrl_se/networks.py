"""The multilayer perceptron behind agents, synthetic environments and rewards.

Weights are plain pytrees, so that a population of networks is the same pytree with a
leading axis. `MLP.__call__` accepts that axis directly: a batched matrix product over
members is what makes training a group of small networks fast (see `ddqn.py`).
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "swish": jax.nn.swish,
}

Weights = Any  # A pytree of float32 arrays, possibly with leading member axes.


@dataclasses.dataclass(frozen=True)
class MLP:
    """A fully connected network; the object is static, its weights are passed in.

    Attributes:
      in_size: Size of the last axis of the input.
      hidden_sizes: Width of each hidden layer.
      out_size: Size of the last axis of the output, which is linear.
      activation: A name in `ACTIVATIONS`.
    """

    in_size: int
    hidden_sizes: tuple[int, ...]
    out_size: int
    activation: str = "relu"

    def __post_init__(self):
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {sorted(ACTIVATIONS)}, "
                f"got {self.activation!r}"
            )
        if any(size < 1 for size in self.hidden_sizes):
            raise ValueError(
                f"hidden_sizes must be positive integers, got {self.hidden_sizes}"
            )

    def init(self, key: jax.Array) -> Weights:
        """Draws weights: kernels and biases from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

        This is the default of PyTorch's `Linear`, which the published systems use.

        Returns:
          A tuple of layers `{"kernel", "bias"}`. Hidden kernels are `[in, out]`; the
          output kernel is `[out, in]`, because with two or three outputs the wide axis
          has to be the contiguous one for a vectorised product.
        """
        sizes = (self.in_size, *self.hidden_sizes, self.out_size)
        num_weights = sum((i + 1) * o for i, o in itertools.pairwise(sizes))
        # One call of the generator: each costs as much compile time as a layer.
        flat = jax.random.uniform(key, (num_weights,), jnp.float32, -1.0, 1.0)
        layers, start = [], 0
        for index, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            is_output = index == len(self.hidden_sizes)
            shape = (fan_out, fan_in) if is_output else (fan_in, fan_out)
            end = start + fan_in * fan_out
            layers.append(
                {
                    "kernel": flat[start:end].reshape(shape) * fan_in**-0.5,
                    "bias": flat[end : end + fan_out] * fan_in**-0.5,
                }
            )
            start = end + fan_out
        return tuple(layers)

    def __call__(self, weights: Weights, inputs: jax.Array) -> jax.Array:
        """Applies the network.

        Args:
          weights: As `init` returns them; every leaf may have leading member axes.
          inputs: `[..., in_size]` for weights without member axes, else
            `[*members, rows, in_size]`.

        Returns:
          Outputs with the last axis replaced by `out_size`.
        """
        activation = ACTIVATIONS[self.activation]
        *hidden, output = weights
        for layer in hidden:
            inputs = activation(_matmul(inputs, layer["kernel"]) + _rows(layer["bias"]))
        kernel = _transposed(output["kernel"])
        return _matmul(inputs, kernel) + _rows(output["bias"])


def _rows(bias: jax.Array) -> jax.Array:
    """Inserts the axis along which a member's rows share one bias."""
    return bias if bias.ndim == 1 else bias[..., None, :]


def _matmul(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """`inputs @ kernel`, with a faster derivative where there are member axes."""
    return inputs @ kernel if kernel.ndim == 2 else _member_matmul(inputs, kernel)


@jax.custom_vjp
def _member_matmul(inputs, kernel):
    """Product of `[*members, rows, in]` and `[*members, in, out]`.

    Autodiff's derivative by the kernel contracts the rows of both factors, which XLA's
    CPU backend (jax 0.10) gives to its slow general product. Written as a plain product
    with the smaller factor transposed it is five times faster, an update by a quarter.
    """
    return inputs @ kernel


def _member_matmul_fwd(inputs, kernel):
    return inputs @ kernel, (inputs, kernel)


def _member_matmul_bwd(residuals, grad):
    inputs, kernel = residuals
    if inputs.shape[-1] <= grad.shape[-1]:
        kernel_grad = _transposed(inputs) @ grad
    else:
        kernel_grad = _transposed(_transposed(grad) @ inputs)
    return grad @ _transposed(kernel), kernel_grad


def _transposed(x: jax.Array) -> jax.Array:
    return jnp.swapaxes(x, -1, -2)


_member_matmul.defvjp(_member_matmul_fwd, _member_matmul_bwd)
