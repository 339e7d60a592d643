"""The transformer: context rows attend to each other, a query to the context only.

Attention scores are products of learned keys and queries minus a learned multiple of
the squared distance of the standardised inputs, so that a head starts as a kernel
smoother of some bandwidth and learns which distances matter. The last attention reads
the residuals themselves, of all targets with the same weights, and how large each
closed-form model's are nearby. A perceptron shared by the targets turns what it reads
into weights of the models and a distribution around their mean, shifted by what the
heads read. Without training the weights are those of a closed-form blend, by each
model's errors in the context and its predicted deviation.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from oswm.heads import HEADS
from oswm.linalg import matmul
from oswm.tokens import NUM_FEATURES, NUM_SLOTS, TokenRows, feature, slots_of

# Exponents of the closed-form blend: of a model's error in the context, and of its
# standard deviation at the query.
_ERROR_TRUST, _SPREAD_TRUST = 2.0, 2.0


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network.

    Attributes:
        width: Of a token.
        num_layers: Of attention among rows, before the last one.
        num_heads: Of these layers.
        num_readout_heads: Of the last attention.
        num_slot_features: What a token says about each single target.
        num_hidden: Width of the perceptron that ends in distributions.
        num_models: Models that are blended.
        head: "mixture" or "bars".
        dtype: Of the tokens; weights, distances and distributions are float32.
    """

    width: int = 64
    num_layers: int = 1
    num_heads: int = 4
    num_readout_heads: int = 4
    num_slot_features: int = 8
    num_hidden: int = 64
    num_models: int = 5
    head: str = "mixture"
    dtype: str = "float32"


