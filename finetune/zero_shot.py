"""One choice before any observation: which configuration, from meta-features alone.

A network is trained to rank the runs of each meta-training dataset by the pairwise
loss -log sigmoid(f_better - f_worse); its members vote by their mean score. Baselines:
the argmax of a ridge regression on the hyperparameters alone ("single best": no
configuration is shared between datasets, so the best on average needs a model), ridge
regressions per dataset, and the runs of the nearest datasets.

Source: Öztürk et al., Zero-Shot AutoML with Pretrained Models (ICML 2022), section 3;
self pairs are masked instead of contributing log 2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.typing import ArrayLike

from finetune.encoding import Encoder, fit_encoder
from finetune.meta_dataset import MetaDataset
from finetune.training import pad_runs
from jaxrl_runs import values
from jaxrl_runs.values import COUNT, MANY, NOT_NEGATIVE, RATE, WIDTH, Integer, setting


@dataclasses.dataclass(frozen=True)
class RankingConfig:
    """Settings of the ranking network's training."""

    num_steps: int = setting(1000, COUNT)
    num_tasks: int = setting(8, MANY)
    batch_size: int = setting(32, MANY)
    learning_rate: float = setting(2e-3, RATE)
    weight_decay: float = setting(0.1, NOT_NEGATIVE)
    num_members: int = setting(5, Integer(at_most=256))
    num_hidden: int = setting(64, WIDTH)

    def __post_init__(self):
        values.check(self)


class RankingNetwork(nn.Module):
    """Perceptron from an encoded configuration to a score."""

    num_hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Score ``[..., C]`` as ``[...]``."""
        x = nn.silu(nn.Dense(self.num_hidden)(x))
        x = nn.silu(nn.Dense(self.num_hidden)(x))
        return nn.Dense(1)(x)[..., 0]


class ZeroShot(struct.PyTreeNode):
    """A trained ranking ensemble; a leading axis ``E`` on every leaf of ``weights``."""

    weights: dict
    encoder: Encoder
    num_hidden: int = struct.field(pytree_node=False, default=64)

    @jax.jit
    def score(self, vectors: ArrayLike, meta_features: ArrayLike) -> jax.Array:
        """Score configurations ``[..., H]`` for a dataset ``[M]``; higher is better."""
        inputs = self.encoder(vectors, meta_features)
        network = RankingNetwork(self.num_hidden)
        scores = jax.vmap(lambda w: network.apply({"params": w}, inputs))(self.weights)
        return jnp.mean(jnp.asarray(scores), 0)


def _pairwise_loss(scores: jax.Array, values: jax.Array) -> jax.Array:
    """Mean of -log sigmoid(f_better - f_worse) over the pairs of a batch."""
    better = values[:, None] > values[None] + 1e-6
    loss = -jax.nn.log_sigmoid(scores[:, None] - scores[None])
    return jnp.sum(loss * better) / jnp.maximum(better.sum(), 1)


def _train_member(key, inputs, values, count, dataset_weights, config):
    init_key, task_key, run_key = jax.random.split(key, 3)
    network = RankingNetwork(config.num_hidden)
    weights = network.init(init_key, inputs[0, 0])["params"]
    schedule = optax.cosine_decay_schedule(config.learning_rate, config.num_steps)
    optimizer = optax.adamw(schedule, weight_decay=config.weight_decay)
    shape = (config.num_steps, config.num_tasks, config.batch_size)
    tasks = jax.random.choice(task_key, len(count), (*shape[:2], 1), p=dataset_weights)
    run = (jax.random.uniform(run_key, shape) * count[tasks]).astype(jnp.int32)

    def step(carry, drawn):
        weights, state = carry
        task, run = drawn

        def loss_fn(weights):
            scores = jnp.asarray(network.apply({"params": weights}, inputs[task, run]))
            return jax.vmap(_pairwise_loss)(scores, values[task, run]).mean()

        updates, state = optimizer.update(jax.grad(loss_fn)(weights), state, weights)
        return (optax.apply_updates(weights, updates), state), None

    start = (weights, optimizer.init(weights))
    (weights, _), _ = jax.lax.scan(step, start, (tasks, run))
    return weights


def train_zero_shot(
    key: jax.Array,
    data: MetaDataset,
    config: RankingConfig = RankingConfig(),
    folds: Sequence[Sequence[int]] | None = None,
) -> list[ZeroShot]:
    """Train a ranking ensemble for each fold, all in one program.

    Args:
        key: Random key.
        data: The meta-dataset; a run counts by its best accuracy.
        config: Settings.
        folds: For each fold the datasets to learn from; None: one fold, all datasets.

    Returns:
        One `ZeroShot` per fold.
    """
    folds = [range(data.num_datasets)] if folds is None else folds
    padded, index = pad_runs(data)
    values = jnp.asarray(padded["curves"].max(-1))
    dataset_weights = np.zeros((len(folds), data.num_datasets), np.float32)
    encoders = []
    for row, fold in zip(dataset_weights, folds, strict=True):
        row[list(fold)] = 1 / len(fold)
        known = data.subset(list(fold))
        encoders.append(fit_encoder(data.space, known.vectors, known.meta_features))
    inputs = jnp.stack(
        [e(padded["vectors"], data.meta_features[:, None, :]) for e in encoders]
    )
    count = jnp.asarray((index >= 0).sum(1))

    def member(key, inputs, dataset_weights):
        return _train_member(key, inputs, values, count, dataset_weights, config)

    over_members = jax.vmap(member, in_axes=(0, None, None))
    keys = jax.random.split(key, (len(folds), config.num_members))
    weights = jax.jit(jax.vmap(over_members))(
        keys, inputs, jnp.asarray(dataset_weights)
    )
    return [
        ZeroShot(jax.tree.map(lambda x, i=i: x[i], weights), encoder, config.num_hidden)
        for i, encoder in enumerate(encoders)
    ]


class SingleBest(struct.PyTreeNode):
    """Ridge regression of the centred best accuracy on the hyperparameters alone."""

    coefficients: jax.Array
    encoder: Encoder

    def score(self, vectors: ArrayLike, meta_features: ArrayLike) -> jax.Array:
        """Score configurations ``[..., H]``; the meta-features are not looked at."""
        num_meta = jnp.shape(meta_features)[-1]
        return self.encoder(vectors, meta_features)[..., :-num_meta] @ self.coefficients


def _ridge(inputs: np.ndarray, values: np.ndarray, strength: float) -> np.ndarray:
    gram = inputs.T @ inputs + strength * np.eye(inputs.shape[1])
    return np.linalg.solve(gram, inputs.T @ values)


def fit_single_best(data: MetaDataset, strength: float = 10.0) -> SingleBest:
    """Regress the best accuracy of a run, minus its dataset's mean, on its choices."""
    encoder = fit_encoder(data.space, data.vectors, data.meta_features)
    num_meta = data.meta_features.shape[1]
    inputs = np.asarray(encoder(data.vectors, data.meta_features[data.dataset]))
    coefficients = _ridge(inputs[:, :-num_meta], _centred(data), strength)
    return SingleBest(jnp.asarray(coefficients, jnp.float32), encoder)


