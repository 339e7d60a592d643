"""A prior-fitted surrogate: a transformer that reads the task's history as context.

No Gaussian process and no gradient on the task: examples that were observed become
tokens, queries attend to them, and a head gives mean and noise. Like ifBO it learns in
context; unlike it there is no limit on hyperparameters (a token is an encoded vector,
however wide) and no configuration is forgotten (padded and masked context).

Sources: Müller et al., Transformers Can Do Bayesian Inference (ICLR 2022);
Rakotoarison et al., In-Context Freeze-Thaw Bayesian Optimization (ICML 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from finetune.encoding import (
    NUM_TIME_FEATURES,
    Encoder,
    fit_encoder,
    time_features,
)
from finetune.meta_dataset import MetaDataset
from finetune.surrogate import MIN_NOISE
from finetune.training import (
    Examples,
    Runs,
    TrainConfig,
    draw_tasks,
    make_optimizer,
    make_runs,
    scan_in_parts,
)


class ContextNetwork(nn.Module):
    """Queries attend to the tokens of observed examples, twice."""

    num_hidden: int
    num_heads: int = 4

    @nn.compact
    def __call__(self, context, residual, mask, query):
        """Predict residuals of queries.

        Args:
            context: Inputs of observed examples, ``[n, I]``.
            residual: Their residuals, ``[n]``.
            mask: 1 for real ones, ``[n]``.
            query: Inputs to predict, ``[m, I]``.

        Returns:
            Mean ``[m]`` and log noise ``[m]``.
        """
        shared = nn.Dense(self.num_hidden, name="embed")
        first = nn.Dense(self.num_hidden, name="mix")
        query = first(nn.silu(shared(query)))
        tokens = first(nn.silu(shared(context)))
        tokens = tokens + nn.Dense(self.num_hidden, name="value")(residual[:, None] * 5)
        blank = self.param("blank", nn.initializers.zeros, (1, self.num_hidden))
        tokens = jnp.concatenate([blank, tokens])
        visible = jnp.concatenate([jnp.ones(1), mask])[None, None, :] > 0
        for _ in range(2):
            attended = nn.MultiHeadDotProductAttention(self.num_heads)(
                nn.LayerNorm()(query), nn.LayerNorm()(tokens), mask=visible
            )
            query = query + attended
            hidden = nn.silu(nn.Dense(2 * self.num_hidden)(nn.LayerNorm()(query)))
            query = query + nn.Dense(self.num_hidden)(hidden)
        small = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        out = nn.Dense(2, kernel_init=small)(nn.LayerNorm()(query))
        return out[:, 0], out[:, 1]


class InContext(struct.PyTreeNode):
    """A meta-trained ensemble; a leading axis ``E`` on every leaf of ``weights``."""

    weights: dict
    encoder: Encoder
    num_epochs: int = struct.field(pytree_node=False)
    num_hidden: int = struct.field(pytree_node=False, default=64)


def _inputs(model, inputs, runs: Runs, at: Examples):
    """Everything known of examples, ``[..., I]``."""
    return jnp.concatenate(
        [
            inputs[at.dataset, at.run],
            runs.history[at.dataset, at.run, at.start],
            time_features(at.start, at.target, model.num_epochs),
        ],
        -1,
    )


def predict_in_context(model, weights, inputs, runs, at, num_context, num_known):
    """Predict the examples after the first ``num_context`` given those before.

    Returns:
        Mean ``[m]``, variance ``[m]`` and truth ``[m]``.
    """
    x = _inputs(model, inputs, runs, at)
    truth = runs.curves[at.dataset, at.run, at.target - 1]
    last = runs.history[at.dataset, at.run, at.start][:, 0]
    network = ContextNetwork(model.num_hidden)
    mask = (jnp.arange(num_context) < num_known).astype(truth.dtype)
    predicted: Any = network.apply(
        {"params": weights},
        x[:num_context],
        (truth - last)[:num_context],
        mask,
        x[num_context:],
    )
    mean, noise = predicted
    var = (0.2 * MIN_NOISE) ** 2 + (0.04 * jnp.exp(jnp.clip(noise, -4, 4))) ** 2
    return last[num_context:] + 0.2 * mean, var, truth[num_context:]


def train_in_context(
    key: jax.Array,
    data: MetaDataset,
    config: TrainConfig = TrainConfig(),  # noqa: B008 (frozen)
    folds: Sequence[Sequence[int]] | None = None,
) -> list[InContext]:
    """Meta-train an ensemble for each fold, in one program.

    Args:
        key: Random key.
        data: The meta-dataset.
        config: Settings; kernel features and meta examples are not used.
        folds: For each fold the datasets to learn from; None: one fold, all datasets.
    """
    folds = [range(data.num_datasets)] if folds is None else folds
    runs, vectors = make_runs(data)
    models, inputs, dataset_weights = [], [], []
    for fold in folds:
        known = data.subset(list(fold))
        encoder = fit_encoder(data.space, known.vectors, known.meta_features)
        models.append(InContext({}, encoder, data.num_epochs, config.num_hidden))
        inputs.append(encoder(vectors, data.meta_features[:, None, :]))
        row = np.zeros(data.num_datasets, np.float32)
        row[list(fold)] = 1 / len(fold)
        dataset_weights.append(row)
    optimizer = make_optimizer(config)
    width = inputs[0].shape[-1] + runs.history.shape[-1] + NUM_TIME_FEATURES

    def start(key, dataset_weights):
        init_key, *draw_keys = jax.random.split(key, 4)
        blank = jnp.zeros((2, width))
        weights = ContextNetwork(config.num_hidden).init(
            init_key, blank, jnp.zeros(2), jnp.ones(2), blank
        )["params"]
        drawn = draw_tasks(draw_keys, runs, dataset_weights, data.num_epochs, config)
        return (weights, optimizer.init(weights)), drawn

    def advance(carry, drawn, inputs, runs):
        def step(carry, drawn):
            weights, state = carry
            examples, num_known = drawn

            def loss_fn(weights):
                def task(at, num):
                    mean, var, truth = predict_in_context(
                        models[0], weights, inputs, runs, at, config.num_context, num
                    )
                    return jnp.mean((truth - mean) ** 2 / var + jnp.log(var)) / 2

                return jax.vmap(task)(examples, num_known).mean()

            grads = jax.grad(loss_fn)(weights)
            updates, state = optimizer.update(grads, state, weights)
            return (optax.apply_updates(weights, updates), state), None

        return jax.lax.scan(step, carry, drawn)[0]

    keys = jax.random.split(key, (len(folds), config.num_members))
    over_members = jax.vmap(start, in_axes=(0, None))
    carry, drawn = jax.jit(jax.vmap(over_members))(
        keys, jnp.asarray(np.stack(dataset_weights))
    )
    over_members = jax.vmap(advance, in_axes=(0, 0, None, None))
    over_folds = jax.vmap(over_members, in_axes=(0, 0, 0, None))
    weights, _ = scan_in_parts(
        lambda carry, drawn, fixed: over_folds(carry, drawn, *fixed),
        carry,
        drawn,
        (jnp.stack(inputs), runs),
        "in-context surrogate",
    )
    return [
        model.replace(weights=jax.tree.map(lambda x, i=i: x[i], weights))
        for i, model in enumerate(models)
    ]
