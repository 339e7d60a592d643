"""The folder of a run: lock, configuration, metrics, checkpoints that can be trusted.

DIR/run.json       configuration and the machine it was started on
DIR/metrics.csv    a row per generation
DIR/checkpoints/   orbax; each leaf of the state carries a checksum
DIR/summary.json   written by whoever finishes the run
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

FORMAT_VERSION = 1
_KEPT_CHECKPOINTS = 3


class RunFolderError(RuntimeError):
    """The folder cannot be used; the message says why and what to do."""


class RunFolder:
    """Exclusive access to the folder of one run. Use as a context manager.

    Args:
      path: The folder; created if it does not exist.
      config: JSON-serialisable configuration that identifies the run.
      resume: Continue the run that is in the folder, if there is one.

    Raises:
      RunFolderError: The folder holds a run and `resume` is False, holds one of another
        configuration, is used by another process, or cannot be written.
    """

    def __init__(self, path: str | Path, config: dict, *, resume: bool = False):
        self.path = Path(path)
        self._manager: Any = None
        with _readable_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "w")  # noqa: SIM115
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise RunFolderError(
                f"{self.path}: another process is writing a run into this folder"
            ) from error
        try:
            self._open(json.loads(json.dumps(config)), resume)
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the folder for other processes."""
        if self._manager is not None:
            self._manager.close()
            self._manager = None
        self._lock.close()

    @property
    def summary(self) -> dict | None:
        """What a finished run reported, or None."""
        path = self.path / "summary.json"
        return json.loads(path.read_text()) if path.exists() else None

    def write_json(self, name: str, content: dict) -> Path:
        """Writes `DIR/name` so that it is either the old file or the whole new one."""
        path = self.path / name
        temporary = path.with_suffix(".tmp")
        with _readable_errors(self.path):
            temporary.write_text(json.dumps(content, indent=2) + "\n")
            os.replace(temporary, path)
        return path

    def start_metrics(self, rows: list[dict]) -> None:
        """Starts `metrics.csv` with the rows that a checkpoint remembers."""
        with _readable_errors(self.path), open(self._metrics, "w", newline="") as file:
            if rows:
                writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)

    def append_metrics(self, row: dict) -> None:
        """Adds one row to `metrics.csv`."""
        with _readable_errors(self.path), open(self._metrics, "a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)

    def save(self, step: int, state: Any, progress: dict) -> None:
        """Saves a checkpoint; older ones beyond the last three are removed.

        Args:
          step: Its number; saving the same step again does nothing.
          state: A pytree of arrays.
          progress: JSON-serialisable host state.
        """
        import orbax.checkpoint as ocp

        manager = self._checkpoints()
        if step in manager.all_steps():
            return
        state = jax.device_get(state)
        meta = {
            "format_version": FORMAT_VERSION,
            "checksums": checksums(state),
            "progress": progress,
        }
        with _readable_errors(self.path):
            manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
                ),
            )

    def restore(self, template: Any) -> tuple[Any, dict] | None:
        """Restores the newest checkpoint that is whole.

        A damaged one is reported by path as a warning and the one before it is tried.

        Args:
          template: A pytree of the structure, shapes and dtypes to restore.

        Returns:
          The state and the progress, or None without a usable checkpoint.
        """
        manager = self._checkpoints()
        for step in sorted(manager.all_steps(), reverse=True):
            try:
                return self._restore_step(manager, step, template)
            except Exception as error:
                reason = str(error).strip().split("\n")[0][:200]
                warnings.warn(
                    f"{self.path / 'checkpoints' / str(step)}: damaged checkpoint "
                    f"skipped ({type(error).__name__}: {reason})",
                    stacklevel=2,
                )
                manager.delete(step)
        return None

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.csv"

    def _open(self, config: dict, resume: bool) -> None:
        path = self.path / "run.json"
        machine = {
            "backend": jax.default_backend(),
            "num_devices": jax.local_device_count(),
            "jax": jax.__version__,
        }
        if not path.exists():
            self.write_json(
                "run.json",
                {
                    "format_version": FORMAT_VERSION,
                    "config": config,
                    "machine": machine,
                },
            )
            return
        if not resume:
            raise RunFolderError(
                f"{self.path}: the folder already holds a run; pass resume (--resume) "
                "to continue it, or choose another folder"
            )
        try:
            found = json.loads(path.read_text())
        except ValueError as error:
            raise RunFolderError(f"{path}: not valid JSON ({error})") from error
        if found.get("format_version") != FORMAT_VERSION:
            raise RunFolderError(
                f"{path}: format version {found.get('format_version')!r}, this version "
                f"reads {FORMAT_VERSION}"
            )
        if found["config"] != config:
            raise RunFolderError(
                f"{self.path}: the folder holds a run of another configuration "
                f"({_difference(found['config'], config)}); choose another folder"
            )
        if found["machine"] != machine:
            warnings.warn(
                f"{self.path}: started on {found['machine']}, resumed on {machine}: "
                "the result can differ in its last bits",
                stacklevel=3,
            )

    def _checkpoints(self) -> Any:
        import orbax.checkpoint as ocp

        if self._manager is None:
            logging.getLogger("absl").setLevel(logging.ERROR)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=_KEPT_CHECKPOINTS, enable_async_checkpointing=False
            )
            with _readable_errors(self.path):
                self._manager = ocp.CheckpointManager(
                    (self.path / "checkpoints").absolute(), options=options
                )
        return self._manager

    def _restore_step(self, manager: Any, step: int, template: Any):
        import orbax.checkpoint as ocp

        abstract = jax.tree.map(
            lambda leaf: np.zeros(np.shape(leaf), np.asarray(leaf).dtype), template
        )
        restored = manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore()
            ),
        )
        state, meta = restored["state"], restored["meta"]
        if meta["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {meta['format_version']}")
        found = checksums(state)
        wrong = [
            name
            for name, value in meta["checksums"].items()
            if found.get(name) != value
        ]
        if wrong:
            raise ValueError(f"checksum mismatch in {', '.join(wrong)}")
        return jax.tree.map(jax.numpy.asarray, state), meta["progress"]


