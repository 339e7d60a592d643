"""World models of the benchmark by the names that its tables use."""

from __future__ import annotations

from typing import Any

import oswm
from oswm.conditioning import default_model

BASELINES = ("persistence", "ridge", "quadratic_ridge", "kernel_ridge", "knn")
MODELS = ("oswm", *BASELINES, "mlp_ensemble")


def make_model(name: str) -> Any:
    """The model of that name, one of `MODELS`."""
    return {
        "oswm": default_model,
        "persistence": oswm.Persistence,
        "ridge": oswm.Ridge,
        "quadratic_ridge": lambda: oswm.Ridge(quadratic=True),
        "kernel_ridge": oswm.KernelRidge,
        "knn": oswm.NearestNeighbours,
        "mlp_ensemble": oswm.MLPEnsemble,
    }[name]()
