"""Files of other programs as arrays by name; sizes are checked before they are read."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl_runs.weight_files import read_weights

_WORDS = {"true": True, "false": False}
_BYTES_PER_CELL = 16  # Of a CSV: a number of ten digits takes about as many in memory.


def read_npz(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of an npz file."""
    return read_weights(path, what="transitions", max_bytes=max_bytes)[1]


def read_hdf5(path: Path, max_bytes: int) -> dict[str, Any]:
    """The arrays at the top of an HDF5 file; groups of arrays become mappings.

    Groups named "infos" and "metadata", as D4RL has them, are left alone.

    Raises:
        ImportError: If h5py is not installed.
        ValueError: If the file is not HDF5, too large, or holds something else.
    """
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"{path}: HDF5 files are read with h5py, which is not installed: "
            "pip install h5py"
        ) from error
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            arrays: dict[str, Any] = {}
            _check_hdf5(file, path, max_bytes)
            for name, item in file.items():
                if name in ("infos", "metadata"):
                    continue
                if isinstance(item, h5py.Dataset):
                    arrays[name] = item[()]
                elif isinstance(item, h5py.Group):
                    arrays[name] = {
                        key: child[()]
                        for key, child in item.items()
                        if isinstance(child, h5py.Dataset)
                    }
            return arrays
    except OSError as error:
        raise ValueError(f"{path}: not readable as HDF5 ({error})") from error


def _check_hdf5(file: Any, path: Path, max_bytes: int) -> None:
    """Adds up what the datasets announce; follows no link out of the file."""
    import h5py  # pyright: ignore[reportMissingImports]

    total = 0

    def add(name: str, item: Any) -> None:
        nonlocal total
        if isinstance(item, h5py.Dataset) and not name.startswith(
            ("infos", "metadata")
        ):
            if item.dtype.hasobject:
                raise ValueError(f"{path}: {name} must be numeric, got {item.dtype}")
            if item.external or item.is_virtual:
                raise ValueError(f"{path}: {name} refers to another file")
            total += item.size * item.dtype.itemsize

    file.visititems(add)
    for name in file:
        if isinstance(file.get(name, getlink=True), h5py.ExternalLink):
            raise ValueError(f"{path}: {name} refers to another file")
    if total > max_bytes:
        raise ValueError(
            f"{path}: holds {total} bytes, more than the limit of {max_bytes}"
        )


def read_csv(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """The columns of a CSV file with a header.

    Columns of whole numbers become integers, of True and False bools, others floats.

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
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file, skipinitialspace=True))
    rows = [(i + 1, row) for i, row in enumerate(rows) if any(cell for cell in row)]
    if not rows:
        raise ValueError(
            f"{path}: expected a header with names of columns, got nothing"
        )
    (_, header), *rows = rows
    header = [name.strip() for name in header]
    if len(header) == 1 and ";" in header[0]:
        raise ValueError(
            f"{path}: expected commas between columns and points in numbers, found "
            "semicolons; read it with pandas.read_csv(path, sep=';', decimal=',') and "
            "give the DataFrame"
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
        name: _column(path, name, [(line, row[i].strip()) for line, row in rows])
        for i, name in enumerate(header)
    }


def _column(path: Path, name: str, cells: list[tuple[int, str]]) -> np.ndarray:
    if all(cell.lower() in _WORDS for _, cell in cells):
        return np.array([_WORDS[cell.lower()] for _, cell in cells], bool)
    for kind in (int, float):
        try:
            return np.array([kind(cell) for _, cell in cells])
        except (ValueError, OverflowError):
            continue
    texts = np.array([cell for _, cell in cells])
    if not any(_is_number(cell) for cell in texts):
        return texts  # Names of episodes, say; no field of numbers takes them.
    line, cell = next((n, c) for n, c in cells if not _is_number(c))
    raise ValueError(
        f"{path}: column {name!r}: expected a number, got {cell!r} in line {line}"
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
