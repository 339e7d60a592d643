"""A small network on columns, trained on all folds at once, an epoch at a time."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

BATCH = 64


class _Network(nn.Module):
    width: int
    num_classes: int

    @nn.compact
    def __call__(self, x, rate, key):
        for layer in range(2):
            x = nn.relu(nn.Dense(self.width)(x))
            draw = jax.random.uniform(jax.random.fold_in(key, layer), x.shape)
            x = jnp.where(draw >= rate, x / (1 - rate), 0.0)
        return nn.Dense(self.num_classes)(x)


class NetworkState(NamedTuple):
    """Weights and optimiser of every fold, leaves ``[folds, ..]``."""

    weights: Any
    optimizer: Any


def _optimizer():
    return optax.scale_by_adam()


@functools.partial(jax.jit, static_argnames=("width", "num_classes", "num_folds"))
def start(key, x, width: int, num_classes: int, num_folds: int) -> NetworkState:
    """Draw weights for every fold."""
    network = _Network(width, num_classes)

    def fold(key):
        weights = network.init(key, x[:1], 0.0, key)
        return NetworkState(weights, _optimizer().init(weights))

    return jax.vmap(fold)(jax.random.split(key, num_folds))


@functools.partial(jax.jit, static_argnames=("width", "num_classes", "num_steps"))
def train_epoch(
    key, state: NetworkState, x, y, rows, numbers, width, num_classes, num_steps
):
    """Take ``num_steps`` steps of Adam with decoupled weight decay in every fold.

    Args:
        key: Of minibatches and dropout.
        state: Of every fold.
        x: Columns, ``[n, d]``.
        y: Classes, int ``[n]``.
        rows: Training rows of every fold, ``[folds, r]``.
        numbers: Learning rate, weight decay, dropout rate, label smoothing, ``[4]``.
        width: Of the hidden layers.
        num_classes: Number of classes.
        num_steps: Minibatches.
    """
    network, optimizer = _Network(width, num_classes), _optimizer()
    learning_rate, decay, rate, smoothing = numbers

    def loss(weights, key, batch):
        logits = network.apply(weights, x[batch], rate, key)
        target = optax.smooth_labels(jax.nn.one_hot(y[batch], num_classes), smoothing)
        return optax.softmax_cross_entropy(logits, target).mean()  # type: ignore[arg-type]

    def fold(key, state, rows):
        def step(state, key):
            first, second = jax.random.split(key)
            batch = rows[jax.random.randint(first, (BATCH,), 0, len(rows))]
            gradient = jax.grad(loss)(state.weights, second, batch)
            update, moments = optimizer.update(gradient, state.optimizer)
            weights = jax.tree.map(
                lambda w, u: w - learning_rate * (u + decay * w), state.weights, update
            )
            return NetworkState(weights, moments), None

        return jax.lax.scan(step, state, jax.random.split(key, num_steps))[0]

    return jax.vmap(fold)(jax.random.split(key, len(rows)), state, rows)


@functools.partial(jax.jit, static_argnames=("width", "num_classes"))
def predict(state: NetworkState, x, width: int, num_classes: int) -> jax.Array:
    """Probabilities of every fold's network, ``[folds, n, classes]``."""
    network, key = _Network(width, num_classes), jax.random.key(0)

    def fold(weights):
        return jax.nn.softmax(network.apply(weights, x, 0.0, key))  # type: ignore[arg-type]

    return jax.vmap(fold)(state.weights)


def pad_rows(rows: list[np.ndarray]) -> np.ndarray:
    """Training rows of folds of unequal size, the first ones repeated at the end."""
    length = max(len(r) for r in rows)
    return np.stack([np.resize(r, length) for r in rows])
