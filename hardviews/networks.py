"""Residual networks for small pictures, and the heads that pretraining puts on them.

`ResNet` has the form of He et al. (2016) for pictures of 32 x 32: a 3 x 3 convolution
first, no pooling after it, and stages that halve the sides and double the width.
`ResNetConfig()` is a size that a CPU core trains in minutes, `RESNET18` the network of
the papers.
"""

from __future__ import annotations

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl_runs import values
from jaxrl_runs.values import WIDTH, Integer, TupleOf, setting

# What the moving averages keep in each step; short runs need them to follow.
_MOMENTUM = 0.9
_BLOCKS = TupleOf(Integer(at_most=1000), min_size=1)


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
    """Sizes of a residual network.

    Attributes:
        width: Channels of the first stage; each further stage has twice as many.
        blocks: Blocks of two convolutions in each stage.
        stem_stride: Stride of the first convolution; 2 makes everything four times
            cheaper.
    """

    width: int = setting(32, WIDTH)
    blocks: tuple[int, ...] = setting((1, 1, 1), _BLOCKS)
    stem_stride: int = setting(2, Integer(at_most=4))

    def __post_init__(self):
        values.check(self)

    @property
    def num_features(self) -> int:
        """Size of the pooled features."""
        return self.width * 2 ** (len(self.blocks) - 1)


RESNET18 = ResNetConfig(width=64, blocks=(2, 2, 2, 2), stem_stride=1)


class _Block(nn.Module):
    """Two convolutions and a shortcut."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = functools.partial(nn.Conv, self.width, use_bias=False)
        norm = functools.partial(
            nn.BatchNorm, use_running_average=not train, momentum=_MOMENTUM
        )
        strides = (self.stride, self.stride)
        y = nn.relu(norm()(conv((3, 3), strides)(x)))
        # Starting at zero makes every block an identity first (Goyal et al., 2017).
        y = norm(scale_init=nn.initializers.zeros)(conv((3, 3))(y))
        if x.shape != y.shape:
            x = norm()(conv((1, 1), strides)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Pictures `[B, S, S, 3]`, standardised, to features `[B, F]`."""

    config: ResNetConfig

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Computes pooled features.

        Args:
            x: Pictures, float32 `[B, S, S, 3]`.
            train: Whether batch norm uses the batch's moments, and learns them.

        Returns:
            float32 `[B, config.num_features]`.
        """
        config = self.config
        stride = (config.stem_stride, config.stem_stride)
        x = nn.Conv(config.width, (3, 3), stride, use_bias=False)(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=_MOMENTUM)(x)
        x = nn.relu(x)
        for stage, number in enumerate(config.blocks):
            for block in range(number):
                stride = 2 if stage > 0 and block == 0 else 1
                x = _Block(config.width * 2**stage, stride)(x, train)
        return jnp.mean(x, axis=(1, 2))


class Projector(nn.Module):
    """A perceptron with batch norm: features to the space where views are compared.

    Attributes:
        widths: Of its layers; the last one is its output's size.
        last_norm: Whether the output is normalised over the batch, without scale.
    """

    widths: tuple[int, ...]
    last_norm: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Computes projections `[B, widths[-1]]`."""
        for index, width in enumerate(self.widths):
            is_last = index == len(self.widths) - 1
            x = nn.Dense(width, use_bias=is_last and not self.last_norm)(x)
            if not is_last or self.last_norm:
                x = nn.BatchNorm(
                    use_running_average=not train,
                    momentum=_MOMENTUM,
                    use_scale=not is_last,
                    use_bias=not is_last,
                )(x)
            if not is_last:
                x = nn.relu(x)
        return x
