"""The table of language models: loss at the largest size from the first k sizes."""

from __future__ import annotations

import csv
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import curve_fit

from finetune import Categorical, Float, MetaDataset, MetaTrainConfig, SearchSpace
from finetune.training import Examples, make_runs, meta_train, predict_examples


def read_language_models(folder: Path) -> MetaDataset:
    """Read loss against training-set size of 30 LLMs on three tasks.

    The 15 sizes take the place of epochs, exp(-loss) that of accuracy, the size that
    of seconds; the only hyperparameters are family and number of parameters.
    """
    tables = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="") as file:
            tables[path.stem] = list(csv.DictReader(file))
    sizes = [c for c in next(iter(tables.values()))[0] if c.isdigit()]
    families = sorted({row["family"] for rows in tables.values() for row in rows})
    space = SearchSpace(
        (
            Categorical("family", tuple(families)),
            Float("num_parameters", 1e7, 1e12, log=True),
        )
    )
    vectors, curves, dataset = [], [], []
    for i, rows in enumerate(tables.values()):
        for row in rows:
            # some sizes occur twice: a relative 1e-4 keeps the models apart
            size = float(row["size"]) * (1 + 1e-4 * len(vectors))
            config = {"family": row["family"], "num_parameters": size}
            vectors.append(space.to_vector(config))
            curves.append([np.exp(-float(row[s])) for s in sizes])
            dataset.append(i)
    curves = np.asarray(curves)
    seconds = np.broadcast_to(np.maximum(np.array(sizes, float), 100), curves.shape)
    meta = np.array(
        [curves[np.array(dataset) == i, 0].mean() for i in range(len(tables))]
    )
    return MetaDataset(
        space,
        np.stack(vectors),
        curves,
        seconds,
        np.asarray(dataset),
        tuple(tables),
        meta[:, None],
        ("mean_initial_likelihood",),
        "llm_finetune_scaling",
    )


def _power_law(sizes: np.ndarray, losses: np.ndarray, target: float) -> float:
    """Fit loss = floor + scale * size^-exponent and extrapolate."""

    def law(log_size, floor, log_scale, exponent):
        return floor + np.exp(log_scale - exponent * log_size)

    logs = np.log(sizes)
    try:
        found = curve_fit(
            law,
            logs,
            losses,
            p0=(0.5 * losses[-1], np.log(0.5 * losses[0]), 0.1),
            bounds=([0, -10, 0], [losses[-1], 10, 2]),
            maxfev=5000,
        )[0]
    except RuntimeError:
        return float(losses[-1])
    return float(law(np.log(target), *found))


def language_model_table(folder: Path, num_members: int = 5) -> dict:
    """Predict the loss at the largest size from the first k sizes, per left-out task.

    Returns:
        ``[task][k][method]`` with root mean squared error and Pearson correlation.
    """
    data = read_language_models(folder)
    sizes = np.maximum(data.costs[0], 100)
    num_sizes = data.num_epochs
    folds = [
        [j for j in range(data.num_datasets) if j != i]
        for i in range(data.num_datasets)
    ]
    config = MetaTrainConfig(
        num_steps=1000, num_tasks=2, num_context=8, num_members=num_members
    )
    models = meta_train(jax.random.key(5), data, config, folds)
    runs, vectors = make_runs(data)
    found: dict = {}
    for i, name in enumerate(data.dataset_names):
        losses = -np.log(np.asarray(runs.curves[i]))
        truth = losses[:, -1]
        inputs = models[i].encoder(vectors, data.meta_features[:, None, :])
        found[name] = {}
        for k in (4, 6, 8, 10, 12):
            num = len(truth)
            at = Examples(
                jnp.full(num, i),
                jnp.arange(num),
                jnp.full(num, k),
                jnp.full(num, num_sizes),
            )
            mean = jax.vmap(
                lambda w, m=models[i], x=inputs, a=at: (
                    predict_examples(m, w, x, runs, a)[0].mean
                )
            )(models[i].weights)
            likelihood = np.clip(np.asarray(mean.mean(0)), 1e-4, 1)
            known = slice(1, k)  # size 0 has no logarithm
            rows = {
                "ours": -np.log(likelihood),
                "power_law": np.array(
                    [_power_law(sizes[known], row[known], sizes[-1]) for row in losses]
                ),
                "persistence": losses[:, k - 1],
            }
            found[name][str(k)] = {
                method: {
                    "rmse": float(np.sqrt(np.mean((guess - truth) ** 2))),
                    "pearson": float(np.corrcoef(guess, truth)[0, 1]),
                }
                for method, guess in rows.items()
            }
    return found
