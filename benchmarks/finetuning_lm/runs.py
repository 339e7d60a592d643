"""One finetuning run as a pure function, and many of one shape in one program.

The method (all weights, or adapters) fixes the shape; everything else is a number that
the program takes. Batches are padded to microbatches: a run with a batch of 32 adds up
the gradients of four microbatches of 8 before it takes a step, so no run computes on
padding because another one has larger batches.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.finetuning_lm.model import (
    MODULES,
    ModelConfig,
    Transformer,
    token_losses,
)
from benchmarks.finetuning_lm.questions import (
    MAX_TRAIN,
    NUM_HELD_OUT,
    Questions,
    as_arrays,
)
from benchmarks.finetuning_lm.space import (
    MAX_RANK,
    METHODS,
    OPTIMIZERS,
    SCHEDULES,
    Hyperparameters,
)


@dataclasses.dataclass(frozen=True)
class Shape:
    """What is compiled into the program.

    Attributes:
        model: Size of the model.
        method: "lora" or "full".
        num_epochs: Epochs of each run.
        microbatch: Examples per gradient; it divides the batch sizes.
        max_rank: Columns of the adapters.
        num_frozen: Layers into which no gradient goes at all; the configurations' own
            number of frozen layers must not be smaller.
    """

    model: ModelConfig
    method: str
    num_epochs: int = 10
    microbatch: int = 8
    max_rank: int = MAX_RANK
    num_frozen: int = 0

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}, got {self.method!r}")
        for name in ("num_epochs", "microbatch", "max_rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")


class Rows(NamedTuple):
    """Questions with answers as tokens; see `questions.as_arrays`."""

    tokens: Any
    is_answer: Any
    is_text: Any


class Data(NamedTuple):
    """One dataset, padded.

    Attributes:
        train: ``[n, L]``.
        num_train: Rows that are no padding, which come first.
        held_out: ``[m, L]``; padding has no answer.
    """

    train: Rows
    num_train: Any
    held_out: Rows


class Curves(NamedTuple):
    """What a run gives after each epoch, ``[T]`` each.

    Attributes:
        exact_match: Share of held-out questions of which every token of the answer is
            the likeliest one, given the right ones before: what greedy decoding says.
        loss: Mean cross entropy of the held-out answers' tokens.
    """

    exact_match: jax.Array
    loss: jax.Array


class _State(NamedTuple):
    weights: Any
    momentum: Any
    square: Any
    num_updates: Any
    gradient: Any  # summed over the examples since the last update
    count: Any  # of these examples


def make_data(
    questions: Questions,
    length: int,
    max_train: int = MAX_TRAIN,
    num_held_out: int = NUM_HELD_OUT,
) -> Data:
    """Lay a dataset out as padded arrays."""
    train = as_arrays(questions.train, max_train, length)
    held_out = as_arrays(questions.held_out, num_held_out, length)
    return Data(Rows(**train), np.int32(len(questions.train)), Rows(**held_out))


def _start(key, base, hp: Hyperparameters, shape: Shape):
    """Weights that are trained: a copy of all, or fresh adapters (``b`` is zero)."""
    if shape.method == "full":
        return base
    found = {}
    for i in range(shape.model.num_layers):
        found[f"block_{i}"] = {}
        for j, module in enumerate(MODULES):
            num_in, num_out = shape.model.sizes(module)
            # one key per column, so that a padded rank draws the same columns
            keys = jax.random.split(jax.random.fold_in(key, 97 * i + j), MAX_RANK)
            column = jax.vmap(lambda k, n=num_in: jax.random.normal(k, (n,)))
            a = column(keys[: shape.max_rank]).T / np.sqrt(num_in)
            found[f"block_{i}"][module] = {
                "a": a * hp.rank_mask,
                "b": jnp.zeros((shape.max_rank, num_out)),
            }
    return found


def _variables(base, weights, hp: Hyperparameters, shape: Shape):
    if shape.method == "full":
        return {"params": weights}
    adapters = {
        f"block_{i}": {
            module: {**weights[f"block_{i}"][module], "scale": hp.scale[i, j]}
            for j, module in enumerate(MODULES)
        }
        for i in range(shape.model.num_layers)
    }
    return {"params": base, "adapters": adapters}


def _is_trained(weights, hp: Hyperparameters, shape: Shape):
    """For each leaf, whether it changes (adapters of frozen layers have no scale)."""
    if shape.method == "lora":
        return jax.tree.map(lambda _: True, weights)

    def flag(path, _):
        name = path[0].key
        layer = int(name[6:]) if name.startswith("block_") else -1
        if name == "norm_out":
            layer = shape.model.num_layers
        return (hp.frozen_layers == 0) | (layer >= hp.frozen_layers)

    return jax.tree_util.tree_map_with_path(flag, weights)


def rate(hp: Hyperparameters, done: Any, total: Any) -> jax.Array:
    """Learning rate of the update after ``done`` of ``total`` ones."""
    warm = hp.warm_up * total
    rise = jnp.minimum(1.0, (done + 1) / jnp.maximum(warm, 1))
    share = jnp.clip((done - warm) / jnp.maximum(total - warm, 1), 0, 1)
    falls = jnp.stack([1.0 + 0 * share, 1 - share, 0.5 * (1 + jnp.cos(jnp.pi * share))])
    assert len(SCHEDULES) == 3
    return jnp.asarray(hp.learning_rate) * rise * falls[hp.schedule]


def _update(state: _State, hp: Hyperparameters, total, is_trained) -> _State:
    """One step of the chosen optimiser (AdamW; SGD with momentum .9; Lion)."""
    count = jnp.maximum(state.count, 1)
    grads = jax.tree.map(
        lambda g, t: jnp.where(t, g / count, 0.0), state.gradient, is_trained
    )
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
    shrink = jnp.minimum(1.0, hp.clip_norm / jnp.maximum(norm, 1e-9))
    step_size = rate(hp, state.num_updates, total)
    done = state.num_updates + 1
    decay = jnp.asarray([0.9, 0.9, 0.99])[hp.optimizer]
    gain = jnp.asarray([0.1, 1.0, 0.01])[hp.optimizer]
    assert OPTIMIZERS == ("adamw", "sgd", "lion")

    def leaf(weight, momentum, square, grad, trained):
        grad = grad * shrink
        new = decay * momentum + gain * grad
        square = 0.999 * square + 0.001 * grad**2
        adam = (new / (1 - 0.9**done)) / (jnp.sqrt(square / (1 - 0.999**done)) + 1e-8)
        lion = jnp.sign(0.9 * momentum + 0.1 * grad)
        move = jnp.where(
            hp.optimizer == 0, adam, jnp.where(hp.optimizer == 1, new, lion)
        )
        moved = weight - step_size * (move + hp.weight_decay * weight)
        return jnp.where(trained, moved, weight), new, square

    both = jax.tree.map(
        leaf, state.weights, state.momentum, state.square, grads, is_trained
    )
    weights, momentum, square = jax.tree.transpose(
        jax.tree.structure(state.weights), jax.tree.structure((0, 0, 0)), both
    )
    zero = jax.tree.map(jnp.zeros_like, state.gradient)
    return _State(weights, momentum, square, done, zero, jnp.zeros_like(state.count))


def _keep_masks(key, rows, hp: Hyperparameters, shape: Shape):
    """Dropout of the adapters' inputs, one mask per example, epoch and layer."""
    if shape.method == "full":
        return None
    model = shape.model
    size = (model.num_layers, model.width + model.num_hidden)

    def one(row):
        drawn = jax.random.uniform(jax.random.fold_in(key, row), size)
        return (drawn >= hp.dropout) / (1 - hp.dropout)

    return jax.vmap(one)(rows)


