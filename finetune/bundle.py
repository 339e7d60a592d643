"""Everything that was meta-learned from one meta-dataset, with loading and saving."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization, struct, traverse_util

from finetune import gp
from finetune.encoding import Encoder
from finetune.meta_dataset import MetaDataset
from finetune.reference import (
    FIRST_BLOCK,
    NUM_EPOCHS,
    ReferenceConfig,
    ReferenceScaling,
    fit_reference_scaling,
    train_reference,
)
from finetune.space import SearchSpace
from finetune.surrogate import Surrogate
from finetune.training import TrainConfig, meta_train, pad_runs
from finetune.zero_shot import (
    RankingConfig,
    SingleBest,
    ZeroShot,
    fit_single_best,
    train_zero_shot,
)

FORMAT = 1
SHIPPED = Path(__file__).parent / "shipped"


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """Settings of everything that is meta-learned.

    Attributes:
        performance: Of the performance surrogate.
        cost: Of the cost surrogate.
        ranking: Of the zero-shot network.
        reference: Of the reference surrogate; None leaves it out, and so does a
            meta-dataset that its fixed shapes do not fit.
    """

    performance: TrainConfig = TrainConfig()  # noqa: RUF009 (frozen)
    cost: TrainConfig = TrainConfig(num_steps=500, num_members=2)  # noqa: RUF009
    ranking: RankingConfig = RankingConfig()  # noqa: RUF009
    reference: ReferenceConfig | None = ReferenceConfig()  # noqa: RUF009


class Learned(struct.PyTreeNode):
    """The arrays of a bundle.

    Attributes:
        performance: Performance surrogate.
        cost: Cost surrogate.
        zero_shot: Ranking network.
        single_best: Regression on the hyperparameters alone.
        reference_weights: Of :mod:`finetune.reference`; empty where it was left out.
        reference_scaling: Its scaling of the hyperparameters.
    """

    performance: Surrogate
    cost: Surrogate
    zero_shot: ZeroShot
    single_best: SingleBest
    reference_weights: dict
    reference_scaling: ReferenceScaling


@dataclasses.dataclass(frozen=True)
class Surrogates:
    """What :class:`finetune.Tuner` needs to know about the past.

    Attributes:
        space: The search space.
        meta_feature_names: Names of the meta-features.
        learned: The arrays.
        card: What it was learned from, by which settings.
    """

    space: SearchSpace
    meta_feature_names: tuple[str, ...]
    learned: Learned
    card: dict[str, Any]

    @property
    def num_epochs(self) -> int:
        """Budget of a run."""
        return self.learned.performance.num_epochs

    def save(self, folder: str | Path) -> None:
        """Write ``weights.npz`` and ``card.json`` (arrays and json only)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = serialization.to_state_dict(self.learned)
        flat = traverse_util.flatten_dict(state, sep="/")
        arrays = {k: np.asarray(v) for k, v in flat.items() if v is not None}
        np.savez_compressed(folder / "weights.npz", **arrays)  # type: ignore[arg-type]
        learned = self.learned
        card = {
            "format": FORMAT,
            "space": json.loads(self.space.to_json()),
            "meta_feature_names": list(self.meta_feature_names),
            "static": {
                "num_epochs": self.num_epochs,
                "absent_columns": list(learned.performance.encoder.absent_columns),
                "performance": _static(learned.performance),
                "cost": _static(learned.cost),
                "zero_shot": {"num_hidden": learned.zero_shot.num_hidden},
            },
            "card": self.card,
        }
        (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path | None = None) -> Surrogates:
        """Read a bundle; None: the one shipped with the package.

        Raises:
            ValueError: If the folder holds no bundle, or one of another format.
        """
        folder = SHIPPED if folder is None else Path(folder)
        for name in ("card.json", "weights.npz"):
            if not (folder / name).exists():
                raise ValueError(
                    f"{folder.name}: no {name} there; make a bundle with "
                    "`python -m finetune fit --data PATH --out DIR`"
                )
        card = json.loads((folder / "card.json").read_text())
        if card.get("format") != FORMAT:
            raise ValueError(
                f"card.json: format {card.get('format')!r}, expected {FORMAT}"
            )
        with np.load(folder / "weights.npz", allow_pickle=False) as file:
            flat = {key: jnp.asarray(file[key]) for key in file}
        state = traverse_util.unflatten_dict(flat, sep="/")
        return cls(
            space=SearchSpace.from_json(json.dumps(card["space"])),
            meta_feature_names=tuple(card["meta_feature_names"]),
            learned=_restore(state, card["static"]),
            card=card["card"],
        )


