"""What is compared on the table, beyond the methods of `benchmarks.finetuning`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from benchmarks.finetuning.arms import GRID
from benchmarks.finetuning_lm.space import DEFAULT
from finetune import MetaDataset, Surrogates
from finetune.baselines import fixed_order
from finetune.policy import make_lookup, predict_seconds
from finetune.reference import (
    FIRST_BLOCK,
    ReferenceConfig,
    fit_reference_scaling,
    train_reference,
)
from finetune.refit import RefitConfig
from finetune.replay import replay_reference, replay_with_refit
from finetune.simulate import Table, simulate, start_state
from finetune.surrogate import Surrogate, init_weights
from finetune.training import pad_runs

# of the eight meta-features, the four that the reference has room for
REFERENCE_FEATURES = (
    "num_train",
    "question_tokens_mean",
    "answer_tokens_mean",
    "zero_shot_loss",
)
# Adam on the marginal likelihood, from scratch: nothing pulls back to anything
FROM_SCRATCH = RefitConfig(num_steps=100, learning_rate=5e-3, pull=0.0)


def with_hours(data: MetaDataset, minutes_per_run: float) -> tuple[MetaDataset, float]:
    """Stretch the seconds so that a full run takes so many minutes in the mean.

    Returns:
        The runs, and the factor.
    """
    factor = 60 * minutes_per_run / float(np.nansum(data.costs, 1).mean())
    return dataclasses.replace(data, costs=data.costs * factor), factor


def run_default(data: MetaDataset, tables: Table, num_seeds: int) -> np.ndarray:
    """Train the default configuration fully, then random ones; ``[D, S, 1, G]``."""
    padded, _ = pad_runs(data)
    default = data.space.to_vector(DEFAULT)
    is_default = np.array(
        [
            [np.array_equal(row, default, equal_nan=True) for row in rows]
            for rows in padded["vectors"]
        ]
    )
    if not is_default.any(1).all():
        raise ValueError("data must hold the default configuration on each dataset")
    num_datasets, num_runs = is_default.shape
    random = np.random.default_rng(5)
    found = []
    for _ in range(num_seeds):
        scores = random.uniform(size=(num_datasets, num_runs)) + 10 * is_default
        keys = jax.random.split(jax.random.key(0), (num_datasets, 1))
        regret = simulate(
            fixed_order,
            keys,
            jnp.asarray(scores, jnp.float32),
            tables,
            jnp.asarray(GRID),
        )
        found.append(np.asarray(regret))
    return np.concatenate(found, 1)[:, :, None]


def _untrained(surrogate: Surrogate, keys: jax.Array) -> Surrogate:
    """The same networks with drawn weights: nothing that was learned from others."""
    return surrogate.replace(
        weights=jax.vmap(lambda key: init_weights(key, surrogate))(keys),
        evidence=jax.tree.map(jnp.zeros_like, surrogate.evidence),
    )


def run_freeze_thaw(
    seeds: Sequence[Sequence[Surrogates]], data: MetaDataset, tables: Table
) -> np.ndarray:
    """Freeze-thaw Bayesian optimisation of the task alone; ``[D, S, 1, G]``.

    Our deep-kernel Gaussian processes and our acquisition, but with drawn weights that
    are fitted to the task's own history, from scratch, whenever it has doubled. Only
    the scaling of the inputs and the mean seconds of an epoch come from other datasets.
    """
    padded, _ = pad_runs(data)
    grid = jnp.asarray(GRID)

    @jax.jit
    def replay(keys, learned, vectors, meta, table):
        def seed(x):
            key, learned = x
            members = len(jax.tree.leaves(learned.performance.weights)[0])
            performance_keys, cost_keys = jax.random.split(key, (2, members))
            costs = len(jax.tree.leaves(learned.cost.weights)[0])
            return replay_with_refit(
                key,
                _untrained(learned.performance, performance_keys),
                _untrained(learned.cost, cost_keys[:costs]),
                vectors,
                meta,
                table,
                grid,
                config=FROM_SCRATCH,
            )

        return jax.lax.map(seed, (keys, learned))

    rows = []
    for i, bundles in enumerate(tqdm(seeds, "freeze_thaw_bo")):
        learned = jax.tree.map(lambda *x: jnp.stack(x), *[b.learned for b in bundles])
        keys = jax.random.split(jax.random.fold_in(jax.random.key(17), i), len(bundles))
        table = jax.tree.map(lambda x, i=i: x[i], tables)
        found = replay(
            keys, learned, padded["vectors"][i], data.meta_features[i], table
        )
        rows.append(np.asarray(found))
    return np.stack(rows)


def reference_layout(data: MetaDataset) -> tuple[MetaDataset, np.ndarray]:
    """Lay the table out for the reference, whose shapes are fixed.

    It wants four meta-features and more columns than `FIRST_BLOCK`: columns of zeros
    are added to ours, which change nothing.

    Returns:
        The table with four meta-features, and zeros ``[N, extra]`` to append.
    """
    names = list(data.meta_feature_names)
    picked = [names.index(name) for name in REFERENCE_FEATURES]
    few = dataclasses.replace(
        data,
        meta_features=data.meta_features[:, picked],
        meta_feature_names=REFERENCE_FEATURES,
    )
    extra = max(FIRST_BLOCK + 8 - data.space.num_columns, 0)
    return few, np.zeros((data.num_runs, extra), np.float32)


def run_reference(
    seeds: Sequence[Sequence[Surrogates]],
    data: MetaDataset,
    tables: Table,
    folds: Sequence[Sequence[int]],
    config: ReferenceConfig,
) -> np.ndarray:
    """Meta-train Quick-Tune's surrogate and replay it with refits; ``[D, S, 1, G]``.

    A seed decides the first configuration; meta-training is one per dataset left out.
    Its epochs are priced by our cost surrogate, before any observation.
    """
    few, zeros = reference_layout(data)
    padded, index = pad_runs(few)
    scaling = fit_reference_scaling(few)
    inputs = jnp.asarray(scaling(jnp.asarray(padded["vectors"])))
    blank = jnp.zeros((*inputs.shape[:2], zeros.shape[1]))
    inputs = jnp.concatenate([inputs, blank], -1)
    weights = np.zeros((len(folds), data.num_datasets), np.float32)
    for row, fold in zip(weights, folds, strict=True):
        row[list(fold)] = 1 / len(fold)
    fixed = (
        inputs,
        jnp.asarray(padded["curves"]),
        jnp.asarray(padded["lengths"]),
        jnp.asarray(few.meta_features),
        jnp.asarray((index >= 0).sum(1)),
    )
    keys = jax.random.split(jax.random.key(23), len(folds))
    trained = jax.jit(
        lambda x: jax.lax.map(lambda y: train_reference(y[0], *fixed, y[1], config), x)
    )((keys, jnp.asarray(weights)))
    return _replay_reference(seeds, data, few, tables, inputs, trained)


def _replay_reference(seeds, data, few, tables, inputs, trained: Any) -> np.ndarray:
    padded, _ = pad_runs(data)
    grid = jnp.asarray(GRID)

    @jax.jit
    def replay(keys, weights, learned, inputs, vectors, meta, few_meta, table):
        lookup = make_lookup(
            learned.performance, learned.cost, vectors, meta, table, False
        )
        seconds = predict_seconds(lookup, table, start_state(table, grid))

        def seed(key):
            scaled = few_meta / 1000
            return replay_reference(key, weights, inputs, scaled, seconds, table, grid)

        return jax.lax.map(seed, keys)

    rows = []
    for i, bundles in enumerate(tqdm(seeds, "quick_tune_reference")):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(7), i), len(bundles))
        rows.append(
            replay(
                keys,
                jax.tree.map(lambda x, i=i: x[i], trained),
                bundles[0].learned,
                inputs[i],
                padded["vectors"][i],
                data.meta_features[i],
                few.meta_features[i],
                jax.tree.map(lambda x, i=i: x[i], tables),
            )
        )
    return np.stack([np.asarray(row) for row in rows])