def checksums(tree: Any) -> dict[str, str]:
    """SHA-256 of every leaf (shape, dtype and bytes) by its path in the tree."""
    result = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        array = np.ascontiguousarray(leaf)
        digest = hashlib.sha256(f"{array.shape}{array.dtype.str}".encode())
        digest.update(array.tobytes())
        result[jax.tree_util.keystr(path)] = digest.hexdigest()
    return result


def tree_sha256(tree: Any) -> str:
    """One SHA-256 for a whole pytree."""
    return hashlib.sha256(json.dumps(checksums(tree)).encode()).hexdigest()


def next_run_folder(parent: str | Path) -> Path:
    """The first unused numbered folder `parent/0001`, `parent/0002`, ..."""
    parent = Path(parent)
    taken = [int(p.name) for p in parent.glob("[0-9]*") if p.name.isdigit()]
    return parent / f"{max(taken, default=0) + 1:04d}"


def _difference(found: Any, wanted: Any, name: str = "") -> str:
    """Names the first fields in which two configurations differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        parts = [
            _difference(found.get(k), wanted.get(k), f"{name}.{k}" if name else k)
            for k in sorted(found.keys() | wanted.keys())
            if found.get(k) != wanted.get(k)
        ]
        return ", ".join(parts)
    return f"{name}: {found!r} there, {wanted!r} here"


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    """Turns a full or read-only disk into one clear line."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(
            f"{path}: cannot be written ({error.strerror or error}); "
            "free some space or choose another folder"
        ) from error
    except ValueError as error:  # tensorstore reports the disk this way
        if "No space" in str(error) or "ENOSPC" in str(error):
            raise RunFolderError(
                f"{path}: cannot be written (no space left); free some space or choose "
                "another folder"
            ) from error
        raise
