"""Finetune a flax network under `finetune.run`, with checkpoints and a cold start.

A small network is pretrained on the digits 0 to 4 of scikit-learn's digits, and
finetuned on 5 to 9. Put your own model, data and ``train_epoch`` in their place.

    pip install -e ".[auto]"
    python examples/finetuning/flax_digits.py --seconds 30 --out runs/flax_digits
"""

from __future__ import annotations

import functools
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import optax
import tyro
from flax import serialization
from sklearn.datasets import load_digits

import finetune
from finetune import Categorical, Float, Ordinal

SPACE = finetune.SearchSpace(
    (
        Float("learning_rate", 1e-4, 1.0, log=True),
        Categorical("trained", ("all", "head")),
        Ordinal("batch", (16.0, 32.0, 64.0), log=True),
        Ordinal("weight_decay", (0.0, 1e-3, 1e-1), log=True),
    )
)
NETWORK = nn.Sequential([nn.Dense(64), nn.relu, nn.Dense(64), nn.relu, nn.Dense(5)])
ADAM = optax.scale_by_adam()


@functools.cache
def task(first: int):
    """Training and held-out pictures and labels of five digits."""
    digits = load_digits()
    rows = np.flatnonzero((digits.target >= first) & (digits.target < first + 5))
    rows = np.random.default_rng(0).permutation(rows)
    x, y = digits.data[rows].astype(np.float32) / 16, digits.target[rows] - first
    return (x[:200], y[:200]), (x[200:], y[200:])


@jax.jit
def one_pass(weights, moments, x, y, batches, numbers):
    """One step per minibatch ``[steps, batch]``; nothing compiles for new numbers."""
    rate, decay, only_head = numbers

    def loss(weights, rows):
        logits = NETWORK.apply(weights, x[rows])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()

    def step(state, rows):
        weights, moments = state
        update, moments = ADAM.update(jax.grad(loss)(weights, rows), moments)

        def change(path, w, u):
            is_trained = 1.0 if "layers_4" in str(path) else 1.0 - only_head
            return w - rate * is_trained * (u + decay * w)

        new = jax.tree_util.tree_map_with_path(change, weights, update)
        return (new, moments), None

    return jax.lax.scan(step, (weights, moments), batches)[0]


def shuffle(num: int, batch: int, seed) -> np.ndarray:
    """Minibatches of a pass, ``[steps, batch]``."""
    order = np.random.default_rng(seed).permutation(num)
    return order[: num - num % batch].reshape(-1, batch)


@functools.cache
def pretrained():
    """Weights that know the digits 0 to 4, and no moments yet."""
    (x, y), _ = task(0)
    weights = NETWORK.init(jax.random.key(0), x[:1])
    state = weights, ADAM.init(weights)
    for k in range(20):
        state = one_pass(*state, x, y, shuffle(len(x), 32, k), (1e-3, 0.0, 0.0))
    return state[0], ADAM.init(weights)


def train_epoch(epoch: finetune.Epoch) -> float:
    """One pass over the training pictures; returns the held-out accuracy."""
    c, state = epoch.config, pretrained()
    if epoch.previous is not None:
        saved = (epoch.previous / "state.msgpack").read_bytes()
        state = serialization.from_bytes(state, saved)
    (x, y), (valid_x, valid_y) = task(5)
    only_head = float(c["trained"] == "head")
    numbers = (c["learning_rate"], c["weight_decay"], only_head)
    batches = shuffle(len(x), int(c["batch"]), [epoch.seed, epoch.number])
    state = one_pass(*state, x, y, batches, numbers)
    (epoch.folder / "state.msgpack").write_bytes(serialization.to_bytes(state))
    return float((np.argmax(NETWORK.apply(state[0], valid_x), 1) == valid_y).mean())  # type: ignore[arg-type]


def main(seconds: float = 30.0, out: Path = Path("runs/flax_digits")) -> None:
    """Run the job and say what it found."""
    result = finetune.run(train_epoch, SPACE, budget=seconds, out=out, num_epochs=20)
    print(f"{result.score} after epoch {result.epoch}, {result.config}")


if __name__ == "__main__":
    tyro.cli(main)
