"""Batches of transitions: a typed container and its file format."""

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from flax import struct

FIELDS = ("obs", "action", "reward", "next_obs", "terminated", "truncated")


@struct.dataclass
class Transitions:
    """N transitions of one task, NumPy or JAX arrays, a pytree.

    Consecutive rows of one episode are in order of time. ``next_obs`` is what the
    action led to, also in the last row of an episode, where it is not the first
    observation of the next one. The last row may lie in the middle of an episode.

    Attributes:
        obs: Observations [N, ...], floats, integers or bools.
        action: Discrete actions [N] (integers) or continuous ones [N, ...] (floats).
        reward: Rewards [N], floats.
        next_obs: Next observations [N, ...], of the dtype of ``obs``.
        terminated: Whether the task ended the episode there, [N] bool.
        truncated: Whether a time limit ended the episode there, [N] bool.
    """

    obs: Any
    action: Any
    reward: Any
    next_obs: Any
    terminated: Any
    truncated: Any

    def __len__(self) -> int:
        return len(self.obs)

    def validate(self) -> "Transitions":
        """Check shapes, dtypes and values; for concrete arrays, outside of jit.

        Returns:
            The transitions themselves.

        Raises:
            ValueError: Names the field that does not fit, and what was expected.
        """
        arrays = {name: _array(name, getattr(self, name)) for name in FIELDS}
        if arrays["obs"].ndim == 0 or len(arrays["obs"]) == 0:
            raise ValueError(
                "obs: expected at least one row, got an array of shape "
                f"{arrays['obs'].shape}"
            )
        num_rows = len(arrays["obs"])
        expected_shapes = {
            "action": (num_rows, *arrays["action"].shape[1:]),
            "reward": (num_rows,),
            "next_obs": arrays["obs"].shape,
            "terminated": (num_rows,),
            "truncated": (num_rows,),
        }
        for name, shape in expected_shapes.items():
            if arrays[name].shape != shape:
                raise ValueError(
                    f"{name}: expected shape {shape} to go with obs of shape "
                    f"{arrays['obs'].shape}, got {arrays[name].shape}"
                )
        for name, kinds in _KINDS.items():
            if arrays[name].dtype.kind not in kinds:
                wanted = " or ".join(_KIND_NAMES[kind] for kind in kinds)
                raise ValueError(
                    f"{name}: expected dtype {wanted}, got {arrays[name].dtype}"
                )
        if arrays["next_obs"].dtype != arrays["obs"].dtype:
            raise ValueError(
                f"next_obs: expected the dtype of obs, {arrays['obs'].dtype}, got "
                f"{arrays['next_obs'].dtype}"
            )
        for name, array in arrays.items():
            _check_finite(name, array)
        return self

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz file with one array for each field, under its name.

        The file is written beside its place and then moved there: an interrupted
        save leaves what was there before.

        Args:
            path: File to write, used as it is given; missing folders are made.

        Raises:
            ValueError: If the transitions are not valid.
        """
        self.validate()
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            try:
                arrays = {name: np.asarray(getattr(self, name)) for name in FIELDS}
                np.savez_compressed(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Transitions":
        """Read what :meth:`save`, or ``numpy.savez`` under the same names, wrote.

        Args:
            path: File to read. Arrays of other names in it are left alone.

        Returns:
            Valid transitions, as NumPy arrays.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not an npz file, lacks a field, or holds one that is
                not valid; names the file and the field.
        """
        try:
            file = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: not a readable npz file ({error})") from error
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError(f"{path}: expected an npz file, found a single array")
        arrays = {}
        with file:
            for name in FIELDS:
                if name not in file:
                    raise ValueError(
                        f"{path}: lacks the field {name!r}; it has "
                        f"{', '.join(file.files) or 'none'}"
                    )
                try:
                    arrays[name] = file[name]
                except (ValueError, EOFError, zipfile.BadZipFile) as error:
                    raise ValueError(
                        f"{path}: {name}: not readable ({error})"
                    ) from error
        try:
            return cls(**arrays).validate()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


_KINDS = {
    "obs": "fiub",
    "action": "fiu",
    "reward": "f",
    "next_obs": "fiub",
    "terminated": "b",
    "truncated": "b",
}
_KIND_NAMES = {"f": "float", "i": "int", "u": "unsigned int", "b": "bool"}


def _array(name: str, value: Any) -> np.ndarray:
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise ValueError(
            f"{name}: expected a NumPy or JAX array, got {type(value).__name__}"
        )
    return np.asarray(value)


def _check_finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{name}: expected finite numbers, found NaN or infinity in {bad.sum()} of "
            f"{len(array)} rows, first in row {bad.argmax()}"
        )
