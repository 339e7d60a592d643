"""The multilayer perceptron behind agents, synthetic environments and rewards.

Weights are plain pytrees, so that a population of networks is the same pytree with a
leading axis: use `jax.vmap`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl_runs.values import LAYERS, OneOf

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    # PReLU at its initial slope, where Ferreira et al.'s evolution leaves it.
    "prelu": partial(jax.nn.leaky_relu, negative_slope=0.25),
    "tanh": jnp.tanh,
    "gelu": jax.nn.gelu,
    "swish": jax.nn.swish,
}
ACTIVATION = OneOf(tuple(ACTIVATIONS))

Weights = Any  # A pytree of float32 arrays.

_LANES = 8  # float32 numbers in a vector register of a CPU


@struct.dataclass
class NetworkShape:
    """A network's traced width and depth inside its padded static ones.

    Attributes:
      width: int, units in use of every hidden layer.
      depth: int, hidden layers in use, at least 1.
    """

    width: Any
    depth: Any


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
        ACTIVATION.check("activation", self.activation)
        LAYERS.check("hidden_sizes", self.hidden_sizes)

    @partial(jax.jit, static_argnums=0, inline=True)
    def init(self, key: jax.Array, shape: NetworkShape | None = None) -> Weights:
        """Draws weights: kernels and biases from U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

        This is the default of PyTorch's `Linear`, which the published systems use.

        Args:
          key: A PRNG key.
          shape: The width and depth in use; the static ones by default. Units beyond
            the width start at zero on both sides, where every gradient step leaves
            them (all activations are zero at zero), so they cost no mask later. Layers
            beyond the depth carry a leaf `active` of zero and pass their input on.

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
            end = start + fan_in * fan_out
            kernel = flat[start:end].reshape(
                (fan_out, fan_in) if is_output else (fan_in, fan_out)
            )
            bias = flat[end : end + fan_out]
            start = end + fan_out
            used_in: Any = fan_in
            if shape is not None:
                used_in = fan_in if index == 0 else shape.width
                rows = jnp.arange(fan_in) < used_in
                columns = jnp.arange(fan_out) < shape.width
                if is_output:
                    kernel = kernel * rows
                else:
                    kernel = kernel * rows[:, None] * columns
                    bias = bias * columns
            bound = jnp.asarray(used_in, jnp.float32) ** -0.5
            layer = {"kernel": kernel * bound, "bias": bias * bound}
            if shape is not None and 0 < index < len(self.hidden_sizes):
                layer["active"] = (index < jnp.asarray(shape.depth)).astype(jnp.float32)
            layers.append(layer)
        return tuple(layers)

    def check_shape(self) -> None:
        """Raises ValueError if a traced shape cannot be padded into this network."""
        if len(set(self.hidden_sizes)) != 1:
            raise ValueError(
                "hidden_sizes must be one width repeated, of at least one layer, for "
                f"networks whose width or depth varies, got {self.hidden_sizes}"
            )

    def scale_output(self, weights: Weights, factor: float) -> Weights:
        """The weights of a network whose outputs are `factor` times as large."""
        *hidden, output = weights
        return (*hidden, jax.tree.map(lambda leaf: factor * leaf, output))

    def scale_kernels(self, weights: Weights, factor: float) -> Weights:
        """Weights with all kernels `factor` times as large, biases as they are."""
        return tuple(layer | {"kernel": factor * layer["kernel"]} for layer in weights)

    def pad(self, weights: Weights) -> Weights:
        """Adds hidden units of zeros up to full vector registers of a CPU.

        They change no output and stay zeros under gradient descent (see `init`), and an
        update of 57 units takes a fifth longer than one of 64.
        """
        full = [-(-size // _LANES) * _LANES for size in self.hidden_sizes]
        return resize_hidden(weights, full)

    def unpad(self, weights: Weights) -> Weights:
        """Takes away what `pad` added."""
        return resize_hidden(weights, self.hidden_sizes)

    def __call__(self, weights: Weights, inputs: jax.Array) -> jax.Array:
        """Applies the network to `[..., in_size]`; returns `[..., out_size]`."""
        activation = ACTIVATIONS[self.activation]
        *hidden, output = weights
        for layer in hidden:
            units = activation(_matmul(inputs, layer["kernel"]) + layer["bias"])
            if "active" in layer:
                units = jnp.where(layer["active"] > 0, units, inputs)
            inputs = units
        return _matmul(inputs, output["kernel"].T) + output["bias"]


def resize_hidden(weights: Weights, hidden_sizes: Sequence[int]) -> Weights:
    """Adds hidden units of zeros to an `MLP`'s weights, or takes the last ones away.

    Units of zeros change no output and stay zeros under gradient descent (see
    `MLP.init`).
    """
    ins = (weights[0]["kernel"].shape[0], *hidden_sizes)
    *hidden, output = weights
    layers = []
    for layer, fan_in, fan_out in zip(hidden, ins[:-1], ins[1:], strict=True):
        kernel = _resize(layer["kernel"], (fan_in, fan_out))
        bias = _resize(layer["bias"], (fan_out,))
        layers.append(layer | {"kernel": kernel, "bias": bias})
    kernel = _resize(output["kernel"], (output["bias"].shape[0], ins[-1]))
    return (*layers, output | {"kernel": kernel})


def _resize(array: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    missing = [(0, n - old, 0) for n, old in zip(shape, array.shape, strict=True)]
    return jax.lax.pad(array, jnp.zeros((), array.dtype), missing)


@dataclasses.dataclass(frozen=True)
class DuelingMLP:
    """Q = V + (A - mean A) on shared features (Wang et al., 2016, equation 9).

    Attributes:
      features: From the observation to features, with a linear output.
      value: From the features to V.
      advantage: From the features to A, one output per action.
      mean_over_batch: Take the mean of A over all rows and actions, as the code of
        Ferreira et al. (2022) does, instead of over each row's actions.
    """

    features: MLP
    value: MLP
    advantage: MLP
    mean_over_batch: bool = False

    @classmethod
    def build(
        cls,
        in_size: int,
        hidden_sizes: tuple[int, ...],
        feature_size: int,
        num_actions: int,
        activation: str,
        mean_over_batch: bool = False,
    ) -> DuelingMLP:
        """The network of Ferreira et al.: heads of one hidden layer of `feature_size`.

        The features are linear in their last hidden layer.
        """
        return cls(
            MLP(in_size, hidden_sizes, feature_size, activation),
            MLP(feature_size, (feature_size,), 1, activation),
            MLP(feature_size, (feature_size,), num_actions, activation),
            mean_over_batch,
        )

    @property
    def out_size(self) -> int:
        """Number of actions."""
        return self.advantage.out_size

    def init(self, key: jax.Array, shape: NetworkShape | None = None) -> Weights:
        """Draws weights; a traced shape is that of the features' hidden layers."""
        keys = jax.random.split(key, 3)
        return {
            "features": self.features.init(keys[0], shape),
            "value": self.value.init(keys[1]),
            "advantage": self.advantage.init(keys[2]),
        }

    def check_shape(self) -> None:
        """See `MLP.check_shape`."""
        self.features.check_shape()

    def scale_output(self, weights: Weights, factor: float) -> Weights:
        """See `MLP.scale_output`."""
        heads = {"value": self.value, "advantage": self.advantage}
        scaled = {
            name: head.scale_output(weights[name], factor)
            for name, head in heads.items()
        }
        return {**weights, **scaled}

    def pad(self, weights: Weights) -> Weights:
        """As they are: of its sizes most are full registers by choice."""
        return weights

    def unpad(self, weights: Weights) -> Weights:
        """As they are."""
        return weights

    def __call__(self, weights: Weights, inputs: jax.Array) -> jax.Array:
        """Applies the network to `[..., in_size]`; returns `[..., num_actions]`."""
        features = self.features(weights["features"], inputs)
        value = self.value(weights["value"], features)
        advantage = self.advantage(weights["advantage"], features)
        axis = None if self.mean_over_batch else -1
        return value + advantage - jnp.mean(advantage, axis=axis, keepdims=True)


def _matmul(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    """`inputs @ kernel`, with a faster derivative for a matrix of inputs."""
    return inputs @ kernel if inputs.ndim != 2 else _matrix_product(inputs, kernel)


@jax.custom_vjp
def _matrix_product(inputs, kernel):
    """Product of `[rows, in]` and `[in, out]`.

    Under `jax.vmap` autodiff's derivative by the kernel contracts the rows of both
    factors, which XLA's CPU backend (jax 0.10) gives to its slow general product.
    Written as a plain product with the smaller factor transposed it is five times
    faster, an update by a quarter.
    """
    return inputs @ kernel


def _matrix_product_fwd(inputs, kernel):
    return inputs @ kernel, (inputs, kernel)


def _matrix_product_bwd(residuals, grad):
    inputs, kernel = residuals
    if inputs.shape[-1] <= grad.shape[-1]:
        kernel_grad = inputs.T @ grad
    else:
        kernel_grad = (grad.T @ inputs).T
    return grad @ kernel.T, kernel_grad


_matrix_product.defvjp(_matrix_product_fwd, _matrix_product_bwd)


def count(weights: Any) -> str:
    """How many numbers a pytree holds, for a text."""
    return f"{sum(int(np.size(leaf)) for leaf in jax.tree.leaves(weights)):,}"


def check_weights(env: Any, params: Any) -> None:
    """Raises ValueError for params whose weights are those of another environment.

    Args:
      env: It says by `init_weights` what it expects.
      params: With `weights`.
    """
    expected = jax.eval_shape(env.init_weights, jax.random.key(0))
    shapes = [jax.tree.map(jnp.shape, each) for each in (expected, params.weights)]
    if shapes[0] != shapes[1]:
        name = getattr(env, "name", type(env).__name__)
        raise ValueError(
            f"params must be those of env ({name}), whose weights have shapes "
            f"{shapes[0]}, got {shapes[1]}"
        )
