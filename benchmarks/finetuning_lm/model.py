"""A small decoder-only transformer in flax, with low-rank adapters.

A module's adapter is there when the variables have one under ``adapters``: ``a``
``[in, rank]``, ``b`` ``[rank, out]`` and a scale, which is zero where a module is not
adapted. So ranks are padded by zero columns, which stay zero in training: a zero column
of ``a`` lets no gradient through to its row of ``b``, and the other way round.

Source of the adapters: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models
(2022), equation 3.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks.finetuning_lm.world import VOCABULARY
from jaxrl_runs import values
from jaxrl_runs.values import COUNT, setting

MODULES = ("query", "key", "value", "out", "up", "down")


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Size of the model.

    Attributes:
        width: Of the residual stream.
        num_layers: Blocks of attention and perceptron.
        num_heads: They divide the width.
        num_hidden: Width of the perceptrons.
        length: Most tokens of a sequence.
    """

    width: int = setting(48, COUNT)
    num_layers: int = setting(2, COUNT)
    num_heads: int = setting(4, COUNT)
    num_hidden: int = setting(192, COUNT)
    length: int = setting(16, COUNT)

    def __post_init__(self):
        values.check(self)
        if self.width % self.num_heads:
            raise ValueError(
                f"width must be a multiple of num_heads ({self.num_heads}), got "
                f"{self.width}"
            )

    def sizes(self, module: str) -> tuple[int, int]:
        """Inputs and outputs of one of `MODULES`."""
        wide = {"up": (self.width, self.num_hidden)}
        wide["down"] = (self.num_hidden, self.width)
        return wide.get(module, (self.width, self.width))


class Linear(nn.Module):
    """A linear map without bias, and its adapter where there is one."""

    features: int
    init_scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, keep: jax.Array) -> jax.Array:
        """Apply to ``x [B, L, in]``; ``keep [B, 1, in]`` is the adapter's dropout."""
        init = nn.initializers.variance_scaling(self.init_scale, "fan_in", "normal")
        y = x @ self.param("kernel", init, (x.shape[-1], self.features))
        if not self.has_variable("adapters", "a"):
            return y
        a, b, scale = (self.get_variable("adapters", n) for n in ("a", "b", "scale"))
        return y + scale * (((x * keep) @ a) @ b)


class Block(nn.Module):
    """Causal self-attention and a perceptron, each after a normalisation."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: jax.Array, keep: jax.Array) -> jax.Array:
        """Apply to ``x [B, L, width]``; ``keep [B, 1, width + hidden]``."""
        c = self.config
        batch, length, _ = x.shape
        narrow, wide = keep[..., : c.width], keep[..., c.width :]
        shape = (batch, length, c.num_heads, c.width // c.num_heads)
        y = nn.RMSNorm(name="norm_attention")(x)
        q, k, v = (
            Linear(c.width, name=name)(y, narrow).reshape(shape)
            for name in ("query", "key", "value")
        )
        logits = jnp.einsum("bqhd,bkhd->bhqk", q, k) / shape[-1] ** 0.5
        causal = jnp.tril(jnp.ones((length, length), bool))
        shares = nn.softmax(jnp.where(causal, logits, -1e9))
        y = jnp.einsum("bhqk,bkhd->bqhd", shares, v).reshape(x.shape)
        x = x + Linear(c.width, 0.5, name="out")(y, narrow)
        y = nn.gelu(
            Linear(c.num_hidden, name="up")(nn.RMSNorm(name="norm_hidden")(x), narrow)
        )
        return x + Linear(c.width, 0.5, name="down")(y, wide)


class Transformer(nn.Module):
    """Logits of the next token; embeddings are shared by input and output."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, tokens: jax.Array, keep: jax.Array | None = None, num_frozen: int = 0
    ) -> jax.Array:
        """Apply to ``tokens [B, L]``.

        Args:
            tokens: Token indices.
            keep: Dropout of the adapters' inputs, one mask per sequence and layer,
                ``[B, layers, width + hidden]``; None: all are kept.
            num_frozen: No gradient goes into so many first layers (and the embedding).

        Returns:
            ``[B, L, vocabulary]``.
        """
        c = self.config
        if keep is None:
            keep = jnp.ones((1, c.num_layers, c.width + c.num_hidden))
        embed = nn.Embed(
            len(VOCABULARY),
            c.width,
            embedding_init=nn.initializers.normal(0.5),
            name="embed",
        )
        place = self.param("place", nn.initializers.normal(0.1), (c.length, c.width))
        x = embed(tokens) + place[: tokens.shape[1]]
        for i in range(c.num_layers):
            if i == num_frozen > 0:
                x = jax.lax.stop_gradient(x)
            x = Block(c, name=f"block_{i}")(x, keep[:, i, None])
        x = nn.RMSNorm(name="norm_out")(x)
        return x @ embed.embedding.T / c.width**0.5


def init_params(key: jax.Array, config: ModelConfig) -> dict[str, Any]:
    """Draw weights."""
    tokens = jnp.zeros((1, config.length), jnp.int32)
    return dict(Transformer(config).init(key, tokens)["params"])


def num_params(params: Any) -> int:
    """How many numbers a tree holds."""
    return sum(x.size for x in jax.tree.leaves(params))


def token_losses(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """Cross entropy of each token but the first, given those before, ``[B, L - 1]``."""
    log_probabilities = jax.nn.log_softmax(logits[:, :-1])
    return -jnp.take_along_axis(log_probabilities, tokens[:, 1:, None], -1)[..., 0]