def draw_order(key: jax.Array, num_rows: int, num_train: Any) -> jax.Array:
    """Order of an epoch: the rows that are no padding shuffled, then the padding.

    It does not depend on how many rows of padding there are.
    """
    rows = jnp.arange(num_rows)
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(rows)
    drawn = jax.vmap(jax.random.uniform)(keys)
    return jnp.argsort(drawn + (rows >= num_train))


def evaluate(variables, held_out: Rows, model: ModelConfig) -> Curves:
    """Exact match and loss on held-out questions, both without an axis."""
    logits = jnp.asarray(Transformer(model).apply(variables, held_out.tokens))
    told, counts = held_out.tokens[:, 1:], held_out.is_answer[:, 1:]
    losses = token_losses(logits, held_out.tokens)
    loss = jnp.sum(losses * counts) / jnp.maximum(counts.sum(), 1)
    is_right = (jnp.argmax(logits[:, :-1], -1) == told) & jnp.isfinite(losses)
    is_match = jnp.all(is_right | (counts == 0), 1) & (counts.sum(1) > 0)
    num = jnp.maximum((counts.sum(1) > 0).sum(), 1)
    return Curves(is_match.sum() / num, loss)


def train_run(
    base: Any, hp: Hyperparameters, data: Data, key: jax.Array, shape: Shape
) -> Curves:
    """Finetune with one configuration.

    Args:
        base: Pretrained weights.
        hp: The configuration.
        data: The dataset.
        key: Of this run.
        shape: What is compiled in.

    Returns:
        Curves ``[num_epochs]``.
    """
    init_key, order_key, drop_key = jax.random.split(key, 3)
    weights = _start(init_key, base, hp, shape)
    is_trained = _is_trained(weights, hp, shape)
    num_rows = data.train.tokens.shape[0]
    num_micro = -(-num_rows // shape.microbatch)
    last = (data.num_train + shape.microbatch - 1) // shape.microbatch - 1
    per_update = hp.batch_size // shape.microbatch
    total = shape.num_epochs * ((last + per_update) // per_update)
    network = Transformer(shape.model)

    def summed_loss(weights, rows, keep):
        variables = _variables(base, weights, hp, shape)
        tokens = data.train.tokens[rows]
        logits = network.apply(variables, tokens, keep, num_frozen=shape.num_frozen)
        counts = jnp.where(
            hp.on_answer > 0, data.train.is_answer[rows], data.train.is_text[rows]
        )[:, 1:]
        counts = counts * (rows < data.num_train)[:, None]
        losses = token_losses(jnp.asarray(logits), tokens) * counts
        return jnp.sum(losses.sum(1) / jnp.maximum(counts.sum(1), 1))

    def micro_step(state, drawn):
        i, rows, keep_key = drawn
        keep = _keep_masks(keep_key, rows, hp, shape)
        grads = jax.grad(summed_loss)(state.weights, rows, keep)
        state = state._replace(
            gradient=jax.tree.map(jnp.add, state.gradient, grads),
            count=state.count + jnp.sum(rows < data.num_train),
        )
        is_full = ((i + 1) % per_update == 0) & (i < last)
        new = _update(state, hp, total, is_trained)
        is_due = is_full | (i == last)
        return jax.tree.map(lambda a, b: jnp.where(is_due, a, b), new, state), None

    def epoch(state, number):
        order = draw_order(
            jax.random.fold_in(order_key, number), num_rows, data.num_train
        )
        order = jnp.pad(
            order,
            (0, num_micro * shape.microbatch - num_rows),
            constant_values=num_rows,
        )
        rows = order.reshape(num_micro, shape.microbatch)
        keep_keys = jnp.broadcast_to(jax.random.fold_in(drop_key, number), (num_micro,))
        state, _ = jax.lax.scan(
            micro_step, state, (jnp.arange(num_micro), rows, keep_keys)
        )
        variables = _variables(base, state.weights, hp, shape)
        return state, evaluate(variables, data.held_out, shape.model)

    zero = jax.tree.map(jnp.zeros_like, weights)
    start = _State(weights, zero, zero, jnp.int32(0), zero, jnp.int32(0))
    return jax.lax.scan(epoch, start, jnp.arange(shape.num_epochs))[1]


@functools.partial(jax.jit, static_argnames=("shape", "at_once"))
def train_many(
    base: Any,
    hps: Hyperparameters,
    data: Data,
    keys: jax.Array,
    shape: Shape,
    at_once: int | None = None,
) -> Curves:
    """Finetune with many configurations in one program.

    Args:
        base: Pretrained weights.
        hps: The configurations, a leading axis ``[runs]`` on every leaf.
        data: The dataset.
        keys: Of the runs, ``[runs]``.
        shape: What is compiled in.
        at_once: Runs that are vectorised; the program goes through them in groups of
            so many. None: all at once, for an accelerator.

    Returns:
        Curves ``[runs, epochs]``.
    """

    def one(x):
        return train_run(base, x[0], data, x[1], shape)

    if at_once is None:
        return jax.vmap(one)((hps, keys))
    return jax.lax.map(one, (hps, keys), batch_size=at_once)


@functools.partial(jax.jit, static_argnames="shape")
def train_one(
    base: Any, hp: Hyperparameters, data: Data, key: jax.Array, shape: Shape
) -> Curves:
    """Finetune with one configuration, curves ``[epochs]``."""
    return train_run(base, hp, data, key, shape)
