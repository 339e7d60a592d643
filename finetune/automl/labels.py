"""Labels: one class per row, or any number of labels per row."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy.stats import rankdata

_SHOWN = 5  # Classes in a message.


@dataclasses.dataclass(frozen=True)
class Labels:
    """Labels as numbers.

    Attributes:
        names: Of the classes, or of the labels, in the order of the probabilities.
        y: Class of each row, int ``[n]``; or which labels it has, bool ``[n, labels]``.
    """

    names: np.ndarray
    y: np.ndarray

    @property
    def several(self) -> bool:
        """Whether a row has any number of labels."""
        return self.y.ndim == 2


def encode_labels(labels: Any, names: Any = None) -> Labels:
    """Number the labels.

    Args:
        labels: One per row, ``[n]``; or several: 0 and 1, ``[n, labels]``, or a list of
            sets (lists, tuples) of names.
        names: Of the columns of 0 and 1.

    Raises:
        ValueError: If there are fewer than two classes with two rows or more each, or a
            label that fewer than two rows have, or fewer than two have not.
    """
    if _are_sets(labels):
        return _from_sets(labels)
    _refuse_missing(labels)
    found = np.asarray(labels)
    if found.ndim == 2:
        return _from_matrix(found, names)
    if found.ndim != 1:
        raise ValueError(f"y must be [n] or [n, labels], got shape {found.shape}")
    classes, y = np.unique(found, return_inverse=True)
    if len(classes) < 2 or np.bincount(y).min() < 2:
        counts = dict(zip(classes.tolist(), np.bincount(y).tolist(), strict=True))
        rare = sorted(counts.items(), key=lambda item: item[1])[:_SHOWN]
        more = f" and {len(counts) - _SHOWN} others" * (len(counts) > _SHOWN)
        raise ValueError(
            "labels must be of two classes or more, with two rows or more each (and "
            f"numbers that vary freely are no classes), got {dict(rare)}{more}"
        )
    return Labels(classes, y)


def _refuse_missing(labels: Any) -> None:
    """Raises ValueError for rows without a label."""
    flat = np.asarray(labels, object).ravel()
    missing = [
        each is None
        or (isinstance(each, float | np.floating) and np.isnan(each))
        or (isinstance(each, str) and not each.strip())
        for each in flat.tolist()
    ]
    if any(missing):
        raise ValueError(
            f"labels are missing in {sum(missing)} of {len(flat)} rows: leave these "
            "rows out, or put them into the test rows"
        )


def _are_sets(rows: Any) -> bool:
    """Whether each row is a set (list, tuple) of names, not of zeros and ones."""
    kinds = (set, frozenset, list, tuple)
    if not isinstance(rows, (list, tuple)) or not rows:
        return False
    if not all(isinstance(row, kinds) for row in rows):
        return False
    numbers = (bool, int, float, np.generic)
    return isinstance(rows[0], (set, frozenset)) or not all(
        isinstance(cell, numbers) and not isinstance(cell, str)
        for row in rows
        for cell in row
    )


def _from_sets(rows: Any) -> Labels:
    names = sorted({name for row in rows for name in row}, key=str)
    has = np.array([[name in row for name in names] for row in rows], bool)
    return _from_matrix(has.reshape(len(rows), len(names)), names)


def _from_matrix(matrix: np.ndarray, names: Any) -> Labels:
    if matrix.shape[1] == 0 or not np.isin(matrix, (0, 1)).all():
        raise ValueError(
            "y of shape [n, labels] must hold 0 and 1, one column or more, got "
            f"shape {matrix.shape} and {np.unique(matrix)[:5].tolist()}"
        )
    y = matrix.astype(bool)
    names = np.arange(y.shape[1]) if names is None else np.asarray(names)
    if names.shape != (y.shape[1],):
        raise ValueError(f"names must have shape ({y.shape[1]},), got {names.shape}")
    count = y.sum(0)
    rare = (count < 2) | (count > len(y) - 2)
    if rare.any():
        found = dict(zip(names[rare].tolist(), count[rare].tolist(), strict=True))
        raise ValueError(
            f"each label must be there in two rows or more and missing in two or more "
            f"of {len(y)}, got {found}"
        )
    return Labels(names, y)


def decide(names: np.ndarray, probabilities: np.ndarray, several: bool) -> np.ndarray:
    """The likeliest class ``[m]``, or labels of one half or more, bool ``[m, labels]``.

    Args:
        names: Of the classes or labels.
        probabilities: ``[m, classes]`` or ``[m, labels]``.
        several: Whether a row has any number of labels.
    """
    return probabilities >= 0.5 if several else names[probabilities.argmax(1)]


def score(probabilities: np.ndarray, y: np.ndarray) -> float:
    """Accuracy; for several labels the mean area under their ROC curves.

    A label that all rows have, or none, is left out of the mean.

    Args:
        probabilities: ``[n, classes]`` or ``[n, labels]``.
        y: int ``[n]``; or 0 and 1, ``[n, labels]``.
    """
    if y.ndim == 1:
        return float((probabilities.argmax(1) == y).mean())
    areas = []
    for p, has in zip(probabilities.T, y.T.astype(bool), strict=True):
        if 0 < has.sum() < len(has):
            ranks = rankdata(p)[has]
            pairs = has.sum() * (len(has) - has.sum())
            areas.append((ranks.sum() - has.sum() * (has.sum() + 1) / 2) / pairs)
    return float(np.mean(areas)) if areas else float("nan")
