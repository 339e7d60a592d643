"""Small networks, trained on all folds at once, an epoch at a time."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from finetune.automl.bodies import BODIES, move

BATCH = 64
SMALL_BATCH = 16  # of slow networks, below 512 rows: more steps for the same work


class _Network(nn.Module):
    reads: str  # "columns", "tokens", "series" or "image"
    width: int
    num_outputs: int

    @nn.compact
    def __call__(self, x, rate, key):
        x = BODIES[self.reads](self.width)(x)
        hidden = [self.width] * 2 if self.reads == "columns" else [4 * self.width]
        for layer, size in enumerate(hidden):
            x = nn.relu(nn.Dense(size)(x))
            draw = jax.random.uniform(jax.random.fold_in(key, layer), x.shape)
            x = jnp.where(draw >= rate, x / (1 - rate), 0.0)
        return nn.Dense(self.num_outputs)(x)


class Shape(NamedTuple):
    """What is compiled for.

    Attributes:
        reads: "columns", "tokens", "series" or "image".
        width: Of the layers.
        num_outputs: Classes or labels.
    """

    reads: str
    width: int
    num_outputs: int


class NetworkState(NamedTuple):
    """Weights and optimiser of every fold, leaves ``[folds, ..]``."""

    weights: Any
    optimizer: Any


def _optimizer():
    return optax.scale_by_adam()


@functools.partial(jax.jit, static_argnames=("shape", "num_folds"))
def start(key, x, shape: Shape, num_folds: int) -> NetworkState:
    """Draw weights for every fold."""
    network = _Network(*shape)

    def fold(key):
        weights = network.init(key, x[:1], 0.0, key)
        return NetworkState(weights, _optimizer().init(weights))

    return jax.vmap(fold)(jax.random.split(key, num_folds))


@functools.partial(jax.jit, static_argnames=("shape", "num_steps", "batch_size"))
def train_epoch(
    key,
    state: NetworkState,
    x,
    y,
    rows,
    numbers,
    shape: Shape,
    num_steps: int,
    batch_size: int = BATCH,
):
    """Take ``num_steps`` steps of Adam with decoupled weight decay in every fold.

    Args:
        key: Of minibatches and dropout.
        state: Of every fold.
        x: Columns ``[n, d]``, tokens ``[n, t]``, series ``[n, length, channels]`` or
            pictures ``[n, height, width, channels]``.
        y: Classes, int ``[n]``, or which labels a row has, bool ``[n, labels]``.
        rows: Training rows of every fold, ``[folds, r]``.
        numbers: Learning rate, weight decay, dropout rate, label smoothing, ``[4]``.
        shape: Of the network.
        num_steps: Minibatches.
        batch_size: Rows of each.
    """
    network, optimizer = _Network(*shape), _optimizer()
    learning_rate, decay, rate, smoothing = numbers

    def loss(weights, key, batch):
        rows = move(shape.reads, key, x[batch])
        logits: Any = network.apply(weights, rows, rate, key)
        if y.ndim == 2:
            target = y[batch] * (1 - smoothing) + 0.5 * smoothing
            return optax.sigmoid_binary_cross_entropy(logits, target).mean()
        target = optax.smooth_labels(
            jax.nn.one_hot(y[batch], shape.num_outputs), smoothing
        )
        return optax.softmax_cross_entropy(logits, target).mean()

    def fold(key, state, rows):
        def step(state, key):
            first, second = jax.random.split(key)
            batch = rows[jax.random.randint(first, (batch_size,), 0, len(rows))]
            gradient = jax.grad(loss)(state.weights, second, batch)
            update, moments = optimizer.update(gradient, state.optimizer)
            weights = jax.tree.map(
                lambda w, u: w - learning_rate * (u + decay * w), state.weights, update
            )
            return NetworkState(weights, moments), None

        return jax.lax.scan(step, state, jax.random.split(key, num_steps))[0]

    return jax.vmap(fold)(jax.random.split(key, len(rows)), state, rows)


@functools.partial(jax.jit, static_argnames=("shape", "several"))
def predict(state: NetworkState, x, shape: Shape, several: bool) -> jax.Array:
    """Probabilities of every fold's network, ``[folds, n, classes or labels]``."""
    network, key = _Network(*shape), jax.random.key(0)
    link = jax.nn.sigmoid if several else jax.nn.softmax

    def fold(weights):
        return link(network.apply(weights, x, 0.0, key))  # type: ignore[arg-type]

    return jax.vmap(fold)(state.weights)


def pad_rows(rows: list[np.ndarray]) -> np.ndarray:
    """Training rows of folds of unequal size, the first ones repeated at the end."""
    length = max(len(r) for r in rows)
    return np.stack([np.resize(r, length) for r in rows])
