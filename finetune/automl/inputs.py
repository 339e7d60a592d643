"""What users bring, of whatever modality: arrays, texts, files and folders.

| kind | as arrays | as files |
|---|---|---|
| table | numbers ``[n, d]`` | csv, or npz with x and y |
| text | list of strings | csv with a column of texts, folder of txt files per class |
| series | numbers ``[n, length]`` or ``[n, length, channels]`` | csv, or npz |
| image | ``[n, side, side]`` or ``[n, side, side, channels]`` | npz, folder per class |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from finetune.automl.data import RawTable, from_arrays, read_arrays, read_table
from finetune.image_folder import SUFFIXES, read_image
from jaxrl_runs.warn import warn_user

KINDS = ("table", "text", "series", "image")
_NOUNS = {"table": "a table", "text": "texts", "series": "series", "image": "pictures"}
SIDE = 32  # pixels of pictures that are read from files
_HELD_OUT = ("test", "val", "valid", "validation")


@dataclasses.dataclass(frozen=True)
class Examples:
    """Rows of one modality.

    Attributes:
        kind: One of `KINDS`.
        content: A `RawTable`; texts, list of ``n``; float32 series ``[n, length,
            channels]``; float32 pictures ``[n, side, side, channels]``.
        labels: As `encode_labels` takes them; None where there are none.
        label_names: Of several labels.
        files: Names of the files that the rows were read from, one per row.
        table: For texts, the other columns of their csv file.
        label_columns: Of the csv file.
        text_columns: Of the csv file, joined in ``content``.
    """

    kind: str
    content: Any
    labels: Any = None
    label_names: tuple[str, ...] | None = None
    files: tuple[str, ...] | None = None
    table: RawTable | None = None
    label_columns: tuple[str, ...] = ()
    text_columns: tuple[str, ...] = ()


def read_examples(
    data: Any,
    test: Any = None,
    label: str | Sequence[str] | None = None,
    kind: str | None = None,
) -> tuple[Examples, Examples | None]:
    """Read training rows, and those to predict.

    Args:
        data: Folder, file, or pair of examples and labels.
        test: File, folder or examples; None: what the folder has.
        label: Label column of a csv file, or several columns of 0 and 1.
        kind: One of `KINDS`; None: guessed from what the data look like.

    Raises:
        ValueError: If it cannot be read, or is of another kind.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS} or None, got {kind!r}")
    if isinstance(data, (str, Path)):
        path = Path(data)
        if path.is_dir():
            path, found = _training_part(path)
            test = found if test is None else test
        train = _read(path, label, kind)
    elif isinstance(data, tuple) and len(data) == 2:
        train = _from_arrays(data[0], data[1], kind)
    else:
        raise ValueError(
            "data must be a folder, a csv or npz file, or a pair (x, y), got "
            f"{type(data).__name__}"
        )
    if test is None:
        return train, None
    if isinstance(test, (str, Path)):
        rows = _read_test(Path(test), train)
    elif hasattr(test, "columns") and hasattr(test, "to_numpy"):
        rows = _from_table(_table_of(test), train.kind, train.text_columns)
    else:
        rows = _from_arrays(test, None, train.kind)
    return train, _as_training(rows, train)


def _as_training(rows: Examples, train: Examples) -> Examples:
    """What is to be predicted must be of the kind and shape of the training rows."""
    if rows.kind != train.kind:
        raise ValueError(
            f"test: must hold {_NOUNS[train.kind]}, as the training rows do, got "
            f"{_NOUNS[rows.kind]}"
        )
    if train.kind == "table":
        found, wanted = (list(each.content.columns) for each in (rows, train))
        if _unnamed(found) and _unnamed(wanted) and len(found) != len(wanted):
            raise ValueError(
                f"test: rows must have {len(wanted)} columns, got {len(found)}"
            )
    if train.kind in ("series", "image"):
        found, wanted = rows.content.shape[1:], train.content.shape[1:]
        if found != wanted:
            raise ValueError(f"test: rows must have shape {wanted}, got {found}")
    return rows


def _unnamed(names: list[str]) -> bool:
    """Whether they are those that arrays are given."""
    return names == [f"x{place}" for place in range(len(names))]


