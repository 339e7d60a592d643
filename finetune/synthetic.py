"""Synthetic meta-datasets that look like finetuning, for any search space.

Each meta-dataset draws how its hyperparameters act: additive effects with an interior
optimum for numbers, an effect per choice, a few interactions, and for each dataset a
deviation from these and a difficulty. A curve rises as a saturating power law from
chance level, may warm up first, may diverge, may end early; seconds per epoch follow
the size of the dataset and the configuration. The same draws serve as the prior of a
tuner that starts cold.
"""

from __future__ import annotations

import numpy as np

from finetune.assemble import META_NAMES
from finetune.meta_dataset import MetaDataset
from finetune.space import Categorical, Float, Ordinal, SearchSpace
from jaxrl_runs.values import INDEX, MANY, Like


def example_space() -> SearchSpace:
    """Return a small space with every kind of hyperparameter and a condition."""
    from finetune.space import Condition

    return SearchSpace(
        (
            Categorical("model", ("tiny", "small", "large")),
            Categorical("optimizer", ("sgd", "adamw")),
            Float("learning_rate", 1e-5, 1e-1, log=True),
            Float("momentum", 0.0, 0.99, condition=Condition("optimizer", ("sgd",))),
            Ordinal("frozen_share", (0.0, 0.25, 0.5, 0.75, 1.0)),
            Ordinal("weight_decay", (0.0, 1e-4, 1e-3, 1e-2, 1e-1), log=True),
            Ordinal("clip_norm", (1.0, 10.0), optional=True),
        )
    )


def _unit(space: SearchSpace, vectors: np.ndarray) -> np.ndarray:
    """Scale the columns of a space to about [0, 1]; absent is one half."""
    scaled, column = np.zeros(vectors.shape), 0
    for h in space.hyperparameters:
        for _ in h.columns:
            values = vectors[:, column].astype(float)
            if not isinstance(h, Categorical):
                bounds = (h.low, h.high) if isinstance(h, Float) else h.choices
                if h.log:
                    low = min(b for b in bounds if b > 0) / (
                        10 if min(bounds) <= 0 else 1
                    )
                    values = np.log(np.maximum(values, low))
                    bounds = (np.log(low), np.log(max(bounds)))
                low, high = min(bounds), max(bounds)
                values = (values - low) / max(high - low, 1e-12)
            scaled[:, column] = np.where(np.isnan(values), 0.5, values)
            column += 1
    return scaled


def make_synthetic(
    space: SearchSpace | None = None,
    num_datasets: int = 8,
    num_runs: int = 60,
    num_epochs: int = 20,
    seed: int = 0,
) -> MetaDataset:
    """Generate a meta-dataset.

    Args:
        space: Search space; None: `example_space`.
        num_datasets: Datasets.
        num_runs: Runs of each dataset.
        num_epochs: Budget.
        seed: Of the generator.
    """
    MANY.check("num_datasets", num_datasets)
    MANY.check("num_runs", num_runs)
    MANY.check("num_epochs", num_epochs)
    INDEX.check("seed", seed)
    Like("a SearchSpace", kinds=(SearchSpace,), optional=True).check("space", space)
    space = example_space() if space is None else space
    random = np.random.default_rng(seed)
    width = space.num_columns
    is_onehot = np.array([c.startswith("cat:") for c in space.columns])
    slope = random.normal(0, 1, width)
    optimum = random.uniform(0.2, 0.8, width)
    curvature = np.where(is_onehot, 0, random.gamma(1.0, 4.0, width))
    mixing = random.normal(0, 0.5 / np.sqrt(width), (width, width))
    cost_slope = random.normal(0, np.where(is_onehot, 0.7, 0.2))
    pace_slope = random.normal(0, 0.4, width)
    vectors, curves, costs, dataset, meta = [], [], [], [], []
    epochs = np.arange(1, num_epochs + 1)
    for number in range(num_datasets):
        num_train = np.exp(random.uniform(np.log(500), np.log(1e5)))
        num_classes = int(np.exp(random.uniform(np.log(5), np.log(300))))
        meta.append((num_train, num_classes, 128, 3))
        own_slope = slope + random.normal(0, 0.3, width)
        ceiling = random.uniform(0.6, 1.0)
        chance = 1 / num_classes
        seen = set()
        while len(seen) < num_runs:
            vector = space.to_vector(space.sample(random))
            if vector.tobytes() in seen:
                continue
            seen.add(vector.tobytes())
            x = _unit(space, vector[None])[0]
            quality = own_slope @ (x - 0.5) - curvature @ (x - optimum) ** 2
            quality += x @ mixing @ x + random.normal(0, 0.3)
            final = chance + (ceiling - chance) / (1 + np.exp(-1.5 - quality))
            pace = np.exp(0.5 + pace_slope @ (x - 0.5) + random.normal(0, 0.3))
            delay = random.choice([0, 0, 2, 5]) * num_epochs / 50
            progress = 1 - (1 + np.maximum(epochs - delay, 0) * pace / 3) ** -1.2
            curve = chance + (final - chance) * progress
            if random.uniform() < 0.05:  # diverges
                curve = np.where(epochs > random.integers(1, num_epochs), chance, curve)
            curve = np.clip(curve + random.normal(0, 0.008, num_epochs), 0, 1)
            base = np.exp(cost_slope @ (x - 0.5) + random.normal(0, 0.1)) * num_train
            seconds = base / 100 * np.exp(random.normal(0, 0.02, num_epochs))
            length = num_epochs
            if random.uniform() < 0.15:
                length = int(random.integers(1, num_epochs + 1))
            gone = epochs > length
            vectors.append(vector)
            curves.append(np.where(gone, np.nan, curve))
            costs.append(np.where(gone, np.nan, seconds))
            dataset.append(number)
    return MetaDataset(
        space=space,
        vectors=np.stack(vectors),
        curves=np.stack(curves),
        costs=np.stack(costs),
        dataset=np.asarray(dataset),
        dataset_names=tuple(f"synthetic_{i}" for i in range(num_datasets)),
        meta_features=np.asarray(meta, np.float32),
        meta_feature_names=META_NAMES,
        source="synthetic",
    )
