"""The record of past finetuning runs from which the surrogates learn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from finetune.space import Config, SearchSpace


@dataclasses.dataclass(frozen=True)
class MetaDataset:
    """Finetuning runs on several datasets, with their learning curves.

    Legend: ``N`` runs, ``H`` columns of the search space, ``T`` epochs of the budget,
    ``D`` datasets, ``M`` meta-features.

    Attributes:
        space: What the columns of ``vectors`` mean.
        vectors: Configurations, float32 ``[N, H]``, NaN where absent or inactive.
        curves: Validation accuracy in [0, 1] after each epoch, float32 ``[N, T]``, NaN
            after the last epoch of a run.
        costs: Seconds of each epoch (not cumulative), float32 ``[N, T]``, NaN where
            ``curves`` is.
        dataset: Index into ``dataset_names``, int32 ``[N]``.
        dataset_names: ``D`` names.
        meta_features: Numbers that describe a dataset, float32 ``[D, M]``.
        meta_feature_names: ``M`` names.
        source: Where it came from, used in error messages.

    Raises:
        ValueError: If anything contradicts the above; the message names the run (row)
            and the epoch (column).
    """

    space: SearchSpace
    vectors: np.ndarray
    curves: np.ndarray
    costs: np.ndarray
    dataset: np.ndarray
    dataset_names: tuple[str, ...]
    meta_features: np.ndarray
    meta_feature_names: tuple[str, ...]
    source: str = "meta-dataset"

    def __post_init__(self):
        for name in ("vectors", "curves", "costs", "meta_features"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float32))
        object.__setattr__(self, "dataset", np.asarray(self.dataset, np.int32))
        _check(self)

    @property
    def num_runs(self) -> int:
        """Number of runs ``N``."""
        return len(self.curves)

    @property
    def num_datasets(self) -> int:
        """Number of datasets ``D``."""
        return len(self.dataset_names)

    @property
    def num_epochs(self) -> int:
        """Budget ``T``: the most epochs a run may have."""
        return self.curves.shape[1]

    @property
    def lengths(self) -> np.ndarray:
        """Number of epochs that each run has, int32 ``[N]``."""
        return np.isfinite(self.curves).sum(1).astype(np.int32)

    def config(self, run: int) -> Config:
        """Return the configuration of a run as a dict."""
        return self.space.to_config(self.vectors[run])

    def select(self, runs: np.ndarray) -> MetaDataset:
        """Keep some runs (mask or indices ``[N]``); the datasets stay as they are."""
        return dataclasses.replace(
            self,
            vectors=self.vectors[runs],
            curves=self.curves[runs],
            costs=self.costs[runs],
            dataset=self.dataset[runs],
        )

    def subset(self, datasets: Sequence[int]) -> MetaDataset:
        """Keep the runs of some datasets and renumber these in the given order."""
        datasets = list(datasets)
        position = np.full(self.num_datasets, -1, np.int32)
        position[datasets] = np.arange(len(datasets))
        kept = self.select(position[self.dataset] >= 0)
        return dataclasses.replace(
            kept,
            dataset=position[kept.dataset],
            dataset_names=tuple(self.dataset_names[i] for i in datasets),
            meta_features=self.meta_features[datasets],
        )


def _check(data: MetaDataset) -> None:
    """Raise a ValueError that names source, row and column of the first fault."""
    source, curves, costs = data.source, data.curves, data.costs
    if curves.ndim != 2 or curves.shape != costs.shape:
        raise ValueError(
            f"{source}: curves and costs must both be [runs, epochs], got "
            f"{curves.shape} and {costs.shape}"
        )
    num_runs = len(curves)
    if num_runs == 0:
        raise ValueError(f"{source}: no runs")
    if data.vectors.shape != (num_runs, data.space.num_columns):
        raise ValueError(
            f"{source}: vectors must have shape "
            f"{(num_runs, data.space.num_columns)} for this search space, got "
            f"{data.vectors.shape}"
        )
    expected = (data.num_datasets, len(data.meta_feature_names))
    if data.meta_features.shape != expected:
        raise ValueError(
            f"{source}: meta_features must have shape {expected}, got "
            f"{data.meta_features.shape}"
        )
    if not np.isfinite(data.meta_features).all():
        row, column = np.argwhere(~np.isfinite(data.meta_features))[0]
        raise ValueError(
            f"{source}: meta-feature {data.meta_feature_names[column]!r} of dataset "
            f"{data.dataset_names[row]!r} is not finite"
        )
    if data.dataset.shape != (num_runs,) or (
        data.dataset.min() < 0 or data.dataset.max() >= data.num_datasets
    ):
        raise ValueError(
            f"{source}: dataset must hold one index in 0..{data.num_datasets - 1} per "
            "run"
        )
    check_values(
        curves, costs, lambda _, row, epoch: f"{source}: row {row}, epoch {epoch + 1}"
    )
    check_repetitions(
        data.vectors,
        data.dataset,
        data.curves,
        lambda first, row: f"{source}: rows {first} and {row}",
    )


def check_values(
    curves: np.ndarray, costs: np.ndarray, place: Callable[[str, int, int], str]
) -> None:
    """Check the numbers of a table.

    Args:
        curves: Accuracies ``[N, T]``.
        costs: Seconds ``[N, T]``.
        place: Says where a number is, given "curve" or "cost", its row and its column.

    Raises:
        ValueError: On the first fault, with its place.
    """
    finite = np.isfinite(curves)
    lengths = finite.sum(1)
    for row in np.flatnonzero(lengths == 0)[:1]:
        raise ValueError(f"{place('curve', row, 0)}: the curve has no finite value")
    inside = ~finite & (np.arange(curves.shape[1]) < lengths[:, None])
    for row, column in np.argwhere(inside)[:1]:
        raise ValueError(
            f"{place('curve', row, column)}: NaN inside a curve; only the epochs after "
            "a run's last one may be NaN"
        )
    for row, column in np.argwhere(finite & ((curves < 0) | (curves > 1)))[:1]:
        raise ValueError(
            f"{place('curve', row, column)}: accuracy {curves[row, column]:g} is not a "
            "fraction in [0, 1]; divide by 100 if these are percent"
        )
    bad_cost = finite & ~(np.isfinite(costs) & (costs > 0))
    for row, column in np.argwhere(bad_cost)[:1]:
        raise ValueError(
            f"{place('cost', row, column)}: {costs[row, column]:g} seconds; every "
            "recorded epoch needs a positive number of seconds"
        )


def check_repetitions(
    vectors: np.ndarray,
    dataset: np.ndarray,
    curves: np.ndarray,
    where: Callable[[int, int], str],
) -> None:
    """Raise a ValueError where the same run stands in a table twice.

    A configuration that was trained several times on a dataset, with other seeds, is
    kept as repetitions: their curves differ.

    Args:
        vectors: Configurations ``[N, H]``.
        dataset: Dataset of each run, ``[N]``.
        curves: Accuracies ``[N, T]``.
        where: Says where two rows are.
    """
    known = [np.where(np.isnan(x), -1e30, x) for x in (vectors, curves)]
    keyed = np.concatenate([dataset[:, None], *known], 1)  # absent is not zero
    _, first, inverse = np.unique(keyed, axis=0, return_index=True, return_inverse=True)
    first = first[inverse.ravel()]
    for row in np.flatnonzero(first != np.arange(len(vectors)))[:1]:
        raise ValueError(
            f"{where(int(first[row]), int(row))} are the same run (same dataset, "
            "configuration and curve)"
        )
