"""The transformer of the paper (arXiv 2409.14084), as a preset to compare with.

A prior-fitted network without positions: context rows attend to each other, queries to
the context, six post-norm layers, 16,129,280 parameters at full size. It predicts the
absolute standardised next state and reward and is trained by the mean squared error.
Ours is `oswm/model.py`; what differs and why is said there.
"""

from __future__ import annotations

import dataclasses
import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from oswm.prior.paper import NUM_ACTIONS, NUM_FEATURES, NUM_STATES


@dataclasses.dataclass(frozen=True)
class PaperConfig:
    """Sizes; the defaults are the paper's.

    Attributes:
        width: Of a token, of which a quarter each encodes state, action, next state
            and reward.
        num_layers: Layers.
        num_heads: 4 in the authors' training scripts (8 in some of their evaluations).
        num_hidden: Of a layer's perceptron.
        encoder_width: Of the encoders.
        encoder_depth: Hidden layers of an encoder after the first.
        decoder_width: Of the decoders.
        decoder_depth: Hidden layers of a decoder after the first.
    """

    width: int = 512
    num_layers: int = 6
    num_heads: int = 4
    num_hidden: int = 1024
    encoder_width: int = 512
    encoder_depth: int = 3
    decoder_width: int = 64
    decoder_depth: int = 2


def _gelu(x):
    return nn.gelu(x, approximate=False)


