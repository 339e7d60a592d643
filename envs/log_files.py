"""Files of other programs as arrays by name; sizes are checked before they are read."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from envs.canonical import FALSE, TRUE, is_number, remedy_for
from envs.log_columns import field_of
from jaxrl_runs.text_tables import has_decimal_commas, rows_of
from jaxrl_runs.weight_files import read_weights

_LEFT_ALONE = ("infos", "metadata")
_BYTES_PER_CELL = 16  # Of a CSV: a number of ten digits takes about as many in memory.


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive, as npz files are, whatever its name.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    return zipfile.is_zipfile(path)


def read_npz(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of an npz file."""
    return read_weights(path, what="transitions", max_bytes=max_bytes)[1]


def read_hdf5(path: Path, max_bytes: int) -> dict[str, Any]:
    """The arrays of an HDF5 file; groups become mappings.

    Groups named "infos" and "metadata", as D4RL has them, are left alone, and so is
    text.

    Raises:
        ImportError: If h5py is not installed.
        ValueError: If the file is not HDF5, too large, or holds something else.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"{path}: HDF5 files are read with h5py, which is not installed: "
            "pip install h5py"
        ) from error
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            _check_hdf5(file, path, max_bytes)
            return _contents(file)
    except OSError as error:
        raise ValueError(f"{path}: not readable as HDF5 ({error})") from error


def _contents(group: Any) -> dict[str, Any]:
    """Datasets by name, groups as mappings of theirs."""
    return {
        name: _contents(item) if hasattr(item, "items") else item[()]
        for name, item in group.items()
        if name not in _LEFT_ALONE
        and not (hasattr(item, "dtype") and item.dtype.hasobject)
    }


def _check_hdf5(file: Any, path: Path, max_bytes: int) -> None:
    """Adds up what the datasets announce; follows no link out of the file."""
    import h5py

    total = 0

    def add(group: Any) -> None:
        nonlocal total
        for name in group:
            if name in _LEFT_ALONE:
                continue
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise ValueError(f"{path}: {name} refers to another file")
            if isinstance(link, h5py.SoftLink):
                raise ValueError(f"{path}: {name} is a link, which is not followed")
            item = group[name]
            if isinstance(item, h5py.Group):
                add(item)
                continue
            if item.external or item.is_virtual:
                raise ValueError(f"{path}: {name} refers to another file")
            if not item.dtype.hasobject:
                total += item.size * item.dtype.itemsize
            elif field_of(name)[0] is not None:
                raise ValueError(f"{path}: {name} must be numeric, got {item.dtype}")

    add(file)
    if total > max_bytes:
        raise ValueError(
            f"{path}: holds {total} bytes, more than the limit of {max_bytes}"
        )


def read_csv(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """The columns of a text file with a header.

    They are separated by commas, semicolons, tabs or bars. Lines before the header that
    begin with "#" are left out; a header that does itself is one too. Columns of whole
    numbers become integers, of words for flags bools, others floats; with semicolons,
    a number may have a decimal comma.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: Names the column and the line of a cell that is not a number.
    """
    size = os.stat(path).st_size
    if size * _BYTES_PER_CELL / 2 > max_bytes:  # a cell is two characters at least
        raise ValueError(
            f"{path}: {size} bytes of text may take more memory than the limit of "
            f"{max_bytes}; pass a larger max_bytes"
        )
    (_, header), *rows = _lines(path)
    if sum(map(is_number, header)) > len(header) / 2:
        raise ValueError(
            f"{path}: expected a header with names of columns, got numbers "
            f"({', '.join(header[:4])}, ...)"
        )
    if len(set(header)) < len(header):
        raise ValueError(f"{path}: expected names of columns that differ, got {header}")
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{path}: expected {len(header)} cells as in the header, got "
                f"{len(row)} in line {line}"
            )
    return {
        name: _column(path, name, [(line, row[i]) for line, row in rows])
        for i, name in enumerate(header)
    }


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Numbers and cells of all lines that are not blank, the header first."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not readable as text in UTF-8 ({error}); save it as such"
        ) from error
    comma, rows = rows_of(text)
    if not rows:
        raise ValueError(
            f"{path}: expected a header with names of columns, got nothing"
        )
    if has_decimal_commas(comma, rows):
        rows[1:] = [(i, [_with_point(cell) for cell in row]) for i, row in rows[1:]]
    return rows


def _with_point(cell: str) -> str:
    return cell.replace(",", ".") if cell.count(",") == 1 else cell


def _column(path: Path, name: str, cells: list[tuple[int, str]]) -> np.ndarray:
    lower = [cell.lower() for _, cell in cells]
    if (
        lower
        and all(cell in TRUE + FALSE for cell in lower)
        and not all(map(is_number, lower))
    ):
        return np.array([cell in TRUE for cell in lower], bool)
    for kind in (int, float):
        try:
            return np.array([kind(cell) for _, cell in cells])
        except (ValueError, OverflowError):
            continue
    texts = np.array([cell for _, cell in cells])
    if not any(is_number(cell) for cell in texts):
        return texts  # Names of episodes, say; no field of numbers takes them.
    line, cell = next((n, c) for n, c in cells if not is_number(c))
    raise ValueError(
        f"{path}: column {name!r}: expected a number, got {cell!r} in line {line}"
        f"{remedy_for(name, cell, texts)}"
    )
