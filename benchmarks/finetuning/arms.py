"""The methods that are compared in `python -m benchmarks.finetuning`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from finetune import MetaDataset, Surrogates
from finetune.baselines import (
    fixed_order,
    greedy_freeze_thaw,
    random_search,
    successive_halving,
)
from finetune.policy import make_lookup, predict_seconds
from finetune.replay import replay_fixed, replay_reference, replay_with_refit
from finetune.simulate import Table, make_tables, simulate, start_state
from finetune.training import pad_runs

HOURS = (1, 4, 8, 16)
GRID = np.sort(np.unique(np.r_[np.geomspace(0.1, 16, 40), HOURS])) * 3600.0
BASELINES = {
    "random": random_search,
    "asha": successive_halving,
    "greedy_freeze_thaw": greedy_freeze_thaw,
}
OURS = ("refit", "no_refit_meta", "no_refit_history")
METHODS = (*BASELINES, "single_best", "zero_shot", "quick_tune_reference", *OURS)

# (name, compute) -> arrays by name; may read them from a stopped run instead
Keep = Callable[[str, Callable[[], dict[str, np.ndarray]]], dict[str, np.ndarray]]


def at_hours(regret: np.ndarray) -> np.ndarray:
    """Pick the reported hours from the last axis ``[.., G]``, giving ``[.., 4]``."""
    columns = [int(np.argmin(np.abs(GRID - 3600.0 * h))) for h in HOURS]
    return regret[..., columns]


def split_seeds(bundle: Surrogates, num_seeds: int) -> list[Surrogates]:
    """Split the members of every ensemble into one bundle per seed."""

    def part(model, seed):
        def take(x):
            size = len(x) // num_seeds
            return x[seed * size : (seed + 1) * size]

        new = {"weights": jax.tree.map(take, model.weights)}
        if hasattr(model, "evidence"):
            new["evidence"] = jax.tree.map(take, model.evidence)
        return model.replace(**new)

    learned = bundle.learned
    return [
        dataclasses.replace(
            bundle,
            learned=learned.replace(
                performance=part(learned.performance, seed),
                cost=part(learned.cost, seed),
                zero_shot=part(learned.zero_shot, seed),
            ),
        )
        for seed in range(num_seeds)
    ]


def run_baselines(tables: Table, num_seeds: int) -> dict[str, np.ndarray]:
    """Replay what needs no surrogate; regret ``[D, S, 1, G]``."""
    num_datasets = len(tables.best)
    found = {}
    for i, (name, policy) in enumerate(tqdm(BASELINES.items(), "baselines")):
        keys = jax.random.split(jax.random.key(100 + i), (num_datasets, num_seeds))
        blank = jnp.zeros(num_datasets)
        regret = simulate(policy, keys, blank, tables, jnp.asarray(GRID))
        found[name] = np.asarray(regret)[:, :, None]
    return found


def run_orders(
    seeds: Sequence[Sequence[Surrogates]], data: MetaDataset, tables: Table
) -> dict[str, np.ndarray]:
    """Train fully in the order of a score known beforehand; ``[D, S, 1, G]``.

    The first in the order is the method's one choice; the budget that is left goes to
    the next ones. The single best is a ridge regression: it has one seed.
    """
    padded, _ = pad_runs(data)
    found = {}
    for name, num in (("single_best", 1), ("zero_shot", len(seeds[0]))):
        scores = [
            getattr(bundle.learned, name).score(jnp.asarray(vectors), jnp.asarray(meta))
            for bundles, vectors, meta in zip(
                seeds, padded["vectors"], data.meta_features, strict=True
            )
            for bundle in bundles[:num]
        ]
        repeated = jax.tree.map(lambda x, num=num: jnp.repeat(x, num, axis=0), tables)
        keys = jax.random.split(jax.random.key(0), (len(scores), 1))
        regret = simulate(
            fixed_order, keys, jnp.stack(scores), repeated, jnp.asarray(GRID)
        )
        found[name] = np.asarray(regret).reshape(len(seeds), num, 1, -1)
    return found


def run_ours(
    name: str,
    seeds: Sequence[Sequence[Surrogates]],
    data: MetaDataset,
    tables: Table,
    overhead: float,
) -> dict[str, np.ndarray]:
    """Replay one of our policies, a seed with its own ensembles; ``[D, S, 2, G]``."""
    padded, _ = pad_runs(data)
    grid = jnp.asarray(GRID)
    overheads = (0.0, overhead)

    @jax.jit
    def replay(learned, vectors, meta, table):
        def seed(learned):
            key = jax.random.key(0)
            args = (learned.performance, learned.cost, vectors, meta, table)
            if name == "refit":
                return replay_with_refit(key, *args, grid, overheads)
            own = name == "no_refit_history"
            return replay_fixed(key, *args, grid, overheads, own_history=own)

        return jax.lax.map(seed, learned)

    rows = []
    for i, bundles in enumerate(tqdm(seeds, name)):
        learned = jax.tree.map(lambda *x: jnp.stack(x), *[b.learned for b in bundles])
        table = jax.tree.map(lambda x, i=i: x[i], tables)
        regret = replay(learned, padded["vectors"][i], data.meta_features[i], table)
        rows.append(np.asarray(regret))
    return {name: np.stack(rows)}


def has_reference(seeds: Sequence[Sequence[Surrogates]]) -> bool:
    """Tell whether the reference was meta-trained (its shapes fit few tables)."""
    return all(bundles[0].learned.reference_weights for bundles in seeds)


def run_reference(
    seeds: Sequence[Sequence[Surrogates]],
    data: MetaDataset,
    tables: Table,
    num_seeds: int,
    overhead: float,
) -> dict[str, np.ndarray]:
    """Replay the reference-compatible Quick-Tune; ``[D, S, 2, G]``.

    A seed decides the first configuration. Its epochs are priced by our cost surrogate,
    before any observation.
    """
    padded, _ = pad_runs(data)
    grid = jnp.asarray(GRID)

    @jax.jit
    def replay(keys, learned, vectors, meta, table):
        lookup = make_lookup(
            learned.performance, learned.cost, vectors, meta, table, False
        )
        seconds = predict_seconds(lookup, table, start_state(table, grid))
        inputs = learned.reference_scaling(vectors)

        def seed(key):
            return replay_reference(
                key,
                learned.reference_weights,
                inputs,
                meta / 1000,
                seconds,
                table,
                grid,
                (0.0, overhead),
            )

        return jax.lax.map(seed, keys)

    rows = []
    for i, bundles in enumerate(tqdm(seeds, "quick_tune_reference")):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(7), i), num_seeds)
        table = jax.tree.map(lambda x, i=i: x[i], tables)
        vectors, meta = padded["vectors"][i], data.meta_features[i]
        rows.append(np.asarray(replay(keys, bundles[0].learned, vectors, meta, table)))
    return {"quick_tune_reference": np.stack(rows)}


def run_all(
    seeds: Sequence[Sequence[Surrogates]],
    data: MetaDataset,
    num_seeds: int,
    reference_seeds: int,
    overhead: dict[str, float],
    keep: Keep,
    prefix: str = "",
) -> dict[str, np.ndarray]:
    """Replay every method on every dataset.

    Args:
        seeds: For each dataset one bundle per seed, none of which has seen it.
        data: The datasets.
        num_seeds: Seeds of the baselines.
        reference_seeds: Seeds of the reference; 0 leaves it out.
        overhead: Seconds per decision, by method.
        keep: Keeps the results of each stage.
        prefix: Of the names of the stages.

    Returns:
        Regret ``[D, seeds, overheads, G]`` by method; overhead 0 is "not counted", the
        last one "counted" (methods without a surrogate have only the first).
    """
    tables = make_tables(data)
    found = keep(f"{prefix}baselines", lambda: run_baselines(tables, num_seeds))
    found |= keep(f"{prefix}orders", lambda: run_orders(seeds, data, tables))
    for name in OURS:
        found |= keep(
            prefix + name,
            lambda name=name: run_ours(name, seeds, data, tables, overhead[name]),
        )
    if reference_seeds and not has_reference(seeds):
        print(
            "quick_tune_reference is left out: its network is made for 50 epochs, four "
            "meta-features and columns like those of the Quick-Tune tables"
        )
    elif reference_seeds:
        name = "quick_tune_reference"
        found |= keep(
            prefix + name,
            lambda: run_reference(
                seeds, data, tables, reference_seeds, overhead["quick_tune_reference"]
            ),
        )
    return {name: found[name] for name in METHODS if name in found}
