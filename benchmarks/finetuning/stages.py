"""Finished stages of `python -m benchmarks.finetuning` on disk, for ``--resume``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from finetune import MetaDataset
from jaxrl_runs.run_folder import RunFolder
from jaxrl_runs.weight_files import read_weights, write_weights


def fingerprint(data: MetaDataset) -> str:
    """Hash of everything that a meta-dataset says."""
    found = hashlib.sha256()
    for array in (data.vectors, data.curves, data.costs, data.dataset):
        found.update(np.ascontiguousarray(array).tobytes())
    found.update(data.meta_features.tobytes())
    return found.hexdigest()[:16]


class Stages:
    """Results by name: each is computed once, written, and read when resuming.

    Args:
        folder: The run's; it keeps out other processes and other settings, and refuses
            a folder that holds a run unless it is to be resumed.
    """

    def __init__(self, folder: RunFolder):
        self._folder = folder
        self.folder = folder.path / "stages"
        self.folder.mkdir(exist_ok=True)

    def table(self, name: str, compute: Callable[[], dict]) -> dict:
        """A stage whose result is json."""
        file = f"stages/{name}.json"
        found = self._folder.read_json(file)
        if found is not None:
            print(f"{name}: from the stopped run")
            return found
        print(f"{name} ...", flush=True)
        self._folder.write_json(file, compute())
        found = self._folder.read_json(file)
        assert found is not None
        return found

    def arrays(
        self, name: str, compute: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, Any]:
        """A stage whose result is arrays by name."""
        path = self.folder / f"{name}.npz"
        if path.exists():
            print(f"{name}: from the stopped run")
            return read_weights(path, what="a finished stage")[1]
        found = compute()
        write_weights(path, found)
        return found
