"""Networks for agents: perceptrons, convolutions, or any flax module with a head."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl_se.networks import MLP, NetworkShape, Weights


class Network(Protocol):
    """What an agent asks of a network: a hashable object, whose weights are passed in.

    `MLP` is one. `__call__` takes `[..., *in_shape]` and gives `[..., out_size]`.
    """

    @property
    def out_size(self) -> int:
        """Size of the last axis of the output."""
        ...

    def init(self, key: jax.Array, shape: NetworkShape | None = None) -> Weights:
        """Draws weights, of a traced width and depth if `shape` says so."""
        ...

    def __call__(self, weights: Weights, inputs: jax.Array) -> jax.Array:
        """Applies the network."""
        ...

    def check_shape(self) -> None:
        """Raises ValueError if width and depth cannot be traced."""
        ...

    def scale_output(self, weights: Weights, factor: float) -> Weights:
        """The weights of a network whose outputs are `factor` times as large."""
        ...

    def pad(self, weights: Weights) -> Weights:
        """The same network in a form that is fast to learn with."""
        ...

    def unpad(self, weights: Weights) -> Weights:
        """The inverse of `pad`."""
        ...


class CNN(nn.Module):
    """Convolutions for images `[..., height, width, channels]`.

    Large ones pass through the three layers of Mnih et al. (2015), images of less than
    36 pixels through the one of Young and Tian (2019, MinAtar); then one hidden layer.
    Whole numbers are taken for bytes and divided by 255.

    Attributes:
      hidden_size: Width of the hidden layer; these papers' is 512 and 128.
    """

    hidden_size: int = 128

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns features `[..., hidden_size]`."""
        if jnp.issubdtype(images.dtype, jnp.integer):
            images = images.astype(jnp.float32) / 255
        layers: Sequence[tuple[int, int, int]] = ((16, 3, 1),)  # size, kernel, stride
        if min(images.shape[-3:-1]) >= 36:
            layers = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
        units = images.astype(jnp.float32)
        for size, kernel, stride in layers:
            conv = nn.Conv(size, (kernel,) * 2, (stride,) * 2, padding="VALID")
            units = nn.relu(conv(units))
        units = units.reshape(*units.shape[:-3], -1)
        return nn.relu(nn.Dense(self.hidden_size)(units))


@dataclasses.dataclass(frozen=True)
class TorsoNetwork:
    """A flax module for features, and a linear head; a `Network`.

    Attributes:
      torso: Maps `[..., *in_shape]` to features `[..., any size]`, by parameters alone.
      in_shape: Shape of an input.
      out_size: Size of the head's output.
    """

    torso: nn.Module
    in_shape: tuple[int, ...]
    out_size: int

    def init(self, key: jax.Array, shape: NetworkShape | None = None) -> Weights:
        """Draws `{"torso", "head"}`, the head as an `MLP`'s output layer."""
        del shape
        key_torso, key_head = jax.random.split(key)
        inputs = jnp.zeros(self.in_shape, jnp.float32)
        torso = self.torso.init(key_torso, inputs)
        features: Any = jax.eval_shape(self.torso.apply, torso, inputs)
        return {"torso": torso, "head": self._head(features.shape[-1]).init(key_head)}

    def __call__(self, weights: Weights, inputs: jax.Array) -> jax.Array:
        """Applies torso and head."""
        features: Any = self.torso.apply(weights["torso"], inputs)
        return self._head(features.shape[-1])(weights["head"], features)

    def check_shape(self) -> None:
        """See `Network`."""
        raise ValueError(
            "network must be 'mlp' for networks whose width or depth varies, got "
            f"{type(self.torso).__name__}"
        )

    def scale_output(self, weights: Weights, factor: float) -> Weights:
        """See `Network`."""
        head = jax.tree.map(lambda leaf: factor * leaf, weights["head"])
        return {**weights, "head": head}

    def pad(self, weights: Weights) -> Weights:
        """As they are."""
        return weights

    def unpad(self, weights: Weights) -> Weights:
        """As they are."""
        return weights

    def _head(self, size: int) -> MLP:
        return MLP(size, (), self.out_size)


def make_network(
    network: Any,
    in_shape: tuple[int, ...],
    hidden_sizes: tuple[int, ...],
    out_size: int,
    activation: str,
) -> Network:
    """The network of an agent.

    Args:
      network: "mlp", "cnn", or a `flax.linen.Module` from inputs to features, which
        gets a linear head.
      in_shape: Shape of an input.
      hidden_sizes: Widths of the hidden layers of "mlp".
      out_size: Size of the output.
      activation: The activation of "mlp".

    Raises:
      ValueError: `network` is none of these, or does not fit inputs of this shape.
    """
    if network == "mlp":
        if len(in_shape) != 1:
            raise ValueError(
                "network must be 'cnn' or a flax.linen.Module for observations of "
                f"shape {in_shape}, got 'mlp'"
            )
        return MLP(in_shape[0], hidden_sizes, out_size, activation)
    if network == "cnn":
        if len(in_shape) != 3:
            raise ValueError(
                "network must be 'mlp' or a flax.linen.Module for observations of "
                f"shape {in_shape}, got 'cnn'"
            )
        network = CNN()
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"network must be 'mlp', 'cnn' or a flax.linen.Module, got {network!r}"
        )
    return TorsoNetwork(network, in_shape, out_size)