def _training_part(folder: Path) -> tuple[Path, Path | None]:
    """Where the training rows of a folder are, and those to predict."""
    by_name = {path.name.lower(): path for path in sorted(folder.iterdir())}
    suffixes = (".csv", ".npz", "")
    for suffix in suffixes:
        train = by_name.get(f"train{suffix}")
        if train is not None:
            wanted = [f"{name}{kind}" for name in _HELD_OUT for kind in suffixes]
            return train, next((by_name[w] for w in wanted if w in by_name), None)
    if _classes_of(folder):
        tests = [folder / name for name in _HELD_OUT]
        return folder, next((t for t in tests if t.is_dir()), None)
    raise ValueError(
        f"{folder.name}: must hold train.csv, train.npz, or a folder of pictures or "
        "txt files per class (in train/, or as it is)"
    )


def _classes_of(root: Path) -> dict[str, list[Path]]:
    """Pictures or texts by the name of their folder."""
    found = {}
    for folder in sorted(root.iterdir()):
        is_hidden = folder.name.startswith(".") or folder.name in _HELD_OUT
        if folder.is_dir() and not is_hidden:
            found[folder.name] = _files_of(folder)
    empty = [name for name, paths in found.items() if not paths]
    if empty and len(empty) < len(found):
        warn_user(f"{root.name}: no pictures and no txt files in {', '.join(empty)}")
    return {name: paths for name, paths in found.items() if paths}


def _files_of(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES | {".txt"})


def _read(path: Path, label, kind: str | None) -> Examples:
    """Training rows of a file or folder."""
    if path.is_dir():
        return _read_folder(path, with_labels=True)
    if path.suffix == ".npz":
        return _from_arrays(*read_arrays(path), kind)
    table = read_table(path, label)
    if table.labels is None:  # no name says "label": the last column
        columns = dict(table.columns)
        name = list(columns)[-1]
        table = RawTable(columns, columns.pop(name), label_column=(name,))
    found = _text_columns(table, kind) if kind in (None, "text") else ()
    return dataclasses.replace(
        _from_table(table, kind or ("text" if found else "table"), found),
        labels=table.labels,
        label_names=table.label_names,
    )


def _read_test(path: Path, train: Examples) -> Examples:
    """Rows to predict, read as the training rows were."""
    if path.is_dir():
        return _read_folder(path, with_labels=False)
    if path.suffix == ".npz":
        return _from_arrays(read_arrays(path)[0], None, train.kind)
    columns = read_table(path, train.label_columns, optional=True).columns
    return _from_table(RawTable(columns, None), train.kind, train.text_columns)


def _text_columns(table: RawTable, kind: str | None) -> tuple[str, ...]:
    """Columns of texts; where texts are asked for, all columns of words."""
    found = tuple(k for k, v in table.columns.items() if _is_text(v))
    if kind == "text" and not found:
        found = tuple(k for k, v in table.columns.items() if v.dtype.kind == "U")
        if not found:
            raise ValueError("text: no column holds words")
    return found


def _from_table(table: RawTable, kind: str, text_columns: tuple[str, ...]) -> Examples:
    """Rows of a csv file: a table, texts beside other columns, or series."""
    columns = table.columns
    if kind == "series":
        try:
            values = np.stack(list(columns.values()), 1).astype(np.float32)
        except ValueError:
            raise ValueError("series: every column must hold numbers") from None
        content: Any = values[:, :, None]
    elif kind == "image":
        raise ValueError("image: pictures must be a folder or an npz file, got a table")
    elif kind == "table":
        content = table
    else:
        missing = [name for name in text_columns if name not in columns]
        if missing:
            raise ValueError(f"test: columns {missing} missing")
        rows = zip(*(columns[k].astype(str) for k in text_columns), strict=True)
        content = [" ".join(row) for row in rows]
        columns = {k: v for k, v in columns.items() if k not in text_columns}
    rest = RawTable(columns, None) if kind == "text" and columns else None
    names = table.label_column
    return Examples(
        kind, content, table=rest, label_columns=names, text_columns=text_columns
    )


def _is_text(values: np.ndarray) -> bool:
    """Cells of several words that rarely repeat."""
    if values.dtype.kind != "U":
        return False
    words = np.mean([len(cell.split()) for cell in values])
    return bool(words >= 3 and len(np.unique(values)) > len(values) / 2)


