"""Everything that was meta-learned from one meta-dataset, with loading and saving."""

from __future__ import annotations

import dataclasses
import hashlib
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
from finetune.surrogate import Surrogate, init_weights
from finetune.training import MetaTrainConfig, meta_train, pad_runs
from finetune.zero_shot import (
    RankingConfig,
    SingleBest,
    ZeroShot,
    fit_single_best,
    train_zero_shot,
)
from jaxrl_runs.values import Like, as_key
from jaxrl_runs.weight_files import (
    check_arrays,
    read_weights,
    write_text,
    write_weights,
)

FORMAT = 1
SHIPPED = Path(__file__).parent / "shipped"
_FOLDERS = {"quick-tune-extended": SHIPPED, "lm-qa": SHIPPED / "lm_qa"}


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

    performance: MetaTrainConfig = MetaTrainConfig()  # noqa: RUF009 (frozen)
    cost: MetaTrainConfig = MetaTrainConfig(num_steps=500, num_members=2)  # noqa: RUF009
    ranking: RankingConfig = RankingConfig()  # noqa: RUF009
    reference: ReferenceConfig | None = ReferenceConfig()  # noqa: RUF009

    def __post_init__(self):
        for name, kind in (
            ("performance", MetaTrainConfig),
            ("cost", MetaTrainConfig),
            ("ranking", RankingConfig),
            ("reference", ReferenceConfig),
        ):
            rule = Like(
                f"a {kind.__name__}", kinds=(kind,), optional=name == "reference"
            )
            rule.check(f"FitConfig.{name}", getattr(self, name))


class LearnedArrays(struct.PyTreeNode):
    """The arrays of a bundle.

    Attributes:
        performance: Performance surrogate.
        cost: Cost surrogate.
        zero_shot: Ranking network.
        single_best: Regression on the hyperparameters alone.
        reference_weights: Of `finetune.reference`; empty where it was left out.
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
    """What `finetune.Tuner` needs to know about the past.

    Attributes:
        space: The search space.
        meta_feature_names: Names of the meta-features.
        learned: The arrays.
        card: What it was learned from, by which settings.
    """

    space: SearchSpace
    meta_feature_names: tuple[str, ...]
    learned: LearnedArrays
    card: dict[str, Any]

    def __repr__(self) -> str:
        """What it chooses among, and by what; not its weights."""
        names = ", ".join(self.meta_feature_names)
        return (
            f"Surrogates({self.space.num_columns} columns, runs of {self.num_epochs} "
            f"epochs, meta-features {names})"
        )

    @property
    def num_epochs(self) -> int:
        """Budget of a run."""
        return self.learned.performance.num_epochs

    def save(self, folder: str | Path) -> None:
        """Write ``weights.npz`` and ``card.json`` (arrays and json only)."""
        folder = Path(folder)
        text = json.dumps(self._card(), indent=1) + "\n"
        write_weights(
            folder / "weights.npz",
            _flatten(self.learned),
            {"format_version": FORMAT, "card_sha256": _sha256(text)},
            compressed=True,
        )
        write_text(folder / "card.json", text)

    def _card(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "space": json.loads(self.space.to_json()),
            "meta_feature_names": list(self.meta_feature_names),
            "static": self._statics(),
            "card": self.card,
        }

    def _statics(self) -> dict[str, Any]:
        learned = self.learned
        return {
            "num_epochs": self.num_epochs,
            "absent_columns": list(learned.performance.encoder.absent_columns),
            "performance": _static(learned.performance),
            "cost": _static(learned.cost),
            "zero_shot": {"num_hidden": learned.zero_shot.num_hidden},
        }

    @classmethod
    def load(cls, folder: str | Path | None = None) -> Surrogates:
        """Read a bundle; None: the one shipped with the package.

        Raises:
            ValueError: If the folder holds no bundle, one of another format, or a
                damaged one.
        """
        folder = SHIPPED if folder is None else Path(folder)
        is_shipped = folder in _FOLDERS.values()
        for name in ("card.json", "weights.npz"):
            if not (folder / name).exists():
                advice = (
                    "the package is installed without its data"
                    if is_shipped
                    else f"finetune.load({folder.name!r}) has the shipped ones"
                    if folder.name in _FOLDERS
                    else "make a bundle with `python -m finetune fit --data PATH --out "
                    "DIR`"
                )
                raise ValueError(f"{folder.name}: no {name} there; {advice}")
        card = _read_card(folder / "card.json")
        metadata, flat = read_weights(folder / "weights.npz", what="surrogates")
        text = (folder / "card.json").read_text()
        if metadata.get("card_sha256", _sha256(text)) != _sha256(text):
            raise ValueError(
                f"{folder.name}: weights.npz and card.json are of different fits, as "
                "one of them was interrupted as it was saved; fit again"
            )
        space = SearchSpace.from_json(json.dumps(card["space"]))
        state = traverse_util.unflatten_dict(
            {key: jnp.asarray(value) for key, value in flat.items()}, sep="/"
        )
        try:
            learned = _restore(state, card["static"])
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{folder.name}/weights.npz: arrays are missing or unknown ({error})"
            ) from None
        _check_shapes(folder / "weights.npz", flat, learned, space)
        names = tuple(card["meta_feature_names"])
        return cls(space, names, learned, card["card"])


def available() -> tuple[str, ...]:
    """Names of the surrogates that are shipped, for `load`."""
    return tuple(_FOLDERS)


def load(name: str) -> Surrogates:
    """Load shipped surrogates by name.

    Raises:
        ValueError: If there are none of that name.
    """
    if name not in available():
        raise ValueError(f"name must be one of {available()}, got {name!r}")
    return Surrogates.load(_FOLDERS[name])


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"card.json: cannot be read as json ({error})") from None
    found = card.get("format") if isinstance(card, dict) else None
    if found != FORMAT:
        raise ValueError(f"card.json: format must be {FORMAT}, got {found!r}")
    missing = {"space", "static", "meta_feature_names", "card"} - set(card)
    if missing:
        raise ValueError(f"card.json: missing keys {sorted(missing)}")
    return card


def _flatten(learned: LearnedArrays) -> dict[str, np.ndarray]:
    flat = traverse_util.flatten_dict(serialization.to_state_dict(learned), sep="/")
    return {k: np.asarray(v) for k, v in flat.items() if v is not None}


def _expected(surrogate: Surrogate, name: str) -> dict[str, Any]:
    """Shapes of a surrogate's weights and evidence, by the name of the array."""
    members = len(jax.tree.leaves(surrogate.weights)[0])
    size = surrogate.num_features

    def make():
        keys = jax.random.split(jax.random.key(0), members)
        return {
            "weights": jax.vmap(lambda key: init_weights(key, surrogate))(keys),
            "evidence": {
                "precision": jnp.zeros((members, size, size)),
                "shift": jnp.zeros((members, size)),
            },
        }

    return traverse_util.flatten_dict({name: jax.eval_shape(make)}, sep="/")


