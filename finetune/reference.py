"""The Quick-Tune surrogate as published, as a compatibility setting.

Deep-kernel Gaussian process of the QuickTune repository (hpo/surrogates) with its
scaling, its training and its quirks; `finetune.surrogate` is ours. Shapes: ``H``
columns, budget 50 epochs. Differences from torch are float32 rounding and random
numbers only.

Quirks kept on purpose: the hyperparameters are cut in two blocks of which the first
stops one column short of the model one-hots; the targets are not centred; meta-features
are divided by 1,000 in meta-training (by 10,000 at test time in the released code; pass
what you want).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from finetune.meta_dataset import MetaDataset
from jaxrl_runs import values
from jaxrl_runs.values import COUNT, MANY, POSITIVE, RATE, setting

NUM_EPOCHS = 50
FIRST_BLOCK = 23
_JITTER = 1e-6
_NUM_CHANNELS = 8
_KEEP_SHARE = 0.75  # of the channels, by the dropout


@dataclasses.dataclass(frozen=True)
class ReferenceConfig:
    """Settings of the published meta-training."""

    num_steps: int = setting(10_000, COUNT)
    batch_size: int = setting(32, MANY)
    learning_rate: float = setting(1e-4, RATE)
    final_learning_rate: float = setting(1e-7, RATE)
    meta_scale: float = setting(1000.0, POSITIVE)

    def __post_init__(self):
        values.check(self)


def _linear(x: jax.Array, weights: dict, name: str) -> jax.Array:
    weight = weights[f"{name}.weight"]
    return jnp.matmul(x, weight.T) + weights[f"{name}.bias"]


def _curve_embedding(curve: jax.Array, weights: dict, keep: jax.Array | None):
    """Embed zero-padded curves ``[n, 50]`` as ``[n, 16]``."""
    x = curve[:, :, None]
    for name in ("conv1", "conv2"):
        # the three taps of a "same" convolution as one product per position
        padded = jnp.pad(x, ((0, 0), (1, 1), (0, 0)))
        taps = jnp.concatenate([padded[:, i : i + x.shape[1]] for i in range(3)], -1)
        weight = weights[f"curve_embedder.{name}.weight"]  # [out, in, 3]
        kernel = weight.transpose(2, 1, 0).reshape(-1, weight.shape[0])
        x = jax.nn.relu(taps @ kernel + weights[f"curve_embedder.{name}.bias"])
    x = x.reshape(len(x), NUM_EPOCHS // 2, 2, -1).max(2)
    if keep is not None:  # whole channels are dropped
        x = jnp.where(keep[:, None], x / _KEEP_SHARE, 0.0)
    x = x.transpose(0, 2, 1).reshape(len(x), -1)
    return jax.nn.relu(_linear(x, weights, "curve_embedder.fc1"))


def reference_features(
    weights: dict,
    hyperparameters: jax.Array,
    budget: jax.Array,
    curve: jax.Array,
    meta_features: jax.Array,
    keep: jax.Array | None = None,
) -> jax.Array:
    """Apply the feature extractor.

    Args:
        weights: Arrays by their torch names and in torch's layout.
        hyperparameters: Standardised, ``[n, H]``.
        budget: Epoch asked for, divided by 50, ``[n]``.
        curve: Accuracies before that epoch, then zeros, ``[n, 50]``.
        meta_features: Scaled, ``[n, 4]``.
        keep: Which channels of the curve dropout keeps, ``[n, 8]``; None: all.

    Returns:
        ``[n, 32]``.
    """
    parts = []
    blocks = (hyperparameters[:, :FIRST_BLOCK], hyperparameters[:, FIRST_BLOCK:])
    for i, block in enumerate(blocks):
        x = jax.nn.relu(_linear(block, weights, f"encoders.{i}.input_layer"))
        parts.append(_linear(x, weights, f"encoders.{i}.output_layer"))
    parts.append(budget[:, None])
    parts.append(_linear(meta_features, weights, "fc_metafeatures"))
    parts.append(_curve_embedding(curve, weights, keep))
    x = jax.nn.leaky_relu(_linear(jnp.concatenate(parts, 1), weights, "fc1"), 0.01)
    return _linear(x, weights, "fc3")


def init_reference(key: jax.Array, num_columns: int) -> dict:
    """Draw weights as torch does, and the raw parameters of the GP (zeros).

    Keys ``raw_noise, raw_outputscale, raw_lengthscale, constant_mean`` hold the GP;
    each positive one is softplus(raw), the noise plus 1e-4.
    """
    shapes = {
        "encoders.0.input_layer": (32, FIRST_BLOCK),
        "encoders.0.output_layer": (32, 32),
        "encoders.1.input_layer": (32, num_columns - FIRST_BLOCK),
        "encoders.1.output_layer": (32, 32),
        "fc_metafeatures": (4, 4),
        "curve_embedder.conv1": (_NUM_CHANNELS, 1, 3),
        "curve_embedder.conv2": (_NUM_CHANNELS, _NUM_CHANNELS, 3),
        "curve_embedder.fc1": (16, 200),
        "fc1": (32, 85),
        "fc3": (32, 32),
    }
    weights = {}
    for name, shape in shapes.items():
        key, weight_key, bias_key = jax.random.split(key, 3)
        bound = 1 / np.sqrt(np.prod(shape[1:]))
        weights[f"{name}.weight"] = jax.random.uniform(
            weight_key, shape, minval=-bound, maxval=bound
        )
        weights[f"{name}.bias"] = jax.random.uniform(
            bias_key, shape[:1], minval=-bound, maxval=bound
        )
    for name in ("raw_noise", "raw_outputscale", "raw_lengthscale", "constant_mean"):
        weights[name] = jnp.zeros(())
    return weights


def gp_parameters(weights: dict) -> dict[str, jax.Array]:
    """Return noise variance, output scale, length scale and mean of the GP."""
    return {
        "noise": jax.nn.softplus(weights["raw_noise"]) + 1e-4,
        "outputscale": jax.nn.softplus(weights["raw_outputscale"]),
        "lengthscale": jax.nn.softplus(weights["raw_lengthscale"]),
        "constant_mean": weights["constant_mean"],
    }


def rbf(a: jax.Array, b: jax.Array, outputscale, lengthscale) -> jax.Array:
    """Squared-exponential kernel with one length scale, ``[n, m]``."""
    a, b = a / lengthscale, b / lengthscale
    cross = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * cross
    return outputscale * jnp.exp(-0.5 * jnp.maximum(square, 0))


def factor(features, mask, gp):
    """Cholesky factor of the masked covariance; padding is an identity block."""
    kernel = rbf(features, features, gp["outputscale"], gp["lengthscale"])
    both = mask[:, None] * mask[None]
    diagonal = jnp.where(mask > 0, gp["noise"] + _JITTER, 1.0)
    return jnp.linalg.cholesky(kernel * both + jnp.diag(diagonal))


def reference_nll(features, targets, mask, gp) -> jax.Array:
    """Negative log marginal likelihood per (unmasked) point."""
    lower = factor(features, mask, gp)
    error = (targets - gp["constant_mean"]) * mask
    half = jax.scipy.linalg.solve_triangular(lower, error, lower=True)
    count = mask.sum()
    log_det = jnp.log(jnp.diagonal(lower)).sum()
    return (0.5 * half @ half + log_det) / count + 0.5 * jnp.log(2 * jnp.pi)


def reference_posterior(features, targets, mask, query, gp):
    """Predict exactly at ``query [m, F]`` from a padded history ``[n, F]``.

    Returns:
        Mean ``[m]`` and standard deviation including the noise ``[m]``.
    """
    lower = factor(features, mask, gp)
    cross = rbf(features, query, gp["outputscale"], gp["lengthscale"]) * mask[:, None]
    right = jnp.concatenate(
        [cross, ((targets - gp["constant_mean"]) * mask)[:, None]], 1
    )
    half = jax.scipy.linalg.solve_triangular(lower, right, lower=True)
    mean = gp["constant_mean"] + half[:, :-1].T @ half[:, -1]
    var = gp["outputscale"] - (half[:, :-1] ** 2).sum(0)
    return mean, jnp.sqrt(jnp.maximum(var, 0) + gp["noise"])


class ReferenceScaling(struct.PyTreeNode):
    """Order and scaling of the hyperparameters as in the reference.

    Model one-hots come first; missing numbers are -1; one-hots stay 0 and 1.

    Attributes:
        order: Columns of the space in the reference's order, ``[H]``.
        mean: 0 for one-hots, ``[H]``.
        scale: 1 for one-hots, ``[H]``.
    """

    order: jax.Array
    mean: jax.Array
    scale: jax.Array

    def __call__(self, vectors: jax.Array) -> jax.Array:
        """Scale ``[..., H]``."""
        values = jnp.where(jnp.isnan(vectors), -1.0, vectors)
        return ((values - self.mean) / self.scale)[..., self.order]


def fit_reference_scaling(data: MetaDataset) -> ReferenceScaling:
    """Standardise over the whole table, as the reference does."""
    columns = data.space.columns
    is_model = np.array([c.startswith("cat:model:") for c in columns])
    is_onehot = np.array([c.startswith("cat:") for c in columns])
    values = np.where(np.isnan(data.vectors), -1.0, data.vectors)
    std = values.std(0)
    return ReferenceScaling(
        order=jnp.asarray(np.argsort(~is_model, kind="stable")),
        mean=jnp.asarray(np.where(is_onehot, 0.0, values.mean(0)), jnp.float32),
        scale=jnp.asarray(np.where(is_onehot | (std < 1e-8), 1.0, std), jnp.float32),
    )


def ask_epoch(curves: jax.Array, epoch: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Make the inputs that ask runs for an epoch.

    The network is made for budgets of 50 epochs. A run of a shorter budget looks to it
    like one that is not yet through; what comes after 50 epochs it cannot see.

    Args:
        curves: Accuracies, ``[n, T]``.
        epoch: Counted from 1, ``[n]``.

    Returns:
        Budget ``[n]``, and the accuracies before that epoch, then zeros, ``[n, 50]``.
    """
    curves = jnp.pad(curves, ((0, 0), (0, NUM_EPOCHS)))[:, :NUM_EPOCHS]
    before = jnp.arange(NUM_EPOCHS) < epoch[:, None] - 1
    budget = jnp.minimum(epoch / NUM_EPOCHS, 1.0)
    return budget, jnp.where(before, curves, 0.0)


