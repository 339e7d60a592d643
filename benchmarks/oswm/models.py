"""World models of the benchmark by the names that its tables use."""

from __future__ import annotations

from typing import Any

import oswm
from oswm.conditioning import default_model

BASELINES = ("persistence", "ridge", "quadratic_ridge", "kernel_ridge", "knn")
MODELS = ("oswm", *BASELINES, "mlp_ensemble")
# Not in the tables by default: length scales per input, and few shared landmarks.
OTHER_MODELS = ("kernel_ridge_ard", "fast_kernel_ridge")


def make_model(name: str) -> Any:
    """The model of that name, one of `MODELS` or `OTHER_MODELS`."""
    return {
        "oswm": default_model,
        "persistence": oswm.Persistence,
        "ridge": oswm.Ridge,
        "quadratic_ridge": lambda: oswm.Ridge(quadratic=True),
        "kernel_ridge": oswm.KernelRidge,
        "kernel_ridge_ard": lambda: oswm.KernelRidge(ard=True),
        "fast_kernel_ridge": oswm.FastKernelRidge,
        "knn": oswm.NearestNeighbours,
        "mlp_ensemble": oswm.MLPEnsemble,
    }[name]()