def _read_folder(root: Path, with_labels: bool) -> Examples:
    """One folder per class; without labels, files in any folders."""
    classes = _classes_of(root) if with_labels else {"": _files_of(root)}
    paths = [p for found in classes.values() for p in found]
    labels = np.array([name for name, found in classes.items() for _ in found])
    if not paths:
        raise ValueError(f"{root.name}: holds no pictures and no txt files")
    texts = [p for p in paths if p.suffix.lower() == ".txt"]
    if 0 < len(texts) < len(paths):
        raise ValueError(f"{root.name}: holds both pictures and txt files")
    about = {
        "labels": labels if with_labels else None,
        "files": tuple(str(p.relative_to(root)) for p in paths),
    }
    if texts:
        content = [p.read_text(encoding="utf-8", errors="replace") for p in paths]
        return Examples("text", content, **about)
    try:
        pictures = np.stack([read_image(p, SIDE) for p in paths])
    except ModuleNotFoundError:
        raise ImportError("reading pictures needs Pillow: pip install pillow") from None
    return Examples("image", pictures, **about)


def _from_arrays(x: Any, y: Any, kind: str | None) -> Examples:
    if isinstance(x, RawTable):
        return Examples("table", x, x.labels if y is None else y)
    if hasattr(x, "columns") and hasattr(x, "to_numpy"):
        table = _table_of(x)
        found = _text_columns(table, kind) if kind in (None, "text") else ()
        rows = _from_table(table, kind or ("text" if found else "table"), found)
        return dataclasses.replace(rows, labels=_same_length(y, table.num_rows))
    kind = kind or _guess(x)
    if kind == "text":
        texts = _as_texts(x)
        return Examples("text", texts, _same_length(y, len(texts)))
    if kind == "table":
        table = from_arrays(x)
        return Examples("table", table, _same_length(y, table.num_rows))
    x = np.asarray(x)
    wanted = {"series": (2, 3), "image": (3, 4)}[kind]
    if x.ndim not in wanted or 0 in x.shape or x.dtype.kind not in "biuf":
        shapes = {
            "series": "[n, length] or [n, length, channels]",
            "image": "[n, height, width] or [n, height, width, channels]",
        }
        raise ValueError(
            f"x: {kind} must be numbers {shapes[kind]}, got {x.dtype} {x.shape}"
        )
    content = x.astype(np.float32)
    content = content[..., None] if x.ndim == wanted[0] else content
    return Examples(kind, content, _same_length(y, len(x)))


def _table_of(frame: Any) -> RawTable:
    """Columns of a DataFrame: numbers as they are, all else as words."""
    columns = {}
    for name in frame.columns:
        values = frame[name]
        try:
            columns[str(name)] = values.to_numpy(dtype=float, na_value=np.nan)
        except (TypeError, ValueError):
            cells = values.astype(object).where(values.notna(), "")
            columns[str(name)] = cells.astype(str).to_numpy(dtype=str)
    if not columns or not len(frame):
        raise ValueError(f"x must hold a row and a column, got {frame.shape}")
    return RawTable(columns, None)


def _guess(x: Any) -> str:
    """Texts are strings; pictures are bytes or have channels; 3 axes are series."""
    first = x[0] if isinstance(x, (list, tuple)) and len(x) else x
    array = x if isinstance(x, np.ndarray) else None
    if isinstance(first, str) or (array is not None and array.dtype.kind in "UO"):
        return "text"
    try:
        array = np.asarray(x)
    except ValueError:
        raise ValueError(
            "x: rows must have one length; pad or cut series to the same"
        ) from None
    if array.ndim == 4 or (array.ndim == 3 and array.dtype == np.uint8):
        return "image"
    return "series" if array.ndim == 3 else "table"


def _as_texts(x: Any) -> list[str]:
    texts = list(x)
    if not texts or not all(isinstance(text, str) for text in texts):
        found = next(
            (type(t).__name__ for t in texts if not isinstance(t, str)), "none"
        )
        raise ValueError(f"x: texts must be strings, one or more, got {found}")
    return [str(text) for text in texts]


def _same_length(y: Any, num_rows: int) -> Any:
    if y is not None and (not hasattr(y, "__len__") or len(y) != num_rows):
        found = np.shape(y) if isinstance(y, np.ndarray) else f"{_length(y)}"
        raise ValueError(f"y must hold one entry per row ({num_rows}), got {found}")
    return y


def _length(y: Any) -> int | str:
    return len(y) if hasattr(y, "__len__") else type(y).__name__