def _centred(data: MetaDataset) -> np.ndarray:
    best = np.nanmax(data.curves, 1)
    total = np.bincount(data.dataset, best, data.num_datasets)
    count = np.bincount(data.dataset, minlength=data.num_datasets)
    return best - (total / np.maximum(count, 1))[data.dataset]


def per_dataset_scores(
    data: MetaDataset,
    vectors: np.ndarray,
    meta_features: np.ndarray,
    num_nearest: int | None = None,
    strength: float = 10.0,
) -> np.ndarray:
    """Average the ridge regressions of single datasets.

    Args:
        data: Meta-training runs.
        vectors: Candidates ``[R, H]``.
        meta_features: Of the new dataset ``[M]``.
        num_nearest: Average only over this many datasets that are nearest in
            standardised log meta-features; None: all.
        strength: Of the ridge.

    Returns:
        Scores ``[R]``.
    """
    encoder = fit_encoder(data.space, data.vectors, data.meta_features)
    num_meta = data.meta_features.shape[1]
    inputs = np.asarray(encoder(data.vectors, data.meta_features[data.dataset]))
    candidates = np.asarray(encoder(vectors, meta_features))[:, :-num_meta]
    any_vector = np.repeat(data.vectors[:1], data.num_datasets, 0)
    known = np.asarray(encoder(any_vector, data.meta_features))[:, -num_meta:]
    new = np.asarray(encoder(vectors[:1], meta_features))[0, -num_meta:]
    order = np.argsort(((known - new) ** 2).sum(1))[:num_nearest]
    values = _centred(data)
    scores = np.zeros(len(vectors))
    for dataset in order:
        rows = data.dataset == dataset
        scores += candidates @ _ridge(
            inputs[rows][:, :-num_meta], values[rows], strength
        )
    return scores / len(order)
