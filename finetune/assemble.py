"""From arrays that a reader found to a meta-dataset: the step all readers share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finetune.meta_dataset import MetaDataset
from finetune.quicktune import is_quick_tune, with_conditions
from finetune.space import SearchSpace, blank_inactive, infer_space

META_NAMES = ("num_train", "num_classes", "resolution", "num_channels")


def from_percent(curves: np.ndarray, source: str, advice: str = "") -> np.ndarray:
    """Divide by 100, and refuse what can only be fractions."""
    curves = np.asarray(curves, np.float32)
    largest = np.nanmax(curves, initial=0)
    if 0 < largest <= 1:
        raise ValueError(
            f"{source} must hold percent, got {largest:g} as the largest; "
            + (advice or "multiply fractions by 100")
        )
    return curves / 100


def name_meta_features(count: int) -> tuple[str, ...]:
    """Name the meta-features of a layout that does not name them."""
    extra = tuple(f"meta_{i}" for i in range(len(META_NAMES), count))
    return META_NAMES[:count] + extra


def assemble(
    columns: Sequence[str],
    vectors: np.ndarray,
    curves: np.ndarray,
    costs: np.ndarray,
    dataset: np.ndarray,
    dataset_names: Sequence[str],
    meta_features: np.ndarray,
    meta_names: Sequence[str],
    source: str,
    space: SearchSpace | None = None,
) -> MetaDataset:
    """Infer or apply the search space, and build the meta-dataset."""
    if space is None:
        space = infer_space(columns, vectors)
        if is_quick_tune(space):
            space, vectors = with_conditions(space, vectors)
    else:
        vectors = blank_inactive(space, match_columns(space, columns, vectors))
    return MetaDataset(
        space=space,
        vectors=vectors,
        curves=curves,
        costs=costs,
        dataset=dataset,
        dataset_names=tuple(dataset_names),
        meta_features=meta_features,
        meta_feature_names=tuple(meta_names),
        source=source,
    )


def match_columns(
    space: SearchSpace, columns: Sequence[str], vectors: np.ndarray
) -> np.ndarray:
    """Lay out ``vectors [N, len(columns)]`` in the columns of another space.

    Columns are matched by name. Missing one-hot columns are 0, missing numbers NaN.
    """
    position = {column: i for i, column in enumerate(columns)}
    found = [
        vectors[:, position[column]]
        if column in position
        else np.full(len(vectors), 0.0 if column.startswith("cat:") else np.nan)
        for column in space.columns
    ]
    return np.stack(found, 1).astype(np.float32)