def train_reference(
    key: jax.Array,
    inputs: jax.Array,
    curves: jax.Array,
    lengths: jax.Array,
    meta_features: jax.Array,
    count: jax.Array,
    dataset_weights: jax.Array,
    config: ReferenceConfig = ReferenceConfig(),
) -> dict:
    """Meta-train as published, as one scan; vmap over keys and dataset weights.

    Args:
        key: Random key.
        inputs: Standardised hyperparameters, padded, ``[D, R, H]``.
        curves: Accuracies ``[D, R, T]``; as published, of 50 epochs.
        lengths: Epochs of each run, ``[D, R]``.
        meta_features: Raw, ``[D, 4]``.
        count: Runs of each dataset, ``[D]``.
        dataset_weights: Probability with which each dataset is drawn, ``[D]``.
        config: Settings.

    Returns:
        The last weights (the published code keeps the best of its validations).
    """
    init_key, task_key, run_key, epoch_key, drop_key = jax.random.split(key, 5)
    weights = init_reference(init_key, inputs.shape[-1])
    decay = config.final_learning_rate / config.learning_rate
    optimizer = optax.adam(
        optax.cosine_decay_schedule(config.learning_rate, config.num_steps, decay)
    )
    shape = (config.num_steps, config.batch_size)
    tasks = jax.random.choice(
        task_key, len(count), (config.num_steps, 1), p=dataset_weights
    )
    run = (jax.random.uniform(run_key, shape) * count[tasks]).astype(jnp.int32)
    epoch = jax.random.randint(epoch_key, shape, 1, curves.shape[-1])
    epoch = jnp.minimum(epoch, lengths[tasks, run])
    keep = jax.random.bernoulli(drop_key, _KEEP_SHARE, (*shape, _NUM_CHANNELS))
    mask = jnp.ones(config.batch_size)

    def step(carry, drawn):
        weights, state = carry
        task, run, epoch, keep = drawn
        whole = curves[task, run]
        targets = jnp.take_along_axis(whole, epoch[:, None] - 1, 1)[:, 0]
        meta = jnp.broadcast_to(meta_features[task] / config.meta_scale, (len(run), 4))

        def loss_fn(weights):
            features = reference_features(
                weights,
                inputs[task, run],
                *ask_epoch(whole, epoch),
                meta,
                keep,
            )
            return reference_nll(features, targets, mask, gp_parameters(weights))

        loss, grads = jax.value_and_grad(loss_fn)(weights)
        updates, state = optimizer.update(grads, state, weights)
        return (optax.apply_updates(weights, updates), state), loss

    drawn = (tasks[:, 0], run, epoch, keep)
    start: Any = (weights, optimizer.init(weights))
    end: Any = jax.lax.scan(step, start, drawn)[0]
    return end[0]
