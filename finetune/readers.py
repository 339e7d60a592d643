"""Readers of tables of past runs: which layout is it, and does it fit surrogates?

Every reader raises a ValueError that names the file, and the row and column where
there is one; accuracies given in percent are refused unless ``percent=True``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from finetune.csv_tables import read_csv
from finetune.json_tables import is_json_layout, read_json
from finetune.meta_dataset import MetaDataset
from finetune.npz_tables import read_npz
from finetune.space import SearchSpace
from jaxrl_runs.values import FLAG, PATH
from jaxrl_runs.warn import warn_user

__all__ = ["read", "read_csv", "read_for", "read_json", "read_npz"]

_LAYOUTS = """the layouts that are read are
  NAME.npz with perf_top1_percent, cost_seconds, hp, hp_names, dataset, ...
  DIR/config.csv, curve.csv, cost.csv, meta.csv (quicktunetool)
  DIR/table.csv, curves/eval_top1.json, curves/cost.json, meta/descriptors.json
  DIR/eval_top1.json, eval_time.json, train_time.json, args.json (Quick-Tune's set),
    with meta-features.json there or in ../dataset-meta-features/*/
  NAME.json {dataset: {run: {"config": {..}, "results": {..}}}} (LCBench)"""


def read(path: str | Path, percent: bool = True) -> MetaDataset:
    """Read a meta-dataset, in whichever layout it is.

    Args:
        path: File or folder.
        percent: Whether the accuracies of ``curve.csv`` are percent; the other layouts
            always hold percent.

    Raises:
        ValueError: If it is in none of the layouts, or damaged.
    """
    PATH.check("path", path)
    FLAG.check("percent", percent)
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path.name}: no such file or folder")
    if path.is_file():
        if path.suffix == ".json":
            return read_json(path)
        if path.suffix != ".npz":
            raise ValueError(
                f"path must be an .npz or .json file or a folder, got {path.name}; "
                + _LAYOUTS
            )
        return read_npz(path)
    if (path / "config.csv").exists():
        return read_csv(path, percent=percent)
    if is_json_layout(path):
        return read_json(path)
    return read_npz(_only_table(path))


def read_for(
    space: SearchSpace, meta_feature_names: Sequence[str], path: str | Path
) -> MetaDataset:
    """Read an npz table for surrogates that were fitted on another one.

    Datasets without runs are left out. Warns where the table has hyperparameters that
    the surrogates do not know, or lacks some that they do.

    Args:
        space: Search space of the surrogates.
        meta_feature_names: Their meta-features.
        path: The file, or a folder with one.

    Raises:
        ValueError: If it is no such table, or has other meta-features.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path.name}: no such file or folder")
    path = _only_table(path) if path.is_dir() else path
    with np.load(path, allow_pickle=False) as file:
        columns = [str(n) for n in file["hp_names"]] if "hp_names" in file else []
        known = set(columns) & set(space.columns)
        if columns and len(known) < len(space.columns) / 2:
            raise ValueError(
                f"{path.name}: a table of another search space: only {len(known)} of "
                f"the surrogates' {len(space.columns)} columns are among its hp_names"
            )
    data = read_npz(path, space=space)
    if data.meta_features.shape[1] != len(meta_feature_names):
        raise ValueError(
            f"{path.name}: meta-features must be {list(meta_feature_names)}, got "
            f"{data.meta_features.shape[1]} of them"
        )
    with np.load(path, allow_pickle=False) as file:
        unknown = [n not in known for n in columns]
        num_unknown = int((file["hp"][:, unknown] > 0).any(1).sum())
    lacking = [n for n in space.columns if n not in known and n[:4] != "cat:"]
    if num_unknown or lacking:
        warn_user(
            f"{path.name}: {num_unknown} of {data.num_runs} runs have choices or "
            f"hyperparameters that the surrogates do not know; lacking: {lacking}",
        )
    return data.subset(np.unique(data.dataset).tolist())


def _only_table(folder: Path) -> Path:
    """Find the one npz table of a folder."""
    tables = [table for table in sorted(folder.glob("*.npz")) if _is_table(table)]
    if len(tables) != 1:
        listed = sorted(entry.name for entry in folder.iterdir())[:8]
        raise ValueError(
            f"{folder.name} holds {len(tables)} npz tables "
            f"({[table.name for table in tables]}) and none of the other layouts "
            f"(found {listed}): expected config.csv or one of; {_LAYOUTS}"
        )
    return tables[0]


def _is_table(path: Path) -> bool:
    with np.load(path, allow_pickle=False) as file:
        return "perf_top1_percent" in file
