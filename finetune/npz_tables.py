"""Reader of the npz layout of the Quick-Tune "extended" meta-dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from finetune.assemble import assemble, from_percent, name_meta_features
from finetune.meta_dataset import MetaDataset
from finetune.space import SearchSpace
from jaxrl_runs.values import PATH
from jaxrl_runs.weight_files import read_weights

_NPZ_KEYS = (
    "perf_top1_percent",
    "cost_seconds",
    "hp",
    "hp_names",
    "dataset",
    "dataset_names",
    "meta_features",
)


def read_npz(path: str | Path, space: SearchSpace | None = None) -> MetaDataset:
    """Read a table in the npz layout of the Quick-Tune "extended" meta-dataset.

    Keys: ``perf_top1_percent [N, T]`` (NaN after the last epoch), ``cost_seconds
    [N, T]``, ``hp [N, H]`` with ``hp_names`` (``cat:<name>:<choice>`` for one-hot
    columns; -1 where a numeric hyperparameter is absent), ``dataset [N]`` into
    ``dataset_names``, ``meta_features [D, M]``.

    Args:
        path: The file.
        space: Lay the hyperparameters out for this space instead of inferring one:
            columns are matched by name, those it does not have are left out, those
            that the file does not have are absent.
    """
    PATH.check("path", path)
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path.name}: no such npz file, or not one")
    _, table = read_weights(path, what="a table of finetuning runs")
    missing = [key for key in _NPZ_KEYS if key not in table]
    if missing:
        raise ValueError(f"{path.name}: missing arrays {missing}")
    columns = [str(name) for name in table["hp_names"]]
    vectors = np.asarray(table["hp"], np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != len(columns):
        raise ValueError(
            f"{path.name}: hp, of shape {vectors.shape}, must have one column for each "
            f"of the {len(columns)} hp_names"
        )
    meta_features = np.asarray(table["meta_features"], np.float32)
    return assemble(
        columns,
        np.where(vectors == -1, np.nan, vectors),
        from_percent(table["perf_top1_percent"], f"{path.name}: perf_top1_percent"),
        table["cost_seconds"],
        table["dataset"],
        [str(name) for name in table["dataset_names"]],
        meta_features,
        name_meta_features(meta_features.shape[-1]),
        path.name,
        space,
    )
