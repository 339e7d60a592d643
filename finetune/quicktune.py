"""What is known of Quick-Tune's search space beyond its table: the conditions.

Source: the search-space files of the QuickTune repository (hpo/meta_data).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from finetune.space import Categorical, Condition, SearchSpace

_CONDITIONS = {
    "auto_augment": ("data_augmentation", ("auto_augment",)),
    "ra_num_ops": ("data_augmentation", ("random_augment",)),
    "ra_magnitude": ("data_augmentation", ("random_augment",)),
    "opt_betas": ("opt", ("adam", "adamw", "adamp")),
    "momentum": ("opt", ("momentum",)),
    "decay_rate": ("sched", ("step", "multistep")),
    "decay_epochs": ("sched", ("step", "multistep")),
    "patience_epochs": ("sched", ("plateau",)),
}


def with_conditions(
    space: SearchSpace, vectors: np.ndarray
) -> tuple[SearchSpace, np.ndarray]:
    """Add Quick-Tune's conditions to an inferred space, where its names occur.

    Inactive hyperparameters, which the table fills with the defaults of the training
    script, become absent (NaN, or all zeros for a categorical one), and choices that
    occur only there are dropped.

    Returns:
        The space with conditions and the vectors ``[N, H]``.
    """
    by_name = {h.name: h for h in space.hyperparameters}
    vectors = vectors.copy()
    offsets = np.cumsum([0] + [len(h.columns) for h in space.hyperparameters])
    start = {
        h.name: int(offset)
        for h, offset in zip(space.hyperparameters, offsets, strict=False)
    }
    found = []
    for h in space.hyperparameters:
        if h.name in _CONDITIONS:
            parent = by_name.get(_CONDITIONS[h.name][0])
            values = _CONDITIONS[h.name][1]
            if isinstance(parent, Categorical):
                known = tuple(v for v in values if v in parent.choices)
                columns = [start[parent.name] + parent.choices.index(v) for v in known]
                active = vectors[:, columns].any(1)
                if known and active.any():
                    h = dataclasses.replace(
                        h, condition=Condition(parent.name, known)
                    )
                    own = slice(start[h.name], start[h.name] + len(h.columns))
                    empty = 0.0 if isinstance(h, Categorical) else np.nan
                    vectors[~active, own] = empty
                    h = _active_choices(h, vectors[active, own])
        found.append(h)
    return SearchSpace(tuple(found)), vectors


def _active_choices(h, values: np.ndarray):
    """Drop the choices of an ordinal hyperparameter that are never active."""
    if isinstance(h, Categorical) or not hasattr(h, "choices"):
        return h
    seen = values[np.isfinite(values)]
    kept = tuple(c for c in h.choices if np.isclose(seen, c, rtol=1e-5).any())
    return dataclasses.replace(h, choices=kept, optional=bool(np.isnan(values).any()))