def _static(surrogate: Surrogate) -> dict[str, int]:
    return {
        "num_hidden": surrogate.num_hidden,
        "num_features": surrogate.num_features,
    }


def _restore(state: dict, static: dict) -> Learned:
    absent = tuple(static["absent_columns"])

    def encoder(part: dict) -> Encoder:
        return Encoder(**part.pop("encoder"), absent_columns=absent)

    def surrogate(name: str) -> Surrogate:
        part = state[name]
        return Surrogate(
            encoder=encoder(part),
            evidence=gp.Evidence(**part.pop("evidence")),
            **part,
            **static[name],
            num_epochs=static["num_epochs"],
            is_cost=name == "cost",
        )

    return Learned(
        performance=surrogate("performance"),
        cost=surrogate("cost"),
        zero_shot=ZeroShot(
            encoder=encoder(state["zero_shot"]),
            **state["zero_shot"],
            **static["zero_shot"],
        ),
        single_best=SingleBest(
            encoder=encoder(state["single_best"]), **state["single_best"]
        ),
        reference_weights=state.get("reference_weights", {}),
        reference_scaling=ReferenceScaling(**state["reference_scaling"]),
    )


def fit_surrogates(
    key: jax.Array,
    data: MetaDataset,
    config: FitConfig = FitConfig(),
    folds: Sequence[Sequence[int]] | None = None,
) -> list[Surrogates]:
    """Meta-learn everything, for each fold.

    Args:
        key: Random key.
        data: The meta-dataset.
        config: Settings.
        folds: For each fold the datasets to learn from; None: one fold, all datasets.

    Returns:
        One bundle per fold.
    """
    folds = [list(range(data.num_datasets))] if folds is None else folds
    performance_key, cost_key, ranking_key, reference_key = jax.random.split(key, 4)
    performance = meta_train(performance_key, data, config.performance, folds)
    cost = meta_train(cost_key, data, config.cost, folds, is_cost=True)
    ranking = train_zero_shot(ranking_key, data, config.ranking, folds)
    scaling = fit_reference_scaling(data)
    references: list[dict] = [{}] * len(folds)
    if config.reference is not None and fits_reference(data):
        references = _fit_references(reference_key, data, scaling, config, folds)
    found = []
    for i, fold in enumerate(folds):
        learned = Learned(
            performance=performance[i],
            cost=cost[i],
            zero_shot=ranking[i],
            single_best=fit_single_best(data.subset(fold)),
            reference_weights=references[i],
            reference_scaling=scaling,
        )
        card = {
            "source": data.source,
            "datasets": [data.dataset_names[d] for d in fold],
            "num_runs": int(np.isin(data.dataset, list(fold)).sum()),
            "settings": dataclasses.asdict(config),
        }
        found.append(Surrogates(data.space, data.meta_feature_names, learned, card))
    return found


def fits_reference(data: MetaDataset) -> bool:
    """Tell whether the reference's fixed shapes (50 epochs, 4 features) apply."""
    return (
        data.num_epochs == NUM_EPOCHS
        and data.meta_features.shape[1] == 4
        and data.space.num_columns > FIRST_BLOCK
    )


def _fit_references(key, data, scaling, config, folds) -> list[dict]:
    """Meta-train the reference on each fold, one after the other in one program."""
    padded, index = pad_runs(data)
    weights = np.zeros((len(folds), data.num_datasets), np.float32)
    for row, fold in zip(weights, folds, strict=True):
        row[list(fold)] = 1 / len(fold)
    curves, lengths = jnp.asarray(padded["curves"]), jnp.asarray(padded["lengths"])
    inputs = scaling(jnp.asarray(padded["vectors"]))
    meta = jnp.asarray(data.meta_features)
    count = jnp.asarray((index >= 0).sum(1))

    def one(x):
        return train_reference(
            x[0], inputs, curves, lengths, meta, count, x[1], config.reference
        )

    keys = jax.random.split(key, len(folds))
    trained = jax.jit(lambda x: jax.lax.map(one, x))((keys, jnp.asarray(weights)))
    return [jax.tree.map(lambda x, i=i: x[i], trained) for i in range(len(folds))]
