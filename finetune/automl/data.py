"""Tables: csv files, arrays, and their columns as standardised numbers.

A csv file has a header; its label column is called ``label`` or ``target``, or is the
last one. An npz file holds ``x`` ``[n, ...]`` and ``y`` ``[n]`` (or ``images`` and
``labels``); nothing is ever unpickled.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_LABELS = ("label", "target", "class", "y")
_DELIMITERS = (",", ";", "\t")
_MAX_CATEGORIES = 30
_MISSING = ("", "na", "nan", "null", "none", "?")


@dataclasses.dataclass(frozen=True)
class RawTable:
    """What a file holds.

    Attributes:
        columns: By name: numbers ``[n]`` float64 with NaN where missing, or words.
        labels: ``[n]`` of any kind, or 0 and 1, ``[n, labels]``; None where the file
            has none.
        label_names: Of the columns of 0 and 1.
        label_column: Names of the columns that the labels were read from.
    """

    columns: dict[str, np.ndarray]
    labels: np.ndarray | None
    label_names: tuple[str, ...] | None = None
    label_column: tuple[str, ...] = ()

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))


def read_table(
    path: str | Path, label: str | Sequence[str] | None = None, optional: bool = False
) -> RawTable:
    """Read a csv or npz file.

    Args:
        path: The file.
        label: Name of the label column of a csv file, or names of several columns of
            0 and 1.
        optional: Whether such columns may be missing; there are no labels then.

    Raises:
        ValueError: If it cannot be read, or holds no rows.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: there is no such file or folder")
    if path.suffix == ".npz":
        return from_arrays(*read_arrays(path))
    if path.suffix in (".csv", ".tsv"):
        return _read_csv(path, label, optional)
    raise ValueError(f"{path.name}: must be a .csv or a .npz file")


def from_arrays(x: Any, y: Any = None) -> RawTable:
    """Take arrays ``[n, ...]`` and labels ``[n]``; what has more axes is flattened.

    Raises:
        ValueError: If they do not fit each other.
    """
    x = np.asarray(x)
    if x.ndim < 2 or len(x) == 0 or not np.issubdtype(x.dtype, np.number):
        raise ValueError(
            f"x must be numbers [n, ...] with a row or more, got {x.dtype} {x.shape}"
        )
    if y is not None and np.shape(y) != (len(x),):
        raise ValueError(f"y must have shape ({len(x)},), got {np.shape(y)}")
    flat = x.reshape(len(x), -1).astype(float)
    columns = {f"x{i}": flat[:, i] for i in range(flat.shape[1])}
    return RawTable(columns, None if y is None else np.asarray(y))


