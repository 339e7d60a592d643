"""Checkpoints that can be trusted: orbax, checksums, damage set aside and reported."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl_runs.warn import warn_user

_KEPT = 3
_ROOM = 1 << 18  # bytes that a checkpoint needs beside the arrays, with much to spare


class Checkpoints:
    """Numbered checkpoints in a folder of their own; the newest three are kept.

    Args:
      path: The folder, which one process at a time may use.
    """

    def __init__(self, path: Path):
        self.path = path.absolute()
        self._manager: Any = None

    def close(self) -> None:
        """Ends orbax's threads."""
        manager, self._manager = self._manager, None
        if manager is not None:
            manager.close()

    def save(self, step: int, state: Any, progress: dict) -> None:
        """Saves a checkpoint; it is there as a whole or not at all.

        Args:
          step: Its number; saving the same step again does nothing.
          state: A pytree of arrays.
          progress: JSON-serialisable host state; NumPy's numbers become Python's.

        Raises:
          OSError: The disk is full, read-only, ...
        """
        import orbax.checkpoint as ocp

        with _quiet():
            manager = self._open()
            if step in manager.all_steps():
                return
            state = jax.device_get(state)
            # One number of NumPy's would lose the run whose state this is.
            progress = json.loads(json.dumps(progress, default=_python_number))
            meta = {"progress": progress, "checksums": _all_checksums(state, progress)}
            _check_room(self.path, sum(x.nbytes for x in jax.tree.leaves(state)))
            try:
                manager.save(
                    step,
                    args=ocp.args.Composite(
                        state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
                    ),
                )
            except BaseException as error:
                self._manager = None  # It may be half-way through: start afresh.
                if isinstance(error, Exception):
                    raise _as_os_error(error) from error
                raise

    def restore(self, template: Any) -> tuple[Any, dict] | None:
        """Restores the newest checkpoint that is whole.

        A damaged one is reported by path as a warning, moved to `damaged/` beside the
        folder, and the one before it is tried.

        Args:
          template: A pytree of the structure, shapes and dtypes to restore.

        Returns:
          The state and the progress, or None without a usable checkpoint.

        Raises:
          OSError: The folder cannot be read, or a damaged checkpoint not be moved.
        """
        with _quiet():
            manager = self._open()
            for step in sorted(manager.all_steps(), reverse=True):
                try:
                    return self._restore_step(manager, step, template)
                except Exception as error:
                    self._set_aside(step, error)
                    manager.reload()
        return None

    def _open(self) -> Any:
        import orbax.checkpoint as ocp

        if self._manager is None:
            # With `active_processes` orbax does not make it.
            self.path.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                create=False,
                max_to_keep=_KEPT,
                enable_async_checkpointing=False,
                cleanup_tmp_directories=True,
                # One process alone writes, whatever others there are.
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=0, active_processes={0}
                )
                if jax.process_count() > 1
                else ocp.options.MultiprocessingOptions(),
            )
            self._manager = ocp.CheckpointManager(self.path, options=options)
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
        found, wanted = _all_checksums(state, meta["progress"]), meta["checksums"]
        wrong = [
            name
            for name in sorted(found.keys() | wanted.keys())
            if found.get(name) != wanted.get(name)
        ]
        if wrong:
            raise ValueError(f"checksum mismatch in {', '.join(wrong)}")
        return jax.tree.map(jax.numpy.asarray, state), meta["progress"]

    def _set_aside(self, step: int, error: Exception) -> None:
        """Nothing is deleted: what looks damaged may be a disk that fails to read."""
        damaged = self.path / str(step)
        aside = self.path.parent / "damaged"
        aside.mkdir(exist_ok=True)
        number = len(list(aside.iterdir()))
        destination = aside / f"{step}-{number}"
        os.rename(damaged, destination)
        warn_user(
            f"{damaged}: damaged checkpoint skipped and moved to {destination} "
            f"({type(error).__name__}: {_first_line(error)})",
        )


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
    return _json_sha256(checksums(tree))


def _all_checksums(state: Any, progress: dict) -> dict[str, str]:
    return {**checksums(state), "progress": _json_sha256(progress)}


def _python_number(x: Any) -> Any:
    """For `json.dumps`, of what it does not know."""
    if isinstance(x, np.generic):
        return x.item()
    raise TypeError(f"progress must be what JSON can hold, got {type(x).__name__}")


def _json_sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_room(folder: Path, num_bytes: int) -> None:
    """Raises OSError where a checkpoint of `num_bytes` would not fit.

    Met inside orbax, the same error is raised in several of its threads, each of which
    prints a traceback of its own.
    """
    probe = folder.parent / "room.tmp"
    try:
        probe.write_bytes(bytes(2 * num_bytes + _ROOM))
    finally:
        probe.unlink(missing_ok=True)


def _as_os_error(error: Exception) -> OSError:
    """Finds the operating system's error in what orbax and tensorstore raise."""
    if isinstance(error, OSError):
        return error
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code is not None:
        return OSError(int(code[1]), os.strerror(int(code[1])))
    return OSError(f"{type(error).__name__}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps orbax from printing: what goes wrong is raised or warned of here.

    After an error, tensorstore calls back into an event loop that is closed already.
    """
    logger, hook = logging.getLogger("absl"), sys.unraisablehook
    level = logger.level

    def unraisable_hook(unraisable):
        if "Event loop is closed" not in str(unraisable.exc_value):
            hook(unraisable)

    logger.setLevel(logging.CRITICAL + 1)
    sys.unraisablehook = unraisable_hook
    try:
        yield
    finally:
        logger.setLevel(level)
        sys.unraisablehook = hook