@struct.dataclass
class NetworkCache:
    """What queries need of a context.

    Rows are the last axis everywhere: a single query then reads memory in order, which
    is what its time goes into.

    Attributes:
        keys: Of each layer, [H, D, N], over the root of D.
        values: Of each layer, and ones, [H, D + 1, N].
        readout_keys: Of the last attention, [R, D, N], over the root of D.
        read: What the last attention reads: residuals and their squares, squared errors
            of each closed-form model, ends, and ones, [(2 + K)(S + 1) + 2, N].
        error: Root mean square of each model's errors, log of units, [K, S + 1].
        inputs: Standardised inputs, [S + A, N].
        next_obs: Standardised next observations, [S, N].
        mask: Rows in use, [N].
        end_rate: Share of them that end an episode, scalar.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    readout_keys: jax.Array
    read: jax.Array
    error: jax.Array
    inputs: jax.Array
    next_obs: jax.Array
    mask: jax.Array
    end_rate: jax.Array


@struct.dataclass
class Output:
    """What the network says about queries.

    Attributes:
        blend: The closed-form blend minus the base, [M, S + 1].
        shift: Other weights than the blend's and what the heads read: the centre of a
            distribution around the blend, [M, S + 1].
        scale: The models' standard deviation at the query, the distribution's unit,
            [M, S + 1].
        params: Of the target minus blend and shift, in that unit, [M, S + 1, P].
        terminated: Logit, [M].
    """

    blend: jax.Array
    shift: jax.Array
    scale: jax.Array
    params: jax.Array
    terminated: jax.Array


@struct.dataclass
class Read:
    """What the R heads of the last attention read for M queries.

    Attributes:
        residual: Mean residual of each target, [M, S + 1, R].
        squares: Mean squares of the residuals, and squared errors of each of the K
            models, [M, 1 + K, S + 1, R].
        end: Share of rows that end an episode, [M, R].
        share: Attention of the row that weighs most, [M, R].
    """

    residual: jax.Array
    squares: jax.Array
    end: jax.Array
    share: jax.Array


def squared_distance(x: jax.Array, columns: jax.Array) -> jax.Array:
    """Between rows [M, D] and columns [D, N], in float32 also on accelerators."""
    square = jnp.square(x).sum(1)[:, None] + jnp.square(columns).sum(0)
    return jnp.maximum(square - 2 * matmul(x, columns), 0.0)


def columns(keys: jax.Array) -> jax.Array:
    """Keys [N, H, D] as [H, D, N], over the root of D."""
    return jnp.moveaxis(keys, 0, -1) / math.sqrt(keys.shape[-1])


@jax.custom_jvp
def largest(x: jax.Array) -> jax.Array:
    """Of the last axis, which stays, [..., 1].

    The derivative of `jnp.max` looks for entries equal to it and divides by their
    number: NaN where a compiler computed the entries again and rounded otherwise.
    """
    return jnp.max(x, axis=-1, keepdims=True)


@largest.defjvp
def _largest_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    row = jnp.argmax(x, axis=-1, keepdims=True)
    return largest(x), jnp.take_along_axis(tangent, row, -1)


def attend(queries, keys, penalties, mask):
    """Attention weights [H, M, N], in float32, the largest of each [N] being 1.

    What they weigh has a row of ones, which gives their sum, to divide by: one pass
    over the weights less.

    Args:
        queries: [M, H, D].
        keys: [H, D, N].
        penalties: Pairs of (inverse softplus of the) sharpness [H], distance [M, N].
        mask: Rows in use, [N].
    """
    logits = jnp.einsum("mhd,hdn->hmn", queries, keys).astype(jnp.float32)
    for sharpness, distance in penalties:
        logits = logits - nn.softplus(sharpness)[:, None, None] * distance
    logits = jnp.where(mask > 0, logits, -1e30)
    return jnp.exp(logits - largest(logits))


def _inverse_softplus(x):
    return x + jnp.log(-jnp.expm1(-x))


class Block(nn.Module):
    """A layer: attention with a distance, then a perceptron; normalised before each."""

    width: int
    num_heads: int
    dtype: str = "float32"

    def setup(self):
        """Parts of it."""
        size = self.width // self.num_heads
        zeros = nn.initializers.zeros
        self.norm_rows = nn.LayerNorm(dtype=self.dtype)
        self.query = nn.DenseGeneral(
            (self.num_heads, size), use_bias=False, dtype=self.dtype
        )
        self.key = nn.DenseGeneral(
            (self.num_heads, size), use_bias=False, dtype=self.dtype
        )
        self.value = nn.DenseGeneral(
            (self.num_heads, size), use_bias=False, dtype=self.dtype
        )
        self.out = nn.DenseGeneral(
            self.width, axis=(-2, -1), kernel_init=zeros, dtype=self.dtype
        )
        self.norm_hidden = nn.LayerNorm(dtype=self.dtype)
        self.widen = nn.Dense(2 * self.width, dtype=self.dtype)
        self.narrow = nn.Dense(self.width, kernel_init=zeros, dtype=self.dtype)
        self.sharpness = self.param(
            "sharpness",
            lambda _: _inverse_softplus(jnp.geomspace(0.5, 32.0, self.num_heads)),
        )

    def keys_values(self, tokens):
        """Of context tokens [N, width], as `NetworkCache` has them."""
        rows = self.norm_rows(tokens)
        values = jnp.moveaxis(self.value(rows), 0, -1)
        values = jnp.concatenate([values, jnp.ones_like(values[:, :1])], axis=1)
        return columns(self.key(rows)), values

    def __call__(self, tokens, keys, values, distance, mask):
        """Advance tokens [M, width] that see the context's keys and values."""
        query = self.query(self.norm_rows(tokens))
        weights = attend(query, keys, [(self.sharpness, distance)], mask)
        weights = weights.astype(values.dtype)
        read = jnp.einsum("hmn,hdn->mhd", weights, values)
        tokens = tokens + self.out(read[..., :-1] / read[..., -1:])
        hidden = self.widen(self.norm_hidden(tokens))
        return tokens + self.narrow(nn.gelu(hidden))