def _check_shapes(
    path: Path, arrays: dict, learned: LearnedArrays, space: SearchSpace
) -> None:
    """Compare the arrays with what networks of the card's sizes would have."""
    expected = _expected(learned.performance, "performance")
    expected |= _expected(learned.cost, "cost")
    check_arrays(path, {k: v for k, v in arrays.items() if k in expected}, expected)
    columns = (space.num_columns,)
    for name, array in arrays.items():
        is_column = name.endswith(("encoder/log", "encoder/mean", "encoder/scale"))
        if is_column and array.shape != columns:
            raise ValueError(
                f"{path.name}: {name} must have shape {columns}, got {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{path.name}: {name} must be finite, got NaN or infinity")


def _static(surrogate: Surrogate) -> dict[str, int]:
    return {
        "num_hidden": surrogate.num_hidden,
        "num_features": surrogate.num_features,
    }


def _restore(state: dict, static: dict) -> LearnedArrays:
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

    return LearnedArrays(
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
    key: jax.Array | int,
    data: MetaDataset,
    config: FitConfig = FitConfig(),
    folds: Sequence[Sequence[int]] | None = None,
) -> list[Surrogates]:
    """Meta-learn everything, for each fold.

    Args:
        key: A PRNG key or a seed.
        data: The meta-dataset.
        config: Settings.
        folds: For each fold the datasets to learn from; None: one fold, all datasets.

    Returns:
        One bundle per fold.
    """
    key = as_key(key)
    Like("a MetaDataset, as finetune.read gives it", kinds=(MetaDataset,)).check(
        "data", data
    )
    Like("a FitConfig", kinds=(FitConfig,)).check("config", config)
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
        learned = LearnedArrays(
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
