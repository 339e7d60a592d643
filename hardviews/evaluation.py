"""How good features are: a linear probe, and nearest neighbours, both jitted."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hardviews.checks import check_labels, check_num_classes
from hardviews.encoder import ENCODER, Encoder
from hardviews.pictures import Pictures, check_pictures, need_labels
from jaxrl_runs.values import COUNT, NOT_NEGATIVE, POSITIVE, shown

NUM_NEIGHBOURS = 20
_PROBE_STEPS = 500
_BLOCK = 256  # test rows at a time


def knn_accuracy(
    train_features: Any,
    train_labels: Any,
    features: Any,
    labels: Any,
    num_classes: int,
    num_neighbours: int = NUM_NEIGHBOURS,
    temperature: float = 0.1,
) -> float:
    """Accuracy of a vote of the nearest training pictures by cosine.

    Source: Wu et al., *Unsupervised Feature Learning via Non-Parametric Instance
    Discrimination* (2018): votes weigh exp(cosine / temperature).

    Args:
        train_features: float32 `[N, F]`.
        train_labels: Numbers of classes, `[N]`.
        features: Of the pictures to classify, `[M, F]`.
        labels: What they show, `[M]`.
        num_classes: Number of classes.
        num_neighbours: How many vote; all where there are fewer.
        temperature: How much nearer ones count.

    Raises:
        ValueError: Features are no finite numbers or of different widths, labels do not
            fit them, or are not below `num_classes`.
    """
    COUNT.check("num_neighbours", num_neighbours)
    POSITIVE.check("temperature", temperature)
    given = _checked(train_features, train_labels, features, labels, num_classes)
    number = min(num_neighbours, len(given[0]))
    right = _knn(*given, temperature, num_classes, number)
    return float(right)


def _checked(
    train_features: Any, train_labels: Any, features: Any, labels: Any, classes: Any
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The same as arrays that fit together."""
    check_num_classes("num_classes", classes)
    found: list[jax.Array] = []
    for part, x, y in (
        ("train_", train_features, train_labels),
        ("", features, labels),
    ):
        x = _features(f"{part}features", x)
        y = check_labels(f"{part}labels", y, len(x), classes)
        found += [x, jnp.asarray(y)]
    if found[0].shape[1] != found[2].shape[1]:
        raise ValueError(
            f"features must be as wide as train_features, {found[0].shape[1]}, got "
            f"{found[2].shape[1]}"
        )
    return found[0], found[1], found[2], found[3]


def _features(name: str, features: Any) -> jax.Array:
    try:
        array = np.asarray(features)
    except ValueError:  # a ragged list
        array = np.empty(0, object)
    is_number = jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.kind in "iu"
    if array.ndim != 2 or 0 in array.shape or not is_number:
        raise ValueError(
            f"{name} must be numbers [pictures, features], got {shown(array)}"
        )
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return jnp.asarray(array)


@functools.partial(jax.jit, static_argnames=("num_classes", "number"))
def _knn(
    train_features, train_labels, features, labels, temperature, num_classes, number
):
    train_features = _unit(train_features)
    padding = -len(features) % _BLOCK
    blocks = jnp.pad(_unit(features), ((0, padding), (0, 0)))

    def vote(block):
        cosine = block @ train_features.T
        nearest, rows = jax.lax.top_k(cosine, number)
        votes = jax.nn.one_hot(train_labels[rows], num_classes)
        weights = jnp.exp((nearest - 1) / temperature)[..., None]
        return jnp.argmax(jnp.sum(weights * votes, axis=1), axis=1)

    guess = jax.lax.map(vote, blocks.reshape(-1, _BLOCK, blocks.shape[1]))
    return jnp.mean(guess.reshape(-1)[: len(labels)] == labels)


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-9)


def probe_accuracy(
    train_features: Any,
    train_labels: Any,
    features: Any,
    labels: Any,
    num_classes: int,
    weight_decay: float = 1e-4,
) -> float:
    """Accuracy of a linear classifier on features that stay as they are.

    Multinomial logistic regression on standardised features: 500 steps of Adam on all
    rows, with a cosine, from zero; so it has no randomness. Published probes train on
    augmented pictures instead, for a hundred epochs.

    Args:
        train_features: float32 `[N, F]`.
        train_labels: Numbers of classes, `[N]`.
        features: Of the pictures to classify, `[M, F]`.
        labels: What they show, `[M]`.
        num_classes: Number of classes.
        weight_decay: Of the classifier's weights, decoupled.

    Raises:
        ValueError: Features are no finite numbers or of different widths, labels do not
            fit them, or are not below `num_classes`.
    """
    NOT_NEGATIVE.check("weight_decay", weight_decay)
    given = _checked(train_features, train_labels, features, labels, num_classes)
    right = _probe(*given, weight_decay, num_classes)
    return float(right)


@functools.partial(jax.jit, static_argnames="num_classes")
def _probe(train_features, train_labels, features, labels, weight_decay, num_classes):
    mean = jnp.mean(train_features, axis=0)
    std = jnp.std(train_features, axis=0) + 1e-6
    x, features = (train_features - mean) / std, (features - mean) / std
    schedule = optax.cosine_decay_schedule(0.05, _PROBE_STEPS)
    optimizer = optax.adamw(schedule, weight_decay=weight_decay)

    def loss_of(weights):
        logits = x @ weights["kernel"] + weights["bias"]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, train_labels)
        return jnp.mean(losses)

    def step(carry: Any, _: Any) -> Any:
        weights, state = carry
        updates, state = optimizer.update(jax.grad(loss_of)(weights), state, weights)
        return (optax.apply_updates(weights, updates), state), None

    weights: Any = {
        "kernel": jnp.zeros((x.shape[1], num_classes)),
        "bias": jnp.zeros(num_classes),
    }
    start = weights, optimizer.init(weights)
    (weights, _), _ = jax.lax.scan(step, start, None, _PROBE_STEPS)
    guess = jnp.argmax(features @ weights["kernel"] + weights["bias"], axis=1)
    return jnp.mean(guess == labels)


def evaluate_encoder(
    encoder: Encoder,
    train: Pictures,
    test: Pictures,
    num_neighbours: int = NUM_NEIGHBOURS,
) -> dict[str, float]:
    """Both accuracies of an encoder.

    Args:
        encoder: The encoder.
        train: Pictures with labels that the classifiers learn from.
        test: Pictures with labels that are classified.
        num_neighbours: Of the vote.

    Returns:
        "linear" and "knn", fractions of the test pictures.

    Raises:
        TypeError: One of them is no encoder, or no Pictures.
        ValueError: One of them has no labels.
    """
    ENCODER.check("encoder", encoder)
    COUNT.check("num_neighbours", num_neighbours)
    check_pictures("train", train)
    check_pictures("test", test)
    train_labels = need_labels(train, "train")
    labels = need_labels(test, "test")
    num_classes = max(train.num_classes, test.num_classes)
    given = (
        encoder.in_batches(train.images),
        train_labels,
        encoder.in_batches(test.images),
        labels,
        num_classes,
    )
    return {
        "linear": probe_accuracy(*given),
        "knn": knn_accuracy(*given, num_neighbours),
    }