class Network(nn.Module):
    """Encodes a context once, then decodes any number of queries."""

    config: NetworkConfig

    def setup(self):
        """Parts of it."""
        config = self.config
        heads, size = config.num_readout_heads, config.width // config.num_heads
        self.embed = nn.Dense(2 * config.width, dtype=config.dtype)
        self.embed_out = nn.Dense(config.width, dtype=config.dtype)
        self.blocks = [
            Block(config.width, config.num_heads, config.dtype)
            for _ in range(config.num_layers)
        ]
        self.norm = nn.LayerNorm()
        self.readout_query = nn.DenseGeneral((heads, size), use_bias=False)
        self.readout_key = nn.DenseGeneral((heads, size), use_bias=False)
        # Three in four heads start close in the inputs, the others in what is reached.
        by_inputs = jnp.arange(heads) % 4 != 3
        ladder = jnp.geomspace(1.0, 128.0, heads)
        self.sharpness = self.param(
            "sharpness",
            lambda _: _inverse_softplus(jnp.where(by_inputs, ladder, 0.1)),
        )
        self.next_sharpness = self.param(
            "next_sharpness",
            lambda _: _inverse_softplus(jnp.where(by_inputs, 0.1, ladder)),
        )
        self.slot_features = nn.DenseGeneral((NUM_SLOTS, config.num_slot_features))
        self.summary = nn.Dense(config.num_hidden // 2)
        self.target_in = nn.Dense(config.num_hidden)
        self.target_shared = nn.Dense(config.num_hidden)
        self.target_hidden = nn.Dense(config.num_hidden)
        zeros = nn.initializers.zeros
        num_params = HEADS[config.head]().num_params
        self.target_out = nn.Dense(num_params, kernel_init=zeros)
        self.mixing = nn.Dense(heads, kernel_init=zeros)
        self.blending = nn.Dense(config.num_models, kernel_init=zeros)
        self.end_hidden = nn.Dense(config.num_hidden)
        self.end_out = nn.Dense(1, kernel_init=zeros)

    def _tokens(self, features):
        return self.embed_out(nn.gelu(self.embed(features)))

    def encode(self, rows: TokenRows) -> NetworkCache:
        """Everything that depends on the context alone."""
        tokens = self._tokens(rows.features)
        distance = squared_distance(rows.inputs, rows.inputs.T)
        cached = []
        for block in self.blocks:
            keys, values = block.keys_values(tokens)
            tokens = block(tokens, keys, values, distance, rows.mask)
            cached.append((keys, values))
        keys, values = zip(*cached, strict=True)
        errors = jnp.square(rows.residual[:, None] - rows.models)
        share = rows.mask / jnp.maximum(rows.mask.sum(), 1.0)
        error = jnp.sum(share[:, None, None] * errors, 0)
        read = [
            rows.residual,
            jnp.square(rows.residual),
            errors.reshape(len(errors), -1),
            rows.terminated[:, None],
            jnp.ones_like(rows.terminated)[:, None],
        ]
        return NetworkCache(
            keys=keys,
            values=values,
            readout_keys=columns(self.readout_key(self.norm(tokens))),
            read=jnp.concatenate(read, 1).T,
            error=0.5 * jnp.log(jnp.maximum(error, 1.0)),
            inputs=rows.inputs.T,
            next_obs=rows.next_obs.T,
            mask=rows.mask,
            end_rate=jnp.sum(share * rows.terminated),
        )

    def decode(self, cache: NetworkCache, query: TokenRows) -> Output:
        """Predict queries, each from the context alone."""
        tokens = self._tokens(query.features)
        distance = squared_distance(query.inputs, cache.inputs)
        for block, keys, values in zip(
            self.blocks, cache.keys, cache.values, strict=True
        ):
            tokens = block(tokens, keys, values, distance, cache.mask)
        tokens = self.norm(tokens)
        read = self._read(cache, query, tokens, distance)
        nearest = jnp.min(jnp.where(cache.mask > 0, distance, 1e3), 1)
        shared = [
            self.summary(tokens),
            jnp.log(read.share + 1e-4),
            jnp.log(nearest + 1e-4)[:, None],
        ]
        shared = jnp.concatenate(shared, -1)
        hidden = self._target_hidden(cache, query, tokens, read, shared)
        blend, centre, scale = self._blend(cache, query, hidden)
        return Output(
            blend=blend,
            shift=centre - blend + jnp.sum(self.mixing(hidden) * read.residual, -1),
            scale=scale,
            params=self.target_out(hidden).astype(jnp.float32),
            terminated=self._end_logit(cache, read.end, shared),
        )

    def _read(self, cache, query, tokens, distance) -> Read:
        """The last attention, from tokens [M, width] and distances [M, N]."""
        next_distance = squared_distance(query.next_obs, cache.next_obs)
        weights = attend(
            self.readout_query(tokens),
            cache.readout_keys,
            [(self.sharpness, distance), (self.next_sharpness, next_distance)],
            cache.mask,
        )
        read = jnp.einsum("hmn,tn->mth", weights, cache.read)
        share = 1.0 / read[:, -1]
        read = read[:, :-1] * share[:, None]
        of_targets = read[:, :-1].reshape(
            len(read), -1, query.residual.shape[1], read.shape[-1]
        )
        return Read(
            residual=of_targets[:, 0],
            squares=of_targets[:, 1:],
            end=read[:, -1],
            share=share,
        )

    def _target_hidden(self, cache, query, tokens, read: Read, shared) -> jax.Array:
        """What the perceptron that all targets share makes of each, [M, S + 1, H]."""
        num_targets = query.residual.shape[1]
        slots = slots_of(num_targets - 1)
        base = feature(query.features, "base")[:, None, slots]
        strength = feature(query.features, "strength")[:, None, slots]
        error = jnp.broadcast_to(cache.error, query.models.shape)
        of_models = jnp.concatenate(
            [
                base,
                strength,
                jnp.arcsinh(query.models) / 4,
                query.spread / 4,
                error / 4,
            ],
            1,
        )
        is_reward = jnp.broadcast_to(slots == NUM_SLOTS - 1, read.residual.shape[:2])
        hidden = jnp.concatenate(
            [
                jnp.arcsinh(read.residual),
                _of_targets(jnp.log(read.squares + 1e-6)) / 4,
                self.slot_features(tokens)[:, slots],
                jnp.moveaxis(of_models, 1, 2),
                is_reward[..., None].astype(jnp.float32),
            ],
            -1,
        )
        hidden = self.target_in(hidden)
        hidden = nn.gelu(hidden + self.target_shared(shared)[:, None])
        return hidden + nn.gelu(self.target_hidden(hidden))

    def _blend(self, cache, query, hidden) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The closed-form blend, the reconsidered one, and its deviation, [M, S + 1].

        The closed-form blend weighs models by their errors in the context and by their
        deviations at the query; the network adds to the logits of these weights.
        """
        trust = trust_of(cache.error, query)
        blend, _ = blend_of(trust, query)
        return blend, *blend_of(4 * self.blending(hidden) + trust, query)

    def _end_logit(self, cache, end, shared) -> jax.Array:
        """Of an end of the episode, [M]: the share of ends nearby, corrected."""
        rate = jnp.broadcast_to(jnp.log(cache.end_rate + 1e-4), (len(end), 1))
        ends = jnp.concatenate([end, jnp.log(end + 1e-4), rate, shared], -1)
        logit = self.end_out(nn.gelu(self.end_hidden(ends)))[:, 0]
        smooth = jnp.clip(jnp.mean(end, -1), 1e-4, 1 - 1e-4)
        return logit + jnp.log(smooth) - jnp.log1p(-smooth)


def trust_of(error: jax.Array, query: TokenRows) -> jax.Array:
    """Logits of the closed-form blend, [M, S + 1, K].

    Args:
        error: Of each model in the context, log of units, [K, S + 1].
        query: Whose deviations count as well.
    """
    return jnp.moveaxis(trust(error, query.spread), 1, 2)


def trust(error: jax.Array, spread: jax.Array) -> jax.Array:
    """How far models are trusted, logits, by logs of error and deviation."""
    return -_ERROR_TRUST * error - _SPREAD_TRUST * spread


def blend_of(logits: jax.Array, query: TokenRows) -> tuple[jax.Array, jax.Array]:
    """The models' weighted mean minus the base, and their deviation, [M, S + 1]."""
    models, spread = (jnp.moveaxis(x, 1, 2) for x in (query.models, query.spread))
    weights = jax.nn.softmax(logits)
    return jnp.sum(weights * models, -1), jnp.exp(jnp.sum(weights * spread, -1))


def _of_targets(read):
    """From [M, F, S + 1, H] to [M, S + 1, F * H]."""
    read = jnp.moveaxis(read, 2, 1)
    return read.reshape(*read.shape[:2], -1)


@functools.partial(jax.jit, static_argnums=1)
def init_weights(key: jax.Array, config: NetworkConfig) -> dict:
    """Draw the weights of a network."""
    rows = TokenRows(
        features=jnp.zeros((2, NUM_FEATURES)),
        inputs=jnp.zeros((2, 2)),
        next_obs=jnp.zeros((2, 1)),
        residual=jnp.zeros((2, 2)),
        models=jnp.zeros((2, config.num_models, 2)),
        spread=jnp.zeros((2, config.num_models, 2)),
        terminated=jnp.zeros(2),
        mask=jnp.ones(2),
    )

    def both(network, rows):
        return network.decode(network.encode(rows), rows)

    return cast(dict, Network(config).init(key, rows, method=both)["params"])
