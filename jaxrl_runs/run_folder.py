"""The folder of a run: one process at a time, one configuration, nothing overwritten.

DIR/run.json       configuration and the machine it was started on
DIR/metrics.csv    a row per generation
DIR/checkpoints/   see `checkpoints.py`; damaged ones are moved to DIR/damaged/
DIR/summary.json   written by whoever finishes the run
"""

from __future__ import annotations

import csv
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl_runs.checkpoints import Checkpoints
from jaxrl_runs.values import FLAG, PATH
from jaxrl_runs.warn import warn_user

FORMAT_VERSION = 1


class RunFolderError(RuntimeError):
    """The folder cannot be used; the message says why and what to do."""


def holds_run(path: str | Path) -> bool:
    """Whether there is a run in a folder, which `resume` can go on with."""
    return (Path(path) / "run.json").exists()


def check_run_folder(path: str | Path, *, resume: bool) -> None:
    """Whether a run can begin in a folder or go on there, before anything is computed.

    `RunFolder` asks again, and whether the run is one of the same configuration.

    Raises:
      RunFolderError: There is a file at the path, a run that is not to be resumed, or
        nothing that could be.
    """
    path = Path(path)
    if not is_writer():  # The first process may have begun the run by now.
        return
    if path.exists() and not path.is_dir():
        raise RunFolderError(f"{path}: is a file; name a folder for the run")
    if resume and not path.is_dir():
        raise RunFolderError(f"{path}: there is no such folder to resume")
    if resume and not any(path.iterdir()):
        raise RunFolderError(_nothing_to_resume(path))
    if not resume and holds_run(path):
        raise RunFolderError(_holds_a_run(path))


def _nothing_to_resume(path: Path) -> str:
    return (
        f"{path}: the folder holds no run to resume; start one without resume=True "
        "(--resume), or name the folder of a run"
    )


def _holds_a_run(path: Path) -> str:
    return (
        f"{path}: the folder already holds a run; pass resume=True (--resume) to "
        "continue it, or choose another folder"
    )


def is_writer() -> bool:
    """Whether this process writes and locks folders: the first of those joined."""
    return jax.process_index() == 0


