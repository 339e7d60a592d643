"""Tables of finetuning runs that are shipped: a meta-dataset, and what it was made of.

One npz file of arrays; search space, names and card are json in it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from finetune.meta_dataset import MetaDataset
from finetune.space import SearchSpace
from jaxrl_runs.values import PATH
from jaxrl_runs.weight_files import read_weights, write_weights

FORMAT = 1
SHIPPED = Path(__file__).parent / "shipped"
_FOLDERS = {"lm-qa": "lm_qa"}
_ARRAYS = (
    "vectors",
    "exact_match",
    "loss",
    "seconds",
    "operations",
    "dataset",
    "meta_features",
)


@dataclasses.dataclass(frozen=True)
class RunTable:
    """Finetuning runs on several datasets. ``N`` runs, ``T`` epochs.

    Attributes:
        data: Configurations, exact match and seconds of each epoch, for
            `fit_surrogates` and `Tuner`.
        losses: Held-out loss after each epoch, float32 ``[N, T]``; not finite where a
            run diverged.
        operations: Floating-point operations of an epoch, float64 ``[N]``.
        card: How it was made, and in which sizes.

    Raises:
        ValueError: If the shapes contradict the meta-dataset's.
    """

    data: MetaDataset
    losses: np.ndarray
    operations: np.ndarray
    card: dict[str, Any]

    def __post_init__(self):
        for name, expected in (
            ("losses", self.data.curves.shape),
            ("operations", self.data.curves.shape[:1]),
        ):
            found = np.shape(getattr(self, name))
            if found != expected:
                raise ValueError(f"{name} must have shape {expected}, got {found}")

    def save(self, path: str | Path) -> None:
        """Write one npz file."""
        data = self.data
        arrays = {
            "vectors": data.vectors,
            "exact_match": data.curves,
            "loss": np.asarray(self.losses, np.float32),
            "seconds": data.costs,
            "operations": np.asarray(self.operations, np.float64),
            "dataset": data.dataset,
            "meta_features": data.meta_features,
        }
        about = {
            "format_version": FORMAT,
            "space": json.loads(data.space.to_json()),
            "dataset_names": list(data.dataset_names),
            "meta_feature_names": list(data.meta_feature_names),
            "source": data.source,
            "card": self.card,
        }
        write_weights(path, arrays, about, compressed=True)

    @classmethod
    def load(cls, path: str | Path) -> RunTable:
        """Read what `save` wrote.

        Raises:
            ValueError: If there is no such file, or it is damaged or another one.
        """
        PATH.check("path", path)
        path = Path(path)
        if not path.exists():
            raise ValueError(f"{path.name}: no such table of runs")
        about, arrays = read_weights(
            path, what="a table of finetuning runs", format_version=FORMAT
        )
        wanted = {"space", "dataset_names", "meta_feature_names", "source", "card"}
        missing = sorted((set(_ARRAYS) - set(arrays)) | (wanted - set(about)))
        if missing:
            raise ValueError(f"{path.name}: missing {missing}")
        data = MetaDataset(
            space=SearchSpace.from_json(json.dumps(about["space"])),
            vectors=arrays["vectors"],
            curves=arrays["exact_match"],
            costs=arrays["seconds"],
            dataset=arrays["dataset"],
            dataset_names=tuple(about["dataset_names"]),
            meta_features=arrays["meta_features"],
            meta_feature_names=tuple(about["meta_feature_names"]),
            source=about["source"],
        )
        return cls(data, arrays["loss"], arrays["operations"], about["card"])


def load_table(name: str) -> RunTable:
    """Read a table of finetuning runs that is shipped with the package.

    Args:
        name: "lm-qa": a small language model, finetuned on eight generated
            question-answer datasets.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in _FOLDERS:
        raise ValueError(f"name must be one of {tuple(_FOLDERS)}, got {name!r}")
    return RunTable.load(SHIPPED / _FOLDERS[name] / "table.npz")
