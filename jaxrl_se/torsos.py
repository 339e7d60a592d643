"""Networks for agents: perceptrons, convolutions, or any flax module with a head."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from envs.spaces import Spaces
from jaxrl_se.networks import MLP, NetworkShape, Weights


class Init(Protocol):
    """How a `Network` draws weights."""

    def __call__(self, key: jax.Array, shape: NetworkShape | None = None) -> Weights:
        """Draws them from a key, of a traced width and depth if `shape` says so."""
        ...


class Network(Protocol):
    """What an agent asks of a network: a hashable object, whose weights are passed in.

    `MLP` is one. `__call__` takes `[..., *in_shape]` and gives `[..., out_size]`.
    """

    @property
    def out_size(self) -> int:
        """Size of the last axis of the output."""
        ...

    @property  # type checkers take a jitted method for an attribute
    def init(self) -> Init:
        """Draws weights, of a traced width and depth if a `NetworkShape` says so."""
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
      add_channel: Whether images are `[..., height, width]`, without channels.
    """

    hidden_size: int = 128
    add_channel: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns features `[..., hidden_size]`."""
        if self.add_channel:
            images = images[..., None]
        if jnp.issubdtype(images.dtype, jnp.integer):
            images = images.astype(jnp.float32) / 255
        layers: Sequence[tuple[int, int, int]] = ((16, 3, 1),)  # size, kernel, stride
        if min(images.shape[-3:-1]) >= 36:
            layers = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
        units = images.astype(jnp.float32)
        for size, kernel, stride in layers:
            units = nn.relu(nn.Dense(size)(patches(units, kernel, stride)))
        units = units.reshape(*units.shape[:-3], -1)
        return nn.relu(nn.Dense(self.hidden_size)(units))


def patches(images: jax.Array, kernel: int, stride: int) -> jax.Array:
    """Patches of images, so that a convolution is one matrix product.

    XLA has no fast convolution on a CPU once `jax.vmap` gives each agent kernels of its
    own; batched matrix products it has everywhere.

    Args:
      images: `[..., height, width, channels]`.
      kernel: Side of a patch, a multiple of `stride`.
      stride: Distance between patches.

    Returns:
      `[..., rows, columns, kernel**2 * channels]`, of all patches inside the image.
    """
    *batch, height, width, channels = images.shape
    rows, columns = ((n - kernel) // stride + 1 for n in (height, width))
    side = kernel // stride  # in blocks of stride**2 pixels
    blocks = images[
        ..., : (rows - 1 + side) * stride, : (columns - 1 + side) * stride, :
    ].reshape(*batch, rows - 1 + side, stride, columns - 1 + side, stride, channels)
    blocks = jnp.moveaxis(blocks, -3, -4)
    blocks = blocks.reshape(*blocks.shape[:-3], stride**2 * channels)
    parts = [
        blocks[..., i : i + rows, j : j + columns, :]
        for i in range(side)
        for j in range(side)
    ]
    return jnp.concatenate(parts, axis=-1)


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

    @partial(jax.jit, static_argnums=0, inline=True)
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
    _check_torso(network, in_shape)
    return TorsoNetwork(network, in_shape, out_size)


@functools.lru_cache(maxsize=256)
def _check_torso(torso: nn.Module, in_shape: tuple[int, ...]) -> None:
    """Raises ValueError for a module that is no function of its input alone."""
    shape = ", ".join(map(str, ("...", *in_shape)))
    told = (
        f"network must map [{shape}] to features [..., size] by parameters alone, one "
        "observation or several, without further arguments, random numbers (Dropout) "
        f"or running statistics (BatchNorm; take LayerNorm), but {type(torso).__name__}"
    )
    one, several = (
        jax.ShapeDtypeStruct((*batch, *in_shape), jnp.float32) for batch in ((), (3, 2))
    )
    try:
        weights: Any = jax.eval_shape(torso.init, jax.random.key(0), one)
        features: Any = [
            jax.eval_shape(torso.apply, weights, x) for x in (one, several)
        ]
    except Exception as error:  # of whatever kind the module raises
        text = (str(error).splitlines() or [""])[0][:200]
        raise ValueError(f"{told} raised {type(error).__name__}: {text}") from error
    if set(weights) - {"params"}:
        others = ", ".join(sorted(set(weights) - {"params"}))
        raise ValueError(f"{told} keeps {others}")
    shapes = [getattr(x, "shape", None) for x in features]
    if not shapes[0] or len(shapes[0]) != 1 or shapes[1] != (3, 2, *shapes[0]):
        raise ValueError(f"{told} gave {shapes[0]} and {shapes[1]} of [3, 2, ...]")


@dataclasses.dataclass(frozen=True)
class FlatNetwork:
    """A network for vectors, given observations as the task shows them; a `Network`.

    Attributes:
      network: A `Network` on vectors `[..., obs_size]`.
      spaces: The task's spaces, whose observations are pictures, grids or numbers.
    """

    network: Any
    spaces: Spaces

    @property
    def out_size(self) -> int:
        """See `Network`."""
        return self.network.out_size

    def init(self, key: jax.Array, shape: NetworkShape | None = None) -> Weights:
        """The network's own weights."""
        return self.network.init(key, shape)

    def __call__(self, weights: Weights, inputs: jax.Array) -> jax.Array:
        """Flattens `[..., *obs_shape]` and applies the network."""
        return self.network(weights, self.spaces.flatten_obs(inputs))

    def check_shape(self) -> None:
        """See `Network`."""
        self.network.check_shape()

    def scale_output(self, weights: Weights, factor: float) -> Weights:
        """See `Network`."""
        return self.network.scale_output(weights, factor)

    def pad(self, weights: Weights) -> Weights:
        """See `Network`."""
        return self.network.pad(weights)

    def unpad(self, weights: Weights) -> Weights:
        """See `Network`."""
        return self.network.unpad(weights)


