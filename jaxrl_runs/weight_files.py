"""One format for weights on disk: named arrays and JSON in an npz file, no pickle.

A file is written as a whole or not at all, and read with suspicion: what the zip
directory announces is compared with a limit before memory is asked for, arrays of
Python objects are refused, and names, shapes and numbers can be checked against what
the reader expects.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

METADATA = "metadata"
MAX_BYTES = 1 << 30


class WeightFileError(ValueError):
    """The file cannot be used; the message names it and says what is wrong."""


def write_weights(
    path: str | Path,
    arrays: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    *,
    compressed: bool = False,
) -> Path:
    """Writes named arrays and a description.

    Args:
      path: The file; its folder is made if it is missing.
      arrays: Numeric arrays by name; "metadata" is taken.
      metadata: What JSON can hold; by custom it has a `format_version`.
      compressed: Whether the arrays are deflated.

    Returns:
      The path written.

    Raises:
      ValueError: A name is taken, or an array holds Python objects.
      OSError: The disk is full, read-only, ...
    """
    path = Path(path)
    content = {name: np.asarray(array) for name, array in arrays.items()}
    if METADATA in content:
        raise ValueError(f"arrays: the name {METADATA!r} is taken by the description")
    for name, array in content.items():
        if array.dtype.hasobject:
            raise ValueError(f"arrays[{name!r}] must be numeric, got {array.dtype}")
    if metadata is not None:
        try:
            content[METADATA] = np.array(json.dumps(metadata))
        except TypeError as error:
            raise ValueError(f"metadata must be what JSON can hold: {error}") from error
    save: Any = np.savez_compressed if compressed else np.savez
    return _write(path, lambda file: save(file, **content))


def write_text(path: str | Path, text: str) -> Path:
    """Writes a text file as a whole or not at all.

    Args:
      path: The file; its folder is made if it is missing.
      text: In UTF-8.

    Returns:
      The path written.

    Raises:
      OSError: The disk is full, read-only, ...
    """
    return _write(Path(path), lambda file: file.write(text.encode()))


def _write(path: Path, fill: Callable[[Any], Any]) -> Path:
    """Writes beside the file's place, and then moves it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # `mkstemp` makes files private.
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return path


def read_weights(
    path: str | Path,
    *,
    what: str = "weights",
    format_version: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads what `write_weights` wrote.

    Args:
      path: The file.
      what: What it should hold, for messages: "a synthetic environment".
      format_version: If given, the metadata's `format_version` has to equal it.
      max_bytes: Largest size of all arrays together, unpacked.

    Returns:
      The metadata (empty if there is none) and the arrays by name.

    Raises:
      FileNotFoundError: No such file.
      WeightFileError: It is damaged, foreign, too large or of another version.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightFileError(f"{path}: expected a file with {what}, found a folder")
    try:
        _check_size(path, max_bytes)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        metadata = json.loads(str(arrays.pop(METADATA, "{}")))
    except (FileNotFoundError, WeightFileError):
        raise
    except Exception as error:  # zip, zlib, numpy and JSON have a dozen kinds
        raise WeightFileError(f"{path}: not readable as {what} ({error})") from error
    if not isinstance(metadata, dict):
        raise WeightFileError(f"{path}: not readable as {what} (metadata is no object)")
    found = metadata.get("format_version")
    if format_version is not None and found != format_version:
        raise WeightFileError(
            f"{path}: format version {found!r}, this version reads {format_version}"
        )
    return metadata, arrays


def check_arrays(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    expected: Mapping[str, Any],
    *,
    finite: bool = True,
) -> None:
    """Compares names, shapes and values with what the reader expects.

    Args:
      path: The file, for messages.
      arrays: What was read.
      expected: By name, anything with a `shape`.
      finite: Whether NaN and infinity are refused.

    Raises:
      WeightFileError: Something is missing, unknown, of another shape, or not finite.
    """
    for name in sorted(arrays.keys() | expected.keys()):
        if name not in arrays:
            raise WeightFileError(f"{path}: {name} is missing")
        if name not in expected:
            raise WeightFileError(f"{path}: {name} is unknown")
        found, wanted = arrays[name].shape, tuple(expected[name].shape)
        if found != wanted:
            raise WeightFileError(
                f"{path}: {name} must have shape {wanted}, got {found}"
            )
        if finite and not np.isfinite(arrays[name]).all():
            raise WeightFileError(f"{path}: {name} contains NaN or infinity")


def _check_size(path: Path, max_bytes: int) -> None:
    """Looks at the sizes that the zip directory and the arrays' headers announce."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > max_bytes:
            raise WeightFileError(
                f"{path}: holds {total} bytes, more than the limit of {max_bytes}"
            )
        for member in members:
            with archive.open(member) as file:
                _check_header(path, member, file)


def _check_header(path: Path, member: zipfile.ZipInfo, file: Any) -> None:
    """Numpy allocates what a header says, whatever follows it."""
    version = np.lib.format.read_magic(file)
    read: Any = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"{member.filename}: unknown npy version {version}")
    shape, _, dtype = read(file)
    num_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if dtype.hasobject:
        raise WeightFileError(
            f"{path}: {member.filename} holds Python objects, which are not unpickled"
        )
    if num_bytes > member.file_size:
        raise WeightFileError(
            f"{path}: {member.filename} announces {dtype} of shape {shape}, which its "
            f"{member.file_size} bytes do not hold"
        )
