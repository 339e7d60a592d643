"""Finetune a flax network under `finetune.run`, with checkpoints and a cold start.

A small network is pretrained on the digits 0 to 4 of scikit-learn's digits, and
finetuned on 5 to 9. Put your own model, data and ``train_epoch`` in their place.
"""

import functools

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
        Ordinal("batch", (16.0, 32.0)),
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
    rate, only_head = numbers

    def loss(weights, rows):
        logits = NETWORK.apply(weights, x[rows])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()

    def step(state, rows):
        weights, moments = state
        update, moments = ADAM.update(jax.grad(loss)(weights, rows), moments)

        def change(path, w, u):
            share = 1.0 if "layers_4" in str(path) else 1.0 - only_head
            return w - rate * share * u

        return (jax.tree_util.tree_map_with_path(change, weights, update), moments), 0

    return jax.lax.scan(step, (weights, moments), batches)[0]


def shuffle(num: int, batch: int, seed) -> np.ndarray:
    """Minibatches of a pass, ``[steps, batch]``."""
    size = num // batch, batch
    return np.random.default_rng(seed).permutation(num)[: size[0] * batch].reshape(size)


@functools.cache
def pretrained():
    """Weights that know the digits 0 to 4, and no moments yet."""
    (x, y), _ = task(0)
    weights = NETWORK.init(jax.random.key(0), x[:1])
    batches = np.concatenate([shuffle(len(x), 32, k) for k in range(20)])
    fresh = ADAM.init(weights)
    return one_pass(weights, fresh, x, y, batches, (1e-3, 0.0))[0], fresh


def train_epoch(epoch: finetune.Epoch) -> float:
    """One pass over the training pictures; returns the held-out accuracy."""
    c, state, (train, (valid_x, valid_y)) = epoch.config, pretrained(), task(5)
    if epoch.previous is not None:
        file = epoch.previous / "state.msgpack"
        state = serialization.from_bytes(state, file.read_bytes())
    numbers = c["learning_rate"], float(c["trained"] == "head")
    batches = shuffle(200, int(c["batch"]), [epoch.seed, epoch.number])
    state = one_pass(*state, *train, batches, numbers)
    (epoch.folder / "state.msgpack").write_bytes(serialization.to_bytes(state))
    return float((np.argmax(NETWORK.apply(state[0], valid_x), 1) == valid_y).mean())  # type: ignore[arg-type]


def main(seconds: float = 30.0, out: str = "runs/flax_digits") -> None:
    """Run the job and say what it found."""
    result = finetune.run(train_epoch, SPACE, budget=seconds, out=out, num_epochs=20)
    print(result.score, "after epoch", result.epoch, result.config)


if __name__ == "__main__":
    tyro.cli(main)