class RunFolder:
    """Exclusive access to the folder of one run. Use as a context manager.

    Of several processes that `jax.distributed` joined, the first one locks and writes;
    the others read, and get from it what it restored.

    Args:
      path: The folder; created if it does not exist.
      config: JSON-serialisable configuration that identifies the run.
      resume: Continue the run that is in the folder.

    Raises:
      RunFolderError: The folder holds a run and `resume` is False, holds none and
        `resume` is True, holds one of another configuration or format version, is used
        by another process, or cannot be written.
    """

    def __init__(self, path: str | Path, config: dict, *, resume: bool = False):
        PATH.check("path", path)
        FLAG.check("resume", resume)
        self.path = Path(path)
        self._resume = resume
        self._checkpoints = Checkpoints(self.path / "checkpoints")
        self._lock = None
        if not is_writer():
            return
        if resume and not self.path.is_dir():
            raise RunFolderError(f"{self.path}: there is no such folder to resume")
        with _readable_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.path / ".lock", "w")  # noqa: SIM115
        try:
            self._acquire()
            self._open(json.loads(json.dumps(config)))
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the folder for other processes."""
        try:
            self._checkpoints.close()
        finally:
            if self._lock is not None:
                self._lock.close()

    @property
    def summary(self) -> dict | None:
        """What a finished run reported, or None."""
        return self.read_json("summary.json")

    def read_json(self, name: str) -> dict | None:
        """A file that `write_json` wrote, or None if there is none."""
        path = self.path / name
        return _read_json(path) if path.exists() else None

    def write_json(self, name: str, content: dict) -> Path:
        """Writes `DIR/name` so that it is either the old file or the whole new one."""
        path = self.path / name
        if not is_writer():
            return path
        temporary = path.with_suffix(".tmp")
        with _readable_errors(self.path):
            temporary.write_text(json.dumps(content, indent=2) + "\n")
            os.replace(temporary, path)
        return path

    def start_metrics(self, rows: list[dict]) -> None:
        """Starts `metrics.csv` with the rows that a checkpoint remembers."""
        if not is_writer():
            return
        with _readable_errors(self.path), open(self._metrics, "w", newline="") as file:
            if rows:
                writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)

    def append_metrics(self, row: dict) -> None:
        """Adds one row to `metrics.csv`."""
        if not is_writer():
            return
        with _readable_errors(self.path), open(self._metrics, "a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)

    def save(self, step: int, state: Any, progress: dict) -> None:
        """Saves a checkpoint; see `Checkpoints.save`."""
        if not is_writer():
            return
        with _readable_errors(self.path):
            self._checkpoints.save(step, state, progress)

    def restore(self, template: Any) -> tuple[Any, dict] | None:
        """Restores the newest checkpoint that is whole; see `Checkpoints.restore`.

        Where a run is to be resumed and there is none, a warning says so.
        """
        restored = None
        if is_writer():
            with _readable_errors(self.path):
                restored = self._checkpoints.restore(template)
        if jax.process_count() > 1:
            restored = _from_writer(restored, template)
        if restored is None and self._resume:
            warn_user(
                f"{self.path}: no checkpoint to resume from, starting over",
            )
        return restored

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.csv"

    def _acquire(self) -> None:
        try:
            assert self._lock is not None, "the first process locks"
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFolderError(
                f"{self.path}: another process is writing a run into this folder"
            ) from error
        except OSError as error:
            raise RunFolderError(
                f"{self.path}: cannot be locked ({error.strerror}); choose a folder on "
                "another file system"
            ) from error

    def _open(self, config: dict) -> None:
        path = self.path / "run.json"
        machine = {
            "backend": jax.default_backend(),
            "num_devices": jax.local_device_count(),
            "jax": jax.__version__,
        }
        if not path.exists():
            if self._resume:
                raise RunFolderError(_nothing_to_resume(self.path))
            content = {"format_version": FORMAT_VERSION, "config": config}
            self.write_json("run.json", {**content, "machine": machine})
            return
        if not self._resume:
            raise RunFolderError(_holds_a_run(self.path))
        found = _read_json(path)
        if found.get("format_version") != FORMAT_VERSION:
            raise RunFolderError(
                f"{path}: format version {found.get('format_version')!r}, this version "
                f"reads {FORMAT_VERSION}"
            )
        if _given(found.get("config")) != _given(config):
            raise RunFolderError(
                f"{self.path}: the folder holds a run of another configuration "
                f"({_difference(found.get('config'), config)}); choose another folder"
            )
        if found.get("machine") != machine:
            warn_user(
                f"{self.path}: started on {found.get('machine')}, resumed on {machine}:"
                " the result can differ in its last bits",
            )


def _from_writer(restored: Any, template: Any) -> tuple[Any, dict] | None:
    """What the first process restored, in every process."""
    from jax.experimental.multihost_utils import broadcast_one_to_all

    state, progress = restored or (template, None)
    text = np.frombuffer(json.dumps(progress).encode(), np.uint8)
    size = int(broadcast_one_to_all(np.int32(text.size)))
    text = np.resize(text, size)
    state, text = broadcast_one_to_all((jax.device_get(state), text))
    progress = json.loads(bytes(np.asarray(text)))
    return None if progress is None else (state, progress)


def next_run_folder(parent: str | Path) -> Path:
    """The first unused numbered folder `parent/0001`, `parent/0002`, ..."""
    parent = Path(parent)
    taken = [int(p.name) for p in parent.glob("[0-9]*") if p.name.isdigit()]
    return parent / f"{max(taken, default=0) + 1:04d}"


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise RunFolderError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path}: not a JSON object")
    return content


def _given(config: Any) -> Any:
    """A configuration without what is empty, as fields of newer versions are."""
    if not isinstance(config, dict):
        return config
    return {k: _given(v) for k, v in config.items() if v is not None and v != {}}


def _difference(found: Any, wanted: Any, name: str = "") -> str:
    """Names the fields in which two configurations differ."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        parts = [
            _difference(found.get(k), wanted.get(k), f"{name}.{k}" if name else k)
            for k in sorted(found.keys() | wanted.keys())
            if found.get(k) != wanted.get(k)
        ]
        return ", ".join(parts)
    return f"{name}: {found!r} there, {wanted!r} here"


def disk_problem(error: OSError, place: Any) -> str:
    """A full or read-only disk as one line that says what to do."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "free some space" if is_full else "make it writable"
    return (
        f"{place}: cannot be written ({error.strerror or error}); {remedy} or choose "
        "another folder"
    )


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    """Turns a full or read-only disk into one clear line."""
    try:
        yield
    except OSError as error:
        raise RunFolderError(disk_problem(error, path)) from error