def for_observations(network: Any, spaces: Spaces) -> Any:
    """A network for vectors as one for the observations of these spaces."""
    return network if spaces.are_vectors else FlatNetwork(network, spaces)


def observation_network(
    network: Any,
    spaces: Spaces,
    hidden_sizes: tuple[int, ...],
    out_size: int,
    activation: str,
) -> Network:
    """The network of an agent that sees observations alone.

    Perceptrons see them flattened, all others as the task shows them.

    Args:
      network: See `make_network`.
      spaces: The task's spaces.
      hidden_sizes: Widths of the hidden layers of "mlp".
      out_size: Size of the output.
      activation: The activation of "mlp".
    """
    sizes = hidden_sizes, out_size, activation
    assert spaces.obs_shape is not None
    if network == "mlp" or spaces.obs_shape == ():
        flat = make_network(network, (spaces.obs_size,), *sizes)
        return for_observations(flat, spaces)
    if network == "cnn" and len(spaces.obs_shape) == 2:
        network = CNN(add_channel=True)
    return make_network(network, spaces.obs_shape, *sizes)


@dataclasses.dataclass(frozen=True)
class ActionValue:
    """The value of an observation and a continuous action.

    Vectors are joined with the action. Of a picture the features are, and a perceptron
    is the head.

    Attributes:
      network: A `Network` of the joined vectors, or of joined features and actions.
      torso: A flax module from pictures to features, None for vectors.
      spaces: The task's spaces.
    """

    network: Network
    torso: nn.Module | None
    spaces: Spaces

    @classmethod
    def of(
        cls, network: Any, spaces: Spaces, hidden_sizes: tuple[int, ...], activation
    ) -> ActionValue:
        """Of an agent's hyperparameters; see `observation_network`."""
        size = spaces.obs_size + spaces.action_size
        is_flat = network == "mlp" or spaces.are_vectors or spaces.obs_shape == ()
        if is_flat:
            joined = make_network(network, (size,), hidden_sizes, 1, activation)
            return cls(joined, None, spaces)
        seen = observation_network(network, spaces, (), 1, activation)
        assert isinstance(seen, TorsoNetwork)
        inputs = jax.ShapeDtypeStruct(seen.in_shape, jnp.float32)
        features: Any = jax.eval_shape(
            lambda x: seen.torso.init_with_output(jax.random.key(0), x)[0], inputs
        )
        size = features.shape[-1] + spaces.action_size
        return cls(MLP(size, hidden_sizes, 1, activation), seen.torso, spaces)

    def init(self, key: jax.Array, shape: NetworkShape | None = None) -> Weights:
        """Draws weights."""
        if self.torso is None:
            return self.network.init(key, shape)
        key_torso, key_head = jax.random.split(key)
        picture = jnp.zeros(self.spaces.obs_shape, jnp.float32)  # type: ignore
        torso = self.torso.init(key_torso, picture)
        return {"torso": torso, "head": self.network.init(key_head, shape)}

    def __call__(
        self, weights: Weights, obs: jax.Array, action: jax.Array
    ) -> jax.Array:
        """Returns `[...]`, of `[..., *obs_shape]` and `[..., action_size]`."""
        if self.torso is None:
            joined = jnp.concatenate([self.spaces.flatten_obs(obs), action], axis=-1)
            return self.network(weights, joined)[..., 0]
        features: Any = self.torso.apply(weights["torso"], obs)
        joined = jnp.concatenate([features, action], axis=-1)
        return self.network(weights["head"], joined)[..., 0]
