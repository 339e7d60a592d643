"""The methods that are compared in `python -m benchmarks.finetuning`."""

from __future__ import annotations

from collections.abc import Sequence

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
OURS = {"no_refit_meta": False, "no_refit_history": True}


def at_hours(regret: np.ndarray) -> np.ndarray:
    """Pick the reported hours from the last axis ``[.., G]``, giving ``[.., 4]``."""
    columns = [int(np.argmin(np.abs(GRID - 3600.0 * h))) for h in HOURS]
    return regret[..., columns]


def _seed_groups(bundle: Surrogates, num_seeds: int):
    """Split the ensemble into one group of members per seed: leading axis ``S``."""
    performance = bundle.learned.performance

    def split(x):
        return x.reshape(num_seeds, len(x) // num_seeds, *x.shape[1:])

    return jax.tree.map(split, (performance.weights, performance.evidence))


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
    bundles: Sequence[Surrogates], data: MetaDataset, tables: Table
) -> dict[str, np.ndarray]:
    """Train fully in the order of a score known beforehand; ``[D, 1, 1, G]``.

    The first in the order is the method's one choice; the budget that is left goes to
    the next ones.
    """
    padded, _ = pad_runs(data)
    orders = {"single_best": [], "zero_shot": []}
    for bundle, vectors, meta in zip(
        bundles, padded["vectors"], data.meta_features, strict=True
    ):
        for name, scores in orders.items():
            model = getattr(bundle.learned, name)
            scores.append(model.score(jnp.asarray(vectors), jnp.asarray(meta)))
    keys = jax.random.split(jax.random.key(0), (len(bundles), 1))
    found = {}
    for name, scores in orders.items():
        regret = simulate(
            fixed_order, keys, jnp.stack(scores), tables, jnp.asarray(GRID)
        )
        found[name] = np.asarray(regret)[:, :, None]
    return found


def run_ours(
    bundles: Sequence[Surrogates],
    data: MetaDataset,
    tables: Table,
    num_seeds: int,
    overhead: dict[str, float],
    with_refit: bool = True,
) -> dict[str, np.ndarray]:
    """Replay our policies, each seed with its own ensemble; ``[D, S, 2, G]``."""
    padded, _ = pad_runs(data)
    vectors = jnp.asarray(padded["vectors"])
    meta = jnp.asarray(data.meta_features)
    grid = jnp.asarray(GRID)
    names = [*OURS, *(["refit"] if with_refit else [])]
    found = {}
    for name in names:
        overheads = (0.0, overhead.get(name, 0.0))

        @jax.jit
        def replay(
            performance,
            groups,
            cost,
            vectors,
            meta,
            table,
            name=name,
            overheads=overheads,
        ):
            def seed(group):
                surrogate = performance.replace(weights=group[0], evidence=group[1])
                key = jax.random.key(0)
                args = (surrogate, cost, vectors, meta, table)
                if name == "refit":
                    return replay_with_refit(key, *args, grid, overheads)
                own = OURS[name]
                return replay_fixed(key, *args, grid, overheads, own_history=own)

            return jax.lax.map(seed, groups)

        rows = []
        for i, bundle in enumerate(tqdm(bundles, name)):
            learned = bundle.learned
            table = jax.tree.map(lambda x, i=i: x[i], tables)
            groups = _seed_groups(bundle, num_seeds)
            rows.append(
                np.asarray(
                    replay(
                        learned.performance,
                        groups,
                        learned.cost,
                        vectors[i],
                        meta[i],
                        table,
                    )
                )
            )
        found[name] = np.stack(rows)
    return found


def run_reference(
    bundles: Sequence[Surrogates],
    data: MetaDataset,
    tables: Table,
    num_seeds: int,
    overhead: float,
) -> np.ndarray:
    """Replay the reference-compatible Quick-Tune; ``[D, S, 2, G]``.

    Its epochs are priced by our cost surrogate, before any observation.
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
    for i, bundle in enumerate(tqdm(bundles, "quick_tune_reference")):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(7), i), num_seeds)
        table = jax.tree.map(lambda x, i=i: x[i], tables)
        vectors, meta = padded["vectors"][i], data.meta_features[i]
        rows.append(np.asarray(replay(keys, bundle.learned, vectors, meta, table)))
    return np.stack(rows)


def run_all(
    bundles: Sequence[Surrogates],
    data: MetaDataset,
    num_seeds: int,
    num_groups: int,
    overhead: dict[str, float],
) -> dict[str, np.ndarray]:
    """Replay every method but the reference on every dataset.

    Args:
        bundles: For each dataset the surrogates that have not seen it.
        data: The datasets.
        num_seeds: Seeds of the baselines.
        num_groups: Into how many seeds the ensembles are split.
        overhead: Seconds per decision, by method.

    Returns:
        Regret ``[D, seeds, overheads, G]`` by method; overhead 0 is "not counted", the
        last one "counted" (methods without a surrogate have only the first).
    """
    tables = make_tables(data)
    found = run_baselines(tables, num_seeds)
    found |= run_orders(bundles, data, tables)
    found |= run_ours(bundles, data, tables, num_groups, overhead)
    return found
