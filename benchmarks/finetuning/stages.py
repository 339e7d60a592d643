"""Finished stages of `python -m benchmarks.finetuning` on disk, for ``--resume``."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from finetune import MetaDataset


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
        folder: Where they are kept; emptied unless ``resume``.
        settings: What the results depend on.
        resume: Use what is there.

    Raises:
        ValueError: If what is there was made with other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], resume: bool):
        self.folder = folder
        path = folder / "settings.json"
        if resume and path.exists():
            old = json.loads(path.read_text())
            keys = [k for k in {**settings, **old} if settings.get(k) != old.get(k)]
            if keys:
                raise ValueError(
                    f"--resume: {folder} was made with other settings "
                    f"({', '.join(sorted(keys))}); use those, or another --out"
                )
        elif folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings, indent=1) + "\n")

    def table(self, name: str, compute: Callable[[], dict]) -> dict:
        """A stage whose result is json."""
        path = self.folder / f"{name}.json"
        if path.exists():
            print(f"{name}: from the stopped run")
            return json.loads(path.read_text())
        print(f"{name} ...", flush=True)
        found = compute()
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(found) + "\n")
        os.replace(partial, path)
        return json.loads(path.read_text())

    def arrays(
        self, name: str, compute: Callable[[], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """A stage whose result is arrays by name."""
        path = self.folder / f"{name}.npz"
        if path.exists():
            print(f"{name}: from the stopped run")
            with np.load(path, allow_pickle=False) as file:
                return {key: file[key] for key in file}
        found = compute()
        partial = self.folder / "partial.npz"
        np.savez(partial, **found)  # type: ignore[arg-type]
        os.replace(partial, path)
        return found
