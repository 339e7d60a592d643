"""Readers of published meta-datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from finetune.meta_dataset import MetaDataset
from finetune.quicktune import with_conditions
from finetune.space import infer_space

_NPZ_KEYS = (
    "perf_top1_percent",
    "cost_seconds",
    "hp",
    "hp_names",
    "dataset",
    "dataset_names",
    "meta_features",
)
_META_NAMES = ("num_train", "num_classes", "resolution", "num_channels")


def read_npz(path: str | Path) -> MetaDataset:
    """Read a table in the npz layout of the Quick-Tune "extended" meta-dataset.

    Keys: ``perf_top1_percent [N, T]`` (NaN after the last epoch), ``cost_seconds
    [N, T]``, ``hp [N, H]`` with ``hp_names`` (``cat:<name>:<choice>`` for one-hot
    columns; -1 where a numeric hyperparameter is absent), ``dataset [N]`` into
    ``dataset_names``, ``meta_features [D, M]``.

    Raises:
        ValueError: On missing keys or anything a :class:`MetaDataset` refuses.
    """
    path = Path(path)
    with np.load(path, allow_pickle=False) as file:
        missing = [key for key in _NPZ_KEYS if key not in file]
        if missing:
            raise ValueError(f"{path.name}: missing arrays {missing}")
        table = {key: file[key] for key in _NPZ_KEYS}
    columns = [str(name) for name in table["hp_names"]]
    vectors = np.asarray(table["hp"], np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != len(columns):
        raise ValueError(
            f"{path.name}: hp has shape {vectors.shape}, expected one column for each "
            f"of the {len(columns)} hp_names"
        )
    vectors = np.where(vectors == -1, np.nan, vectors)
    space, vectors = with_conditions(infer_space(columns, vectors), vectors)
    num_meta = table["meta_features"].shape[1]
    names = _META_NAMES[:num_meta] + tuple(
        f"meta_{i}" for i in range(len(_META_NAMES), num_meta)
    )
    return MetaDataset(
        space=space,
        vectors=vectors,
        curves=table["perf_top1_percent"] / 100,
        costs=table["cost_seconds"],
        dataset=table["dataset"],
        dataset_names=tuple(str(name) for name in table["dataset_names"]),
        meta_features=table["meta_features"],
        meta_feature_names=names,
        source=path.name,
    )