def _torch_uniform(key, shape, dtype=jnp.float32):
    """PyTorch's default for ``nn.Linear``: +-1/sqrt(fan_in), biases likewise."""
    bound = 1 / math.sqrt(shape[0])
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def _linear(size: int, fan_in: int, use_bias: bool = True) -> nn.Dense:
    bound = 1 / math.sqrt(fan_in)

    def bias(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nn.Dense(size, use_bias=use_bias, kernel_init=_torch_uniform, bias_init=bias)


class Perceptron(nn.Module):
    """Hidden layers that each add the first layer's output before its activation."""

    num_inputs: int
    num_outputs: int
    width: int
    depth: int
    is_decoder: bool = False

    def setup(self):
        """Parts of it."""
        has_bias = not self.is_decoder
        self.first = _linear(self.width, self.num_inputs, has_bias)
        self.hidden = [
            _linear(self.width, self.width, has_bias) for _ in range(self.depth)
        ]
        self.last = _linear(self.num_outputs, self.width, has_bias)

    def __call__(self, x):
        """From ``[..., num_inputs]`` to ``[..., num_outputs]``."""
        activate = nn.sigmoid if self.is_decoder else _gelu
        first = self.first(x)
        h = activate(first)
        for layer in self.hidden:
            h = activate(layer(h)) + first
        return self.last(h)


class Layer(nn.Module):
    """A post-norm layer whose queries may be the context itself, or rows beside it."""

    config: PaperConfig

    def setup(self):
        """Parts of it; what ends a residual branch starts at zero."""
        width, zeros = self.config.width, nn.initializers.zeros
        xavier = nn.initializers.variance_scaling(2 / 4, "fan_avg", "uniform")
        self.query, self.key, self.value = (
            nn.Dense(width, kernel_init=xavier) for _ in range(3)
        )
        self.out = nn.Dense(width, kernel_init=zeros)
        self.widen = _linear(self.config.num_hidden, width)
        self.narrow = nn.Dense(width, kernel_init=zeros)
        self.norm_attention = nn.LayerNorm(epsilon=1e-5)
        self.norm_hidden = nn.LayerNorm(epsilon=1e-5)

    def keys_values(self, tokens):
        """Of the context's tokens [N, width], by head [N, H, D]."""
        shape = (*tokens.shape[:-1], self.config.num_heads, -1)
        return self.key(tokens).reshape(shape), self.value(tokens).reshape(shape)

    def __call__(self, tokens, keys, values):
        """Advance tokens [M, width] that attend to keys and values."""
        query = self.query(tokens).reshape(len(tokens), *keys.shape[1:])
        logits = jnp.einsum("mhd,nhd->hmn", query, keys) / math.sqrt(keys.shape[-1])
        weights = nn.softmax(logits, axis=-1)
        read = jnp.einsum("hmn,nhd->mhd", weights, values).reshape(len(tokens), -1)
        tokens = self.norm_attention(tokens + self.out(read))
        hidden = self.narrow(_gelu(self.widen(tokens)))
        return self.norm_hidden(tokens + hidden)


class PaperTransformer(nn.Module):
    """From inputs and targets [N, 14] of a context to targets of queries [M, 14]."""

    config: PaperConfig = PaperConfig()

    def setup(self):
        """Parts of it."""
        c = self.config

        def encoder(num_inputs):
            return Perceptron(
                num_inputs, c.width // 4, c.encoder_width, c.encoder_depth
            )

        def decoder(num_outputs):
            return Perceptron(
                c.width, num_outputs, c.decoder_width, c.decoder_depth, True
            )

        self.state_encoder, self.action_encoder = encoder(NUM_STATES), encoder(3)
        self.next_encoder, self.reward_encoder = encoder(NUM_STATES), encoder(1)
        self.layers = [Layer(c) for _ in range(c.num_layers)]
        self.state_decoder, self.reward_decoder = decoder(NUM_STATES), decoder(1)

    def _inputs(self, x):
        state = self.state_encoder(x[:, :NUM_STATES])
        action = self.action_encoder(x[:, NUM_STATES:])
        unknown = jnp.zeros((len(x), self.config.width // 2))
        return jnp.concatenate([state, action, unknown], -1)

    def encode(self, x, y):
        """Keys and values of each layer for a context [N, 14], [N, 14]."""
        known = [self.next_encoder(y[:, :NUM_STATES]), self.reward_encoder(y[:, -1:])]
        unknown = jnp.zeros((len(x), self.config.width // 2))
        tokens = self._inputs(x) + jnp.concatenate([unknown, *known], -1)
        cache = []
        for layer in self.layers:
            cache.append(layer.keys_values(tokens))
            tokens = layer(tokens, *cache[-1])
        return tuple(cache)

    def decode(self, cache, x):
        """Predict queries [M, 14] from a cached context."""
        tokens = self._inputs(x)
        for layer, (keys, values) in zip(self.layers, cache, strict=True):
            tokens = layer(tokens, keys, values)
        unused = jnp.zeros((len(x), NUM_ACTIONS - 1))
        decoded = [self.state_decoder(tokens), unused, self.reward_decoder(tokens)]
        return jnp.concatenate(decoded, -1)

    def __call__(self, x, y, queries):
        """Predict queries [M, 14] from a context [N, 14], [N, 14]."""
        return self.decode(self.encode(x, y), queries)


def init_paper_weights(key: jax.Array, config: PaperConfig = PaperConfig()) -> dict:
    """Draw the weights as the authors do."""
    x = jnp.zeros((2, NUM_FEATURES))
    return cast(dict, PaperTransformer(config).init(key, x, x, x)["params"])


def paper_loss(
    weights: dict, config: PaperConfig, x: jax.Array, y: jax.Array, num_context: int
) -> jax.Array:
    """Mean squared error over all 14 columns, unused ones included.

    Args:
        weights: Of the network.
        config: Its sizes.
        x: Inputs of a batch of datasets, [B, L, 14].
        y: Targets, [B, L, 14].
        num_context: Rows of the context; the others are queries.
    """
    network = PaperTransformer(config)

    def one(x, y):
        output = network.apply(
            {"params": weights}, x[:num_context], y[:num_context], x[num_context:]
        )
        return jnp.square(cast(jax.Array, output) - y[num_context:]).mean()

    return jax.vmap(one)(x, y).mean()


def paper_learning_rate(step: jax.Array, peak: float = 5e-5) -> jax.Array:
    """The authors' schedule: 50 epochs of 100 steps, off by an epoch and a step.

    Args:
        step: From 0 to 4,999.
        peak: Of the warm-up.
    """
    epoch, within = step // 100 + 1, step % 100
    share = (epoch + 1 + within / 100) / 50
    cosine = 0.5 * (1 + jnp.cos(jnp.pi * (share - 0.24) / 0.76))
    return peak * jnp.where(share < 0.24, share / 0.24, cosine)


def from_torch(state: dict[str, np.ndarray], config: PaperConfig) -> dict:
    """Map the weights of the authors' PyTorch model to ours.

    Linear weights are transposed; ``in_proj`` is query, key and value stacked. Names:

    ======================================  ==========================================
    theirs                                  ours
    ======================================  ==========================================
    ``encoder.*_1``, ``encoder.*_2``        ``state_encoder``, ``action_encoder``
    ``y_encoder.*_1``, ``y_encoder.*_2``    ``next_encoder``, ``reward_encoder``
    ``decoder_dict.standard.*_1``, ``*_2``  ``state_decoder``, ``reward_decoder``
    ``in_lin``, ``layer_list.i.0``, ``out_lin``  ``first``, ``hidden_i``, ``last``
    ``transformer_encoder.layers.i``        ``layers_i``
    ``linear1``, ``linear2``                ``widen``, ``narrow``
    ``norm1``, ``norm2``                    ``norm_attention``, ``norm_hidden``
    ======================================  ==========================================

    Args:
        state: A state dict as NumPy arrays.
        config: Sizes of the model.

    Raises:
        ValueError: If a weight is missing.
    """

    def linear(name):
        try:
            found = {"kernel": np.asarray(state[f"{name}.weight"]).T}
        except KeyError as error:
            raise ValueError(f"state: lacks {name}.weight") from error
        if f"{name}.bias" in state:
            found["bias"] = np.asarray(state[f"{name}.bias"])
        return found

    def perceptron(prefix, number, depth):
        return {
            "first": linear(f"{prefix}.in_lin_{number}"),
            "last": linear(f"{prefix}.out_lin_{number}"),
            **{
                f"hidden_{i}": linear(f"{prefix}.layer_list_{number}.{i}.0")
                for i in range(depth)
            },
        }

    def norm(name):
        return {"scale": state[f"{name}.weight"], "bias": state[f"{name}.bias"]}

    def layer(prefix):
        stacked = np.split(np.asarray(state[f"{prefix}.self_attn.in_proj_weight"]), 3)
        biases = np.split(np.asarray(state[f"{prefix}.self_attn.in_proj_bias"]), 3)
        projections = {
            name: {"kernel": weight.T, "bias": bias}
            for name, weight, bias in zip(
                ("query", "key", "value"), stacked, biases, strict=True
            )
        }
        return {
            **projections,
            "out": linear(f"{prefix}.self_attn.out_proj"),
            "widen": linear(f"{prefix}.linear1"),
            "narrow": linear(f"{prefix}.linear2"),
            "norm_attention": norm(f"{prefix}.norm1"),
            "norm_hidden": norm(f"{prefix}.norm2"),
        }

    c = config
    decoder = "decoder_dict.standard"
    return {
        "state_encoder": perceptron("encoder", 1, c.encoder_depth),
        "action_encoder": perceptron("encoder", 2, c.encoder_depth),
        "next_encoder": perceptron("y_encoder", 1, c.encoder_depth),
        "reward_encoder": perceptron("y_encoder", 2, c.encoder_depth),
        "state_decoder": perceptron(decoder, 1, c.decoder_depth),
        "reward_decoder": perceptron(decoder, 2, c.decoder_depth),
        **{
            f"layers_{i}": layer(f"transformer_encoder.layers.{i}")
            for i in range(c.num_layers)
        },
    }