def read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """What an npz file holds: x ``[n, ...]``, and labels where it has them.

    Raises:
        ValueError: If it cannot be read, or has no such arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name}: cannot be read ({error})") from None
    for x, y in (("x", "y"), ("X", "y"), ("images", "labels")):
        if x in arrays:
            return arrays[x], arrays.get(y)
    raise ValueError(
        f"{path.name}: must hold x and y, or images and labels, got {sorted(arrays)}"
    )


def _read_csv(path: Path, label, optional: bool) -> RawTable:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(_DELIMITERS, key=first.count)  # A comma where none is.
            rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path.name}: cannot be read ({error})") from None
    if len(rows) < 2:
        raise ValueError(f"{path.name}: must hold a header and a row or more")
    names, rows = [name.strip() for name in rows[0]], rows[1:]
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise ValueError(
                f"{path.name}, row {number + 2}: must have {len(names)} cells, got "
                f"{len(row)}"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"{path.name}: column names must differ, got {names}")
    columns = dict(zip(names, np.array(rows).T, strict=True))
    wanted = _label_columns(names, label, optional)
    taken = [(name, columns.pop(name)) for name in wanted if name in columns]
    if not columns:
        raise ValueError(f"{path.name}: no column beside the labels")
    read = {name: _column(cells) for name, cells in columns.items()}
    if optional or not taken:
        return RawTable(read, None, None, wanted)
    if len(taken) == 1:
        return RawTable(read, np.char.strip(taken[0][1]), None, wanted)
    labels = np.stack([_flags(path, name, cells) for name, cells in taken], 1)
    return RawTable(read, labels, wanted, wanted)


def _label_columns(names: list[str], label, optional: bool) -> tuple[str, ...]:
    """Those that are asked for, or one whose name says so, or none."""
    if label is None:
        by_name = {name.lower(): name for name in reversed(names)}
        return tuple(by_name[word] for word in _LABELS if word in by_name)[:1]
    wanted = (label,) if isinstance(label, str) else tuple(label)
    for name in wanted:
        if name not in names and not optional:
            raise ValueError(f"label must be one of {names}, got {name!r}")
    return wanted


def _flags(path: Path, name: str, cells: np.ndarray) -> np.ndarray:
    """A label column of 0 and 1 (or true and false)."""
    words = np.char.lower(np.char.strip(cells))
    is_set = np.isin(words, ("1", "1.0", "true"))
    if not (is_set | np.isin(words, ("0", "0.0", "false"))).all():
        raise ValueError(
            f"{path.name}, column {name!r}: one of several labels must be 0 or 1, got "
            f"{sorted(set(words.tolist()))[:5]}"
        )
    return is_set


def _column(cells: np.ndarray) -> np.ndarray:
    """Numbers where all cells are numbers or missing, words otherwise."""
    cells = np.char.strip(cells)
    is_missing = np.isin(np.char.lower(cells), _MISSING)
    try:
        return np.where(is_missing, "nan", cells).astype(float)
    except ValueError:
        return np.where(is_missing, "", cells)


class Encoder:
    """Turns columns into standardised numbers, as learned from training rows.

    Missing numbers become the median, with a column that says so; words become one
    column per word (rare ones share a column).

    Args:
        table: The training rows.
    """

    def __init__(self, table: RawTable):
        self._numbers: dict[str, tuple[float, bool]] = {}
        self._words: dict[str, list[str]] = {}
        for name, values in table.columns.items():
            if np.issubdtype(values.dtype, np.number):
                known = values[np.isfinite(values)]
                middle = float(np.median(known)) if len(known) else 0.0
                self._numbers[name] = middle, len(known) < len(values)
            else:
                words, counts = np.unique(values, return_counts=True)
                kept = words[np.argsort(-counts, kind="stable")[:_MAX_CATEGORIES]]
                self._words[name] = sorted(kept.tolist())
        raw = self._raw(table)
        self._center, scale = raw.mean(0), raw.std(0)
        self._varies = scale > 1e-9
        self._scale = np.where(self._varies, scale, 1.0)
        if not self._varies.any():
            raise ValueError("x: every column is constant")

    def _raw(self, table: RawTable) -> np.ndarray:
        columns = []
        for name, (middle, has_missing) in self._numbers.items():
            values = self._take(table, name)
            if not np.issubdtype(values.dtype, np.number):
                raise ValueError(f"column {name!r} must hold numbers, as in training")
            is_known = np.isfinite(values)
            columns.append(np.where(is_known, values, middle))
            if has_missing:
                columns.append(~is_known)
        for name, words in self._words.items():
            values = self._take(table, name).astype(str)
            columns += [values == word for word in words]
        return np.stack(columns, 1).astype(float)

    def _take(self, table: RawTable, name: str) -> np.ndarray:
        if name not in table.columns:
            raise ValueError(f"column {name!r} is missing")
        return table.columns[name]

    def __call__(self, table: RawTable) -> np.ndarray:
        """Encode rows, float32 ``[n, d]``; constant columns are left out."""
        scaled = (self._raw(table) - self._center) / self._scale
        return np.clip(scaled[:, self._varies], -20, 20).astype(np.float32)
